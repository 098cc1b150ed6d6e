"""A device floods a real broker: another device's events, commands and `warden revoke` still work.

Each round of the flood waits until the links have read it, so that a slow machine does not make
the broker drop messages: only the authority can lose any.
"""

import queue
import threading
from collections import Counter

import pytest
from engine_kit import SEALED
from host_kit import DEVICE, new_fleet, settle
from live_kit import LiveDevice
from process_kit import PATIENCE_S
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import registry
from warden_host.cli import main
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.service.authority import Authority
from warden_host.service.fair_inbox import WAITING
from warden_host.service.run import serving
from warden_host.store.store import Device, Store

HONEST = "D2"
ROUND, ROUNDS = 1000, 8


class Counts:
    """Count each device's messages that the links received and that the engine handled."""

    def __init__(self, patch) -> None:
        self._changed = threading.Condition()
        self.received: Counter[str] = Counter()
        self.handled: Counter[str] = Counter()
        receive, on_message = Authority.receive, Engine.on_message

        def counted_receive(made, appid, topic, payload, retain):
            receive(made, appid, topic, payload, retain)
            self._count(self.received, topic.split(b"/")[4].decode())

        def counted_message(engine, appid, text, data, retain):
            self._count(self.handled, text.split("/")[4])
            on_message(engine, appid, text, data, retain)

        patch.setattr(Authority, "receive", counted_receive)
        patch.setattr(Engine, "on_message", counted_message)

    def _count(self, counter: Counter, device: str) -> None:
        with self._changed:
            counter[device] += 1
            self._changed.notify_all()

    def wait_received(self, device: str, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.received[device] >= count, PATIENCE_S)


@pytest.fixture
def fleet(tmp_path):
    made = new_fleet(tmp_path)
    with (made.root / CONFIG).open("a") as file:  # else it is cut off, as tests/attack shows
        file.write('[reactions]\ndevice-flood = "ignore"\n')
    made = Fleet(made.root)
    with Store(made.database) as store:
        for name in (DEVICE, HONEST):
            store.add_device(
                Device(name, "relay", "UNIX", "sealed", SEALED.policy, pairs=SEALED.pairs)
            )
    return made


@pytest.fixture
def passwords(fleet):
    made = {name: device_password() for name in (DEVICE, HONEST)}
    with registry.opened(fleet) as accounts:
        for name, password in made.items():
            accounts.put(device_account("relay", name, password))
    return made


KINDS = {
    "garbage": lambda device, number: ("x", b"%064d" % number),
    "plain": lambda device, number: ("x", b"{}"),
    "hello": lambda device, number: ("hello", device.hello()),
    "event": lambda device, number: ("x", device.seal("x", [0, None, {"n": number}])),
    "incident": lambda device, number: (
        "incident",
        device.seal("incident", [0, None, {"code": f"c{number % 250}", "n": 1, "at": ""}]),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_costs_its_sender_alone(fleet, passwords, kind, monkeypatch, capsys):
    counts = Counts(monkeypatch)
    news: queue.Queue[FleetEvent] = queue.Queue()

    def wait_session(device: str) -> None:
        while True:
            fleet_event = news.get(timeout=PATIENCE_S)
            if (fleet_event.kind, fleet_event.device) == ("session", device):
                return

    with serving(fleet, news.put) as service:
        honest = LiveDevice(fleet, passwords[HONEST], HONEST)
        wait_session(HONEST)
        flooder = LiveDevice(fleet, passwords[DEVICE])
        wait_session(DEVICE)
        authority = service.authority
        flooder.client.on_message = None  # its answers don't matter any more

        def flood() -> None:
            start = counts.received[DEVICE]
            for number in range(ROUND):
                event, data = KINDS[kind](flooder, number)
                fmt = "json" if kind == "plain" else "cose"
                where = flooder.topic("evt", event).replace("cose", fmt)
                flooder.client.publish(where, data, qos=0)
            counts.wait_received(DEVICE, start + ROUND)

        for number in range(ROUNDS):
            flooding = threading.Thread(target=flood)
            flooding.start()
            honest.send_event("temperature", honest.seal("temperature", [0, None, {"n": number}]))
            request = Request(HONEST, "set_relay", {"on": number}, timeout_s=PATIENCE_S)
            assert authority.command(request)["reply"] == {"ok": True, "result": {"on": number}}
            flooding.join(PATIENCE_S)
            assert not flooding.is_alive()
        settle(authority)
        authority.ask(Engine.write_events, PATIENCE_S)  # under load they are written in batches
        with Store(fleet.database) as store:
            kept = [body for _, _, name, body in store.events(HONEST) if name == "temperature"]
            assert kept == [f'{{"n": {number}}}' for number in range(ROUNDS)]
            assert store.incidents(HONEST) == []
        assert authority.load.waiting <= WAITING

        # The engine stands still, and a flood waits before it. A revocation overtakes it.
        go, reached = threading.Event(), threading.Event()
        authority.do(lambda _: (reached.set(), go.wait(PATIENCE_S)))
        assert reached.wait(PATIENCE_S)
        flood()
        assert authority.load.waiting == WAITING
        before, received = counts.handled[DEVICE], counts.received[DEVICE]
        waiting = authority._inbox.tasks
        revoked: list[int] = []
        arguments = ["--fleet", str(fleet.root), "revoke", DEVICE, "--yes"]
        revoking = threading.Thread(target=lambda: revoked.append(main.run(arguments)))
        revoking.start()
        while authority._inbox.tasks == waiting and revoking.is_alive():
            revoking.join(0.05)
        go.set()
        revoking.join(PATIENCE_S)
        assert revoked == [0]
        assert f"{DEVICE} is cut off" in capsys.readouterr().out
        # Of what waited nothing was dealt with; its last will may have come since.
        settle(authority)
        assert counts.handled[DEVICE] - before <= counts.received[DEVICE] - received
        assert authority.command(Request(HONEST, "set_relay", {"on": 1}, timeout_s=PATIENCE_S))[
            "ok"
        ]
        honest.close()
        flooder.close()
    flooded = {each.device for each in news.queue if each.code == "flooded"}
    assert flooded == {DEVICE}
