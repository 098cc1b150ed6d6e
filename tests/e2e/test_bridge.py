"""`warden bridge` beside a served fleet: a plain broker, Home Assistant's discovery, commands."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from fleet_kit import DEVICE, TYPE, Board, Journal, World, wait_until
from port_kit import free_ports
from process_kit import child
from warden_client import secretfile
from warden_host.broker.mosquitto.broker import find_binary
from warden_host.devices import app_tokens, setup
from warden_host.protocol.access_token import Scope
from warden_host.service.run import serving
from warden_host.store.store import App, Store


class Home:
    """A home's own broker, without TLS and accounts, and what a program there sees."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.seen = Journal()
        config = folder / "home.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.argv = [str(find_binary()), "-c", str(config)]
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_message = lambda _, __, one: self.seen.add((one.topic, one.payload))

    def wait(self, topic: str, **fields: Any) -> dict[str, Any]:
        def fits(item: tuple[str, bytes]) -> bool:
            if item[0] != topic:
                return False
            value = json.loads(item[1])
            return all(value.get(key) == wanted for key, wanted in fields.items())

        found = self.seen.wait_item(fits, f"{topic} {fields}")
        value: dict[str, Any] = json.loads(found[1])
        return value


@pytest.mark.usefixtures("umqtt_path")
def test_a_home_beside_a_fleet(tmp_path: Path) -> None:
    world = World(tmp_path)
    with Store(world.fleet.database) as store:
        setup.add_app(world.fleet, store, App("home", (TYPE,), ("set_relay", "get_relay")))
        board = Board(world.provision(commands=("set_relay", "get_relay")))
        _, token = app_tokens.issue(
            world.fleet, store, "home", Scope((TYPE,), False, ("set_relay",)), 1
        )
    secretfile.write(tmp_path / "token", token.encode())
    home = Home(tmp_path)
    argv = [sys.executable, "-m", "warden_host.cli", "--fleet", str(world.fleet.root), "bridge"]
    argv += ["--mqtt", f"mqtt://127.0.0.1:{home.port}", "--home-assistant"]
    argv += ["--commands-token-file", str(tmp_path / "token")]
    with (
        child(home.argv, stderr=subprocess.DEVNULL),
        serving(world.fleet, world.news.add),
    ):
        connect(home)
        with child(argv, stdout=subprocess.PIPE) as bridge, contextlib.ExitStack() as stack:
            assert bridge.stdout is not None and bridge.stdout.readline() == "connected\n"
            home.wait(f"warden/{DEVICE}/state", online=False)
            stack.enter_context(board)
            config = home.wait(f"homeassistant/sensor/warden_{DEVICE}/temperature_c/config")
            assert config["state_topic"] == f"warden/{DEVICE}/state"
            assert config["availability"] == [{"topic": f"warden/{DEVICE}/availability"}]
            # The state that the event gave: one without it may have come before the config.
            state = home.wait(f"warden/{DEVICE}/state")
            assert state["online"] is True and state["values"] == {"temperature_c": 20}
            # A command within the token's scope, one outside, and one that was left at the broker.
            publish(home, "set_relay", {"on": 1})
            reply = home.wait(f"warden/{DEVICE}/reply/set_relay")
            assert reply == {"ok": True, "result": {"on": 1}}
            publish(home, "get_relay", {})
            reply = home.wait(f"warden/{DEVICE}/reply/get_relay")
            assert reply == {"ok": False, "error": "token-scope"}
            board.kill()
            home.wait(f"warden/{DEVICE}/state", online=False)
        home.client.loop_stop()


def connect(home: Home) -> None:
    def answers() -> bool:
        try:
            home.client.connect("127.0.0.1", home.port)
        except OSError:
            return False
        return True

    wait_until(answers, "mosquitto")
    home.client.loop_start()


def publish(home: Home, command: str, args: dict[str, Any]) -> None:
    home.client.publish(f"warden/{DEVICE}/command/{command}", json.dumps(args), qos=1)
