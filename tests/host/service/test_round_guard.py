"""No thread of `warden serve` ends by an exception that nobody foresaw: it is told, and the
thread goes on.

That the engine's ends the service is in test_authority_guard.py, the watch over addresses in
test_ban_watch.py, the reactions in test_reactor.py.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

import pytest
from host_kit import new_fleet
from process_kit import PATIENCE_S
from warden_host import control_client, tcp_diag
from warden_host.alarms.channel import Channel
from warden_host.alarms.rules import Alarm
from warden_host.broker.mosquitto.broker import Broker
from warden_host.broker.mosquitto.log import BrokerLog
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.names import AUTHORITY
from warden_host.otp.notify.delivery import DeliveryQueues, Message
from warden_host.round_guard import RoundGuard
from warden_host.service import (
    address_watch,
    alarm_service,
    certificate_keeper,
    control,
    crl_keeper,
    housekeeping,
    rabbitmq_traffic,
    token_sweeper,
    traffic_watch,
)
from warden_host.service.background import background
from warden_host.service.link import AppLink
from warden_host.store import audit_export
from warden_host.store.store import Store

SHORT_S = 0.001
ALARM = Alarm("tampering", "D1", "tampered", 1.0)


class World:
    """What a thread works with; its work fails twice by a bug."""

    def __init__(self, folder, monkeypatch) -> None:
        self.fleet = new_fleet(folder)
        self.patch = monkeypatch
        self.told: list[tuple[str, str]] = []
        self.calls = 0
        self.done = threading.Event()

    def work(self, *_: object, **__: object) -> None:
        self.calls += 1
        if self.calls <= 2:
            raise KeyError("a secret")
        self.done.set()

    def before(self, then: Callable[..., object]) -> Callable[..., object]:
        """`work`, and then something else."""

        def both(*given: object, **more: object) -> object:
            self.work()
            return then(*given, **more)

        return both

    def tell(self, code: str, text: str) -> None:
        self.told.append((code, text))

    def announce(self, event: FleetEvent) -> None:
        if event.code:
            self.tell(event.code, event.text)


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


@contextlib.contextmanager
def renewal(world: World) -> Iterator[None]:
    world.patch.setattr(certificate_keeper, "_LOOK_S", SHORT_S)
    given = (world.fleet, None, lambda: None, world.announce, None)
    keeper = certificate_keeper.CertificateKeeper(*given)
    world.patch.setattr(keeper, "check", world.work)
    with keeper:
        yield
    keeper.join()
    assert not keeper._thread.is_alive()


@contextlib.contextmanager
def crl(world: World) -> Iterator[None]:
    world.patch.setattr(crl_keeper, "_INTERVAL_S", SHORT_S)
    keeper = crl_keeper.CrlKeeper(world.fleet, lambda: None, world.tell, None)
    world.patch.setattr(keeper, "check", world.work)
    keeper.start()
    yield
    keeper.close()


def channel(world: World) -> Channel:
    given = ("fleet", "mail", "ops@example.org", None, lambda _: None, world.tell)
    return Channel(*given, group_s=SHORT_S)


def alarms(world: World) -> alarm_service.AlarmService:
    world.patch.setattr(alarm_service, "CHECK_S", SHORT_S)
    made = alarm_service.AlarmService(world.fleet, world.announce)
    made._channels = [channel(world)]
    return made


def alarm_conditions(world: World) -> alarm_service.AlarmService:
    made = alarms(world)
    world.patch.setattr(made._conditions, "check", world.before(list))
    return made


def alarm_backlog(world: World) -> alarm_service.AlarmService:
    made = alarms(world)
    world.patch.setattr(made._conditions, "check", list)
    world.patch.setattr(made, "_keep", world.work)
    return made


@contextlib.contextmanager
def alarm_channel(world: World) -> Iterator[None]:
    made = channel(world)
    counts = []

    def send(group) -> tuple[str, bool]:
        if world.calls < 2:
            made.put(ALARM)  # the next one
        counts.append(group.counts())
        world.work()
        return "", False

    world.patch.setattr(made, "_send", send)
    made.start()
    made.put(ALARM)
    yield
    made.close()
    assert counts[-1] == {"tampering": 3}  # none is lost


@contextlib.contextmanager
def house(world: World) -> Iterator[None]:
    rotated: list[object] = []
    world.patch.setattr(housekeeping, "_INTERVAL_S", SHORT_S)
    world.patch.setattr(Store, "remove_past", world.work)
    world.patch.setattr(audit_export, "rotate", lambda *_: rotated.append(None))
    with housekeeping.housekeeping(world.fleet, world.announce):
        yield
    assert len(rotated) == world.calls  # the other part is done all the same


@contextlib.contextmanager
def tokens(world: World) -> Iterator[None]:
    """What a look raises is in test_token_sweeps.py."""
    world.patch.setattr(token_sweeper, "_PAUSE_S", SHORT_S)
    world.patch.setattr(token_sweeper, "Store", world.before(Store))
    with token_sweeper.sweeping(world.fleet, world.announce):
        yield


@contextlib.contextmanager
def rabbitmq(world: World) -> Iterator[None]:
    world.patch.setattr(rabbitmq_traffic, "PERIOD_S", SHORT_S)
    made = rabbitmq_traffic.RabbitTraffic(
        world.fleet, lambda _: None, lambda *_: None, world.announce
    )
    world.patch.setattr(made, "look", world.work)
    with background("test", made.run):
        yield


def address(world: World) -> address_watch.AddressWatch:
    world.patch.setattr(address_watch, "CHECK_S", SHORT_S)
    world.patch.setattr(address_watch, "is_watched", lambda _: True)
    made = address_watch.AddressWatch(world.fleet, world.announce)
    world.patch.setattr(made, "look", world.work)
    return made


def traffic(world: World, found: Callable[..., None]) -> traffic_watch.TrafficWatch:
    world.patch.setattr(traffic_watch, "PERIOD_S", SHORT_S)
    world.patch.setattr(tcp_diag, "received", lambda _: {})
    return traffic_watch.TrafficWatch([1], lambda *_: "", lambda _: None, found, world.tell)


def traffic_meter(world: World) -> traffic_watch.TrafficWatch:
    made = traffic(world, lambda *_: None)
    world.patch.setattr(made._meter, "read", world.before(lambda *_: ()))
    return made


def traffic_found(world: World) -> traffic_watch.TrafficWatch:
    made = traffic(world, world.work)
    world.patch.setattr(made._meter, "read", lambda *_: [("d:lock:D1", "a flood")])
    return made


@contextlib.contextmanager
def calls(world: World) -> Iterator[None]:
    """A call gets a thread; the place of one that got none is free again."""

    class Thread(threading.Thread):
        def start(self) -> None:
            if self.name == "warden-caller":
                world.work()
            super().start()

    path = world.fleet.root / "test.sock"
    world.patch.setattr(control.threading, "Thread", Thread)
    server = control.ControlServer(
        path, lambda _, caller: caller.finish({"ok": True}), most=1, tell=world.tell
    )
    with server:
        for _ in range(2):
            with pytest.raises(HostError):
                control_client.call(path, {"op": "x"})
        assert control_client.call(path, {"op": "x"}) == {"ok": True}
        yield


@contextlib.contextmanager
def link(world: World) -> Iterator[None]:
    with Broker(world.fleet):
        ways = (lambda *_: None, lambda: None, lambda *_: None, world.tell)
        made = AppLink(world.fleet, AUTHORITY, (), *ways)
        try:
            made.wait(PATIENCE_S)
            world.patch.setattr(made, "_wait_for", world.before(made._wait_for))
            yield
            made.wait(PATIENCE_S)  # it is up again
        finally:
            made.close()
            assert not made._thread.is_alive()


@contextlib.contextmanager
def delivery(world: World) -> Iterator[None]:
    class Way:
        def send(self, _: Message) -> None:
            pass

    with DeliveryQueues({"mail": Way()}, world.work, tell=world.tell) as queues:
        for _ in range(3):
            queues.put(Message("D1", "alarm", "mail", "", 0, float("inf")))
        yield


@contextlib.contextmanager
def broker_log(world: World, reader: str = "") -> Iterator[None]:
    made = Broker(world.fleet)
    made.tell = world.tell
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read(left: Iterator[str]) -> Iterator[None]:
        for line in left:
            if line != "last":
                world.work()
            lines.put(line)
            yield

    world.patch.setattr(getattr(made, reader), "read", lambda left: list(read(left)))
    log = BrokerLog(world.fleet.root / "log", 1000, made._read_lines)
    log.writer, writer = -1, log.writer
    log.started()
    with open(writer, "wb", buffering=0) as pipe:
        pipe.write(b"first\nsecond\nthird\nlast\n")  # at once, so that it is one batch
        yield
    log.close()
    assert [lines.get(timeout=PATIENCE_S) for _ in range(2)] == ["third", "last"]


def reading(reader: str) -> Callable[[World], contextlib.AbstractContextManager[None]]:
    return lambda world: broker_log(world, reader)


THREADS = {
    "warden-renewal": renewal,
    "warden-crl": crl,
    "warden-alarms": alarm_conditions,
    "warden-alarms, what waits": alarm_backlog,
    "warden-alarm-mail": alarm_channel,
    "warden-housekeeping": house,
    "warden-tokens": tokens,
    "warden-rabbitmq": rabbitmq,
    "warden-address": address,
    "warden-traffic": traffic_meter,
    "warden-traffic, a flooder": traffic_found,
    "warden-control": calls,
    "warden-link": link,
    "warden-mail": delivery,
    "warden-broker-log, places": reading("places"),
    "warden-broker-log, log-ins": reading("_logins"),
    "warden-broker-log, attempts": reading("_attempts"),
}


@pytest.mark.parametrize("name", THREADS)
def test_a_thread_goes_on_after_a_bug_and_it_is_told_once(world, name):
    with THREADS[name](world):
        assert world.done.wait(PATIENCE_S)
    ((code, text),) = world.told
    assert code == "internal-error"
    assert "KeyError at warden_host." in text and "secret" not in text
    assert text.endswith(", 1 since the start: report it as a bug")


def raising(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_the_same_is_told_once_an_hour_and_counted():
    now, told = [0.0], []
    guard = RoundGuard("nothing was done", lambda *given: told.append(given), lambda: now[0])
    for _ in range(3):
        assert not guard.attempt(raising(KeyError("a secret")))
    assert not guard.attempt(raising(ValueError("a secret")))
    assert guard.attempt(lambda: None)
    now[0] += 3600
    assert not guard.attempt(raising(KeyError("a secret")))
    names = [text.split(" at ")[0] for _, text in told]
    assert names == [f"nothing was done: {name}Error" for name in ("Key", "Value", "Key")]
    assert [text.split()[-9] for _, text in told] == ["1", "4", "5"]


def test_an_error_with_a_code_is_told_as_it_is():
    told: list[tuple[str, str]] = []
    guard = RoundGuard("nothing was done", lambda *given: told.append(given))
    guard.attempt(raising(HostError("timed-out", "no answer")))
    guard.attempt(raising(OSError(28, "No space left on device")))
    assert [code for code, _ in told] == ["timed-out", "filesystem"]
    assert told[0][1] == "nothing was done: no answer"
    assert "No space left on device" in told[1][1]


def test_what_was_told_is_bounded_and_a_way_to_tell_that_fails_ends_nothing():
    guard = RoundGuard("nothing was done", lambda *_: {}["no such way"])
    for number in range(200):
        assert not guard.attempt(raising(HostError("timed-out", f"no answer {number}")))
    assert len(guard._told) <= 64
    assert guard.count == 200
