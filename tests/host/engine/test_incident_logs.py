"""Incident logs of devices: each record once, complete by the chain; a gap and a changed record
are named; a report without a number is counted as before."""

import hashlib
from dataclasses import replace

import cbor2
import pytest
from engine_kit import PLAIN, POLICY, SEALED, K, Stage
from host_kit import PeerDevice
from warden_host.alarms.rules import alarm_of
from warden_host.engine import incident
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.store import incidents


class Log:
    """A device's log, chained here a second time by docs/protocol.md."""

    def __init__(self, device: str = "D1", type: str = "relay") -> None:
        start = cbor2.dumps(["warden incidents 1", type, device], canonical=True)
        self.head = hashlib.sha256(start).digest()[:16]
        self.bodies: list[dict] = []

    def add(self, code="tampered", n=1, told=0, **fields) -> dict:
        number = len(self.bodies) + 1
        fields = {"at": "set_relay", "from": "lights", "t": 1_700_000_000 + number} | fields
        record = [number, fields["t"], code, fields["at"], fields["from"], n, told]
        self.head = hashlib.sha256(self.head + cbor2.dumps(record, canonical=True)).digest()[:16]
        body = {"code": code, "n": n, "told": told, "no": number, "old": 1}
        self.bodies.append(body | fields | {"hash": self.head.hex()})
        return self.bodies[-1]


class Sender:
    """A device with a session and a log, and what the authority says that it has of it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.log = Log()
        self.start_session()

    def start_session(self, boot: int = 1) -> list[int]:
        self.peer = PeerDevice(K["authority"], policy.policy_hash(POLICY))
        self.peer.boot = boot
        self.stage.receive("hello", self.peer.hello())
        self.peer.take_welcome(self.stage.last("welcome"))
        self.stage.sent.clear()
        self.stage.receive("ready", self.peer.ready())
        return self.acknowledged()

    def send(self, body: dict, write: bool = True, **changes) -> list[int]:
        data = self.peer.seal("incident", [0, None, body | changes])
        self.stage.receive("incident", data)
        if write:
            self.stage.engine.write_events()
        return self.acknowledged()

    def acknowledged(self) -> list[int]:
        sent, self.stage.sent = self.stage.sent, []
        acks = [data for _, where, data in sent if where.verb == "ack"]
        bodies = [self.peer.open("ack", data)[1][2] for data in acks]
        return [body["incident"] for body in bodies if body]

    def kept(self) -> list[tuple]:
        rows = self.stage.store.incident_records("D1")
        return [(row.number, row.code, row.n, row.app) for row in rows]

    def counted(self) -> dict[str, int]:
        return {one.code: one.n for one in self.stage.store.incidents("D1")}


@pytest.fixture
def sender(tmp_path):
    return Sender(Stage(tmp_path))


def test_a_record_counts_once_and_is_acknowledged_when_it_is_stored(sender):
    log, stage = sender.log, sender.stage
    assert sender.send(log.add(n=40, told=38), write=False) == []
    assert sender.send(log.add("replayed")) == [2]
    assert sender.send(log.bodies[0]) == [2]  # a repeat: the answer got lost
    assert sender.kept() == [(1, "tampered", 40, "lights"), (2, "replayed", 1, "lights")]
    assert sender.counted() == {"tampered": 2, "replayed": 1}
    news = [one for one in stage.news if one.kind == "incident"]
    assert [(one.code, one.body) for one in news] == [
        ("tampered", {"n": 2, "source": "lights"}),
        ("replayed", {"n": 1, "source": "lights"}),
    ]
    # The next session begins with what is here, and so does that of another process.
    assert sender.start_session(boot=2) == [2]
    sender.stage = Stage(stage.folder)
    assert sender.start_session(boot=3) == [2]
    assert sender.send(log.add(n=3, told=3)) == [3]
    assert len(sender.kept()) == 3
    assert sender.counted() == {"tampered": 2, "replayed": 1}  # all of it was reported before


def test_a_report_without_a_number_is_counted_as_before(sender):
    assert sender.send({"code": "tampered", "n": 3, "at": "set_relay"}) == []
    assert sender.counted() == {"tampered": 3}
    assert (sender.kept(), sender.stage.store.log_head("D1")) == ([], None)


def test_one_that_got_lost_on_its_way_is_waited_for(sender):
    first, second, third = (sender.log.add() for _ in range(3))
    assert sender.send(first) == [1]
    assert sender.send(third) == [1]
    assert sender.send(second) == [2]
    assert sender.send(third) == [3]
    assert "incident-gap" not in sender.counted()


def test_a_gap_is_named_and_the_log_goes_on_behind_it(sender):
    bodies = [sender.log.add() for _ in range(9)]
    assert sender.send(bodies[0]) == [1]
    assert sender.send(bodies[6], old=5) == [1]  # number 5 comes first
    assert sender.send(bodies[4], old=5) == [5]
    assert sender.send(bodies[5], old=5) == [6]
    assert sender.counted()["incident-gap"] == 1
    assert sender.stage.store.log_head("D1").missing == 3
    news = [one for one in sender.stage.news if one.code == "incident-gap"]
    assert alarm_of(news[0]).kind == "tampering"
    # Of a log whose beginning nobody has, the same.
    folder = sender.stage.folder / "other"
    folder.mkdir()
    other = Sender(Stage(folder))
    assert other.send(bodies[4], old=5) == [5]
    assert other.stage.store.log_head("D1").missing == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "gap"},
        {"at": "x"},
        {"from": "other"},
        {"n": 2},
        {"told": 1},
        {"t": 5},
        {"hash": "00" * 16},
    ],
)
def test_a_record_that_does_not_follow_is_named(sender, changes):
    assert sender.send(sender.log.add()) == [1]
    assert sender.send(sender.log.add(), **changes) == [2]
    assert sender.counted()["incident-tampered"] == 1
    news = [one for one in sender.stage.news if one.code == "incident-tampered"]
    assert alarm_of(news[0]).kind == "tampering"


def test_a_log_that_was_played_back_is_named_and_taken_from_there(sender):
    for _ in range(4):
        sender.send(sender.log.add())
    sender.stage.pass_time(2)
    back = Log()
    for code in ("tampered", "tampered", "gap", "busy", "expired", "retained"):
        back.add(code)
    assert sender.send(back.bodies[1]) == [4]  # as it was
    assert sender.send(back.bodies[2]) == [3]
    assert sender.counted()["incident-tampered"] == 1
    assert [sender.send(body) for body in back.bodies[3:]] == [[4], [5], [6]]
    assert sender.counted()["incident-tampered"] == 1
    assert sender.counted()["retained"] == 1


def test_a_log_that_never_reaches_what_it_is_told_is_named(sender):
    for _ in range(4):
        sender.send(sender.log.add())
    # Our answer may get lost as often as that, and in each session anew.
    for boot in (2, 3):
        assert sender.start_session(boot) == [4]
        for _ in range(3):
            assert [sender.send(body) for body in sender.log.bodies[1:3]] == [[4], [4]]
    assert "incident-tampered" not in sender.counted()
    assert sender.send(sender.log.bodies[1]) == [2]
    assert sender.counted()["incident-tampered"] == 1


def test_a_record_below_all_that_is_kept_is_no_repeat(sender, monkeypatch):
    monkeypatch.setattr(incidents, "MAX_RECORDS", 2)
    for _ in range(4):
        sender.send(sender.log.add())
    assert sender.send(sender.log.bodies[0]) == [1]
    assert sender.counted()["incident-tampered"] == 1


def test_the_owner_vouches_for_a_cleared_device(sender):
    bodies = [sender.log.add() for _ in range(6)]
    sender.send(bodies[0])
    sender.stage.store.quarantine("D1", "x")
    sender.stage.engine.state("D1").mark.quarantine = "x"
    assert sender.stage.engine.clear("D1") is True
    sender.start_session(boot=2)
    assert sender.send(bodies[4], old=5) == [5]
    assert sender.send(bodies[5], old=5) == [6]
    assert set(sender.counted()) == {"tampered"}


@pytest.mark.parametrize(
    "changes",
    [
        {"no": 0},
        {"no": -1},
        {"no": True},
        {"no": "1"},
        {"old": 0},
        {"old": 2},
        {"told": 2},
        {"told": None},
        {"t": -1},
        {"t": 1 << 41},
        {"t": 1.5},
        {"hash": "0" * 31},
        {"hash": "G" * 32},
        {"hash": b"\0" * 16},
        {"from": "a b"},
        {"from": 7},
        {"n": 0},
        {"code": "A"},
        {"at": "a-b"},
    ],
)
def test_a_report_of_another_form_is_refused(sender, changes):
    assert sender.send(sender.log.add(), **changes) == []
    assert sender.counted() == {"bad-body": 1}
    assert sender.kept() == []


def test_another_application_reports_nothing(tmp_path):
    stage = Stage(tmp_path)
    peer = PeerDevice(K["lights"], policy.policy_hash(POLICY), "lights")
    stage.handshake(peer, "lights")
    stage.receive("incident", peer.seal("incident", [0, None, Log().add()]), "lights")
    stage.engine.write_events()
    assert (stage.store.incidents("D1"), stage.store.incident_records("D1")) == ([], [])


def test_a_plain_device_is_heard_and_not_answered(tmp_path):
    stage = Stage(tmp_path, PLAIN)
    body = {"event": "incident", "deviceId": "D1", "body": Log().add()}
    stage.receive("incident", incident.jsontext.dump(body).encode(), fmt="json")
    stage.engine.write_events()
    assert [one.number for one in stage.store.incident_records("D1")] == [1]
    assert stage.sent == []


def test_what_cannot_be_stored_is_not_acknowledged(sender, monkeypatch):
    def full(*_):
        raise HostError("database-damaged", "no space")

    first = sender.log.add()
    monkeypatch.setattr(sender.stage.store, "write_records", full)
    with pytest.raises(HostError):
        sender.send(first)
    monkeypatch.undo()
    assert sender.acknowledged() == []
    assert sender.send(first) == [1]
    assert len(sender.kept()) == 1


def test_a_flood_of_records_waits_for_the_disk(sender):
    for _ in range(100):
        sender.send(sender.log.add(), write=False)
    sender.stage.engine.write_events()
    assert sender.acknowledged() == [64]
    assert len(sender.kept()) == 64


def test_a_log_is_bounded(sender, monkeypatch):
    monkeypatch.setattr(incidents, "MAX_RECORDS", 5)
    for _ in range(12):
        sender.send(sender.log.add())
    assert [row[0] for row in sender.kept()] == [8, 9, 10, 11, 12]


def test_a_device_that_is_provisioned_anew_begins_anew(sender):
    sender.send(sender.log.add(), write=False)
    pairs = tuple(replace(one, uid=b"N" * 32) for one in SEALED.pairs)
    with sender.stage.store.transaction():
        sender.stage.store.add_device(replace(SEALED, pairs=pairs))
    sender.stage.engine.write_events()
    assert sender.stage.store.log_head("D1") is None
