"""Test that the PIN of a board's root key is read, passed on, and never shown."""

import io
import os
import subprocess
import sys

import pytest
from cli_kit import fails, fake
from host_kit import refused
from process_kit import PATIENCE_S
from warden_host.cli import main, pin, secrets_input
from warden_host.sim import simulated

PIN = b"482913 and more"
GOOD = "print('{\"ok\": true}')"


def board(tmp_path, text):
    path = tmp_path / "board.py"
    path.write_text(text)
    return path


def test_root_keys_that_need_a_pin(tmp_path):
    for text, wants in (
        ('ROOT_KEY = ("pin", "/pin", 1000, None)', True),
        ('NAME = "X"\nROOT_KEY = ("software", "/fuses/rootkey")', False),
        ("ROOT_KEY = make()", False),
        ("ROOT_KEY = ()", False),
        ("ROOT_KEY = 5", False),
        ('NAME = ("pin",)', False),
    ):
        assert pin.wanted(board(tmp_path, text)) is wants, text


def test_valid_pins(tmp_path, monkeypatch):
    file = tmp_path / "pin"

    def given(data: bytes) -> bytes:
        file.write_bytes(data)
        file.chmod(0o600)
        return pin.read(True, str(file), new=True)

    assert given(PIN) == given(PIN + b"\n") == given(PIN + b"\r\n") == PIN
    assert given(b"9" * 128) == b"9" * 128
    for wrong in (b"", b"\n", b"9" * 129, b"12\n34", b"12\r34"):
        with refused("bad-argument"):
            given(wrong)
    file.chmod(0o644)
    with refused("key-permissions"):
        pin.read(True, str(file), new=True)
    with refused("key-missing"):
        pin.read(True, str(tmp_path / "none"), new=True)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PIN + b"\n")))
    assert pin.read(True, "-", new=False) == PIN
    # There is no terminal to ask at, and no file is named.
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with refused("bad-argument"):
        pin.read(True, None, new=True)


def test_asked_without_being_shown(monkeypatch):
    asked = []

    def prompt(text, **options):
        asked.append((text, options["hide_input"], options["confirmation_prompt"]))
        return "1234"

    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr(secrets_input.click, "prompt", prompt)
    assert secrets_input.secret(None, "PIN", "--pin-file", 128, new=True) == b"1234"
    assert secrets_input.secret(None, "passphrase", "--passphrase-file", 128, new=False) == b"1234"
    assert asked == [("PIN", True, True), ("Passphrase", True, False)]


def test_a_board_that_wants_none():
    assert pin.read(False, None, new=True) == b""
    with refused("bad-argument"):
        pin.read(False, "-", new=True)


def test_provisioning_hands_it_over(folder, tmp_path, monkeypatch, capsys):
    """Behind the bundle, over standard input; not in an argument, a file of the device, or a word
    on the screen."""
    record = "(root / 'argv').write_text(repr(sys.argv))\n"
    fake(tmp_path, monkeypatch, record + GOOD)
    file = tmp_path / "pin"
    file.write_bytes(PIN + b"\n")
    file.chmod(0o600)
    order = ["provision", "D1", "--sim", "--board", "UNIX_PIN"]
    fails(capsys, "bad-argument", *order)
    assert main.run([*order, "--pin-file", str(file), "--json"]) == 0
    shown = capsys.readouterr()
    root = folder / "sim" / "D1" / "root"
    told = (root / "bundle").read_bytes()
    size = int.from_bytes(told[:4], "big")
    assert told[4 + size :] == len(PIN).to_bytes(4, "big") + PIN
    assert PIN.decode() not in (root / "argv").read_text() + shown.out + shown.err
    kept = [path for path in folder.rglob("*") if path.is_file() and path.name != "bundle"]
    assert not [path for path in kept if PIN in path.read_bytes()]
    # A board that wants none gets none.
    assert main.run(["provision", "D2", "--sim"]) == 0
    told = (folder / "sim" / "D2" / "root" / "bundle").read_bytes()
    assert len(told) == 4 + int.from_bytes(told[:4], "big")
    fails(capsys, "bad-argument", "provision", "D3", "--sim", "--pin-file", str(file))


def test_running_types_it(folder, tmp_path, monkeypatch, stop):
    """A line at each start; the rest of standard input belongs to the device."""
    fake(tmp_path, monkeypatch, GOOD)
    assert main.run(["provision", "D1", "--sim"]) == 0
    home = folder / "sim" / "D1"
    program = tmp_path / "micropython"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint(sys.stdin.readline())\n")
    lines: list[str] = []
    assert simulated.run(home, "", True, lines.append, stop, PIN) == 0
    assert PIN.decode() in lines
    # One that ends before it asks.
    program.write_text("#!/bin/sh\nexit 5\n")
    assert simulated.run(home, "", True, lines.append, stop, PIN) == 5
    with simulated.SimulatedDevice(home) as device:
        assert device.process.stdin is None


@pytest.mark.parametrize("arguments", [["run", "D9"], ["run", "D9", "--pin-file", "-"]])
def test_no_pin_is_asked_for_a_missing_device(folder, capsys, arguments):
    fails(capsys, "device-unknown", *arguments)


def test_no_option_holds_the_pin_itself():
    environment = {**os.environ, "COLUMNS": "200"}
    for command in ("provision", "run"):
        call = [sys.executable, "-m", "warden_host.cli", command, "--help"]
        shown = subprocess.run(
            call, capture_output=True, text=True, check=True, env=environment, timeout=PATIENCE_S
        ).stdout
        assert "--pin-file FILE" in shown
        assert "--pin " not in shown
