"""The vault on littlefs with the power cut at every flash operation;
`tests/faults/device/power.py` does the work, on MicroPython."""

import re
from functools import partial
from pathlib import Path

import faults_kit
import pytest

LINE = re.compile(r"(.+): (\d+) operations, (\d+) cuts, (\d+) old, (\d+) new, (\d+) heals")
# A clean run of each makes at least so many programs and erases; fewer means that the flash did
# not see them.
LEAST = {
    "provision": 20,
    "put new": 8,
    "replace": 8,
    "delete": 4,
    "advance": 3,
    "batch": 20,
    "rotate": 12,
    "rotate, proven": 20,
    "reseal": 20,
}
TURNS = 8
run = partial(faults_kit.run, "power")


def test_old_or_new_at_every_cut(repo: Path, micropython: str) -> None:
    done = run(repo, micropython)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    # The flash model saw no program over what was not erased.
    assert last == "violations: 0"
    found = faults_kit.counted(LINE, lines)
    print(done.stdout)
    assert set(found) == set(LEAST) | {f"advance after {turn + 1}" for turn in range(TURNS)}
    for name, (operations, cuts, old, new, heals) in found.items():
        assert operations >= LEAST[name.split(" after")[0]], name
        assert cuts == old + new == 3 * operations, name
        assert old > 0, name
        assert new > 0, name
        assert heals > 0, name


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        ("RemovesFirst", "neither old nor new"),
        ("InPlace", "does not open"),
        ("CommitFirst", "does not open"),
    ],
)
def test_a_wrong_store_is_noticed(repo: Path, micropython: str, store: str, reason: str) -> None:
    """The injector is worth nothing if it passes what is known to be wrong."""
    done = run(repo, micropython, store)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("wrong: " + reason)
