"""`warden policy set`: the order, the questions after it, and what fleet.db has at each moment."""

import dataclasses
from typing import Any

import pytest
from engine_kit import SEALED
from warden_host.devices import trial
from warden_host.devices.policies import Change
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.store.store import Store

DEVICE = SEALED.device
OLD = SEALED.policy
NEW = policy.changed(OLD, stall_ms=9000)


class Device:
    """A device that takes an order, and settles it at the question `settles`, proven or not."""

    def __init__(self, store: Store, proves: bool = True, settles: int = 2) -> None:
        self.store, self.proves, self.left = store, proves, settles
        self.record, self.trying = OLD, b""
        self.numbers = [3, 3]  # taken, proved
        self.orders: list[dict[str, Any]] = []
        self.lost: set[int] = set()  # questions without an answer, from 0
        self.asked = -1
        self.followed = 0

    def ask(self, change: dict[str, Any] | None) -> dict[str, Any]:
        self.asked += 1
        if change is not None:
            self.orders.append(change)
            following = self.store.device(DEVICE).next_policy
            assert following is not None, "a running serve would refuse it"
            self.trying, self.numbers[0] = following, change["id"]
        elif self.trying:
            self.left -= 1
            if not self.left:
                if self.proves:
                    self.record, self.numbers[1] = self.trying, self.numbers[0]
                self.trying = b""
        if self.asked in self.lost:
            raise HostError("timed-out", "no reply")
        found = {
            "id": self.numbers[0],
            "proved": self.numbers[1],
            "digest": policy.policy_hash(self.record).hex(),
            "pending": bool(self.trying),
        }
        return {"ok": True, "reply": {"ok": True, "result": found}}

    def follow(self) -> None:
        self.followed += 1

    def change(self) -> Change:
        return Change(self.store, DEVICE, self.ask, self.follow)

    def make(self, **limits: int) -> None:
        self.change().make(limits or {"stall_ms": 9000}, lambda _: None, 60)

    def known(self) -> tuple[bytes, bytes | None]:
        known = self.store.device(DEVICE)
        return known.policy, known.next_policy


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(trial.time, "sleep", lambda _: None)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "fleet.db") as opened:
        with opened.transaction():
            opened.add_device(SEALED)
        yield opened


def refused(code: str, device: Device, **limits: int) -> None:
    with pytest.raises(HostError) as error:
        device.make(**limits)
    assert error.value.code == code


def test_limits_that_work(store):
    device = Device(store)
    device.make()
    assert device.orders == [{"id": 4}]
    assert device.known() == (NEW, None)
    assert device.record == NEW and device.followed == 1


def test_a_limit_that_lets_no_other_policy_through(store):
    large = policy.record(otp=policy.otp(), strict=True, outbox_drop="newest")
    with store.transaction():
        store.add_device(dataclasses.replace(SEALED, type="t" * 32, policy=large))
    device = Device(store)
    device.record = large
    refused("bad-argument", device, max_message=512)
    assert device.orders == [] and device.known() == (large, None)
    device.make(max_message=600)


def test_an_outbox_and_brokers(store):
    device = Device(store)
    hubs = [["hub-1.example", 8883, 0], ["hub-2.example", 8883, 1]]
    device.change().make({"outbox": 8, "outbox_keep": "reboot"}, lambda _: None, 60, hubs)
    assert device.orders == [{"id": 4, "brokers": hubs}]
    assert policy.parse(device.record) == policy.parse(
        policy.changed(OLD, outbox=8, outbox_keep="reboot")
    )
    assert policy.connection(device.record)["outbox"] == 8 and device.known()[1] is None
    # Brokers alone: the record stays, and is no less a change.
    device.left = 2
    device.change().make({}, lambda _: None, 60, hubs[:1])
    assert device.orders[1:] == [{"id": 5, "brokers": hubs[:1]}]
    refused("bad-argument", device, outbox=8)  # it has that
    refused("bad-policy", device, outbox=65)
    refused("bad-policy", device, outbox_drop="all")
    long = [["h" * 250, 8883, i] for i in range(8)]
    with pytest.raises(HostError) as error:
        device.change().make({}, lambda _: None, 60, long)
    assert error.value.code == "bad-argument" and len(device.orders) == 2


def test_a_record_takes_the_version_that_it_needs():
    assert policy.changed(OLD, outbox=0) == OLD
    assert policy.parse(policy.changed(OLD, outbox=1))["v"] == 4
    strict = policy.record(strict=True)
    more = policy.parse(policy.changed(strict, outbox=1))
    assert (more["v"], more["strict"], more["outbox"]) == (4, True, 1)
    assert policy.changed(policy.changed(OLD, outbox=1), outbox=0) != OLD  # never an older one


def test_limits_that_do_not(store):
    device = Device(store, proves=False)
    refused("policy-unproved", device)
    assert device.known() == (OLD, None) and device.followed == 1


def test_replies_that_get_lost(store):
    for lost in ({1}, {1, 2}, {2}, {1, 2, 3}):
        device = Device(store)
        device.lost = lost
        device.make()
        assert device.orders == [{"id": 4}] and device.known() == (NEW, None)
        store.start_policy_change(DEVICE, OLD)
        store.end_policy_change(DEVICE, True)


def test_a_call_that_ended_early_is_ended_by_the_next(store, monkeypatch):
    for proves, record in ((False, OLD), (True, NEW)):
        device = Device(store, proves=proves)
        clock = iter(range(0, 1000, 30))
        monkeypatch.setattr(trial.time, "monotonic", lambda clock=clock: next(clock))
        device.lost = set(range(1, 9))
        refused("timed-out", device)
        assert device.known() == (OLD, NEW)  # the authority expects either
        device.lost, device.left, device.trying = set(), 1, NEW
        device.numbers[0] = 4
        assert device.change().state().id == 4
        assert device.known() == (record, None) and device.followed == 1


def test_while_the_device_tries_another(store):
    device = Device(store, settles=9)
    device.trying = NEW
    store.start_policy_change(DEVICE, NEW)
    refused("not-applicable", device)
    assert device.known() == (OLD, NEW) and not device.orders


def test_a_device_that_has_another_policy(store):
    device = Device(store)
    device.record = policy.changed(OLD, stall_ms=7000)
    refused("not-applicable", device)
    assert device.known() == (OLD, None) and not device.orders


def test_what_is_refused_before_it_is_sent(store):
    device = Device(store)
    refused("bad-policy", device, strict=1)
    refused("bad-policy", device, stall_ms=30001)
    refused("bad-policy", device, backoff_min_ms=60000, backoff_max_ms=1000)
    refused("bad-argument", device, stall_ms=5000)  # it has that
    assert device.known() == (OLD, None) and not device.orders


def test_a_smaller_limit_with_an_outbox(store):
    device = Device(store)
    device.record = policy.record(outbox=4)
    store.start_policy_change(DEVICE, device.record)
    store.end_policy_change(DEVICE, True)
    refused("bad-argument", device, max_message=1024)
    assert not device.orders
    device.make(max_message=4096)


@pytest.mark.parametrize(
    "broken",
    [
        {"digest": None},
        {"digest": "00"},
        {"digest": "zz" * 32},
        {"digest": "00" * 32 + "\n"},
        {"pending": 1},
        {"id": -1},
        {"id": True},
        {"id": 1 << 32},
        {"proved": "3"},
    ],
)
def test_answers_in_another_form(store, broken):
    device = Device(store)

    def ask(change: dict[str, Any] | None) -> dict[str, Any]:
        answer = device.ask(change)
        answer["reply"]["result"] |= broken
        return answer

    with pytest.raises(HostError) as error:
        Change(store, DEVICE, ask, device.follow).state()
    assert error.value.code == "bad-body"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("unknown-command", "not-applicable"),
        ("not-allowed", "command-refused"),
        ("bad-body", "command-refused"),
        ("busy", "timed-out"),
    ],
)
def test_what_a_device_answers(store, answer, code):
    reply = {"ok": False, "reply": {"ok": False, "error": answer}}
    with pytest.raises(HostError) as error:
        Change(store, DEVICE, lambda _: reply, lambda: None).state()
    assert error.value.code == code
