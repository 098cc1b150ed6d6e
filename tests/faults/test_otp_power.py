"""The gate with the power cut everywhere; `tests/faults/device/otp_power.py` does the work, on
MicroPython."""

import re
from functools import partial
from pathlib import Path

import faults_kit
import pytest

LINE = re.compile(
    r"(.+): (\d+) steps, (\d+) operations, (\d+) cuts, (\d+) second cuts, (\d+) attempts shown, (\d+) attempts used"
)
SCENARIOS = {
    "wrong codes",
    "wrong codes offline",
    "wrong then right",
    "wrong then right offline",
    "the same code offline",
    "two in a row offline",
}
run = partial(faults_kit.run, "otp_power")


def test_no_attempt_is_gained(repo: Path, micropython: str) -> None:
    done = run(repo, micropython)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    # The flash model saw no program over what was not erased.
    assert last == "violations: 0"
    print(done.stdout)
    found = faults_kit.counted(LINE, lines)
    assert set(found) == SCENARIOS
    for steps, operations, cuts, second, shown, used in found.values():
        assert cuts == steps + 3 * operations
        assert operations >= 15
        assert second >= operations * operations // 3
        assert 0 < shown <= used


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ("SentFirst", "attempts were shown"),
        ("ForgivesAtStart", "4 codes were shown without a lock-out"),
        ("KeepsTheCode", "one code opened twice"),
        ("FreeSecond", "attempts were shown"),
    ],
)
def test_a_wrong_gate_is_noticed(repo: Path, micropython: str, gate: str, reason: str) -> None:
    """The search is worth nothing if it passes what is known to be wrong."""
    done = run(repo, micropython, gate)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("wrong: ")
    assert reason in done.stdout.splitlines()[-1]
