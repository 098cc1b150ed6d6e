"""A device that none of the server's keys is pinned on, and a signed file that brings it back."""

import os
from pathlib import Path

import pytest
from fleet_kit import DEVICE, Board, World
from warden_client import secretfile
from warden_host.cli import main
from warden_host.fleet import pki
from warden_host.release import signing_key

PASSPHRASE = "a passphrase"


def change_both_keys(world: World) -> None:
    """As after a fire: neither the server's key nor the backup key is there any more."""
    keys = world.fleet.keys
    fresh = pki.new_key()
    leaf = pki.load_ca(keys).issue((world.fleet.settings.broker.host,), key=fresh)
    secretfile.write(keys / "server.crt", leaf.certificate_pem())
    secretfile.write(keys / "server.key", pki.private_pem(fresh))
    pki.renew_backup(keys)


def put(home: Path, data: bytes) -> None:
    """As a whole: the device looks for the file again and again."""
    made = home / "pins.new"
    made.write_bytes(data)
    made.replace(home / "root" / "pins.cose")


def test_a_file_brings_it_back(
    tmp_path: Path, umqtt_path: Path, capsys: pytest.CaptureFixture
) -> None:
    world = World(tmp_path)
    signing_key.make(world.fleet, "release", "p256", PASSPHRASE.encode())
    home = world.provision(commands=("set_relay",))
    change_both_keys(world)
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE)
    os.chmod(secret, 0o600)
    file = tmp_path / "pins.cose"

    def warden(*arguments: str) -> int:
        return main.run(["--fleet", str(world.fleet.root), *arguments])

    assert warden("pins", "export", str(file), "--passphrase-file", str(secret), "--json") == 0
    with world, Board(home) as board:
        board.wait_line("log pin-mismatch")
        # Of another fleet's key: refused, and removed.
        data = file.read_bytes()
        put(home, data[:-1] + bytes([data[-1] ^ 1]))
        board.wait_line("log tampered /pins.cose")
        assert warden("pins", "apply", DEVICE, str(file), "--json") == 0
        board.wait_line("log rotated trust")
        board.wait_line("log session-stands")
        world.fleet_event("incident", code="pins-replaced")
        assert not (home / "root" / "pins.cose").exists()
        board.kill()
        # From its vault.
        board.start()
        assert "session-stands" in board.wait_line("log session-stands")
        # The same file is worth nothing any more, nor is it looked at.
        put(home, data)
        world.command("set_relay", on=1)
