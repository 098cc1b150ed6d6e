"""Revocation and wipe at the host: the database, the engine and the broker's file."""

import contextlib
import json

import pytest
from engine_kit import PLAIN, POLICY, K, Stage, reply, run
from host_kit import DEVICE, PeerDevice, new_fleet, refused
from process_kit import PATIENCE_S
from warden_host import control_client, names
from warden_host.broker.accounts import device_account
from warden_host.broker.mosquitto import dynsec, registry
from warden_host.cli import main
from warden_host.devices import revocation
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.service.pending_wipes import PendingWipes
from warden_host.store.store import Device, Pair, Store


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.store.close()


def peer(stage: Stage) -> PeerDevice:
    return PeerDevice(K[AUTHORITY], policy.policy_hash(POLICY))


def order(stage: Stage, **what) -> None:
    revocation.order_ending(stage.store, DEVICE, **{"revoke": False, "wipe": False} | what)


class Guard(PendingWipes):
    """With what it was told to finish, done at once."""

    def __init__(self, stage: Stage) -> None:
        self.finished: list[str] = []
        super().__init__(stage.engine, self.finished.append)


def wipes(stage: Stage) -> list[bytes]:
    return [data for _, where, data in stage.sent if where.verb == "wipe"]


def answer(stage: Stage, device: PeerDevice, body=None) -> None:
    counter, (number, _, args) = device.open("wipe", wipes(stage)[-1])
    assert counter > 0
    assert args == {"device": DEVICE}
    reply(stage, device, number, body or {"ok": True, "result": {}})


def settled(guard: Guard) -> list[str]:
    """What follows a wipe has a thread of its own."""
    import threading

    for thread in threading.enumerate():
        if thread.name == "warden-farewell":
            thread.join(PATIENCE_S)
    return guard.finished


# -- what fleet.db keeps -------------------------------------------------------------------------


def test_orders_add_up(stage):
    assert stage.store.ending(DEVICE) is None
    order(stage, wipe=True)
    first = stage.store.device(DEVICE).ending
    assert (first.revoked, first.wipe, first.sent, first.wiped) == (False, True, None, None)
    order(stage, revoke=True)
    both = stage.store.ending(DEVICE)
    assert (both.revoked, both.wipe, both.ordered) == (True, True, first.ordered)
    assert list(stage.store.endings()) == [DEVICE]
    order(stage)
    assert stage.store.ending(DEVICE) == both


def test_only_its_owner_wipes_a_plain_device(tmp_path):
    stage = Stage(tmp_path, PLAIN)
    with refused("not-applicable"):
        order(stage, revoke=True, wipe=True)
    assert stage.store.ending(DEVICE) is None
    order(stage, revoke=True)
    with refused("device-unknown"):
        revocation.order_ending(stage.store, "D9", revoke=True, wipe=False)
    stage.store.close()


def test_a_wipe_lifts_a_quarantine(stage):
    """Whatever was done to its flash: it is to come and be wiped."""
    stage.store.quarantine(DEVICE, "its boot went back")
    order(stage, revoke=True)
    assert stage.store.device(DEVICE).mark.quarantine
    order(stage, wipe=True)
    assert not stage.store.device(DEVICE).mark.quarantine


def test_provisioned_again_it_is_another_device(stage):
    order(stage, revoke=True, wipe=True)
    stage.store.add_device(Device(DEVICE, "relay", "UNIX", "sealed", POLICY))
    assert stage.store.ending(DEVICE) is None


# -- what the engine takes -----------------------------------------------------------------------


def test_messages_of_a_revoked_device_are_refused(stage):
    device = peer(stage)
    stage.handshake(device)
    order(stage, revoke=True)
    stage.engine.apply_ending(DEVICE)
    sent = len(stage.sent)
    stage.receive("temperature", device.seal("temperature", [0, None, {"c": 1}]))
    device.boot += 1
    stage.receive("hello", device.hello())
    assert len(stage.sent) == sent
    assert not [news for news in stage.news if news.kind == "event"]
    assert set(stage.codes()) == {"revoked"}
    for app in (AUTHORITY, "lights"):
        with refused("revoked"):
            run(stage, Request(DEVICE, "set_relay", {"on": 1}, app=app))
    with refused("revoked"):
        run(stage, Request(DEVICE, "wipe", {"device": DEVICE}, app=AUTHORITY))


def test_after_a_restart_neither(stage, tmp_path):
    order(stage, revoke=True)
    again = Stage(tmp_path)
    again.engine.wake_all()
    again.receive("hello", peer(stage).hello())
    assert again.sent == []
    again.store.close()


def test_a_plain_device_that_was_revoked(tmp_path):
    stage = Stage(tmp_path, PLAIN)
    order(stage, revoke=True)
    stage.engine.apply_ending(DEVICE)
    body = {"event": "temperature", "deviceId": DEVICE, "body": {"c": 1}}
    stage.receive("temperature", json.dumps(body).encode(), fmt="json")
    assert not [news for news in stage.news if news.kind == "event"]
    assert stage.codes() == ["revoked"]
    stage.store.close()


def test_a_device_to_be_wiped_gets_a_session_for_that_alone(stage):
    lights = PeerDevice(K["lights"], policy.policy_hash(POLICY), "lights")
    order(stage, revoke=True, wipe=True)
    guard = Guard(stage)
    stage.engine.apply_ending(DEVICE)
    sent = len(stage.sent)
    stage.receive("hello", lights.hello(), "lights")
    assert len(stage.sent) == sent
    with refused("revoked"):
        run(stage, Request(DEVICE, "set_relay", {"on": 1}))
    device = peer(stage)
    stage.handshake(device)
    answer(stage, device)
    assert settled(guard) == [DEVICE]


# -- when the order is given ---------------------------------------------------------------------


def test_on_its_next_contact(stage):
    order(stage, wipe=True)
    guard = Guard(stage)
    results: list = []
    guard.apply(DEVICE, results.append, 5.0)
    assert wipes(stage) == []
    stage.pass_time(6)
    assert results == [{"ok": True, "wiped": False, "why": "no-session"}]
    assert stage.store.ending(DEVICE).sent is None
    device = peer(stage)
    stage.handshake(device)
    assert stage.store.ending(DEVICE).sent is not None
    assert stage.store.ending(DEVICE).wiped is None
    answer(stage, device)
    assert stage.store.ending(DEVICE).wiped is not None
    assert settled(guard) == [DEVICE]


def test_at_once_where_it_is_there(stage):
    device = peer(stage)
    stage.handshake(device)
    guard = Guard(stage)
    order(stage, wipe=True)
    guard.apply(DEVICE, lambda _: None)
    assert len(wipes(stage)) == 1
    results: list = []
    guard.apply(DEVICE, results.append)
    assert results == [{"ok": True, "wiped": False, "why": "busy"}]
    answer(stage, device)
    assert settled(guard) == [DEVICE]


def test_an_order_into_a_session_that_is_gone(stage):
    """The device restarts: the wipe in its last session is lost, and is sent in the next."""
    device = peer(stage)
    stage.handshake(device)
    order(stage, wipe=True)
    guard = Guard(stage)
    results: list = []
    guard.apply(DEVICE, results.append)
    for _ in range(2):
        stage.handshake(device)
    assert len(wipes(stage)) == 1
    stage.pass_time(11)
    assert results[0]["why"] == "timed-out"
    assert len(wipes(stage)) == 2
    answer(stage, device)
    assert settled(guard) == [DEVICE]


def test_nothing_goes_into_a_session_that_was_cut_off(stage):
    """The broker dropped it a moment ago: the order waits for the next one."""
    device = peer(stage)
    stage.handshake(device)
    order(stage, revoke=True, wipe=True)
    guard = Guard(stage)
    guard.apply(DEVICE, lambda _: None)
    assert wipes(stage) == []
    assert stage.sent[-1][1].verb == "wake"
    stage.handshake(device)
    assert len(wipes(stage)) == 1
    answer(stage, device)
    assert settled(guard) == [DEVICE]


def test_one_in_quarantine_is_wiped(stage):
    device = peer(stage)
    device.boot, device.vault_gen = 5, 50
    stage.handshake(device)
    device.boot, device.vault_gen = 6, 20
    stage.receive("hello", device.hello())
    device.take_welcome(stage.last("welcome"))
    stage.receive("ready", device.ready())
    assert stage.store.device(DEVICE).mark.quarantine
    order(stage, wipe=True)
    guard = Guard(stage)
    guard.apply(DEVICE, lambda _: None)
    stage.handshake(device)
    answer(stage, device)
    assert settled(guard) == [DEVICE]


def test_the_caller_gets_the_result(stage):
    device = peer(stage)
    stage.handshake(device)
    guard = Guard(stage)
    order(stage, wipe=True)
    results: list = []
    guard.apply(DEVICE, results.append)
    answer(stage, device)
    assert settled(guard) == [DEVICE]
    assert results == [{"ok": True, "wiped": True}]


def test_a_wipe_is_sent_in_every_session_until_it_is_confirmed(stage):
    order(stage, wipe=True)
    guard = Guard(stage)
    device = peer(stage)
    stage.handshake(device)
    stage.pass_time(11)  # no answer
    assert len(wipes(stage)) == 1
    stage.handshake(device)
    assert len(wipes(stage)) == 2
    answer(stage, device, {"ok": False, "error": "bad-body"})
    assert "command-refused" in stage.codes()
    stage.handshake(device)
    assert len(wipes(stage)) == 3
    answer(stage, device)
    assert settled(guard) == [DEVICE]


def test_after_a_restart_the_wipe_is_still_sent(stage, tmp_path):
    order(stage, wipe=True)
    Guard(stage)
    again = Stage(tmp_path)
    guard = Guard(again)
    device = peer(again)
    again.handshake(device)
    answer(again, device)
    assert settled(guard) == [DEVICE]
    again.store.close()


def test_a_flash_that_was_played_back_is_wiped_all_the_same(stage):
    device = peer(stage)
    device.boot, device.vault_gen = 9, 90
    stage.handshake(device)
    thief = peer(stage)
    thief.boot, thief.vault_gen = 3, 30
    stage.receive("hello", thief.hello())
    assert "stale-hello" in stage.codes()
    order(stage, revoke=True, wipe=True)
    guard = Guard(stage)
    guard.apply(DEVICE, lambda _: None)
    stage.handshake(thief)
    answer(stage, thief)
    assert settled(guard) == [DEVICE]


def test_a_mute_device_is_woken_for_its_wipe(stage):
    device = peer(stage)
    device.boot = 9
    stage.handshake(device)
    stage.receive("hello", peer(stage).hello())  # stale: it holds no session with us any more
    order(stage, wipe=True)
    Guard(stage).apply(DEVICE, lambda _: None)
    assert stage.sent[-1][1].verb == "wake"


def test_a_revoked_device_without_a_wipe_is_sent_none(stage):
    order(stage, revoke=True)
    guard = Guard(stage)
    results: list = []
    guard.apply(DEVICE, results.append)
    assert results == [{"ok": True, "wiped": False}]
    assert stage.sent == []


def test_a_failure_after_the_wipe_is_tolerated(stage):
    """The order stays, and the next start of the authority takes it up."""

    def fails(device: str) -> None:
        raise HostError("unreachable", "the broker's admin listener does not answer")

    device = peer(stage)
    stage.handshake(device)
    order(stage, wipe=True)
    guard = PendingWipes(stage.engine, fails)
    stage.pass_time(11)
    results: list = []
    guard.apply(DEVICE, results.append)
    answer(stage, device)
    settled(Guard(stage))
    assert results[0].code == "unreachable"
    assert stage.store.ending(DEVICE).wiped is not None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HostError("database-damaged", "fleet.db: database or disk is full"), "database-damaged"),
        (RuntimeError("a bug"), "internal-error"),
    ],
)
def test_a_confirmation_that_was_not_stored_is_an_error(stage, monkeypatch, error, code):
    def fails(*_) -> None:
        raise error

    device = peer(stage)
    stage.handshake(device)
    order(stage, wipe=True)
    guard = Guard(stage)
    results: list = []
    guard.apply(DEVICE, results.append)
    monkeypatch.setattr(stage.store, "record_wipe_done", fails)
    answer(stage, device)
    assert [result.code for result in results] == [code]
    assert code in stage.codes()
    assert settled(guard) == []  # its account stays: the order is not done by what is on disk


def test_a_bug_in_the_next_attempt_ends_every_wait(stage, monkeypatch):
    device = peer(stage)
    stage.handshake(device)
    order(stage, wipe=True)
    guard = Guard(stage)
    results: list = []
    guard.apply(DEVICE, results.append)
    stage.handshake(device)
    monkeypatch.setattr(guard, "_send_wipe", None)
    with pytest.raises(TypeError):
        stage.pass_time(11)
    assert results == [{"ok": True, "wiped": False, "why": "timed-out"}]


def test_a_devices_word_is_not_shown_as_it_is(stage):
    device = peer(stage)
    stage.handshake(device)
    order(stage, wipe=True)
    guard = Guard(stage)
    results: list = []
    guard.apply(DEVICE, results.append)
    answer(stage, device, {"ok": False, "error": "no\x1b[2J"})
    assert results[0].text == f"{DEVICE} refused to be wiped: unreadable"
    assert not [news for news in stage.news if "\x1b" in news.text]


# -- the broker's file ---------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path):
    made = new_fleet(tmp_path)
    pair = Pair(AUTHORITY, K[AUTHORITY], bytes(32), ())
    with Store(made.database) as store:
        for name in ("D1", "D2"):
            store.add_device(Device(name, "relay", "UNIX", "sealed", POLICY, pairs=(pair,)))
    with registry.opened(made) as accounts:
        for name in ("D1", "D2"):
            accounts.put(device_account("relay", name, "secret"))
    return made


def client(fleet, device="D1"):
    """(its entry, its role's rights), of the broker's file."""
    document = json.loads((fleet.broker / dynsec.FILE).read_text())
    username = names.device_client("relay", device)
    found = [entry for entry in document["clients"] if entry["username"] == username]
    role = [each for each in document["roles"] if each["rolename"] == f"device:relay:{device}"]
    if not found:
        assert not role
        return None, []
    return found[0], sorted((acl["acltype"], acl["topic"]) for acl in role[0]["acls"])


SAME = Device("D1", "relay", "UNIX", "sealed", POLICY)
BASE = "iot-2/type/relay/id/D1"
DOOMED = sorted(
    [("publishClientSend", f"{BASE}/evt/{verb}/fmt/cose") for verb in ("hello", "ready", "reply")]
    + [
        ("publishClientReceive", f"{BASE}/cmd/{verb}/fmt/cose")
        for verb in ("welcome", "ack", "wake", "wipe")
    ]
    + [("subscribeLiteral", f"{BASE}/cmd/{each}") for each in ("#", "+/fmt/+")]
)


def ordered(fleet, **what):
    with Store(fleet.database) as store:
        revocation.order_ending(store, "D1", **{"revoke": False, "wipe": False} | what)


def cut_off(fleet) -> bool:
    with Store(fleet.database) as store:
        return revocation.revoke_access(fleet, store, "D1")


def test_cut_off_while_the_broker_is_stopped(fleet):
    before, rights = client(fleet)
    assert len(rights) == 4
    ordered(fleet, revoke=True)
    for _ in range(2):
        assert cut_off(fleet)
        entry, now = client(fleet)
        assert entry == before | {"disabled": True}
        assert now == []  # a certificate logs in all the same
    # To be wiped after all: it may come again, with next to no rights and its own password.
    ordered(fleet, wipe=True)
    for _ in range(2):
        assert cut_off(fleet)
        assert client(fleet) == (before, DOOMED)
    assert client(fleet, "D2")[0].get("disabled") is None
    assert len(client(fleet, "D2")[1]) == 4


def test_revoke_access_without_an_order_changes_nothing(fleet):
    before = client(fleet)
    assert not cut_off(fleet)
    ordered(fleet, wipe=True)
    assert not cut_off(fleet)
    with Store(fleet.database) as store:
        assert not revocation.revoke_access(fleet, store, "D9")
    assert client(fleet) == before


@pytest.fixture
def first(fleet, monkeypatch):
    """Do this just before the registry's lock is granted, as its last holder would."""

    def arrange(act) -> None:
        opened = registry.opened

        @contextlib.contextmanager
        def late(made):
            with opened(made) as accounts:
                act(accounts)
                yield accounts

        monkeypatch.setattr(revocation, "open_registry", late)

    return arrange


def test_provisioned_again_while_it_waited_for_its_turn(fleet, first):
    """What was ordered of the old device is not done to the new one."""

    def again(accounts) -> None:
        with Store(fleet.database) as store, store.transaction():
            store.add_device(SAME)
        accounts.put(device_account("relay", "D1", "another secret"))

    def wiped() -> None:
        ordered(fleet, wipe=True)
        with Store(fleet.database) as store:
            store.record_wipe_done("D1", 5.0)

    def finished() -> bool:
        with Store(fleet.database) as store:
            return revocation.remove_wiped(fleet, store, "D1")

    first(again)
    for before, act in (
        (lambda: ordered(fleet, revoke=True), lambda: cut_off(fleet)),
        (lambda: ordered(fleet, revoke=True), lambda: revocation.enforce_endings(fleet)),
        (wiped, lambda: revocation.enforce_endings(fleet)),
        (wiped, finished),
    ):
        before()
        assert not act()
        entry, rights = client(fleet)
        assert "disabled" not in entry
        assert len(rights) == 4
        with Store(fleet.database) as store:
            assert store.find("D1") is not None


def test_a_late_revoke_is_reported(fleet, first, capsys):
    first(lambda _: Store(fleet.database).add_device(SAME))
    assert main.run(["--fleet", str(fleet.root), "revoke", "D1", "--yes"]) == 1
    said = capsys.readouterr()
    assert "not-applicable" in said.err
    assert "cut off" not in said.out


def answers(monkeypatch, code: str) -> None:
    def call(*_: object) -> None:
        raise HostError(code, "as the test wants it")

    monkeypatch.setattr(control_client, "call", call)


@pytest.mark.parametrize("code", ["timed-out", "internal-error", "database-damaged"])
def test_an_unconfirmed_revoke_still_drops_the_access(fleet, monkeypatch, capsys, code):
    answers(monkeypatch, code)
    base = ["--fleet", str(fleet.root), "revoke", "D1", "--yes"]
    assert main.run(base) == 0
    said = capsys.readouterr().out
    assert "D1 is cut off" in said
    assert f"did not confirm it ({code})" in said
    assert client(fleet)[0]["disabled"] is True
    assert main.run([*base, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "device": "D1",
        "revoked": True,
        "wiped": False,
        "waits": False,
        "unconfirmed": code,
    }


def test_a_revoke_without_a_service_needs_no_confirmation(fleet, monkeypatch, capsys):
    answers(monkeypatch, "not-serving")
    assert main.run(["--fleet", str(fleet.root), "revoke", "D1", "--yes"]) == 0
    assert "confirm" not in capsys.readouterr().out


def test_a_refused_wipe_fails_and_reports_the_revocation(fleet, monkeypatch, capsys):
    answers(monkeypatch, "command-refused")
    base = ["--fleet", str(fleet.root), "revoke", "D1", "--wipe", "--yes"]
    assert main.run(base) == 4
    said = capsys.readouterr()
    assert "D1 is cut off" in said.out
    assert "command-refused" in said.err


def test_an_unconfirmed_wipe_fails(fleet, monkeypatch, capsys):
    answers(monkeypatch, "timed-out")
    assert main.run(["--fleet", str(fleet.root), "wipe", "D1", "--yes"]) == 6
    said = capsys.readouterr()
    assert "timed-out" in said.err
    assert "cut off" not in said.out


def test_a_wipe_asks_the_broker_only_where_it_must(fleet, free_at_the_broker, monkeypatch):
    base = ["--fleet", str(fleet.root)]
    with monkeypatch.context() as patch:
        patch.setattr(revocation, "open_registry", None)
        assert main.run([*base, "wipe", "D1", "--yes"]) == 0
    assert main.run([*base, "revoke", "D1", "--yes"]) == 0
    assert main.run([*base, "wipe", "D1", "--yes"]) == 0
    assert free_at_the_broker == ["replace_rights", "disable", "enable"] * 2


def test_fleet_db_is_free_while_the_broker_is_asked(fleet, free_at_the_broker):
    ordered(fleet, revoke=True, wipe=True)
    cut_off(fleet)
    revocation.enforce_endings(fleet)
    with Store(fleet.database) as store:
        store.record_wipe_done("D1", 5.0)
        assert revocation.remove_wiped(fleet, store, "D1")
        revocation.order_ending(store, "D2", revoke=False, wipe=True)
        store.record_wipe_done("D2", 5.0)
    revocation.enforce_endings(fleet)
    assert free_at_the_broker == ["replace_rights", "disable", "enable"] * 2 + ["remove"] * 2
    with Store(fleet.database) as store:
        assert store.devices() == []


def test_a_stop_between_the_account_and_the_record(fleet, monkeypatch):
    """The record is what the next start goes by."""
    with Store(fleet.database) as store, monkeypatch.context() as patch:
        revocation.order_ending(store, "D1", revoke=False, wipe=True)
        store.record_wipe_done("D1", 5.0)

        def cut(_) -> None:
            raise KeyboardInterrupt

        patch.setattr(store, "remove_device", cut)
        with pytest.raises(KeyboardInterrupt):
            revocation.remove_wiped(fleet, store, "D1")
    assert client(fleet) == (None, [])
    revocation.enforce_endings(fleet)
    with Store(fleet.database) as store:
        assert store.find("D1") is None


def test_a_start_continues_unfinished_endings(fleet):
    # Nothing is left: the file is not touched.
    stamp = (fleet.broker / dynsec.FILE).stat().st_mtime_ns
    revocation.enforce_endings(fleet)
    ordered(fleet, wipe=True)
    revocation.enforce_endings(fleet)
    assert (fleet.broker / dynsec.FILE).stat().st_mtime_ns == stamp
    # Stopped between fleet.db and the broker.
    ordered(fleet, revoke=True)
    revocation.enforce_endings(fleet)
    assert client(fleet)[1] == DOOMED
    # Stopped between the device's answer and the end of its account.
    with Store(fleet.database) as store:
        store.record_wipe_done("D1", 5.0)
    revocation.enforce_endings(fleet)
    assert client(fleet) == (None, [])
    with Store(fleet.database) as store:
        assert store.find("D1") is None
        assert store.find("D2") is not None


def test_remove_wiped_leaves_other_accounts(fleet):
    with Store(fleet.database) as store:
        assert not revocation.remove_wiped(fleet, store, "D1")
        assert not revocation.remove_wiped(fleet, store, "D9")
        revocation.order_ending(store, "D1", revoke=False, wipe=True)
        assert not revocation.remove_wiped(fleet, store, "D1")
        store.record_wipe_done("D1", 5.0)
        # Provisioned again in the meantime.
        store.add_device(SAME)
        assert not revocation.remove_wiped(fleet, store, "D1")
        assert client(fleet)[0] is not None
        revocation.order_ending(store, "D1", revoke=False, wipe=True)
        store.record_wipe_done("D1", 5.0)
        assert revocation.remove_wiped(fleet, store, "D1")
        assert (store.find("D1"), client(fleet)) == (None, (None, []))


def test_no_new_secrets_for_it(fleet):
    from warden_host.devices import rotation

    ordered(fleet, wipe=True)
    with Store(fleet.database) as store, refused("revoked"):
        rotation.start_rotation(fleet, store, "D1", ("keys",))
