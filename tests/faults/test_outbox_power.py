"""The outbox with the power cut everywhere; `tests/faults/device/outbox_power.py` does the work,
on MicroPython."""

import re
from functools import partial
from pathlib import Path

import faults_kit
import pytest

LINE = re.compile(r"(.+): (\d+) operations, (\d+) cuts, (\d+) kept, (\d+) repeats")
SCENARIOS = {"first events", "saved again", "delivered between", "answers lost", "emptied"}
run = partial(faults_kit.run, "outbox_power")


def test_no_saved_event_is_lost(repo: Path, micropython: str, umqtt_path: Path) -> None:
    done = run(repo, micropython)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    assert last == "violations: 0"
    found = faults_kit.counted(LINE, lines)
    assert set(found) == SCENARIOS
    for name, (operations, cuts, kept, repeats) in found.items():
        assert operations >= 10, name
        assert cuts == 3 * operations, name
        if name in ("saved again", "answers lost"):
            assert kept > 0, name
        if name == "answers lost":
            assert repeats > 0, name


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        ("UsesFirst", "vault-damaged"),
        ("ForgetsFirst", "a saved event is lost"),
        ("CountsAnew", "of two events"),
    ],
)
def test_a_wrong_outbox_is_noticed(
    repo: Path, micropython: str, umqtt_path: Path, delivery: str, reason: str
) -> None:
    """The search is worth nothing if it passes what is known to be wrong."""
    done = run(repo, micropython, delivery)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("wrong: ")
    assert reason in done.stdout.splitlines()[-1]
