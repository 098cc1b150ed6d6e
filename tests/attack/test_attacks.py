"""The short form of `make attack`: each attack is seen and blocked, and honest devices go on.

No figure of time is asserted: how fast the machine is decides nothing.
"""

import math
from collections.abc import Iterator

import pytest
from attack.arena import Arena
from attack.registry import ATTACKS, load
from attack.run import FEWEST, excesses, failures

load()
SHORT = [name for name, one in ATTACKS.items() if one.short]


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with Arena(tmp_path_factory.mktemp("attack"), honest=2) as made:
        yield made


@pytest.mark.parametrize("name", SHORT)
def test_attack_is_seen_and_blocked(arena: Arena, name: str) -> None:
    one = ATTACKS[name]
    reason = one.needs()
    if reason:
        pytest.skip(reason)
    assert failures(one.run(arena)) == []


def test_every_attack_says_what_defends() -> None:
    assert all(one.defends for one in ATTACKS.values())
    assert len(SHORT) >= 2


def test_failures_name_what_went_wrong() -> None:
    from attack.arena import Notice
    from attack.registry import Result

    result = Result(notes={"honest": Notice([0.1], [0.1], lost=2, reconnected=1)})
    assert failures(result) == [
        "not seen",
        "not blocked",
        "honest devices lost 2",
        "honest devices reconnected 1 times",
    ]
    for nobody in ({}, {"honest": Notice()}, {"honest": Notice([0.1], [])}):
        assert failures(Result("code", "cut off", notes=nobody)) == [
            "no honest device was looked at"
        ]


def test_a_whole_run_holds_the_targets() -> None:
    from attack.arena import Notice
    from attack.registry import Result

    quiet = [0.01] * FEWEST

    def found(during: list[float], **more: float) -> list[str]:
        notice = Notice(quiet, during)
        return excesses(Result("x", "y", None, None, {"honest": notice}, **more))

    assert found([0.02] * FEWEST, cut_s=5.0, revoke_s=2.0) == []
    assert found([0.021] * FEWEST) == ["honest devices' p99 is 2.10 times the quiet one"]
    assert found(quiet[1:]) == [f"too few commands for a 99th percentile, below {FEWEST}"]
    assert found(quiet, cut_s=5.1) == ["cut off after 5.1 s"]
    assert found(quiet, cut_s=math.inf) == ["cut off after inf s"]
    assert found(quiet, revoke_s=2.1) == ["`warden revoke` of another device took 2.1 s"]
    assert found(quiet, revoke_s=math.inf) == ["`warden revoke` of another device took inf s"]
