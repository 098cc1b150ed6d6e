"""A key burnt by the stock tool into a virtual chip is the key that the root key then uses."""

import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from process_kit import PATIENCE_S
from warden_host.chips import harden
from warden_host.chips.chip import Board
from warden_host.chips.fuses import Fuses

HMAC_UP = 8


def espefuse(chip: str, fuses: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "espefuse"),
            *("--chip", chip, "--virt", "--path-efuse-file", str(fuses), "--do-not-confirm"),
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def purposes_of(chip: str, fuses: Path) -> dict[int, int]:
    """Key block → number of its purpose, as the stock tool shows it."""
    summary = espefuse(chip, fuses, "summary")
    found = re.findall(r"KEY_PURPOSE_(\d).*?= \S+ R/[W-] \(0x([0-9a-f])\)", summary)
    return {int(block): int(purpose, 16) for block, purpose in found}


def ask_device(
    repo: Path,
    micropython: str,
    chip: str,
    block: int,
    purposes: dict[int, int],
    keys: dict[int, bytes],
) -> dict[str, Any]:
    """What the device's root key says with a chip's fuses behind its registers."""
    question = {
        "chip": chip,
        "block": block,
        "fuses": {
            number: [purpose, keys.get(number, bytes(32)).hex()]
            for number, purpose in purposes.items()
        },
    }
    done = subprocess.run(
        [micropython, "-X", "heapsize=2m", "tests/e2e/device/efuse.py"],
        cwd=repo,
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("chip", ["esp32s3", "esp32c6"])
def test_the_burnt_key(chip: str, repo: Path, micropython: str, tmp_path: Path) -> None:
    key, other = os.urandom(32), os.urandom(32)
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "other").write_bytes(other)
    fuses = tmp_path / "fuses"
    espefuse(chip, fuses, "burn-key", "BLOCK_KEY0", str(tmp_path / "key"), "HMAC_UP")
    espefuse(chip, fuses, "burn-key", "BLOCK_KEY2", str(tmp_path / "other"), "HMAC_DOWN_ALL")
    # The tool took the keys' readability away: they are nowhere in the chip's image any more.
    image = fuses.read_bytes()
    for one in (key, other):
        assert one not in image
        assert one[::-1] not in image
    purposes = purposes_of(chip, fuses)
    assert sorted(purposes) == list(range(6))
    assert purposes[0] == HMAC_UP
    assert purposes[2] not in (0, HMAC_UP)
    keys = {0: key, 2: other}
    answer = ask_device(repo, micropython, chip, 0, purposes, keys)
    assert answer["macs"].pop("0") == hmac.new(key, b"message", hashlib.sha256).hexdigest()
    assert set(answer["macs"].values()) == {"root-key"}
    assert answer["value"] == "value"
    assert answer["stranger"] == "root-key"


@pytest.mark.parametrize("chip", ["esp32s2", "esp32s3", "esp32c3", "esp32c6"])
def test_the_key_of_warden_harden(
    chip: str, repo: Path, micropython: str, tmp_path: Path, monkeypatch
) -> None:
    key = os.urandom(32)
    monkeypatch.setattr(harden.secrets, "token_bytes", lambda size: key[:size])
    fuses = Fuses.in_file(chip, tmp_path / "fuses")
    made = harden.Hardening(fuses, Board("BOARD", chip, 4 << 20, "experimental"))
    assert made.burn(("root-key",), lambda step: None) == ["root-key"]
    assert key not in (tmp_path / "fuses").read_bytes()
    purposes = purposes_of(chip, tmp_path / "fuses")
    assert purposes[0] == HMAC_UP
    answer = ask_device(repo, micropython, chip, 0, purposes, {0: key})
    assert answer["macs"]["0"] == hmac.new(key, b"message", hashlib.sha256).hexdigest()
    assert answer["value"] == "value"
