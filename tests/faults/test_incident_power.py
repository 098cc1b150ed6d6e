"""The incident log with the power cut everywhere; `tests/faults/device/incident_power.py` does the
work, on MicroPython."""

import re
from functools import partial
from pathlib import Path

import faults_kit

run = partial(faults_kit.run, "incident_power")


def test_the_log_is_before_or_after(repo: Path, micropython: str, umqtt_path: Path) -> None:
    done = run(repo, micropython)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.fullmatch(r"(\d+) operations, (\d+) cuts, (\d+) kept\n", done.stdout)
    assert found is not None, done.stdout
    operations, cuts, kept = map(int, found.groups())
    assert operations >= 20
    assert cuts == 3 * operations
    assert kept > 0


def test_a_record_that_is_sent_too_early_is_noticed(
    repo: Path, micropython: str, umqtt_path: Path
) -> None:
    """The search is worth nothing if it passes what is known to be wrong."""
    done = run(repo, micropython, "early")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "is of two records" in done.stdout.splitlines()[-1]
