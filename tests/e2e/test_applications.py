"""Applications that are parties of their own, in processes of their own, beside `warden serve`."""

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fleet_kit
import pytest
from fleet_kit import DEVICE, PATIENCE_S, TYPE, Board, Journal, World
from warden_client import Application, credentials
from warden_client.connection import Connection
from warden_client.errors import HostError
from warden_host.cli import main
from warden_host.devices import setup
from warden_host.engine.request import Request
from warden_host.service.run import serving
from warden_host.store.store import App, Store

REPO = Path(__file__).resolve().parents[2]
# Each may do something else: a fan switches the relay, a meter only asks.
APPS = (
    App("fan", (TYPE,), ("set_relay",)),
    App("meter", (TYPE,), ("probe",)),
    App("script", (TYPE,), ("set_relay",)),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, umqtt_path: Path) -> Iterator[World]:
    """A fleet that is served, with a device and two applications that are exported."""
    made = World(tmp_path_factory.mktemp("world"))
    with Store(made.fleet.database) as store:
        for app in APPS:
            setup.add_app(made.fleet, store, app)
    home = made.provision(source=REPO / "tests/e2e/device/thermometer.py")
    with serving(made.fleet, made.news.add) as service:
        made.authority, made.broker = service.authority, service.broker
        with Board(home) as board:
            made.fleet_event("session", app="fan")  # serve speaks for it still
            for app in APPS:
                export(made, app.appid)
                made.fleet_event("notice", app=app.appid)
            yield made
            assert board.process is not None
            assert board.process.poll() is None


def file_of(world: World, appid: str) -> Path:
    return world.fleet.root.parent / f"{appid}.warden.json"


def export(world: World, appid: str) -> None:
    arguments = ["--fleet", str(world.fleet.root), "app", "export", appid]
    assert main.run([*arguments, "--out", str(file_of(world, appid))]) == 0


def program(*argv: str) -> contextlib.AbstractContextManager[Journal]:
    """A program of an owner's; yields the lines that it prints."""
    return fleet_kit.program(argv, PYTHONPATH=str(REPO / "tools"))


def fan(world: World, appid: str) -> contextlib.AbstractContextManager[Journal]:
    """The example, as one of the applications."""
    script = REPO / "examples" / "application" / "fan.py"
    return program(sys.executable, str(script), str(file_of(world, appid)))


def wait_line(lines: Journal, text: str) -> None:
    lines.wait_item(lambda line: line == text, text)


def test_two_programs_with_other_scopes_run_beside_serve(world: World) -> None:
    with fan(world, "fan") as one, fan(world, "meter") as two:
        wait_line(one, "logged in as fan")
        wait_line(two, "logged in as meter")
        wait_line(one, "D1 temperature {'c': 20}")
        wait_line(one, "D1 set_relay {'on': 0}")
        wait_line(two, "D1 set_relay not-allowed")
        # The authority goes on, and does not speak in their name.
        assert world.command("probe", a=1) == {"a": 1}
        assert world.authority is not None
        with pytest.raises(HostError, match="party of its own"):
            world.authority.command(Request(DEVICE, "set_relay", {}, "fan"))
        for lines in (one, two):  # neither threw the other off, nor did serve
            wait_line(lines, "D1 temperature {'c': 20}")
            assert not [line for line in lines.all() if "ends each connection" in line]
    refusals = [news for news in world.news.all() if news.kind == "refused"]
    assert {news.code for news in refusals} <= {"stale-hello"}, refusals


@pytest.fixture
def javascript(tmp_path: Path) -> Path:
    """The example in JavaScript, where it finds npm's mqtt."""
    modules = REPO / "build" / "javascript" / "node_modules"
    if shutil.which("node") is None or not (modules / "mqtt").is_dir():
        pytest.skip("Node or npm's mqtt is not installed: `make setup`")
    (tmp_path / "node_modules").symlink_to(modules)
    return Path(shutil.copy(REPO / "examples" / "javascript" / "app.mjs", tmp_path))


def test_a_program_in_another_language(world: World, javascript: Path) -> None:
    vectors = REPO / "tests" / "vectors" / "session.json"
    with program("node", str(javascript), "--vectors", str(vectors)) as lines:
        wait_line(lines, "all vectors are met")
    file = str(shutil.copy(file_of(world, "script"), javascript.parent))
    with program("node", str(javascript), file, DEVICE, "set_relay", '{"on": 1}') as lines:
        wait_line(lines, '{"ok":true,"result":{"on":1}}')
    with program("node", str(javascript), file) as lines:
        wait_line(lines, '{"device":"D1","event":"temperature","body":{"c":20}}')


def test_a_program_outlives_the_broker(world: World) -> None:
    async def scene() -> None:
        async with Application(file_of(world, "fan"), world.fleet.root.parent / "own") as app:
            assert (await app.command(DEVICE, "set_relay", {"on": 1}, timeout_s=PATIENCE_S)).ok
            assert world.broker is not None
            os.kill(world.broker.pid, signal.SIGKILL)
            while app.connected:
                await asyncio.sleep(0.05)
            await asyncio.to_thread(world.broker.stop)
            await asyncio.to_thread(world.broker.start)
            reply = await app.command(DEVICE, "set_relay", {"on": 0}, timeout_s=PATIENCE_S)
            assert reply.result == {"on": 0}

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"pins": frozenset({bytes(32)})}, "pin-mismatch"),
        ({"ca": ""}, "key-damaged"),
        ({"password": "wrong"}, "broker-refused"),
        ({"subscribe": ("iot-2/type/other/id/+/evt/#",)}, "broker-refused"),
        ({"host": "localhost", "port": 1}, "unreachable"),
    ],
)
def test_a_log_in_that_is_refused_names_its_reason(
    world: World, changes: dict[str, Any], code: str
) -> None:
    known = credentials.read(file_of(world, "meter"))

    async def scene() -> None:
        made = Connection(dataclasses.replace(known, **changes), print, print)
        try:
            await made.open()
        finally:
            await made.close()

    with pytest.raises(HostError) as refused:
        asyncio.run(scene())
    assert refused.value.code == code
