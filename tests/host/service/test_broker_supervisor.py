"""A broker that ends is started again: after pauses that grow, and with a word about it."""

import os
import queue
import signal
import time
from dataclasses import dataclass, field

from engine_kit import SEALED
from host_kit import DEVICE, new_fleet
from live_kit import LiveDevice
from process_kit import PATIENCE_S
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import registry
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.service.broker_supervisor import MOST_PAUSE_S, STEADY_S, BrokerSupervisor
from warden_host.service.run import serving
from warden_host.store.store import Store


@dataclass
class BrokerModel:
    """A broker whose starts fail as a test says."""

    runs: bool = True
    failures: list[Exception] = field(default_factory=list)
    starts: int = 0

    def alive(self) -> bool:
        return self.runs

    def exit_words(self) -> str:
        return "by signal 9"

    def stop(self) -> None:
        self.runs = False

    def start(self) -> None:
        self.starts += 1
        if self.failures:
            raise self.failures.pop()
        self.runs = True


class Supervised:
    def __init__(self, failures: int = 0) -> None:
        self.now = 0.0
        self.words: list[str] = []
        refused = HostError("broker-port", "port 1883 can't be used")
        self.broker = BrokerModel(failures=[refused] * failures)
        self.supervisor = BrokerSupervisor(
            self.broker, lambda event: self.words.append(event.text), lambda: self.now
        )

    def pauses(self) -> list[float]:
        """The seconds before each start, until it runs."""
        found, before = [], self.now
        while not self.supervisor.check():
            starts = self.broker.starts
            self.now += 0.5
            self.supervisor.check()
            if self.broker.starts != starts:
                found.append(self.now - before)
                before = self.now
        return found


def test_a_broker_that_runs_is_left_alone():
    made = Supervised()
    assert made.supervisor.check()
    assert (made.broker.starts, made.words) == (0, [])


def test_pauses_grow_to_their_bound_and_begin_anew_after_a_steady_time():
    made = Supervised(failures=8)
    made.broker.runs = False
    pauses = made.pauses()
    assert pauses == [1, 2, 4, 8, 16, 32, MOST_PAUSE_S, MOST_PAUSE_S, MOST_PAUSE_S]
    assert made.words[0] == "the broker ended (by signal 9): it is started again in 1 s"
    assert "broker-port: port 1883 can't be used" in made.words[1]
    assert made.words[-1] == "the broker was started again: devices connect anew"

    made.broker.runs = False  # at once: what ended it is still there
    assert made.pauses() == [MOST_PAUSE_S]
    made.now += STEADY_S
    made.broker.runs = False
    assert made.pauses() == [1]


def test_a_full_disk_is_no_end():
    made = Supervised()
    made.broker.failures = [OSError(28, "No space left on device", "mosquitto.conf")]
    made.broker.runs = False
    assert made.pauses() == [1, 2]
    assert "No space left on device: mosquitto.conf" in made.words[1]


def _is(event: FleetEvent, kind: str, words: str) -> bool:
    return event.kind == kind and words in event.text


def test_a_killed_broker_costs_its_device_a_reconnect_alone(tmp_path):
    fleet = new_fleet(tmp_path)
    password = device_password()
    with Store(fleet.database) as store:
        store.add_device(SEALED)
    with registry.opened(fleet) as accounts:
        accounts.put(device_account("relay", DEVICE, password))
    news: queue.Queue[FleetEvent] = queue.Queue()

    def wait_for_each(*wanted: tuple[str, str]) -> None:
        left = set(wanted)  # (kind, words of its text)
        while left:
            event = news.get(timeout=PATIENCE_S)
            left -= {(kind, words) for kind, words in left if _is(event, kind, words)}

    def wait_for(kind: str, words: str) -> None:
        wait_for_each((kind, words))

    with serving(fleet, news.put) as service:
        device = LiveDevice(fleet, password)
        wait_for("session", "")
        killed = service.broker.pid
        os.kill(killed, signal.SIGKILL)
        while service.broker.pid == killed or not service.broker.alive():
            service.check()
            time.sleep(0.05)
        wait_for("notice", "the broker ended (by signal 9)")
        # In either order: the device may be back before the notice of the start.
        wait_for_each(("notice", "the broker was started again"), ("session", ""))
        result = service.authority.command(Request(DEVICE, "set_relay", {"on": 1}))
        assert result["ok"] is True
        device.close()
