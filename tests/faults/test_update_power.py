"""Updates with the power cut at every flash operation, on littlefs and on a model of a NOR chip;
`tests/faults/device/update_power.py` does the work, on MicroPython.

UPDATE_CUTS=all in the environment cuts in every way that the medium knows, and follows each cut
further.
"""

import os
import re
from functools import partial
from pathlib import Path

import faults_kit
import pytest

LINE = re.compile(
    r"(\w+) (\w+): (\d+) operations, (\d+) cuts, (\d+) old, (\d+) new, (\d+) older, (\d+) recovery, "
    r"(\d+) cut starts, (\d+) sent again, (\d+) violations"
)
MEDIA = ("littlefs", "nor")
# A clean run makes at least so many programs and erases, on littlefs and on NOR, where a commit of
# the vault is three programs; fewer means that something was not counted or not written.
LEAST = {
    "install": (90, 60),
    "parked": (115, 66),
    "resume": (35, 20),
    "trial": (12, 3),
    "confirm": (12, 3),
    "unwell": (24, 6),
    "revert": (12, 3),
    "fallback": (12, 3),
    "dead": (24, 6),
    "recovery": (90, 60),
}
# What may run after a cut: old, new, the one before the old, recovery. Both where both are
# possible.
RUNS = {
    "install": (True, True, False, False),
    "parked": (True, True, False, False),
    "resume": (True, True, False, False),
    "trial": (False, True, False, False),
    "confirm": (False, True, False, False),
    "unwell": (True, True, False, False),
    "revert": (True, False, False, False),
    "fallback": (False, False, True, False),
    "dead": (False, False, False, True),
    "recovery": (False, True, False, True),
}
# In so many ways each operation is cut.
WAYS = {"littlefs": (3, 3), "nor": (3, 6)}
run = partial(faults_kit.run, "update_power")


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("medium", MEDIA)
def test_old_or_new_at_every_cut(repo: Path, micropython: str, medium: str, name: str) -> None:
    every = [os.environ["UPDATE_CUTS"]] if "UPDATE_CUTS" in os.environ else []
    done = run(repo, micropython, medium, name, *every)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    match = LINE.fullmatch(done.stdout.strip())
    assert match, done.stdout + done.stderr
    assert match.groups()[:2] == (medium, name)
    operations, cuts, old, new, older, recovery, starts, again, violations = (
        int(number) for number in match.groups()[2:]
    )
    assert operations >= LEAST[name][MEDIA.index(medium)]
    assert cuts == old + new + older + recovery == WAYS[medium][bool(every)] * operations
    assert (old > 0, new > 0, older > 0, recovery > 0) == RUNS[name]
    assert starts > 0
    if name in ("install", "parked", "resume", "recovery"):
        assert again > operations // 3
    assert violations == 0


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize(
    ("name", "fault", "reason"),
    [
        ("install", "no_check", "wrong: the update did not come through"),
        ("trial", "no_check", "wrong: old runs after a cut"),
        ("install", "wrong_slot", "wrong: "),
        ("trial", "no_attempt", "0 operations"),
    ],
)
def test_a_wrong_device_is_noticed(
    repo: Path, micropython: str, medium: str, name: str, fault: str, reason: str
) -> None:
    """The injector is worth nothing if it passes what is known to be wrong."""
    done = run(repo, micropython, medium, name, fault)
    last = done.stdout.splitlines()[-1].replace(f"{medium} trial: ", "")
    assert last.startswith(reason), done.stdout + done.stderr
