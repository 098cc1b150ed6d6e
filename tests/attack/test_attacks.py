"""The short form of `make attack`: each attack is seen and blocked, and honest devices go on.

No figure of time is asserted: how fast the machine is decides nothing.
"""

from collections.abc import Iterator

import pytest
from attack.arena import Arena
from attack.registry import ATTACKS, load
from attack.run import failures

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

    result = Result(notes={"honest": Notice(lost=2, reconnected=1)})
    assert failures(result) == [
        "not seen",
        "not blocked",
        "honest devices lost 2",
        "honest devices reconnected 1 times",
    ]
