"""Events of a device with an outbox: once, in order, acknowledged when fleet.db has them."""

import json

import pytest
from engine_kit import PLAIN, POLICY, K, Stage
from host_kit import PeerDevice
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.store.store import Store


class Sender:
    """A device with a session, and the acknowledgements that it got."""

    def __init__(self, stage: Stage, appid: str = "authority") -> None:
        self.stage, self.appid = stage, appid
        self.peer = PeerDevice(K[appid], policy.policy_hash(POLICY), appid)
        stage.handshake(self.peer, appid)
        stage.sent.clear()

    def event(self, number: int, previous: int | None = 0, write: bool = True) -> list[int]:
        """Send an event; return the numbers that were acknowledged since."""
        data = self.peer.seal("door", [number, previous, {"n": number}])
        self.stage.receive("door", data, self.appid)
        if write:
            self.stage.engine.write_events()
        return self.acknowledged()

    def acknowledged(self) -> list[int]:
        sent, self.stage.sent = self.stage.sent, []
        acks = [data for appid, where, data in sent if (appid, where.verb) == (self.appid, "ack")]
        return [self.peer.open("ack", data)[1][0] for data in acks]


def stored(stage: Stage, appid: str = "authority") -> list[int]:
    rows = stage.store.events(stage.engine.state("D1").device.device)
    return [json.loads(body)["n"] for _, app, _, body in rows if app == appid]


def announced(stage: Stage) -> list[int]:
    return [news.id for news in stage.news if news.kind == "event"]


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_an_event_is_acknowledged_once_it_is_stored(stage):
    sender = Sender(stage)
    assert sender.event(1, write=False) == []
    assert sender.event(2, 1) == [2]
    assert sender.event(7, 2) == [7]
    assert stored(stage) == announced(stage) == [1, 2, 7]


def test_a_repeat_is_dropped_and_acknowledged_again(stage):
    sender = Sender(stage)
    assert sender.event(3) == [3]
    assert sender.event(3) == [3]
    assert sender.event(1) == [3]
    assert stored(stage) == announced(stage) == [3]


def test_an_event_whose_predecessor_is_missing_waits_for_it(stage):
    sender = Sender(stage)
    assert sender.event(1) == [1]
    assert sender.event(3, 2) == []
    assert sender.event(4, 3) == []
    assert [sender.event(2, 1), sender.event(3, 2), sender.event(4, 3)] == [[2], [3], [4]]
    # The device dropped what was before it: nothing is missing then.
    assert sender.event(9, 0) == [9]
    assert stored(stage) == [1, 2, 3, 4, 9]


def test_an_event_without_a_number_is_as_before(stage):
    sender = Sender(stage)
    for number, previous in ((0, None), (0, 0), (5, None)):
        assert sender.event(number, previous) == []
    assert len(stored(stage)) == len(announced(stage)) == 3
    assert sender.event(1) == [1]


def test_numbers_outlive_the_session_and_the_authority(stage, tmp_path):
    sender = Sender(stage)
    assert sender.event(4) == [4]
    stage.handshake(sender.peer)
    stage.sent.clear()
    assert sender.event(4) == [4]
    stage.store.close()
    again = Stage(tmp_path)
    sender.peer.boot += 1
    sender.stage = again
    again.handshake(sender.peer)
    again.sent.clear()
    assert sender.event(4) == [4]
    assert sender.event(5, 4) == [5]
    assert stored(again) == [4, 5]


def test_each_application_has_its_own_numbers(stage):
    authority, lights = Sender(stage), Sender(stage, "lights")
    assert authority.event(8) == [8]
    assert lights.event(2) == [2]
    assert authority.event(9, 8) == [9]
    assert (stored(stage), stored(stage, "lights")) == ([8, 9], [2])


def test_what_fleet_db_could_not_take_is_not_acknowledged(stage, monkeypatch):
    sender = Sender(stage)
    assert sender.event(1) == [1]
    with monkeypatch.context() as patched:

        def fail(*_, **__):
            raise HostError("database-damaged", "the disk is full")

        patched.setattr(stage.store, "transaction", fail)
        with pytest.raises(HostError):
            sender.event(2, 1)
    assert sender.acknowledged() == []
    stage.engine.write_events()
    assert sender.acknowledged() == []
    assert sender.event(2, 1) == [2]
    assert sender.event(3, 2) == [3]
    assert stored(stage) == [1, 2, 3]


def test_and_neither_is_a_batch_that_failed(stage, monkeypatch):
    sender = Sender(stage)
    with monkeypatch.context() as patched:

        def fail(*_, **__):
            raise HostError("database-damaged", "the disk is full")

        patched.setattr(stage.store, "transaction", fail)
        for number in range(1, 100):
            assert sender.event(number, number - 1, write=False) == []
        with pytest.raises(HostError):
            sender.event(100, 99, write=False)
    stage.engine.write_events()
    assert sender.acknowledged() == []
    assert [sender.event(1), sender.event(2, 1)] == [[1], [2]]
    assert stored(stage) == [1, 2]


def test_a_batch_that_fleet_db_has_is_not_taken_again(stage, monkeypatch):
    """A batch is committed between two ticks; only what came after it failed."""
    sender = Sender(stage)
    for number in range(1, 103):
        assert sender.event(number, number - 1, write=False) == []
    with monkeypatch.context() as patched:

        def fail(*_, **__):
            raise HostError("database-damaged", "the disk is full")

        patched.setattr(stage.store, "transaction", fail)
        with pytest.raises(HostError):
            stage.engine.write_events()
    assert sender.event(50, 49) == [100]
    assert [sender.event(101, 0), sender.event(102, 101)] == [[101], [102]]
    assert stored(stage) == list(range(1, 103))


def test_acknowledged_events_are_on_the_disk(stage, monkeypatch):
    """A device keeps no copy of them: a power cut of the host must not lose them."""
    kept: list[bool] = []
    whole = Store.transaction
    monkeypatch.setattr(
        Store,
        "transaction",
        lambda self, durable=True: kept.append(durable) or whole(self, durable),
    )
    sender = Sender(stage)
    kept.clear()
    sender.event(1)
    sender.event(0, None)
    assert kept == [True, False]


def test_provisioned_anew_the_numbers_begin_anew(stage):
    """With a number of its former life, all events of a new device would be dropped as repeats."""
    sender = Sender(stage)
    assert sender.event(4000) == [4000]
    assert stage.engine.clear("D1") is False
    assert sender.event(4000) == [4000]
    stage.engine.state("D1").stale_apps |= {"authority"}
    assert stage.engine.clear("D1") is True
    sender.peer.boot += 1
    stage.handshake(sender.peer)
    stage.sent.clear()
    assert sender.event(1) == [1]
    assert stored(stage) == [4000, 1]


def test_plain_mode_drops_repeats(tmp_path):
    stage = Stage(tmp_path, PLAIN)

    def event(number) -> None:
        body = {"event": "door", "deviceId": "D1", "body": {"n": number}, "n": number}
        stage.receive("door", json.dumps(body).encode(), fmt="json")

    for number in (3, 3, 2, 4):
        event(number)
    stage.engine.write_events()
    assert stored(stage) == [3, 4]
    event("5")
    assert stage.codes()[-1] == "bad-body"
