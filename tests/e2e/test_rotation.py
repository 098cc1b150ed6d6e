"""New secrets for a live device, and its end: real mosquitto, real firmware, kills in between."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_kit import DEVICE, PATIENCE_S, TYPE, Board, World
from warden_host import names
from warden_host.broker.mosquitto import registry
from warden_host.cli import main
from warden_host.devices import rotation, setup
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.fleet import pki
from warden_host.names import AUTHORITY
from warden_host.release import release, signing_key
from warden_host.service.run import serving
from warden_host.store.store import App, Rotation, Store

HOME = "home"
# One command may be lost with the connection that the broker drops: complete_rotation() gives it
# again, many times in PATIENCE_S.
COMMAND_S = 20.0
ALL = ("password", "keys", "pins")


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with Store(made.fleet.database) as store:
        setup.add_app(made.fleet, store, App(HOME, (TYPE,), ("set_relay",)))
    made.provision(commands=("set_relay",))
    with made:
        yield made


@pytest.fixture
def board(world: World) -> Iterator[Board]:
    with Board(world.fleet.simulated(DEVICE)) as made:
        made.wait_line("log session-stands")
        world.fleet_event("session", app=AUTHORITY)
        yield made


def order(
    world: World,
    command: str,
    args: dict[str, Any],
    app: str = AUTHORITY,
    timeout_s: float = PATIENCE_S,
) -> Any:
    authority = world.authority
    assert authority is not None
    return authority.command(Request(DEVICE, command, args, app=app, timeout_s=timeout_s))


def ask(world: World) -> rotation.Ask:
    def asked(command: str, body: dict[str, Any]) -> Any:
        assert world.authority is not None
        world.authority.ask(lambda engine: engine.start_rotation(DEVICE))
        return order(world, command, body, timeout_s=COMMAND_S)

    return asked


def begun(world: World, *parts: str, deadline_s: int | None = None) -> Rotation:
    with Store(world.fleet.database) as store:
        return rotation.start_rotation(world.fleet, store, DEVICE, parts, deadline_s)


def finished(world: World, one: Rotation) -> list[str]:
    told: list[str] = []
    with Store(world.fleet.database) as store:
        rotation.complete_rotation(world.fleet, store, one, ask(world), told.append, PATIENCE_S)
        assert store.rotation(DEVICE) is None
    return told


def keys(world: World) -> dict[str, bytes]:
    with Store(world.fleet.database) as store:
        return {pair.appid: pair.k for pair in store.device(DEVICE).pairs}


def works(world: World) -> None:
    assert world.command("set_relay", on=1) == {"on": 1}
    assert order(world, "set_relay", {"on": 0}, HOME)["reply"]["result"] == {"on": 0}


def test_everything_at_once(world: World, board: Board) -> None:
    before = keys(world)
    pki.renew_backup(world.fleet.keys)
    one = begun(world, *ALL)
    told = finished(world, one)
    assert told[0].startswith("the device holds")
    assert "the broker knows the new password" in told
    after = keys(world)
    assert after == one.apps
    assert not set(before.values()) & set(after.values())
    works(world)
    # What was replaced is nowhere in the fleet's files, nor is the password.
    world.stop_authority()
    files = [path.read_bytes() for path in world.fleet.root.glob("fleet.db*")]
    for secret in (*before.values(), one.body["password"]):
        assert not [None for data in files if secret in data]
    world.start_authority()
    # The device goes by the new ones alone, from its vault.
    board.kill()
    board.start()
    board.wait_line("log session-stands")
    works(world)
    # A second one, now that the first is done.
    finished(world, begun(world, "password"))
    works(world)


@pytest.mark.parametrize("part", ALL)
def test_each_alone(world: World, board: Board, part: str) -> None:
    before = keys(world)
    one = begun(world, part)
    assert set(one.body) > {"id"}
    finished(world, one)
    assert (keys(world) != before) == (part == "keys")
    works(world)


def test_killed_between_the_stages(world: World, board: Board) -> None:
    one = begun(world, "password", "keys")
    # 1. fleet.db knows, the device does not: both are killed.
    board.kill()
    world.stop_authority()
    world.start_authority()
    board.start()
    board.wait_line("log session-stands")
    works(world)
    # 2. The device knows, the broker does not: the new password is refused once, then the old one
    # is taken.
    assert ask(world)("rotate", one.body)["ok"] is True
    board.kill()
    board.start()
    board.wait_line("log mqtt-refused")
    board.wait_line("log session-stands")
    works(world)
    # 3. The broker knows, the device has not proved it: killed at once.
    username = names.device_client(TYPE, DEVICE)
    assert board.process is not None
    board.process.send_signal(signal.SIGSTOP)  # so that it can't be sooner
    with registry.opened(world.fleet) as accounts:
        accounts.set_password(username, one.body["password"].decode())
        board.kill()
    world.stop_authority()
    world.start_authority()
    board.start()
    board.wait_line("log rotated password")
    finished(world, one)
    works(world)
    assert keys(world) == one.apps
    # 4. Done: a start needs nothing but the new ones.
    board.kill()
    board.start()
    board.wait_line("log session-stands")
    assert not [line for line in board.lines.all() if "refused" in line]
    works(world)


def test_the_same_order_again_is_harmless(world: World, board: Board) -> None:
    one = begun(world, "keys")
    for _ in range(3):
        assert ask(world)("rotate", one.body)["ok"] is True
    finished(world, one)
    # The host takes up what is under way, whatever is asked for.
    again = begun(world, "password")
    assert begun(world, "pins").body == again.body
    finished(world, again)
    works(world)


def test_a_password_that_the_broker_never_learns(world: World, board: Board) -> None:
    """Each connection tries it once; after three refusals the old one comes first, and the
    authority hears of it."""
    one = begun(world, "password")
    assert ask(world)("rotate", one.body)["reply"]["result"] == {"pending": ["password"]}
    for turn in range(4):
        world.kill_broker()
        board.wait_line("log link-closed")
        world.start_broker()
        if turn < 3:
            board.wait_line("log mqtt-refused")
        board.wait_line("log session-stands")
        if turn == 2:
            world.fleet_event("incident", code="rotation-failed", name="password")
    refusals = [line for line in board.lines.all() if line.startswith("log mqtt-refused")]
    assert len(refusals) == 3
    works(world)
    # Still not lost: once the broker knows it, the old one is refused and the new one tried.
    assert "the broker knows the new password" in finished(world, one)
    works(world)


def test_refused_orders(world: World, board: Board) -> None:
    # An application may give neither, in whatever form.
    for command in ("rotate", "wipe"):
        for args in ({}, {"device": DEVICE}, {"id": 1, "password": b"new"}):
            answer = order(world, command, args, HOME)
            assert (answer["ok"], answer["reply"]["error"]) == (False, "not-allowed")
    # The authority only in the right one; and it hears of what it got wrong.
    for command, args in (("wipe", {}), ("wipe", {"device": "D2"}), ("rotate", {"id": 1})):
        answer = order(world, command, args)
        assert (answer["ok"], answer["reply"]["error"]) == (False, "bad-body")
        world.fleet_event("incident", code="bad-body", name=command)
    # One that this device has no use for: it has no Wi-Fi.
    assert order(world, "wifi", {})["reply"]["error"] == "unknown-command"
    # Pins without the key of the server that the device speaks with: it would be cut off.
    one = begun(world, "pins")
    one.body["trust"][1][0] = os.urandom(32)
    with Store(world.fleet.database) as store:
        with pytest.raises(HostError) as refused:
            rotation.complete_rotation(
                world.fleet, store, one, ask(world), lambda _: None, PATIENCE_S
            )
        assert refused.value.code == "command-refused"
        assert store.rotation(DEVICE) is None
    works(world)


def test_an_older_order_and_one_too_many(world: World, board: Board) -> None:
    one = begun(world, "password")
    assert ask(world)("rotate", one.body)["ok"] is True
    later = one.body | {"id": one.body["id"] + 1, "password": b"another one"}
    assert order(world, "rotate", later)["reply"]["error"] == "busy"
    finished(world, one)
    assert order(world, "rotate", one.body)["reply"]["result"] == {"pending": []}
    assert order(world, "rotate", one.body | {"id": 0})["reply"]["error"] == "bad-body"


def vault_files(world: World) -> list[Path]:
    return list((world.fleet.simulated(DEVICE) / "root" / "data").iterdir())


def test_wipe(world: World, board: Board) -> None:
    blobs = [path.read_bytes()[-24:] for path in vault_files(world)]
    assert len(blobs) > 5
    answer = order(world, "wipe", {"device": DEVICE})
    assert (answer["ok"], answer["reply"]["result"]) == (True, {})
    assert board.ends() == 3
    assert vault_files(world) == []
    # Nothing of it is left in the board's folder, on any file of it.
    for path in (world.fleet.simulated(DEVICE) / "root").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [blob for blob in blobs if blob in data], path
    # It is not provisioned any more: no application runs, and its console is open.
    board.start()
    assert board.ends() == 0
    assert "warden: this board is not provisioned" in board.lines.all()


def test_the_command_line(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    world.stop_authority()
    assert world.broker is not None
    world.broker.stop()
    fleet_folder = str(world.fleet.root)

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    with serving(world.fleet, world.news.add), Board(world.fleet.simulated(DEVICE)) as board:
        board.wait_line("log session-stands")
        base = ["--fleet", fleet_folder]
        assert main.run([*base, "rotate", DEVICE]) == 2
        assert main.run([*base, "rotate", DEVICE, "--keys", "--deadline", "5"]) == 2
        assert main.run([*base, "rotate", DEVICE, "--keys", "--new-backup"]) == 2
        assert main.run([*base, "rotate", "D9", "--keys"]) == 5
        capsys.readouterr()
        before = keys(world)
        arguments = ["--password", "--keys", "--pins", "--new-backup", "--deadline", "3600"]
        assert main.run([*base, "rotate", DEVICE, *arguments, "--json"]) == 0
        told = lines()
        assert told[-1] == {"ok": True, "device": DEVICE, "done": True}
        assert len(told) >= 4
        assert not set(before.values()) & set(keys(world).values())
        send = ["send", DEVICE, "set_relay", '{"on": 1}', "--timeout", str(PATIENCE_S)]
        assert main.run([*base, *send]) == 0
        capsys.readouterr()
        assert main.run([*base, "wipe", DEVICE, "--yes", "--json"]) == 0
        ended = {"ok": True, "device": DEVICE, "revoked": False, "wiped": True, "waits": False}
        assert lines()[-1] == ended
        assert board.ends() == 3
        with Store(world.fleet.database) as store:
            assert store.find(DEVICE) is None
        # Gone from the broker as well: the name can be given anew.
        world.provision()
        board.start()
        board.wait_line("log session-stands")


def test_release_keys(world: World, board: Board, tmp_path: Path) -> None:
    """From the order on, the device takes releases of the new keys and of no other; what was under
    way is let go of."""
    fleet = world.fleet
    board.kill()
    source = tmp_path / "app"
    source.mkdir()
    (source / "app.py").write_text("print('a release')\n")
    private = {}

    def new_key(name: str) -> None:
        made = signing_key.make(fleet, name, "p256", b"a passphrase")
        private[name] = signing_key.open_private(fleet, made, b"a passphrase")

    def update(version: str, key: str) -> Any:
        wanted = release.Order(TYPE, version, {"app": source})
        with Store(fleet.database) as store:
            made = release.make(fleet, store, wanted, private[key], "ES256")
        return again(made.folder)

    def again(folder: Path) -> Any:
        reply = order(
            world, "update", {"envelope": release.read_envelope(folder / release.SIGNED)}
        )
        return (
            reply["reply"]["result"]["state"] if reply["ok"] else reply["reply"]["error"]
        ), folder

    new_key("daily")
    world.provision(commands=("set_relay",), again=True)
    assert world.authority is not None
    world.authority.ask(lambda engine: engine.unload(DEVICE))
    board.start()
    board.wait_line("log session-stands")
    said, folder = update("1", "daily")
    assert said == "Downloading"
    # The key got out: another takes its place, by one order.
    signing_key.remove(fleet, "daily")
    new_key("next")
    told = finished(world, begun(world, "release"))
    assert told == ["the device takes releases of the present keys alone"]
    assert order(world, "update", {})["reply"]["result"]["state"] == "Aborted"
    assert again(folder)[0] == "tampered"
    assert update("2", "daily")[0] == "tampered"
    assert update("3", "next")[0] == "Downloading"
    # After a start, too.
    board.kill()
    board.start()
    board.wait_line("log session-stands")
    assert again(folder)[0] == "tampered"
    works(world)
    # Beside a secret that has to prove itself.
    assert finished(world, begun(world, "keys", "release"))[-1].startswith("all parts are proven")
