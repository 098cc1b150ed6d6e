"""What the fleet does about a code: fleet.db, the broker's accounts, the audit log, the events."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from engine_kit import SEALED, Stage, pairs, report
from host_kit import DEVICE, PeerDevice, new_fleet, refused
from process_kit import PATIENCE_S
from rabbitmq_model import RabbitModel, serving
from warden_host.alarms.rules import alarm_of
from warden_host.broker.accounts import device_account
from warden_host.broker.backend import Places
from warden_host.broker.mosquitto import dynsec, registry
from warden_host.broker.rabbitmq import management
from warden_host.devices import account_access, gateways, quarantine, revocation, rooms
from warden_host.engine.events import FleetEvent
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.protocol import policy
from warden_host.reactions.settings import Budget
from warden_host.service import reactor as reactor_module
from warden_host.service.control import Caller
from warden_host.service.flood_guard import FloodGuard
from warden_host.service.known_devices import KnownDevices
from warden_host.service.reactor import Reactor
from warden_host.store.reactions import DEREGISTER, QUARANTINE, Reaction

RULES = """
[reactions]
tampered = "quarantine"
replayed = "de-register"
duress = "ignore"
"""
USER = f"d:relay:{DEVICE}"


class Authority:
    """Stands for the authority: an engine, without links."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.floods = FloodGuard(lambda: 5.0)
        self.dropped: list[str] = []
        self.known = KnownDevices()
        self.known.read(stage.store, self.floods.reset)

    def ask(self, question):
        return question(self.stage.engine)

    def drop_messages(self, device: str) -> None:
        self.dropped.append(device)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def at_once(reactor: Reactor) -> Iterator[None]:
    """Have the reactor do nothing before all that the block asks of it is there."""
    goes_on, carry_out = threading.Event(), reactor._carry_out

    def later(job) -> None:
        assert goes_on.wait(PATIENCE_S)
        carry_out(job)

    reactor._carry_out = later
    try:
        yield
    finally:
        goes_on.set()


class House:
    """A fleet with one device, and a reactor."""

    def __init__(self, folder, rules: str = RULES, device=SEALED) -> None:
        fleet = new_fleet(folder)
        with (fleet.root / CONFIG).open("a") as file:
            file.write(rules)
        self.fleet = Fleet(fleet.root)
        self.stage = Stage(self.fleet.root, device)
        self.store = self.stage.store
        with registry.opened(self.fleet) as accounts:
            accounts.put(device_account("relay", DEVICE, "x" * 32))
        self.authority = Authority(self.stage)
        self.news: list[FleetEvent] = []
        self.disabled: list[str] = []
        self.shown = threading.Condition()

    def announce(self, event: FleetEvent) -> None:
        with self.shown:
            self.news.append(event)
            self.shown.notify_all()

    def reacting(self) -> Reactor:
        return Reactor(self.fleet, self.authority, self.announce, self.disabled.append)

    def wait(self, count: int) -> None:
        with self.shown:
            assert self.shown.wait_for(lambda: len(self.news) >= count, PATIENCE_S)

    def wait_until_done(self) -> None:
        """Wait until a quarantined flooder is counted anew, or is cut off."""
        wait_until(lambda: not self.authority.floods.dropped or self.account["disabled"])

    @property
    def account(self) -> dict:
        document = dynsec.load(self.fleet.broker)
        (found,) = [one for one in document["clients"] if one["username"] == USER]
        (role,) = [one for one in document["roles"] if one["rolename"] == f"device:relay:{DEVICE}"]
        topics = {acl["topic"].split("/", 5)[-1] for acl in role["acls"]}
        return {"disabled": found.get("disabled", False), "topics": topics}

    def actions(self) -> list[tuple[str, str, str]]:
        return [(row.who, row.action, row.outcome) for row in self.store.audit_rows()]


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    made.store.close()


def peer_of(house: House) -> PeerDevice:
    made = PeerDevice(b"a" * 32, policy.policy_hash(SEALED.policy))
    house.stage.handshake(made)
    return made


def test_an_incident_quarantines_its_device(house):
    with house.reacting():
        report(house.stage, peer_of(house), "tampered")
        house.wait(1)
    known = house.store.device(DEVICE)
    assert (known.reaction.kind, known.reaction.code) == (QUARANTINE, "tampered")
    assert known.ending is None
    assert house.account["disabled"] is False
    assert "evt/#" not in house.account["topics"]
    assert "cmd/update/fmt/cose" in house.account["topics"]
    assert house.news[0].record() | {"time": 0} == {
        "kind": "reaction",
        "device": DEVICE,
        "name": "quarantine",
        "code": "tampered",
        "time": 0,
    }
    assert house.actions() == [
        ("fleet", "quarantine D1 for tampered", ""),
        ("fleet", "quarantine D1 for tampered", "ok"),
    ]
    assert house.stage.engine.state(DEVICE).device.reaction is not None


def test_an_incident_deregisters_its_device(house):
    with house.reacting():
        report(house.stage, peer_of(house), "replayed")
        house.wait(1)
    known = house.store.device(DEVICE)
    assert known.ending.revoked
    assert known.reaction.kind == DEREGISTER
    assert house.account == {"disabled": True, "topics": set()}


def test_an_alert_restricts_nothing_and_comes_once_in_a_while(house):
    with house.reacting() as reactor:
        for code in ("plain-refused", "plain-refused", "duress", "not-allowed", "account-shared"):
            reactor.react(DEVICE, code, "x")
        house.wait(2)
    assert [(each.name, each.code) for each in house.news] == [
        ("alert", "plain-refused"),
        ("alert", "account-shared"),
    ]
    assert house.store.device(DEVICE).reaction is None
    assert [one.code for one in house.store.incidents(DEVICE)] == ["account-shared"]
    assert "evt/#" in house.account["topics"]


def test_a_flooder_is_disabled_before_anything_is_written(house):
    order = []
    house.disabled = order
    house.announce_before = house.announce
    with house.reacting() as reactor:
        for _ in range(900):
            house.authority.floods.admits(DEVICE, 100)
        house.wait(1)
        assert not house.authority.floods.admits(DEVICE, 100)
    assert order == [USER]
    assert house.authority.dropped == [DEVICE]
    assert house.news[0].code == "device-flood"
    assert house.store.device(DEVICE).ending.revoked
    assert [one.code for one in house.store.incidents(DEVICE)] == ["device-flood"]
    assert reactor is not None


@pytest.mark.parametrize("sender", ["g:hall", USER, ""])
def test_a_flood_by_a_gateway_ends_its_right_and_not_the_device(house, monkeypatch, sender):
    monkeypatch.setattr(reactor_module, "_BACKLOG_S", 0.01)
    for name, devices in (("hall", (DEVICE,)), ("attic", (DEVICE,)), ("shed", ())):
        gateways.add(house.fleet, house.store, name, devices)
    asked = []
    with house.reacting() as reactor:
        reactor.busiest = lambda clients: asked.append(set(clients)) or sender
        reactor.on_flood(DEVICE, "too much")
        house.wait(1)
        by_gateway = sender == "g:hall"
        if by_gateway:  # what it sent before is behind it then
            house.wait_until_done()
            assert house.authority.floods.dropped == set()
    assert asked == [{USER, "g:hall", "g:attic"}]
    assert house.account["disabled"] is not by_gateway
    assert house.disabled == ([] if by_gateway else [USER])
    assert house.news[0].name == ("revoke-gateway" if by_gateway else "de-register")
    assert house.store.gateways()["hall"] == (() if by_gateway else (DEVICE,))
    assert house.store.gateways()["attic"] == (DEVICE,)
    if by_gateway:
        assert house.news[0].text == "gateway hall: too much"
        row = ("fleet", f"revoke-gateway hall {DEVICE} for device-flood", "ok")
        assert house.actions()[-1] == row
        assert [one.app for one in house.store.incidents(DEVICE)] == ["g:hall"]


def test_a_flood_by_a_gateway_whose_right_cannot_be_ended_cuts_the_device_off(house, monkeypatch):
    gateways.add(house.fleet, house.store, "hall", (DEVICE,))
    monkeypatch.setattr(gateways, "change", lambda *_: 1 / 0)
    with house.reacting() as reactor:
        reactor.busiest = lambda _: "g:hall"
        reactor.on_flood(DEVICE, "too much")
        house.wait(1)
    assert house.disabled == [USER]
    assert house.actions()[-1][2] == "internal-error"


@pytest.mark.parametrize("kind", ["a:lights", "g:hall", "t:lights:7", "o:weather:mast"])
def test_a_flood_of_another_account_disables_it(house, kind):
    with house.reacting() as reactor:
        with at_once(reactor):
            for _ in range(3):
                reactor.on_traffic(kind, "too much")
        house.wait(1)
    assert house.disabled[0] == kind
    (event,) = house.news
    assert (event.kind, event.name, event.code) == ("reaction", "de-register", "account-flood")
    assert event.text == f"{kind}: too much"
    assert alarm_of(event).kind == "quarantine"
    assert house.actions()[-1] == ("fleet", f"de-register {kind} for account-flood", "ok")


def test_what_an_account_may_send_is_the_fleets_to_say(tmp_path):
    text = '[reactions]\naccount-flood = "alert"\naccount_kib_s = 50\n'
    text += "[reactions.device.D1]\nkib_s = 9\n"
    house = House(tmp_path, text)
    with house.reacting() as reactor:
        assert reactor.traffic_budget("g:hall").kib_s == 50
        assert reactor.traffic_budget(USER).kib_s == 9
        assert reactor.traffic_budget("o:weather:mast").kib_s == Budget().kib_s
        assert reactor.traffic_budget("a:authority") is None
        assert reactor.traffic_budget("warden-admin") is None
        for _ in range(3):
            reactor.on_traffic("a:lights", "too much")
        reactor.on_traffic(USER, "too much")
        house.wait(2)
    assert house.disabled == [USER]
    assert [one.name for one in house.news] == ["alert", "de-register"]
    house.store.close()


def test_lost_messages_are_an_alarm_once_in_a_while(house):
    places = Places()
    with house.reacting() as reactor:
        reactor.watch_places(places)
        for _ in range(3):
            places.on_dropped("a:authority")
    (event,) = house.news
    assert (event.kind, event.code) == ("notice", "messages-lost")
    assert alarm_of(event).kind == "broker"


def test_an_account_is_let_in_again(house):
    gateways.add(house.fleet, house.store, "hall", (DEVICE,))

    def is_off() -> bool:
        clients = dynsec.load(house.fleet.broker)["clients"]
        return next(one for one in clients if one["username"] == "g:hall").get("disabled", False)

    account_access.disable(house.fleet, "g:hall")
    assert is_off()
    account_access.enable(house.fleet, house.store, "g:hall")
    assert not is_off()
    rooms.add(house.fleet, house.store, "weather", ("mast",))
    account_access.disable(house.fleet, "o:weather:mast")
    account_access.enable(house.fleet, house.store, "o:weather:mast")
    for name, code in (
        *(("g:attic", "gateway-unknown"), ("a:none", "app-unknown")),
        *(("o:weather:roof", "bad-argument"), ("o:relay:mast", "bad-argument")),
    ):
        with refused(code):
            account_access.enable(house.fleet, house.store, name)
    for name in ("a:authority", "warden-admin", USER):
        with refused("bad-name"):
            account_access.enable(house.fleet, house.store, name)


def test_a_device_of_another_type_gets_its_rules(house):
    house.authority.floods.watch(lambda device: asked.append(device) or Budget(), lambda *_: None)
    asked: list[str] = []
    house.authority.floods.admits(DEVICE, 1)
    with house.store.transaction():
        house.store.add_device(replace(SEALED, type="lock"))
    house.authority.known.read(house.store, house.authority.floods.reset)
    assert house.authority.known.types == {DEVICE: "lock"}
    house.authority.floods.admits(DEVICE, 1)
    assert asked == [DEVICE] * 2


def test_a_flood_in_quarantine_deregisters(tmp_path):
    house = House(tmp_path, '[reactions]\ndevice-flood = "quarantine"\n')
    with house.reacting() as reactor:
        for count in (1, 2):
            with at_once(reactor):
                for _ in range(3):  # one flood, which several find
                    reactor.on_flood(DEVICE, "too much")
            house.wait(count)
            house.wait_until_done()
    assert [each.name for each in house.news] == ["quarantine", "de-register"]
    assert house.account["disabled"] is True
    house.store.close()


def test_a_flood_that_is_found_as_soon_as_a_device_is_counted_anew_deregisters(tmp_path):
    house = House(tmp_path, '[reactions]\ndevice-flood = "quarantine"\n')
    floods = house.authority.floods
    reset = floods.reset

    def flooded_again(device: str) -> None:
        floods.reset = reset
        reset(device)
        reactor.on_flood(device, "too much")

    with house.reacting() as reactor:
        floods.reset = flooded_again
        reactor.on_flood(DEVICE, "too much")
        house.wait(2)
    assert [each.name for each in house.news] == ["quarantine", "de-register"]
    assert house.account["disabled"] is True
    house.store.close()


def test_a_failure_is_told_once_the_same_reaction_can_be_due_again(house, monkeypatch):
    monkeypatch.setattr(quarantine, "apply", lambda *_: 1 / 0)
    due: list[bool] = []
    house.announce = lambda _: due.append(reactor._is_due(DEVICE, QUARANTINE, "tampered"))
    with house.reacting() as reactor:
        reactor.react(DEVICE, "tampered", "")
    assert due == [True]


def test_a_reaction_weakens_none_before_it(house):
    with house.reacting() as reactor:
        reactor.react(DEVICE, "replayed", "")
        house.wait(1)
        reactor.react(DEVICE, "tampered", "")
        reactor.react("nobody", "tampered", "")
    assert house.store.device(DEVICE).reaction.code == "replayed"
    assert len(house.actions()) == 2


def test_a_flood_of_incidents_is_one_reaction_and_leaves_the_audit_log_alone(house, monkeypatch):
    goes_on, applied, apply = threading.Event(), [], quarantine.apply

    def slow(fleet, store, device, reaction):
        assert goes_on.wait(PATIENCE_S)
        applied.append(device)
        return apply(fleet, store, device, reaction)

    monkeypatch.setattr(quarantine, "apply", slow)
    with house.reacting() as reactor:
        for _ in range(1000):
            reactor.react(DEVICE, "tampered", "")
        assert reactor._jobs.qsize() <= 1
        goes_on.set()
        house.wait(1)
        reactor.react(DEVICE, "tampered", "")
    assert applied == [DEVICE]
    assert len(house.actions()) == 2


def test_a_failure_is_told_and_later_reactions_go_on(house, monkeypatch):
    apply = quarantine.apply
    monkeypatch.setattr(quarantine, "apply", lambda *_: 1 / 0)
    with house.reacting() as reactor:
        reactor.react(DEVICE, "tampered", "")
        house.wait(1)
        monkeypatch.setattr(quarantine, "apply", apply)
        reactor.react(DEVICE, "tampered", "")
        house.wait(2)
    assert [(each.kind, each.code) for each in house.news] == [
        ("notice", "internal-error"),
        ("reaction", "tampered"),
    ]


@pytest.mark.parametrize("code", ["tampered", "replayed"])
def test_the_authority_follows_where_rabbitmq_does_not_answer(house, code):
    """fleet.db and mosquitto have it: the engine's session and the revocation list are next."""
    listed: list[str] = []
    with serving(RabbitModel(USER), house.fleet) as house.fleet:
        pass  # its address is known, and nothing listens there any more
    with house.reacting() as reactor:
        reactor._revoked = lambda: listed.append(code)
        report(house.stage, peer_of(house), code)
        house.wait(1)
    assert house.news[0].code == "unreachable"
    known = house.stage.engine.state(DEVICE).device
    assert known.reaction is not None
    assert (known.ending is not None, listed) == (
        (True, [code]) if code == "replayed" else (False, [])
    )


def test_what_rabbitmq_had_not_listed_is_closed_later_without_a_limit(house, monkeypatch):
    """The account may have been let in again since."""
    model = RabbitModel("a:home")
    monkeypatch.setattr(management, "LISTED_S", 0.0)
    with serving(model, house.fleet) as house.fleet, house.reacting() as reactor:
        model.connect("a:home")
        reactor._refuse_again("a:home")
        for timer in reactor._timers:
            timer.join()
    assert (model.limits, model.client_ids) == ({}, [])


def test_a_start_of_the_broker_restricts_what_a_stop_left_open(house):
    with house.store.transaction():
        house.store.set_reaction(DEVICE, Reaction(QUARANTINE, "tampered", "", 1.0))
    quarantine.enforce(house.fleet)
    assert "evt/#" not in house.account["topics"]


# Letting in again


def test_readmission_ends_in_full_rights(house):
    with house.reacting() as reactor:
        reactor.react(DEVICE, "replayed", "why")
        house.wait(1)
    before = quarantine.begin_readmission(house.fleet, house.store, DEVICE)
    assert before.kind == DEREGISTER
    known = house.store.device(DEVICE)
    assert (known.ending, known.reaction.kind, known.reaction.readmitting) == (
        None,
        QUARANTINE,
        True,
    )
    assert house.account["disabled"] is False
    assert "evt/#" not in house.account["topics"]
    quarantine.begin_readmission(house.fleet, house.store, DEVICE)  # goes on
    quarantine.complete_readmission(house.fleet, house.store, DEVICE)
    assert house.store.device(DEVICE).reaction is None
    assert "evt/#" in house.account["topics"]


@pytest.mark.parametrize("case", ["none", "operator", "cloned", "plain", "wiped"])
def test_who_needs_new_secrets_by_hand_is_not_let_in(tmp_path, case):
    plain = replace(
        SEALED, mode="plain", policy=policy.record(mode="plain"), pairs=pairs("lights")
    )
    house = House(tmp_path, device=plain if case == "plain" else SEALED)
    code = "device-cloned" if case == "cloned" else "tampered"
    with house.store.transaction():
        if case in ("cloned", "plain", "wiped"):
            house.store.set_reaction(DEVICE, Reaction(QUARANTINE, code, "", 1.0))
    if case in ("operator", "wiped"):
        revocation.order_ending(house.store, DEVICE, revoke=True, wipe=case == "wiped")
    before = house.account
    with refused("not-applicable"):
        quarantine.begin_readmission(house.fleet, house.store, DEVICE)
    assert house.account == before
    house.store.close()


@pytest.fixture
def cut_off_meanwhile(house, monkeypatch):
    """`warden revoke`, between what a change reads and its turn at the registry."""
    real = quarantine.open_registry

    def opened(fleet):
        with house.store.transaction():
            house.store.order_ending(DEVICE, revoked=True, wipe=False, moment=1.0)
        return real(fleet)

    monkeypatch.setattr(quarantine, "open_registry", opened)


@pytest.mark.parametrize("change", [quarantine.begin_readmission, quarantine.complete_readmission])
def test_who_is_cut_off_meanwhile_is_not_let_in(house, cut_off_meanwhile, change):
    with house.store.transaction():
        house.store.set_reaction(DEVICE, Reaction(QUARANTINE, "replayed", "", 1.0))
    before = house.account
    with refused("revoked"):
        change(house.fleet, house.store, DEVICE)
    assert house.account == before
    assert house.store.device(DEVICE).reaction is not None


def test_who_is_cut_off_meanwhile_is_not_let_in_by_a_quarantine(house, cut_off_meanwhile):
    """A quarantine enables the account again, once its connection is dropped."""
    before = house.account
    reaction = Reaction(QUARANTINE, "replayed", "", 1.0)
    assert not quarantine.apply(house.fleet, house.store, DEVICE, reaction)
    assert house.account == before


@pytest.mark.parametrize("end", ["remove_device", "end_reaction"])
def test_a_quarantine_that_ended_meanwhile_restricts_nothing(house, monkeypatch, end):
    real = quarantine.open_registry

    def opened(fleet):
        with house.store.transaction():
            getattr(house.store, end)(DEVICE)
        return real(fleet)

    monkeypatch.setattr(quarantine, "open_registry", opened)
    before = house.account
    reaction = Reaction(QUARANTINE, "replayed", "", 1.0)
    assert not quarantine.apply(house.fleet, house.store, DEVICE, reaction)
    assert not quarantine.is_due(house.store, "nobody", QUARANTINE)
    assert house.account == before


def test_a_reaction_to_a_device_that_is_cut_off_does_nothing(house):
    with house.store.transaction():
        house.store.order_ending(DEVICE, revoked=True, wipe=False, moment=1.0)
    reaction = Reaction(QUARANTINE, "replayed", "", 1.0)
    assert not quarantine.apply(house.fleet, house.store, DEVICE, reaction)
    assert house.store.device(DEVICE).reaction is None


def test_provisioning_again_ends_a_reaction(house):
    with house.store.transaction():
        house.store.set_reaction(DEVICE, Reaction(DEREGISTER, "tampered", "", 1.0))
        house.store.add_device(SEALED)
    assert house.store.device(DEVICE).reaction is None
    assert json.dumps(house.actions()) == "[]"


def test_what_is_kept_of_alerts_is_bounded(house, monkeypatch):
    """Strangers give names without end. What was forgotten is told once more."""
    monkeypatch.setattr(reactor_module, "_MOST_ALERTS", 4)
    reactor = house.reacting()
    assert [reactor._is_due(f"D{n}", "alert", "tampered") for n in range(4)] == [True] * 4
    assert not reactor._is_due("D0", "alert", "tampered")
    assert all(reactor._is_due(f"D{n}", "alert", "tampered") for n in range(4, 30))
    assert len(reactor._alerts) <= 4


def test_a_device_that_is_let_in_again_is_heard_again(house):
    house.authority.floods.drop(DEVICE)
    assert not house.authority.floods.admits(DEVICE, 1)
    caller = Caller()
    house.reacting().operations["readmitted"]({"op": "readmitted", "device": DEVICE}, caller)
    assert caller.next_line(1) == {"ok": True}
    assert house.authority.floods.admits(DEVICE, 1)
