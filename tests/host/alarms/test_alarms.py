"""Alarms: which events are one, how they are grouped and tried again, and real servers."""

import json
import threading
from dataclasses import replace
from email import message_from_bytes, policy

import pytest
import tomli_w
from delivery_kit import HERE, Hook, make_secrets, start_mail
from engine_kit import SEALED
from host_kit import DEVICE, new_fleet, refused
from process_kit import PATIENCE_S
from warden_host.alarms import channel, rules, settings
from warden_host.alarms.channel import Channel, Group
from warden_host.alarms.conditions import AGAIN_S, Conditions
from warden_host.alarms.rules import Alarm, RefusedLogins, alarm_of
from warden_host.alarms.settings import AlarmSettings
from warden_host.cli import main
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.otp.notify.delivery import Undelivered
from warden_host.service.alarm_service import AlarmService
from warden_host.store.store import Store

HOUR = 3600.0


def alarm(kind: str = "tampering", device: str = DEVICE, text: str = "tampered", count: int = 1):
    return Alarm(kind, device, text, 1_800_000_000.0, count)


@pytest.mark.parametrize(
    ("fleet_event", "kind"),
    [
        (FleetEvent("quarantined", DEVICE, text="hello 3 after 7"), "quarantine"),
        (FleetEvent("diverged", DEVICE, text="its policy differs"), "tampering"),
        (FleetEvent("incident", DEVICE, code="tampered", name="set_relay"), "tampering"),
        (FleetEvent("incident", DEVICE, code="vault-damaged"), "tampering"),
        (FleetEvent("refused", DEVICE, code="replayed", text="seen before"), "tampering"),
        (FleetEvent("incident", DEVICE, code="duress"), "duress"),
        (FleetEvent("refused", DEVICE, code="otp-limit"), "brute-force"),
        (FleetEvent("notice", DEVICE, code="flooded", text="9 dropped"), "brute-force"),
        (FleetEvent("incident", DEVICE, code="own-certificate-expires"), "certificate"),
        (FleetEvent("notice", name="rollout-stopped", text="rollout 1 is stopped"), "rollout"),
        (FleetEvent("notice", code="clock-jumped", text="2 hours forward"), "clock"),
        (FleetEvent("notice", code="broker-failed", text="ended"), "broker"),
        (FleetEvent("incident", DEVICE, code="busy"), None),
        (FleetEvent("event", DEVICE, name="tampered"), None),
        (FleetEvent("notice", text="the revocation list was written"), None),
    ],
)
def test_what_is_an_alarm(fleet_event, kind):
    found = alarm_of(fleet_event)
    assert (found and found.kind) == kind
    assert kind is None or kind in rules.KINDS


def test_a_devices_count_is_kept_and_its_text_moves_no_cursor():
    found = alarm_of(FleetEvent("incident", DEVICE, code="tampered", body={"n": 40}))
    assert found.count == 40
    message = Group([alarm(text="a\x1b[2J\nb" * 200)]).message("fleet", "mail", "x")
    assert "\x1b" not in message.text
    assert len(message.text) < 1000


# Grouping


class WayModel:
    def __init__(self) -> None:
        self.sent: list = []
        self.failures: list[Undelivered] = []

    def send(self, message) -> None:
        if self.failures:
            raise self.failures.pop()
        self.sent.append(message)


class Sending:
    """A channel without its thread, and the time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.way = WayModel()
        self.words: list[str] = []
        self.channel = Channel(
            *("fleet", "mail", "ops@example.org", self.way, self.words.append),
            lambda *_: None,
            lambda: self.now,
        )

    def run(self, seconds: float) -> None:
        """Let the time pass, and send what is due."""
        end = self.now + seconds
        while self.now <= end:
            if self.channel.seconds_to_next() == 0:
                self.channel.send_waiting()
            self.now += 1


def test_the_first_goes_at_once_and_then_one_a_minute_with_a_count():
    sending = Sending()
    sending.channel.put(alarm())
    sending.run(0)
    for _ in range(300):
        sending.channel.put(alarm())
        sending.channel.put(alarm("duress", "D2", "the code was typed under duress"))
        sending.run(0)
    sending.run(120)
    subjects = [message.text.split("\n")[0] for message in sending.way.sent]
    assert subjects[0] == "fleet: 1 alarm (tampering 1)"
    assert len(subjects) == 1 + 5
    total = sum(one["count"] for message in sending.way.sent for one in message.alarms)
    assert total == 601
    assert all(len(message.alarms) <= 2 for message in sending.way.sent)


def test_the_last_ones_go_before_the_service_ends():
    sending = Sending()
    sending.channel.put(alarm())
    sending.run(0)
    sending.channel.put(alarm("two-hosts", "", "another host answers"))
    sending.channel.start()
    sending.channel.close()
    assert [message.alarms[0]["kind"] for message in sending.way.sent] == [
        "tampering",
        "two-hosts",
    ]


def test_what_waits_when_the_service_ends_is_kept():
    sending = Sending()
    sending.way.failures = [Undelivered("it is away") for _ in range(2)]
    sending.channel.put(alarm(text="once"))
    sending.run(0)
    for number in range(channel.MOST_LINES + 3):
        sending.channel.put(alarm("away", f"D{number}"))
    sending.channel.start()
    sending.channel.close()
    assert sending.way.sent == []
    kept = json.loads(json.dumps(sending.channel.backlog()))
    # The next start sends all of it, once.
    later = Sending()
    later.channel.restore(kept)
    assert later.channel.backlog() == kept
    later.run(0)
    [message] = later.way.sent
    assert message.text.startswith("fleet: 54 alarms (away 53, tampering 1)")
    assert later.channel.backlog() == {}
    for damaged in (None, [], {"alarms": [["x"], [1, 2, 3, 4, 5]], "more": {"a": "b"}}):
        later.channel.restore(damaged)
        assert later.channel.backlog() == {}


def test_a_flood_of_devices_fills_no_memory():
    group = Group(alarm("away", f"D{number}") for number in range(100_000))
    message = group.message("fleet", "mail", "x")
    assert len(message.alarms) == channel.MOST_LINES
    assert message.text.startswith("fleet: 100000 alarms (away 100000)")
    assert f"{100_000 - channel.MOST_LINES} more: away" in message.text


def test_what_a_server_does_not_take_is_tried_again_with_growing_pauses():
    sending = Sending()
    sending.way.failures = [Undelivered("it is away") for _ in range(3)]
    sending.channel.put(alarm())
    sending.run(0)
    sending.channel.put(alarm())
    sending.run(2 * 60 + 4 * 60 + 8 * 60 - 10)
    assert sending.way.sent == []
    sending.run(20)
    assert [message.alarms[0]["count"] for message in sending.way.sent] == [2]
    assert sending.words == [
        "alarms by mail are not delivered: it is away; they are tried again",
        "alarms by mail are delivered again",
    ]


def test_a_final_refusal_is_reported_and_not_repeated():
    sending = Sending()
    sending.way.failures = [Undelivered("no such address", final=True)]
    sending.channel.put(alarm())
    sending.run(3600)
    assert sending.way.sent == []
    assert "they are lost" in sending.words[0]


# Conditions


def test_conditions_are_alarms_once_a_day_while_they_last(tmp_path):
    fleet = new_fleet(tmp_path)
    now, free = [1_800_000_000.0], [1 << 40]
    with Store(fleet.database) as store:
        for name in ("D1", "D2", "D3", "D4"):
            store.add_device(replace(SEALED, device=name))
        for name, ago in (("D1", 25 * HOUR), ("D2", 23 * HOUR), ("D3", 99 * HOUR)):
            store.set_last_seen(name, now[0] - ago)
        store.write_events()
        store.order_ending("D3", True, False, now[0])
    days = [20]
    conditions = Conditions(
        fleet,
        AlarmSettings(),
        lambda *_: [f"the server certificate ends in {days[0]} days: renew it"],
        lambda: now[0],
        lambda: free[0],
    )

    def keys() -> list[tuple[str, str]]:
        return [one.key for one in conditions.check()]

    assert keys() == [("away", "D1"), ("certificate", "")]
    assert keys() == []
    free[0] = 1 << 20
    now[0] += 2 * HOUR
    assert keys() == [("away", "D2"), ("disk", "")]
    now[0] += AGAIN_S - 2 * HOUR
    days[0] -= 1
    assert keys() == [("away", "D1"), ("certificate", "")]
    free[0] = 1 << 40
    assert keys() == []
    free[0] = 1 << 20
    assert keys() == [("disk", "")]  # it was over, and is back


def test_refused_log_ins_are_brute_force_from_a_number_a_minute_on():
    counted = RefusedLogins(3)

    def at(moment: float) -> int:
        found = counted.add(FleetEvent("notice", code="login-refused", time=moment))
        return 0 if found is None else found.count

    assert [at(moment) for moment in (0, 59, 61, 90, 119)] == [0, 0, 0, 0, 3]
    assert [at(120) for _ in range(9)] == [0] * 9  # said once a minute
    assert [at(moment) for moment in (200, 201, 202)] == [0, 0, 3]


# Settings


@pytest.mark.parametrize(
    "table",
    [
        {"mial": ["ops@example.org"]},
        {"mail": "ops@example.org"},
        {"mail": ["no address"]},
        {"mail": ["a@example.org\nBcc: b@example.org"]},
        {"mail": ["ops@example.org"], "webhook": True, "kinds": ["fire"]},
        {"mail": [f"u{number}@example.org" for number in range(11)]},
        {"webhook": "yes"},
        {"away_hours": 0},
        {"disk_mib": True},
    ],
)
def test_a_misspelt_table_is_refused(tmp_path, table):
    with refused("config-malformed"):
        settings.load(configured(new_fleet(tmp_path), table))


def test_a_way_that_is_not_set_up_is_refused(tmp_path):
    fleet = new_fleet(tmp_path)
    for table in ({"mail": ["ops@example.org"]}, {"webhook": True}):
        with refused("config-malformed"):
            settings.load(configured(fleet, table, otp={}))


def configured(fleet: Fleet, alarms: dict, otp: dict | None = None) -> Fleet:
    """The fleet with these tables in its warden.toml; default of otp: servers that are away."""
    if otp is None:
        mail = {"host": HERE, "port": 1, "security": "none", "from": "warden@example.org"}
        otp = {"mail": mail, "webhook": {"url": f"https://{HERE}:1/"}}
    document = {**fleet.document, "alarms": alarms, "otp": otp}
    (fleet.root / CONFIG).write_bytes(tomli_w.dumps(document).encode())
    return Fleet(fleet.root)


# Real servers


@pytest.fixture
def served(tmp_path):
    """A fleet with a mail server and a webhook that take alarms."""
    fleet = new_fleet(tmp_path)
    make_secrets(fleet.keys)
    box, controller = start_mail(fleet.keys, "starttls")
    with Hook(fleet.keys) as hook:
        mail = {
            "host": HERE,
            "port": controller.port,
            "security": "starttls",
            "from": "warden@example.org",
            "user": "warden",
            "ca": "keys/ca.pem",
        }
        otp = {"mail": mail, "webhook": {"url": hook.url, "ca": "keys/ca.pem"}}
        yield configured(fleet, {"mail": ["ops@example.org"], "webhook": True}, otp), box, hook
    controller.stop()


def test_alarms_arrive_by_mail_and_webhook(served):
    fleet, box, hook = served
    arrived = threading.Event()
    notices: list[FleetEvent] = []
    with AlarmService(fleet, notices.append) as service:
        service.on_device_event(FleetEvent("event", DEVICE, name="tampered"))
        service.on_device_event(FleetEvent("quarantined", DEVICE, text="hello 3 after 7"))
        for _ in range(int(PATIENCE_S * 20)):
            if box.mails and hook.taken:
                break
            arrived.wait(0.05)
    [(envelope, _)] = box.mails
    mail = message_from_bytes(envelope.content, policy=policy.default)
    assert mail["Subject"] == "fleet: 1 alarm (quarantine 1)"
    assert f"{DEVICE}: quarantined: hello 3 after 7" in mail.get_content()
    [(_, headers, data)] = hook.taken
    said = json.loads(data)
    assert (said["purpose"], said["fleet"]) == ("alarms", "fleet")
    assert said["alarms"][0] | {"time": 0} == {
        "kind": "quarantine",
        "device": DEVICE,
        "text": "quarantined: hello 3 after 7",
        "time": 0,
        "count": 1,
    }
    assert headers["Warden-Signature"].startswith("v1=")
    assert notices == []


def test_a_mail_server_that_is_away_at_the_end_gets_them_after_the_next_start(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(channel, "_CLOSE_S", PATIENCE_S)
    fleet = configured(new_fleet(tmp_path), {"webhook": True})
    make_secrets(fleet.keys)
    with AlarmService(fleet, lambda _: None) as service:
        service.on_device_event(FleetEvent("quarantined", DEVICE, text="hello 3 after 7"))
    with Hook(fleet.keys) as hook:
        otp = {"webhook": {"url": hook.url, "ca": "keys/ca.pem"}}
        again = configured(fleet, {"webhook": True}, otp)
        for _ in range(2):  # it is sent once
            with AlarmService(again, lambda _: None):
                pass
        [(_, _, data)] = hook.taken
    assert json.loads(data)["alarms"][0]["text"] == "quarantined: hello 3 after 7"


@pytest.mark.parametrize(
    "why", [HostError("database-damaged", "no"), OSError(28, "No space left on device")]
)
def test_what_fails_beside_the_alarms_is_told_and_ends_nothing(tmp_path, monkeypatch, why):
    def fails(*_):
        raise why

    fleet, told = configured(new_fleet(tmp_path), {"webhook": True}), []
    make_secrets(fleet.keys)
    said = threading.Event()

    def announce(one: FleetEvent) -> None:
        told.append(one.text)
        if one.text.startswith("conditions"):  # its thread has begun
            said.set()

    service = AlarmService(fleet, announce)
    monkeypatch.setattr(service._conditions, "check", fails)
    if isinstance(why, HostError):  # as which the database's own errors come
        monkeypatch.setattr("warden_host.service.alarm_service.AlarmBacklog", fails)
    with service:
        assert said.wait(PATIENCE_S)
        service.on_device_event(FleetEvent("quarantined", DEVICE, text="hello 3 after 7"))
    begins = [text.partition(":")[0] for text in told]
    assert begins.count("conditions can't be checked") == 1
    kept = isinstance(why, OSError)
    assert ("alarms that waited can't be read" in begins) == (not kept)
    assert ("alarms that wait can't be kept" in begins) == (not kept)


def test_the_operator_tries_it(served, capsys):
    fleet, box, hook = served
    assert main.run(["--fleet", str(fleet.root), "alarms", "test"]) == 0
    assert "mail ops@example.org: delivered" in capsys.readouterr().out
    assert (len(box.mails), len(hook.taken)) == (1, 1)
    hook.status = 500
    assert main.run(["--fleet", str(fleet.root), "alarms", "test", "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ok"] for line in lines] == [True, False]
    assert lines[1]["why"] == "the webhook answered 500"
    assert main.run(["--fleet", str(fleet.root), "alarms", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mail"] == ["ops@example.org"]


def test_a_fleet_without_alarms(folder, capsys):
    assert main.run(["alarms", "show"]) == 0
    assert "no alarms" in capsys.readouterr().out
    assert main.run(["alarms", "test"]) == 1
    assert "not-applicable" in capsys.readouterr().err
