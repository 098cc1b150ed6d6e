"""The incident log with a real broker: an application floods a device with messages above its
limit, the device stays, and the authority gets every record once, over restarts of both."""

from functools import partial
from pathlib import Path
from typing import Any

from fleet_kit import DEVICE, TYPE, Board, World, wait_until
from warden_host.devices import setup
from warden_host.names import Topic
from warden_host.store.incidents import LogHead, Record
from warden_host.store.store import App, Store

FAN = App("fan", (TYPE,), ("set_relay",))
FLOOD = {("mqtt-too-large", "set_relay", "fan"), ("app-flood", "", "fan")}
SIZE, COUNT = 15_000, 14  # bytes, messages: more than a link bore before, in one go


def records(world: World) -> tuple[LogHead | None, list[Record]]:
    with Store(world.fleet.database) as store, store.transaction():  # both of one moment
        return store.log_head(DEVICE), store.incident_records(DEVICE)


def named(world: World) -> set[tuple[str, str, str]]:
    return {(one.code, one.at, one.app) for one in records(world)[1]}


def is_behind(world: World, number: int) -> bool:
    """Whether the log has gone on."""
    head, _ = records(world)
    return head is not None and head.number > number


def publish(world: World, data: bytes) -> None:
    """As the application's own account does, whose messages nobody checks before the device."""
    where = Topic(TYPE, DEVICE, "cmd", "set_relay", "cose")
    assert world.authority is not None
    world.authority.ask(lambda engine: engine.publish(where, "fan", data))


def sealed(world: World) -> bytes:
    """A command that the device refuses; its first bytes name the application."""
    assert world.authority is not None

    def make(engine: Any) -> bytes:
        session = engine.state(DEVICE).sessions["fan"]
        data: bytes = session.seal("unlock", 1, {}, None, engine.clock())
        return data

    return world.authority.ask(make)


def test_a_flood_above_the_limit_is_named_and_the_device_stays(
    tmp_path: Path, umqtt_path: Path
) -> None:
    world = World(tmp_path)
    with Store(world.fleet.database) as store:
        setup.add_app(world.fleet, store, FAN)
    home = world.provision()
    # Because of this one the broker lets packets through that the other can't take.
    world.provision("D2", limits={"max_message": 16384})
    with world:
        with Board(home) as board:
            world.fleet_event("session", app="fan")  # the last one to come up
            head = sealed(world)[:17]
            for _ in range(COUNT):
                publish(world, head + bytes(SIZE))
            flood = world.fleet_event("incident", code="app-flood")
            assert flood.body == {"n": 1, "source": "fan"}
            assert world.command("set_relay", on=1) == {"on": 1}
            assert sum(line.startswith("log link-up") for line in board.lines.all()) == 1
            wait_until(lambda: named(world) >= FLOOD, "records of the flood")
            last, kept = records(world)
            # Above the limit it is only a name: the application is obeyed as before.
            assert sum(one.n for one in kept if one.code == "mqtt-too-large") < COUNT
        assert last is not None
        for restart in (world.stop_authority, lambda: None):
            restart()
            if world.authority is None:
                world.start_authority()
            with Board(home) as board:
                # Refused before it is opened: no seal, so no application is named.
                world.fleet_event("session", app="authority")
                publish(world, b"junk")
                world.fleet_event("incident", code="cose-malformed")
                wait_until(partial(is_behind, world, last.number), "record")
            last, kept = records(world)
            assert last is not None
            assert last.missing == 0
        numbers = [one.number for one in kept]
        assert numbers == list(range(1, last.number + 1))
        with Store(world.fleet.database) as store:
            codes = {one.code for one in store.incidents(DEVICE)}
        assert not codes & {"incident-gap", "incident-tampered"}
