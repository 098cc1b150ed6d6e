"""Application and firmware on an ESP32 with the power cut at every operation;
`tests/faults/device/ota_power.py` does the work, on MicroPython."""

import re
from functools import partial
from pathlib import Path

import faults_kit
import pytest

LINE = re.compile(r"(\d+) operations, (\d+) cuts, (\d+) of them twice")
run = partial(faults_kit.run, "ota_power", heap="16m")


@pytest.mark.parametrize("well", ["1", "0"])
@pytest.mark.parametrize("rollback", ["1", "0"])
def test_one_release_at_every_cut(repo: Path, micropython: str, rollback: str, well: str) -> None:
    done = run(repo, micropython, rollback, well)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    match = LINE.fullmatch(done.stdout.strip())
    assert match, done.stdout + done.stderr
    operations, cuts, again = map(int, match.groups())
    # Fewer operations mean that something was not counted or not written.
    assert operations >= 60
    assert cuts == operations * (2 if well == "1" else 1)
    assert again > operations // 20


@pytest.mark.parametrize("fault", ["no_attempt", "no_compare"])
def test_a_broken_rule_is_noticed(repo: Path, micropython: str, fault: str) -> None:
    done = run(repo, micropython, "1", "1", fault)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("WRONG"), done.stdout + done.stderr
