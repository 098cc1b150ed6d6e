"""Updates on littlefs with the power cut at every flash operation; `tests/faults/device/update_power.py` does the work, on MicroPython."""

import re
import subprocess
from pathlib import Path

import pytest

LINE = re.compile(
    r"(\w+): (\d+) operations, (\d+) cuts, (\d+) old, (\d+) new, (\d+) recovery, "
    r"(\d+) cut starts, (\d+) sent again, (\d+) violations"
)
# A clean run makes at least so many programs and erases; fewer means that something was not counted or not written.
LEAST = {"install": 90, "resume": 35, "trial": 12, "confirm": 12, "revert": 12, "recovery": 90}
# What may run after a cut: old, new, recovery. Both where both are possible.
RUNS = {
    "install": (True, True, False),
    "resume": (True, True, False),
    "trial": (False, True, False),
    "confirm": (False, True, False),
    "revert": (True, False, False),
    "recovery": (False, True, True),
}


def run(repo: Path, micropython: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    program = "tests/faults/device/update_power.py"
    return subprocess.run(
        [micropython, "-X", "heapsize=8m", program, *arguments],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("name", LEAST)
def test_old_or_new_at_every_cut(repo: Path, micropython: str, name: str) -> None:
    done = run(repo, micropython, name)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    match = LINE.fullmatch(done.stdout.strip())
    assert match, done.stdout + done.stderr
    assert match[1] == name
    operations, cuts, old, new, recovery, starts, again, violations = (
        int(number) for number in match.groups()[1:]
    )
    assert operations >= LEAST[name]
    assert cuts == old + new + recovery == 3 * operations
    assert (old > 0, new > 0, recovery > 0) == RUNS[name]
    assert starts > 0
    if name in ("install", "resume", "recovery"):
        assert again > operations // 2
    assert violations == 0


@pytest.mark.parametrize(
    ("name", "fault", "reason"),
    [
        ("install", "no_check", "wrong: the update did not come through"),
        ("trial", "no_check", "wrong: old runs after a cut"),
        ("install", "wrong_slot", "wrong: "),
        ("trial", "no_attempt", "trial: 0 operations"),
    ],
)
def test_a_wrong_device_is_noticed(
    repo: Path, micropython: str, name: str, fault: str, reason: str
) -> None:
    """The injector is worth nothing if it passes what is known to be wrong."""
    done = run(repo, micropython, name, fault)
    assert done.stdout.splitlines()[-1].startswith(reason), done.stdout + done.stderr
