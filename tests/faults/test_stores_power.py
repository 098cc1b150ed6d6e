"""The vault on raw flash and in NVS with the power cut at every operation;
`tests/faults/device/power_stores.py` does the work, on MicroPython.

STORE_CUTS=all in the environment cuts the start after every cut, not after some of them.
"""

import os
import re
from functools import partial
from pathlib import Path

import faults_kit
import pytest

LINE = re.compile(r"(.+): (\d+) operations, (\d+) cuts, (\d+) old, (\d+) new, (\d+) heals")
CALLS = {"provision", "put new", "replace", "delete", "advance", "batch", "reseal"}
ROTATIONS = {"rotate", "rotate, proven"}
TORN = 5
run = partial(faults_kit.run, "power_stores")


def test_old_or_new_at_every_cut(repo: Path, micropython: str) -> None:
    every = [os.environ["STORE_CUTS"]] if "STORE_CUTS" in os.environ else []
    done = run(repo, micropython, *every)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    found = faults_kit.counted(LINE, done.stdout.splitlines())
    flash = {"flash 16", "flash 256"}
    collecting = {f"{store} collect, {call}" for store in flash for call in CALLS - {"provision"}}
    assert set(found) == collecting | {
        f"{s} {call}" for s in {*flash, "nvs"} for call in CALLS | ROTATIONS
    }
    for name, (operations, cuts, old, new, heals) in found.items():
        # Three programs make a change; where the bank is full, the next one is filled and this one
        # erased.
        assert operations >= (10 if name in collecting else 3), name
        assert cuts == old + new == TORN * operations, name
        assert old > 0, name
        assert new > 0, name
        assert heals > 0 or name == "nvs provision", name
    assert {found[f"{store} reseal"][0] > 15 for store in (*flash, "nvs")} == {True}
    assert found["flash 16 replace"][0] == found["flash 256 replace"][0] == 3


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        ("NoMark", "does not open"),
        ("ErasesFirst", "does not open"),
        ("InPlace", "vault-damaged"),
    ],
)
def test_a_wrong_store_is_noticed(repo: Path, micropython: str, store: str, reason: str) -> None:
    """The injector is worth nothing if it passes what is known to be wrong."""
    done = run(repo, micropython, store)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("wrong: " + reason)
