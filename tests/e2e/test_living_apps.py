"""Applications that come, change and go while devices live: real mosquitto, real firmware."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from fleet_kit import DEVICE, PATIENCE_S, TYPE, Board, Journal, World, wait_until
from warden_host.cli import main
from warden_host.engine.request import Request
from warden_host.fleet import tls
from warden_host.names import AUTHORITY, app_client
from warden_host.service.run import serving
from warden_host.store.store import Store


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.provision(commands=("set_relay",))
    return made


@pytest.fixture
def board(world: World) -> Iterator[Board]:
    with Board(world.fleet.simulated(DEVICE)) as made:
        yield made


def warden(world: World, capsys: Any, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    status = main.run(["--fleet", str(world.fleet.root), "app", *arguments, "--json"])
    out = capsys.readouterr()
    assert status == 0, out
    line: dict[str, Any] = json.loads(out.out.splitlines()[-1])
    return line


def has(world: World) -> list[str]:
    with Store(world.fleet.database) as store:
        return [pair.appid for pair in store.device(DEVICE).pairs]


def renames(world: World) -> dict[str, str]:
    with Store(world.fleet.database) as store:
        return store.renames()


class Party:
    """An application's own connection to the broker."""

    def __init__(self, world: World, appid: str) -> None:
        self.events = Journal()
        user = app_client(appid)
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=user)
        client.username_pw_set(user, world.fleet.app_password(appid).decode())
        client.tls_set_context(tls.context(world.fleet))
        client.on_connect = lambda *args: self.events.add(f"log-in {args[3]}")
        client.on_disconnect = lambda *_: self.events.add("dropped")
        client.connect("127.0.0.1", world.port)
        client.loop_start()
        self.client = client

    def wait(self, what: str) -> None:
        self.events.wait_item(lambda event: event == what, what)


def test_a_day_of_a_living_fleet(world: World, board: Board, capsys: Any) -> None:
    with serving(world.fleet, world.news.add) as service:
        world.authority = service.authority

        def answer(app: str, command: str, **args: Any) -> Any:
            request = Request(DEVICE, command, args, app=app, timeout_s=PATIENCE_S)
            return service.authority.command(request)["reply"]

        def both(text: str, app: str) -> None:
            """Wait for a notice and a session: they come by two links, in any order."""

            def came() -> bool:
                news = world.news.all()[since:]
                told = any((one.kind, one.text) == ("notice", text) for one in news)
                return told and any((one.kind, one.app) == ("session", app) for one in news)

            wait_until(came, f"{text!r} and a session of {app}")

        board.wait_line("log session-stands")
        world.fleet_event("session", app=AUTHORITY)
        since = len(world.news.all())
        # Added: the device has it at once, and types that no device has are named.
        served = ("--type", TYPE, "--type", "ghost")
        added = warden(world, capsys, "add", "home", *served, "--command", "set_relay")
        assert (added["waiting"], added["unused_types"]) == ([DEVICE], ["ghost"])
        board.wait_line("log apps-changed home")
        both("has application home", "home")
        assert answer("home", "set_relay", on=1)["result"] == {"on": 1}
        assert warden(world, capsys, "show", "home")["confirmed"] == [DEVICE]
        # Narrowed and widened.
        since = len(world.news.all())
        rights = ("--no-command", "set_relay", "--command", "get_relay", "--no-type", "ghost")
        assert warden(world, capsys, "grant", "home", *rights)["waiting"] == [DEVICE]
        board.wait_line("log apps-changed home")
        both("has the rights of home", "home")
        assert answer("home", "set_relay", on=0)["error"] == "not-allowed"
        assert answer("home", "get_relay")["error"] == "unknown-command"  # of the program
        # Away, while one is renamed and another one added and taken away again.
        board.kill()
        warden(world, capsys, "rename", "home", "house")
        warden(world, capsys, "add", "dash", "--type", TYPE, "--command", "get_relay")
        shown = warden(world, capsys, "show", "home")
        assert (shown["becomes"], shown["waiting"][0]["after"]) == ("house", "house")
        assert warden(world, capsys, "show", "dash")["waiting"][0]["change"] == "add"
        board.start()
        world.fleet_event("notice", text="has application dash")
        world.fleet_event("notice", text="has home no more")
        assert answer("house", "get_relay")["error"] == "unknown-command"
        assert has(world) == [AUTHORITY, "dash", "house"]
        # Compromised, and a party of its own: cut off, and refused from then on.
        warden(world, capsys, "export", "dash", "--out", str(world.fleet.root / "dash.json"))
        party = Party(world, "dash")
        party.wait("log-in Success")
        warden(world, capsys, "remove", "dash", "--yes")
        party.wait("dropped")
        party.wait("log-in Not authorized")
        party.client.loop_stop()
        board.wait_line("log apps-changed dash")
        world.fleet_event("notice", text="has dash no more")
        wait_until(lambda: renames(world) == {}, "end of the rename")  # by another thread
    assert has(world) == [AUTHORITY, "house"]
    with Store(world.fleet.database) as store:
        assert [app.appid for app in store.apps()] == ["house"]
        assert store.app_changes() == [] and store.renames() == {}
