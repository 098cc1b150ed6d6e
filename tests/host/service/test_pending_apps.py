"""Changes of applications on their way to devices: a device that answers, one that is away."""

import contextlib

import pytest
from engine_kit import SEALED, UID, K, Stage
from host_kit import DEVICE, PeerDevice
from warden_host.engine.events import FleetEvent
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.service.pending_apps import PendingApps
from warden_host.store.app_changes import AppChange
from warden_host.store.store import Store

NEW = b"n" * 32


class Model(PeerDevice):
    """A device that keeps the table of its applications as docs/protocol.md says."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(K[AUTHORITY], policy.policy_hash(SEALED.policy))
        self.stage = stage
        self.table = {pair.appid: (pair.k, pair.commands) for pair in SEALED.pairs}
        self.taken = 0
        self.live = [AUTHORITY]
        self.refusal = ""
        self.orders: list[dict] = []
        self.lost = -1  # the reply that gets lost, from 0
        self.answered = 0

    def connect_now(self) -> None:
        self.stage.handshake(self)
        self.answer()

    def answer(self) -> None:
        """Answer what was sent until nothing more comes."""
        while self.answered < len(self.stage.sent):
            appid, where, data = self.stage.sent[self.answered]
            self.answered += 1
            if (appid, where.verb) != (AUTHORITY, "apps"):
                continue
            try:
                _, (number, _, body) = self.open("apps", data)
            except AssertionError:
                continue  # of a former session
            reply = self.run(body)
            self.lost -= 1
            if self.lost != -1:
                self.stage.receive("reply", self.seal("reply", [number, None, reply]))

    def run(self, body: dict) -> dict:
        if body:
            self.orders.append(body)
            if self.refusal:
                return {"ok": False, "error": self.refusal}
            if body["id"] < self.taken:
                return {"ok": False, "error": "unexpected"}
            if body["id"] > self.taken:
                self.taken = body["id"]
                if body["commands"] is None:
                    self.table.pop(body["app"], None)
                else:
                    key = body["key"] or self.table[body["app"]][0]
                    self.table[body["app"]] = (key, tuple(body["commands"]))
        state = {"id": self.taken, "apps": sorted(self.table), "up": self.live}
        return {"ok": True, "result": state}


class Rig:
    def __init__(self, folder) -> None:
        self.stage = Stage(folder)
        self.store: Store = self.stage.store
        self.finished = 0
        self.pending = PendingApps(self.stage.engine, self._finish)
        self.device = Model(self.stage)

    def _finish(self) -> None:
        self.finished += 1

    def order(self, appid, commands, key=None, after="") -> None:
        change = AppChange(DEVICE, appid, key, commands, after, 1.0)
        with self.store.transaction():
            self.store.order_app_change(change, b"" if key is None else b"u" * 32)

    def apply(self) -> int:
        count = self.pending.apply()
        self.device.answer()
        return count

    def pairs(self) -> dict:
        return {pair.appid: (pair.k, pair.commands) for pair in self.store.device(DEVICE).pairs}

    def waits(self) -> list[str]:
        return [f"{change.kind} {change.appid}" for change in self.store.app_changes()]

    def agrees(self) -> None:
        assert self.pairs() == self.device.table
        assert self.waits() == []
        assert set(self.stage.engine.state(DEVICE).sessions) == set(self.device.table)


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path)
    with contextlib.closing(made.store):
        yield made


def test_a_device_that_is_there_gets_it_at_once(rig):
    rig.device.connect_now()
    for appid, commands, key in (
        ("dash", ("look",), NEW),
        ("dash", ("look", "open"), None),
        ("lights", None, None),
    ):
        rig.order(appid, commands, key)
        assert rig.apply() == 1
        rig.agrees()
    assert list(rig.device.table) == [AUTHORITY, "dash"]
    texts = [news.text for news in rig.stage.news if news.kind == "notice"]
    assert texts == ["has application dash", "has the rights of dash", "has lights no more"]
    # No key is shown where commands are.
    assert all(news.body == {} for news in rig.stage.news if news.kind == "command")


def test_a_device_that_is_away_gets_it_at_its_next_contact(rig):
    rig.order("dash", ("look",), NEW)
    rig.order("lights", None)
    assert rig.apply() == 0 and rig.device.orders == []
    rig.device.connect_now()
    # What makes room comes first; each number is above the one before, and not below the time.
    assert [order["app"] for order in rig.device.orders] == ["lights", "dash"]
    first, second = (order["id"] for order in rig.device.orders)
    assert first == rig.stage.now.unix and second == first + 1
    rig.agrees()


def test_the_key_is_there_before_the_order_and_until_its_end(rig):
    rig.order("dash", ("look",), NEW)
    rig.order("lights", None)
    assert rig.pairs()["dash"] == (NEW, ("look",))
    assert "lights" in rig.pairs()
    rig.device.connect_now()
    rig.agrees()


def test_a_reply_that_gets_lost_is_asked_for_again(rig):
    for lost in (0, 1):
        rig.order("dash", ("look",), bytes([lost]) * 32)
        rig.device.lost = lost
        rig.device.orders.clear()
        rig.device.connect_now()
        rig.stage.pass_time(11.0)
        assert rig.waits() == ["add dash"]
        rig.device.connect_now()
        assert len(rig.device.orders) == 1
        rig.agrees()
        assert rig.waits() == []


def test_a_change_that_another_one_replaces_on_its_way(rig):
    rig.device.connect_now()
    rig.order("dash", ("look",), NEW)
    rig.pending.apply()
    taken = rig.device.run

    def run(body):
        if body.get("app") == "dash" and body["key"]:
            rig.order("dash", None)  # the owner changes his mind while the order is there
        return taken(body)

    rig.device.run = run
    rig.device.answer()
    assert "dash" not in rig.device.table
    rig.agrees()


def test_rights_of_an_application_that_is_not_there_yet(rig):
    rig.order("dash", ("look",), NEW)
    rig.order("dash", ("open",))
    rig.device.connect_now()
    assert len(rig.device.orders) == 1
    assert rig.device.table["dash"] == (NEW, ("open",))
    rig.agrees()


def test_a_database_from_a_backup_gives_nothing_under_a_number_that_was_taken(rig):
    rig.device.taken = rig.stage.now.unix + 5000
    rig.order("dash", ("look",), NEW)
    with rig.store.transaction():
        (change,) = rig.store.app_changes()
    rig.store.number_app_change(change, rig.stage.now.unix)  # given before the backup
    rig.device.connect_now()
    assert [order["id"] for order in rig.device.orders] == [rig.stage.now.unix + 5001]
    rig.agrees()


def test_a_refusal_is_shown_and_stops_no_other_change(rig):
    rig.device.refusal = "bad-body"
    rig.order("dash", ("look",), NEW)
    rig.order("lights", None)
    rig.device.connect_now()
    assert {change.error for change in rig.store.app_changes()} == {"bad-body"}
    assert len(rig.device.orders) == 2
    # Each has a number of its own: the one that is taken now is not that of the other.
    numbers = [change.number for change in rig.store.app_changes()]
    assert len(set(numbers)) == 2
    rig.device.refusal = ""
    rig.apply()
    rig.agrees()


def test_a_device_that_is_too_old(rig):
    rig.device.run = lambda body: {"ok": False, "error": "not-allowed"}
    rig.order("dash", ("look",), NEW)
    rig.device.connect_now()
    assert "command-refused" in rig.stage.codes()
    assert rig.waits() == ["add dash"]


@pytest.mark.parametrize(
    "result", [None, {}, {"id": -1}, {"id": True}, {"apps": "x"}, {"up": [1]}, {"up": None}]
)
def test_answers_in_another_form(rig, result):
    good = {"id": 0, "apps": [], "up": []}
    answer = good | result if result else result
    rig.device.run = lambda body: {"ok": True, "result": answer}
    rig.order("lights", None)
    rig.device.connect_now()
    assert "bad-body" in rig.stage.codes()
    assert rig.waits() == ["remove lights"]


def test_a_busy_device_is_asked_again_at_its_next_contact(rig):
    rig.device.refusal = "expired"
    rig.order("lights", None)
    rig.device.connect_now()
    assert rig.store.app_changes()[0].error == "" and rig.waits() == ["remove lights"]
    rig.device.refusal = ""
    rig.device.connect_now()
    rig.agrees()


def test_a_renamed_application_waits_for_the_new_one(rig):
    rig.device.connect_now()
    with rig.store.transaction():
        rig.store.add_rename("lights", "lamps")
    rig.order("lamps", ("set_relay",), NEW)
    rig.order("lights", None, after="lamps")
    rig.apply()
    assert sorted(rig.device.table) == [AUTHORITY, "lamps", "lights"]
    assert (rig.waits(), rig.finished) == (["remove lights"], 0)
    # Looked at again every half minute, and when the device comes back.
    rig.stage.pass_time(31.0)
    rig.device.answer()
    assert rig.waits() == ["remove lights"]
    rig.device.live = [AUTHORITY, "lamps"]
    rig.stage.pass_time(31.0)
    rig.device.answer()
    assert rig.finished == 1
    rig.agrees()
    rig.stage.pass_time(31.0)
    assert not rig.pending._unproved


def test_a_key_that_is_replaced_ends_our_session_under_the_old_one(rig):
    rig.device.connect_now()
    before = rig.stage.engine.state(DEVICE).sessions["lights"]
    rig.order("lights", ("set_relay",), NEW)
    rig.apply()
    after = rig.stage.engine.state(DEVICE).sessions["lights"]
    assert after is not before and after.kid != before.kid
    assert rig.stage.engine.state(DEVICE).uid("lights") != UID["lights"]
    rig.agrees()


def test_many_devices_at_once_are_given_a_few_at_a_time(rig, monkeypatch):
    monkeypatch.setattr("warden_host.service.pending_apps._AT_ONCE", 0)
    rig.device.connect_now()
    rig.order("lights", None)
    rig.apply()
    assert rig.device.orders == []
    monkeypatch.setattr("warden_host.service.pending_apps._AT_ONCE", 1)
    rig.apply()
    rig.agrees()


def test_a_device_that_comes_back_in_its_session_gets_it(rig):
    """As one does that slept deeply: no session begins."""
    rig.device.connect_now()
    rig.order("lights", None)
    rig.stage.engine.notify(FleetEvent("came", DEVICE, text="sealed"))
    rig.device.answer()
    rig.agrees()


def test_a_device_that_is_to_end_gets_nothing(rig):
    rig.order("lights", None)
    with rig.store.transaction():
        rig.store.order_ending(DEVICE, False, True, 1.0)
    rig.device.connect_now()
    assert rig.device.orders == [] and rig.stage.codes() == []


def test_a_hello_under_a_key_that_is_to_go_is_no_attack(rig):
    """The authority gets it as well, and knows the new key alone."""
    old = PeerDevice(K["lights"], policy.policy_hash(SEALED.policy), "lights")
    rig.order("lights", ("set_relay",), NEW)
    rig.stage.receive("hello", old.hello())
    assert rig.store.incidents(DEVICE) == [] and rig.stage.codes() == []
    rig.device.connect_now()
    rig.agrees()
    rig.stage.pass_time(2.0)
    rig.stage.receive("hello", old.hello())
    assert rig.stage.codes() == ["wrong-application"]
