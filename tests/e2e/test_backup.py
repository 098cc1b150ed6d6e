"""A fleet from a backup that is older than its devices' secrets: no device is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import DEVICE, PATIENCE_S, Board, World
from warden_host.backup import backup
from warden_host.backup.backup import Key, Lock
from warden_host.devices import rotation
from warden_host.engine.request import Request
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY
from warden_host.store.store import Store

LOCK = Lock(passphrase=b"correct horse battery", work=4)
KEY = Key(passphrase=LOCK.passphrase)


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.provision(commands=("set_relay",))
    with made:
        yield made


def rotate(world: World) -> bool:
    """Give the device a new password and new keys, as `warden rotate` does."""

    def ask(command: str, body: dict) -> dict:
        assert world.authority is not None
        world.authority.ask(lambda engine: engine.start_rotation(DEVICE))
        return world.authority.command(Request(DEVICE, command, body, AUTHORITY, timeout_s=20.0))

    with Store(world.fleet.database) as store:
        parts = ("password", "keys")
        return rotation.rotate(world.fleet, store, DEVICE, parts, ask, lambda _: None, PATIENCE_S)


def secrets(world: World) -> tuple[bytes, ...]:
    with Store(world.fleet.database) as store:
        return tuple(pair.k for pair in store.device(DEVICE).pairs)


def lose_host(world: World, path: Path, into: Path) -> None:
    """The host's machine dies; another one serves what a backup has."""
    world.stop_authority()
    world.kill_broker()
    backup.restore(path, KEY, into)
    world.fleet = Fleet(into)
    world.start_broker()
    world.start_authority()


def test_no_backup_orphans_a_device(world: World, tmp_path: Path) -> None:
    with Board(world.fleet.simulated(DEVICE)) as board:
        board.wait_line("log session-stands")
        first, second = tmp_path / "first.age", tmp_path / "second.age"
        backup.make(world.fleet, first, LOCK)
        old = secrets(world)

        # The device holds both, and the backup of before has the old ones.
        assert rotate(world) is False
        assert world.command("set_relay", on=1) == {"on": 1}
        assert secrets(world) == old
        lose_host(world, first, tmp_path / "restored 1")
        assert world.command("set_relay", on=0) == {"on": 0}

        # A restored authority replaces what it does not know; a backup, and the new ones alone.
        assert rotate(world) is False
        backup.make(world.fleet, second, LOCK)
        assert rotate(world) is True
        assert not set(secrets(world)) & set(old)
        assert world.command("set_relay", on=1) == {"on": 1}
        board.kill()
        board.start()

        # The backup of between both steps: the lost host completed it, the restored one has not.
        lose_host(world, second, tmp_path / "restored 2")
        assert world.command("set_relay", on=0) == {"on": 0}
        assert rotate(world) is True
        assert world.command("set_relay", on=1) == {"on": 1}
