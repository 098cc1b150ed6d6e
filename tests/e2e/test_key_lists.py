"""An application's program that runs while devices come, get new keys and go: no new export."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import fleet_kit
import paho.mqtt.client as mqtt
import pytest
from fleet_kit import DEVICE, PATIENCE_S, TYPE, Board, Journal, World
from warden_client import Application
from warden_client.protocol import key_lists
from warden_host.cli import main
from warden_host.devices import setup
from warden_host.fleet import tls
from warden_host.names import app_client
from warden_host.service.run import serving
from warden_host.store.store import App, Store

SECOND = "D2"
THERMOMETER = Path(__file__).parent / "device" / "thermometer.py"


def warden(world: World, *arguments: str) -> None:
    assert main.run(["--fleet", str(world.fleet.root), *arguments]) == 0


class Eavesdropper:
    """Another application's account, which tries what is not its own."""

    def __init__(self, world: World, appid: str, victim: str) -> None:
        self.answers = Journal()
        user = app_client(appid)
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=user)
        client.username_pw_set(user, world.fleet.app_password(appid).decode())
        client.tls_set_context(tls.context(world.fleet))
        keys, ask = key_lists.list_topic(victim), key_lists.ask_topic(victim)
        own = key_lists.list_topic(appid)
        client.on_connect = lambda made, *_: made.subscribe(
            [(own, 1), (keys, 1), (ask, 1), ("warden/#", 1), ("warden/app/+/keys", 1)]
        )
        client.on_subscribe = lambda _c, _d, _n, reasons, _p: self.answers.add(
            [reason.is_failure for reason in reasons]
        )
        client.on_message = lambda _c, _d, message: self.answers.add(message.topic)
        client.on_publish = lambda *_: self.answers.add("published")
        client.connect("127.0.0.1", world.port)
        client.loop_start()
        self.client = client


def test_a_program_learns_of_devices_keys_while_it_runs(
    tmp_path: Path, umqtt_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "warden_client")
    world = World(tmp_path)
    with Store(world.fleet.database) as store:
        for appid in ("fan", "evil"):
            setup.add_app(world.fleet, store, App(appid, (TYPE,), ("set_relay",)))
    first = world.provision(source=THERMOMETER)
    file = tmp_path / "fan.warden.json"
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(serving(world.fleet, world.news.add))
        world.authority = service.authority
        stack.enter_context(Board(first))
        warden(world, "app", "export", "fan", "--out", str(file))
        before = file.read_bytes()
        evil = Eavesdropper(world, "evil", "fan")
        assert evil.answers.wait_item(lambda _: True, "SUBACK") == [False, *[True] * 4]

        async def off_loop(function: Any, *arguments: Any) -> Any:
            return await asyncio.to_thread(function, *arguments)

        async def until(holds: Any, what: str) -> None:
            await off_loop(fleet_kit.wait_until, holds, what)

        async def scene() -> None:
            async with Application(file) as app:
                on = {"on": 1}
                assert (await app.command(DEVICE, "set_relay", on, timeout_s=PATIENCE_S)).ok
                # Another account publishes there: the broker drops it.
                number = app._updates.number
                where = key_lists.list_topic("fan")
                evil.client.publish(where, b"\0", qos=1)
                await off_loop(evil.answers.wait_item, lambda one: one == "published", "PUBACK")
                # A second device comes.
                home = await off_loop(lambda: world.provision(SECOND, source=THERMOMETER))
                await until(lambda: SECOND in app.devices, "second device")
                assert app._updates.number > number
                stack.enter_context(Board(home))
                assert (await app.command(SECOND, "set_relay", on, timeout_s=PATIENCE_S)).ok
                # It gets new keys, which this program alone can prove.
                old = app.devices[SECOND].entry.keys
                await off_loop(warden, world, "rotate", SECOND, "--keys")
                await until(
                    lambda: (
                        len(app.devices[SECOND].entry.keys) == 1
                        and app.devices[SECOND].entry.keys != old
                    ),
                    "new key alone",
                )
                assert (await app.command(SECOND, "set_relay", on, timeout_s=PATIENCE_S)).ok
                # It is cut off.
                await off_loop(warden, world, "revoke", SECOND, "--yes")
                await until(lambda: SECOND not in app.devices, "end of the second device")
                assert (await app.command(DEVICE, "set_relay", on, timeout_s=PATIENCE_S)).ok
            # What came meanwhile is there after a restart, and what comes later is asked for.
            await off_loop(lambda: world.provision("D3", source=THERMOMETER))
            async with Application(file) as app:
                assert SECOND not in app.devices
                await until(lambda: "D3" in app.devices, "third device")

        asyncio.run(scene())
        assert "cose-malformed" not in caplog.text  # what the other account published
        assert file.read_bytes() == before
        assert file.with_suffix(".state").stat().st_mode & 0o077 == 0
        assert not [one for one in evil.answers.all() if isinstance(one, str) and "/" in one]
        evil.client.disconnect()
        evil.client.loop_stop()
