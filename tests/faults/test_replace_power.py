"""An update of the package with the power cut at every flash operation, of the host's writes and
of the start that installs it; `tests/faults/device/replace_power.py` does the work."""

import re
from functools import partial
from pathlib import Path

import faults_kit

LINE = re.compile(r"(.+): (\d+) operations, (\d+) cuts, (\d+) old, (\d+) new")
run = partial(faults_kit.run, "replace_power", heap="16m")


def test_old_or_new_at_every_cut(repo: Path, micropython: str) -> None:
    done = run(repo, micropython)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = [
        line for line in done.stdout.splitlines() if ": " in line and "File" not in line
    ]
    assert last == "violations: 0"
    found = faults_kit.counted(LINE, [line for line in lines if " cuts, " in line])
    assert set(found) == {"host writes", "board installs"}
    for name, (operations, cuts, old, new) in found.items():
        assert operations >= 10, name
        assert cuts == old + new >= 3 * (operations - 1), name
    assert found["host writes"][2] > 0
    assert found["board installs"][2] == 0


def test_a_rename_before_the_files_is_noticed(repo: Path, micropython: str) -> None:
    """The injector is worth nothing if it passes what is known to be wrong."""
    done = run(repo, micropython, "early")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("wrong: neither package is whole")
