"""What the authority costs: devices and a bare paho client at the same real broker.

Devices, authority and paho client are processes of their own. The authority and the paho client
receive the same events; each sends commands to a device of its own and waits for the replies. CPU
is what the system charged each process, all of its threads together.

    python tests/bench/bench_authority.py ROLE FLEET PASSWORD…     one of the processes
"""

import queue
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "host"), str(TESTS), str(TESTS / "bench")]

import paho.mqtt.client as mqtt  # noqa: E402  (the path must be set first)
from engine_kit import POLICY, SEALED, K, Stage, pairs  # noqa: E402
from host_kit import PeerDevice, new_fleet, topic  # noqa: E402
from live_kit import send_at_once  # noqa: E402
from measure_kit import figure, row  # noqa: E402
from role_kit import BenchDevice, Role, serve_role  # noqa: E402
from warden_host import names  # noqa: E402
from warden_host.broker.accounts import app_account, device_account, device_password  # noqa: E402
from warden_host.broker.mosquitto import registry  # noqa: E402
from warden_host.engine.engine import Engine  # noqa: E402
from warden_host.engine.request import Request  # noqa: E402
from warden_host.fleet import tls  # noqa: E402
from warden_host.fleet.fleet import Fleet  # noqa: E402
from warden_host.protocol import policy  # noqa: E402
from warden_host.service.run import serving  # noqa: E402
from warden_host.store.store import Store  # noqa: E402

_DEVICES = [f"D{number}" for number in range(40)]
_EVENTS = 90  # of each device: within the burst that the authority serves without a pause
_ROUND = 10  # events of each device until the listeners have caught up
_COMMANDS, _TURNS = 30, 10  # in turns, so that the machine's load falls on both
_SESSIONS = 500
_METER, _ECHO = "meter", "echo"  # the paho client, and the device that echoes what it sends


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _live_rows(Path(folder))
    yield from _session_rows()


def _live_rows(folder: Path) -> Iterator[dict[str, object]]:
    fleet = new_fleet(folder)
    passwords = {name: device_password() for name in (*_DEVICES, _ECHO, _METER)}
    with Store(fleet.database) as store, registry.opened(fleet) as accounts:
        for name in _DEVICES:
            store.add_device(replace(SEALED, device=name, pairs=pairs("authority")))
        for name in (*_DEVICES, _ECHO):
            accounts.put(device_account("relay", name, passwords[name]))
        accounts.put(app_account(_METER, ("relay",), passwords[_METER]))
    with (
        Role(__file__, "authority", fleet) as authority,
        Role(__file__, "meter", fleet, passwords[_METER]) as meter,
        Role(
            __file__, "devices", fleet, *(passwords[name] for name in (*_DEVICES, _ECHO))
        ) as devices,
    ):
        total = len(_DEVICES) * _EVENTS
        before = authority.do(0)["cpu"], meter.do(0)["cpu"]
        devices.do(_EVENTS)
        stored = authority.do(0)["cpu"] - before[0]
        heard = meter.do(0)
        with Store(fleet.database) as store:
            kept = sum(len(store.events(name)) for name in _DEVICES)
        if (kept, heard["received"]) != (total, total):
            raise RuntimeError(f"{kept} events stored, {heard['received']} heard, of {total}")
        bare = (heard["cpu"] - before[1]) / total
        peer = f"paho subscriber {figure(bare * 1e6)} µs"
        cost = stored / total
        yield row("CPU a stored sealed event", cost * 1e6, "µs", most=220, peer=peer)
        # 220 µs where paho takes 74: what the machine's load changes least.
        yield row("CPU a stored sealed event", cost / bare, "× paho's", most=3)
        yield row("stored sealed events that one core is enough for", 1 / cost, "/s", least=3500)
        turns = [(authority.cpu(_COMMANDS), meter.cpu(_COMMANDS)) for _ in range(_TURNS)]
        sent, echoed = (statistics.median(times) / _COMMANDS for times in zip(*turns, strict=True))
        peer = f"paho, request and echo {figure(echoed * 1e3)} ms"
        yield row("CPU a command and its reply", sent * 1e3, "ms", peer=peer)
        yield row("CPU a command and its reply", sent / echoed, "× paho's", most=1)


def _session_rows() -> Iterator[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        digest = policy.policy_hash(POLICY)
        names_ = [f"S{number}" for number in range(2 * _SESSIONS)]
        for name in names_:
            stage.store.add_device(replace(SEALED, device=name, pairs=pairs("authority")))
        spent = 0.0

        def receive(peer: PeerDevice, event: str, data: bytes) -> None:
            nonlocal spent
            start = time.process_time()
            where = topic("evt", event, device=peer.device)
            stage.engine.on_message("authority", where, data, False)
            spent += time.process_time() - start

        def handshake(name: str) -> None:
            peer = PeerDevice(K["authority"], digest, "authority", name)
            receive(peer, "hello", peer.hello())
            peer.take_welcome(stage.last("welcome"))
            receive(peer, "ready", peer.ready())
            stage.sent.clear()
            stage.news.clear()

        for name in names_[:_SESSIONS]:
            handshake(name)
        cpu = spent / _SESSIONS
        tracemalloc.start()
        for name in names_[_SESSIONS:]:
            handshake(name)
        held = tracemalloc.get_traced_memory()[0] / _SESSIONS
        tracemalloc.stop()
        stage.store.close()
    yield row("CPU from hello to session, engine and store", cpu * 1e3, "ms", most=2.0)
    yield row("memory of a device with a session", held / 1024, "KB", most=6.0)


def _be_authority(fleet: Fleet) -> None:
    with serving(fleet) as service:

        def work(commands: int) -> dict[str, object]:
            while service.authority.load.waiting:
                time.sleep(0.01)
            service.authority.ask(Engine.write_events)
            for _ in range(commands):
                service.authority.command(Request("D0", "set_relay", {"on": 1}))
            return {"cpu": time.process_time()}

        serve_role(work)


def _client(fleet: Fleet, user: str, password: str, subscription: str) -> mqtt.Client:
    """Return a paho client whose subscription stands."""
    up: queue.SimpleQueue[bool] = queue.SimpleQueue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=user)
    client.username_pw_set(user, password)
    client.tls_set_context(tls.context(fleet))
    client.on_socket_open = send_at_once
    client.on_connect = lambda *_: client.subscribe(subscription, qos=0)
    client.on_subscribe = lambda *_: up.put(True)
    client.connect(fleet.settings.broker.contact, fleet.settings.broker.port)
    client.loop_start()
    up.get()
    return client


def _be_meter(fleet: Fleet, password: str) -> None:
    echoes: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    received = 0

    def on_message(_client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        nonlocal received
        if f"/{_ECHO}/" in message.topic:
            echoes.put(message.payload)
        elif "/temperature/" in message.topic:
            received += 1

    evt = "iot-2/type/relay/id/+/evt/#"
    client = _client(fleet, names.app_client(_METER), password, evt)
    client.on_message = on_message

    def work(requests: int) -> dict[str, object]:
        for _ in range(requests):
            client.publish(topic("cmd", "set_relay", device=_ECHO), bytes(100), qos=1)
            echoes.get()
        return {"cpu": time.process_time(), "received": received}

    serve_role(work)
    client.loop_stop()


def _be_devices(fleet: Fleet, *passwords: str) -> None:
    named = dict(zip((*_DEVICES, _ECHO), passwords, strict=True))
    cmd = topic("cmd", "#", device=_ECHO).split("#")[0] + "#"
    echo = _client(fleet, names.device_client("relay", _ECHO), named[_ECHO], cmd)
    evt = topic("evt", "reply", device=_ECHO)
    echo.on_message = lambda *args: echo.publish(evt, args[2].payload, qos=0)
    devices = [BenchDevice(fleet, named[name], name) for name in _DEVICES]
    for device in devices:
        while not device.keys:
            time.sleep(0.01)

    def work(events: int) -> dict[str, object]:
        for number in range(events):
            for device in devices:
                data = device.seal("temperature", [0, None, {"c": 21.5, "n": number}])
                device.send_event("temperature", data)
            if number % _ROUND == _ROUND - 1:
                time.sleep(0.3)  # a broker drops what a listener is too slow for
        time.sleep(1)
        return {}

    serve_role(work)
    for each in devices:
        each.close()
    echo.loop_stop()


if __name__ == "__main__":
    role, root, *given = sys.argv[1:]
    roles = {"authority": _be_authority, "meter": _be_meter, "devices": _be_devices}
    roles[role](Fleet(Path(root)), *given)
