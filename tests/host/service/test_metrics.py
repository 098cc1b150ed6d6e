"""The authority's page of metrics: what it counts, what it never shows, and by which command."""

import json
import queue
import shutil
import subprocess

import pytest
from engine_kit import SEALED, K
from host_kit import DEVICE, new_fleet
from live_kit import LiveDevice
from process_kit import PATIENCE_S
from prometheus_client.parser import text_string_to_metric_families
from warden_host.alarms.rules import LOGIN_REFUSED
from warden_host.broker.accounts import device_account, device_password
from warden_host.broker.mosquitto import registry
from warden_host.cli import main
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.metrics.page import Page
from warden_host.service import tally
from warden_host.service.metrics import metrics_page
from warden_host.service.run import serving
from warden_host.service.tally import BUCKETS, UNANSWERED_S, Tally
from warden_host.store.bans import Ban
from warden_host.store.store import Store

EVIL = 'x"} 1\nwarden_evil{a="'


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def command(number: int, kind: str = "command", **more) -> FleetEvent:
    return FleetEvent(kind, "D1", id=number, **more)


def test_commands_are_counted_by_their_replies():
    clock = Clock()
    made = Tally(clock)
    for number in (1, 2, 3):
        made.on_device_event(command(number))
    clock.now += 0.02
    made.on_device_event(command(1, "reply", body={"ok": True}))
    made.on_device_event(command(1, "reply", body={"ok": True}))  # QoS 1: twice
    made.on_device_event(command(9, "reply", body={"ok": True}))  # of nobody
    clock.now += 2
    made.on_device_event(command(2, "reply", body={"error": EVIL}))
    assert made.counts().commands == {"ok": 1, "refused": 1}
    clock.now += UNANSWERED_S
    counts = made.counts()
    assert counts.commands == {"ok": 1, "refused": 1, "unanswered": 1}
    assert counts.buckets[-1] == 2 and len(counts.buckets) == len(BUCKETS) + 1
    assert counts.buckets[BUCKETS.index(0.025)] == 1
    assert 2 < counts.seconds < 2.1


def test_labels_are_ours_and_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(tally, "_MOST_WAITING", 10)
    made = Tally()
    for number in range(50):
        made.on_device_event(command(number))
        made.on_device_event(FleetEvent("incident", "D1", code=f"{EVIL}{number}"))
        made.on_device_event(FleetEvent("refused", "D1", code=f"own-{number}"))
        made.on_notice(FleetEvent("notice", code=f"own-{number}"))
    made.on_device_event(FleetEvent("refused", "D1", code="tampered"))
    made.on_device_event(FleetEvent("incident", "D1", code="app-failed"))  # a device's code alone
    made.on_notice(FleetEvent("notice", code=LOGIN_REFUSED))
    made.on_notice(FleetEvent("login", code="login"))
    counts = made.counts()
    assert counts.refusals == {"other": 50, "tampered": 1}
    assert counts.incidents == {"other": 50, "app-failed": 1}
    assert counts.notices == {"other": 50}
    assert counts.logins_refused == 1
    assert counts.commands == {"unanswered": 40}


def test_a_page_is_made_once_a_while():
    made, clock = [], Clock()

    def collect():
        made.append(1)
        yield from ()

    page = Page(collect, fresh_s=1.0, clock=clock)
    for _ in range(3):
        assert page.render()[0].startswith("text/plain")
    assert len(made) == 1
    clock.now += 1
    page.render()
    assert len(made) == 2


@pytest.fixture
def fleet(tmp_path):
    made = new_fleet(tmp_path)
    with Store(made.database) as store:
        store.add_device(SEALED)
        store.put_ban(Ban("192.0.2.1/32", "ban", 1.0, None, "watch", "guesses", 3))
        store.put_ban(Ban("192.0.2.2/32", "ban", 1.0, 2.0, "watch", "was over", 3))
        store.add_rollout("relay-1", 1, {}, {})
    return made


def read(page) -> dict[tuple[str, ...], float]:
    """Name and label values → value."""
    found = {}
    for family in text_string_to_metric_families(page.render()[1].decode()):
        for sample in family.samples:
            found[sample.name, *sample.labels.values()] = sample.value
    return found


def test_the_page_of_a_fleet_at_work(fleet):
    password = device_password()
    with registry.opened(fleet) as accounts:
        accounts.put(device_account("relay", DEVICE, password))
    news: queue.Queue[FleetEvent] = queue.Queue()
    with serving(fleet, news.put) as service:
        device = LiveDevice(fleet, password)
        while news.get(timeout=PATIENCE_S).kind != "session":
            pass
        service.authority.command(Request(DEVICE, "set_relay", {"on": 1}))
        service.authority.ask(
            lambda engine: engine.notify(FleetEvent("refused", DEVICE, code=EVIL, name=EVIL))
        )
        page = metrics_page(fleet, service)
        found, (_, text) = read(page), page.render()
        device.close()
    assert found["warden_serve_up",] == 1
    assert found["warden_devices", "online", "relay"] == 1
    assert found["warden_devices", "away", "relay"] == 0
    assert found["warden_sessions",] == 1
    assert found["warden_commands_total", "ok"] == 1
    assert found["warden_command_seconds_count",] == 1
    assert found["warden_command_seconds_bucket", "+Inf"] == 1
    assert found["warden_refusals_total", "other"] == 1
    assert found["warden_messages_total", "accepted"] >= 3
    assert found["warden_messages_total", "refused"] == 0
    assert found["warden_queue_messages",] == 0
    assert sum(value for key, value in found.items() if key[0] == "warden_rollouts") == 1
    assert (found["warden_bans", "ban"], found["warden_bans", "slow"]) == (1, 0)
    assert found["warden_store_bytes", "database"] > 0
    assert found["warden_certificate_end_seconds", "server"] > 1.7e9
    assert found["warden_disk_free_bytes",] > 0
    assert found["process_resident_memory_bytes",] > 0
    assert found["warden_broker_process_resident_memory_bytes",] > 0
    assert b"evil" not in text
    for secret in (K["authority"], password.encode()):
        assert secret.hex().encode() not in text and secret not in text
    promtool = shutil.which("promtool")
    if promtool is not None:
        done = subprocess.run([promtool, "check", "metrics"], input=text, check=False)
        assert done.returncode == 0
    # Too busy for a look, or stopped: the page says so, and has the rest.
    service.authority._started.clear()
    found = read(metrics_page(fleet, service))
    assert found["warden_serve_up",] == 0
    assert ("warden_sessions",) not in found


@pytest.mark.parametrize(
    ("address", "words"),
    [("nowhere", "HOST:PORT"), (":1", "HOST:PORT"), ("256.0.0.1:1", "can't listen")],
)
def test_an_address_that_can_not_be_used(fleet, capsys, monkeypatch, address, words):
    monkeypatch.setenv("WARDEN_FLEET", str(fleet.root))
    assert main.run(["serve", "--metrics", address, "--log-format", "json"]) in (1, 2)
    (line,) = [
        json.loads(text) for text in capsys.readouterr().out.splitlines() if '"error"' in text
    ]
    assert words in line["error"]["text"]
