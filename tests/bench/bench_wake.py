"""Count the bytes of a wake-up with one reading, beside umqtt.simple over TLS.

Our device wakes up from (simulated) deep sleep, resumes its sealed session, sends one reading,
waits until the authority has stored it, and says goodbye. umqtt.simple logs in, publishes the same
reading with QoS 1, and disconnects.
"""

import contextlib
import dataclasses
import queue
import statistics
from collections.abc import Iterator
from pathlib import Path

from bench_agent import BARE, TYPE
from demo import network as demo_network
from measure_kit import Process, plain_process, row, settings_of
from warden_host import names
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import registry
from warden_host.broker.mosquitto.broker import Broker
from warden_host.devices import setup
from warden_host.devices.provision import Order, device_argv, provision
from warden_host.engine.events import FleetEvent
from warden_host.fleet import device_tree
from warden_host.fleet.fleet import BrokerSettings, Settings
from warden_host.names import Topic
from warden_host.service.authority import Authority
from warden_host.store.store import Store

_SLEEPER = "nap000"  # names as long as the peer's
_WAKES = 5
_PROGRAM = Path(__file__).resolve().parents[1] / "e2e" / "device" / "sleeper.py"
_PEER = """\
client.connect()
client.publish(TOPIC, b'{"n": 1}', False, 1)
client.disconnect()
print("done")
"""


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    from bench_wire import Meter

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(demo_network.folder())
        port, admin = demo_network.free_ports(2)
        meter = Meter(port)
        settings = BrokerSettings(port=port, device_port=port, admin_port=admin)
        fleet = setup.new_fleet(folder / "fleet", Settings(settings, ()))
        plain = fleet.settings
        fleet.settings = dataclasses.replace(
            plain, broker=dataclasses.replace(plain.broker, device_port=meter.port)
        )
        with Store(fleet.database) as store:
            order = Order(_SLEEPER, TYPE, app_source=_PROGRAM, limits={"outbox": 8})
            provision(fleet, store, order)
        app = fleet.simulated(_SLEEPER) / "root" / "app" / "app.py"
        app.write_bytes(_PROGRAM.read_bytes())
        fleet.settings = plain
        password = device_password()
        with registry.opened(fleet) as accounts:
            accounts.put(device_account(TYPE, BARE, password))
        news: queue.Queue[FleetEvent] = queue.Queue()
        stack.enter_context(Broker(fleet))
        stack.enter_context(Authority(fleet, news.put))

        def wake() -> int:
            argv = device_argv(device_tree.tree(), fleet.simulated(_SLEEPER))
            with Process(argv) as process:
                process.wait_line("sleeps")
            return meter.up + meter.down

        topic = str(Topic(TYPE, BARE, "evt", "reading", names.PLAIN))
        peer_settings = settings_of(fleet, TYPE, BARE, password, meter.port, topic)

        def peer() -> int:
            with plain_process(_PEER, peer_settings) as process:
                process.wait_line("done")
            return meter.up + meter.down

        first = wake()  # with a hand-shake
        ours = statistics.median(wake() for _ in range(_WAKES))
        theirs = statistics.median(peer() for _ in range(_WAKES))
    name = "wake-up with one reading"
    yield row(f"bytes, {name}, session resumed", ours, "bytes", peer=f"umqtt.simple {theirs}")
    yield row(f"bytes, {name}", ours / theirs, "× umqtt.simple's", most=1.15)
    yield row(f"bytes, {name}, with a hand-shake", first, "bytes")
