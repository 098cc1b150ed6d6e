"""Rotations at the host: two keys for one device, until one of them is proven."""

import pytest
from engine_kit import POLICY, SEALED, K, Stage, run
from host_kit import DEVICE, PeerDevice, new_fleet, refused
from warden_client.protocol import cose
from warden_client.protocol.freshness import NOTHING_PROVEN
from warden_client.protocol.session import WAKE_REPEAT_S
from warden_host import names
from warden_host.broker.accounts import device_account
from warden_host.broker.mosquitto import dynsec, registry
from warden_host.devices import rotation
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.fleet import pki
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.store.store import App, Device, Pair, Store

NEW = b"n" * 32
PASSWORD = "new"


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def old(stage) -> PeerDevice:
    made = PeerDevice(K[AUTHORITY], policy.policy_hash(POLICY))
    stage.handshake(made)
    return made


def start_rotation(stage: Stage, **body) -> None:
    with stage.store.transaction():
        stage.store.add_rotation(DEVICE, {"apps": {AUTHORITY: NEW}} | body)
    stage.engine.start_rotation(DEVICE)


def renewed(old: PeerDevice) -> PeerDevice:
    """The same device under its new key: it counts its hellos together."""
    made = PeerDevice(NEW, old.policy_hash)
    made.boot, made.connect, made.vault_gen = old.boot, old.connect, old.vault_gen + 1
    return made


def key(stage: Stage) -> bytes:
    return {pair.appid: pair.k for pair in stage.store.device(DEVICE).pairs}[AUTHORITY]


def test_both_keys_until_the_new_one_is_proven(stage, old):
    start_rotation(stage)
    assert key(stage) == K[AUTHORITY]
    new = renewed(old)
    old.connect += 5
    stage.handshake(old)  # a reconnect, and the old one is answered as well
    new.connect = old.connect
    stage.handshake(new)
    assert key(stage) == NEW
    # Commands go under the new key.
    run(stage, Request(DEVICE, "set_relay", {"on": 1}))
    new.open("set_relay", stage.last("set_relay"))
    # What it proved is the new pair's.
    proven = stage.store.device(DEVICE).pairs[0].proven
    assert proven.hello == (new.boot, new.connect)


def test_nothing_begins_under_the_old_key_any_more(stage, old):
    start_rotation(stage)
    new = renewed(old)
    stage.handshake(new)
    sent = len(stage.sent)
    old.connect = new.connect
    stage.receive("hello", old.hello())
    assert len(stage.sent) == sent
    assert "wrong-application" not in stage.codes()


def test_messages_in_flight_under_the_old_key(stage, old):
    start_rotation(stage)
    stage.handshake(renewed(old))
    stage.receive("temperature", old.seal("temperature", [0, None, {"c": 1}]))
    assert [news.name for news in stage.news if news.kind == "event"] == ["temperature"]
    stage.pass_time(11)
    stage.receive("temperature", old.seal("temperature", [0, None, {"c": 2}]))
    assert len([news for news in stage.news if news.kind == "event"]) == 1


def test_a_new_key_that_was_not_announced(stage, old):
    new = renewed(old)
    sent = len(stage.sent)
    stage.receive("hello", new.hello())
    assert len(stage.sent) == sent


def test_after_a_restart_both_are_known(stage, old, tmp_path):
    start_rotation(stage)
    again = Stage(tmp_path)
    new = renewed(old)
    again.handshake(new)
    assert key(again) == NEW
    again.store.close()
    third = Stage(tmp_path)
    new.boot, new.connect = 2, -1
    third.handshake(new)
    third.store.close()


def woken_with(stage: Stage) -> list[bytes]:
    """Return the key IDs of the wakes that were sent."""
    return [cose.claimed_kid(data) for _, where, data in stage.sent if where.verb == "wake"]


def test_a_device_that_has_the_old_key_alone_is_not_woken_with_the_new_one(stage, old, tmp_path):
    """It would report each such wake, as `wrong-application`."""
    start_rotation(stage)
    again = Stage(tmp_path)
    again.engine.wake_all()
    old.connect += 1
    again.handshake(old)
    for _ in range(4):
        again.pass_time(WAKE_REPEAT_S)
    lights = PeerDevice(K["lights"], old.policy_hash, "lights")
    assert set(woken_with(again)) == {old.kid, lights.kid}
    again.store.close()


def test_a_device_that_does_not_answer_is_woken_with_both_keys(stage, old, tmp_path):
    start_rotation(stage)
    again = Stage(tmp_path)
    again.engine.wake_all()
    new = renewed(old).kid
    assert new not in woken_with(again)
    again.pass_time(WAKE_REPEAT_S)
    assert new in woken_with(again)
    again.store.close()


def test_the_deadline_at_this_end(stage, old):
    start_rotation(stage, deadline=60)
    stage.store.confirm_rotation(DEVICE, stage.now.unix)
    stage.engine.start_rotation(DEVICE)
    stage.pass_time(59)
    assert key(stage) == K[AUTHORITY]
    stage.pass_time(1)
    assert key(stage) == NEW
    # The old key opens nothing here any more.
    sent = len(stage.sent)
    stage.receive("hello", old.hello())
    assert len(stage.sent) == sent
    stage.handshake(renewed(old))


def test_a_deadline_counts_once_the_device_has_it(stage, old):
    start_rotation(stage, deadline=60)
    stage.pass_time(1000)
    assert key(stage) == K[AUTHORITY]
    stage.store.confirm_rotation(DEVICE, stage.now.unix)
    stage.store.confirm_rotation(DEVICE, stage.now.unix + 500)  # the first answer counts
    assert stage.store.rotation(DEVICE).expires == stage.now.unix + 60


def test_a_higher_generation_without_a_rotation(stage):
    with refused("not-applicable"):
        stage.engine.start_rotation(DEVICE)


def test_message_numbers_increase(stage):
    for number in (1, 2, 3):
        with stage.store.transaction():
            made = stage.store.add_rotation(DEVICE, {"password": b"x"})
        assert made.body["id"] == number
        assert stage.store.rotation(DEVICE).body == made.body
        stage.store.end_rotation(DEVICE)
        assert stage.store.rotation(DEVICE) is None


def test_no_secret_in_what_is_shown(stage):
    with stage.store.transaction():
        made = stage.store.add_rotation(DEVICE, {"password": b"a secret"})
    assert "secret" not in repr(made)


# -- its course ----------------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path):
    made = new_fleet(tmp_path)
    pair = Pair(AUTHORITY, K[AUTHORITY], bytes(32), (), NOTHING_PROVEN)
    with Store(made.database) as store:
        for name, mode in (("D1", "sealed"), ("P1", "plain")):
            record = policy.record(mode=mode)
            store.add_device(Device(name, "relay", "UNIX", mode, record, pairs=(pair,)))
    with registry.opened(made) as accounts:
        accounts.put(device_account("relay", "D1", "old"))
    return made


def answers(*pending):
    """An `ask` that says these in turn."""
    left = list(pending)
    asked = []

    def ask(command, body):
        asked.append((command, body))
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return (
            one if isinstance(one, dict) else {"ok": True, "reply": {"result": {"pending": one}}}
        )

    ask.asked = asked
    return ask


def course(fleet, ask, *parts, timeout_s=30.0, **settings):
    told = []
    with Store(fleet.database) as store:
        begun = rotation.start_rotation(fleet, store, "D1", parts, **settings)
        try:
            rotation.complete_rotation(fleet, store, begun, ask, told.append, timeout_s)
        finally:
            told.append(store.rotation("D1"))
    return begun, told


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(rotation, "_PAUSE_S", 0.0)


def test_begin_refuses(fleet):
    with Store(fleet.database) as store:
        for code, arguments in (
            ("device-unknown", ("D9", ("keys",))),
            ("not-applicable", ("P1", ("keys",))),
            ("bad-argument", ("D1", ())),
            ("bad-argument", ("D1", ("keys",), 59)),
            ("bad-argument", ("D1", ("release",), 60)),
            ("release-key", ("D1", ("release",))),
            ("bad-argument", ("D1", ("keys",), 30 * 24 * 3600 + 1)),
        ):
            with refused(code):
                rotation.start_rotation(fleet, store, *arguments)
            assert store.rotation("D1") is None


@pytest.mark.parametrize(
    ("auth", "hints"),
    [
        ("token", ("`warden token T1`",)),
        ("certificate", ("`warden cert renew T1`",)),
        ("certificate-and-token", ("`warden token T1`", "`warden cert renew T1`")),
        ("certificate-or-token", ("`warden token T1`", "`warden cert renew T1`")),
    ],
)
def test_a_device_without_a_password(fleet, auth, hints):
    with Store(fleet.database) as store:
        record = policy.record(auth=auth)
        store.add_device(Device("T1", "relay", "UNIX", "sealed", record, pairs=()))
        with pytest.raises(HostError) as error:
            rotation.start_rotation(fleet, store, "T1", ("password",))
        assert error.value.code == "not-applicable"
        assert all(hint in str(error.value.hint) for hint in hints)
        assert store.rotation("T1") is None


def test_the_broker_comes_after_the_device(fleet):
    def account():
        document = (fleet.broker / dynsec.FILE).read_text()
        return document[document.index(names.device_client("relay", "D1")) :]

    before = account()
    begun, told = course(fleet, answers(["password"], ["password"], []), "password")
    assert account() != before
    assert told[-1] is None
    assert begun.body["password"].decode() not in account()


def test_nothing_at_the_broker_before_the_device_has_it(fleet):
    before = (fleet.broker / dynsec.FILE).read_bytes()
    away = [HostError("timed-out", "away")] * 3
    with refused("timed-out"):
        course(fleet, answers(*away), "password", timeout_s=0.0)
    assert (fleet.broker / dynsec.FILE).read_bytes() == before


def test_a_device_that_refuses_keeps_the_old_ones(fleet):
    no = {"ok": False, "reply": {"error": "bad-body"}}
    with refused("command-refused"):
        course(fleet, answers(no), "keys")
    with Store(fleet.database) as store:
        assert store.rotation("D1") is None
        assert store.device("D1").pairs[0].k == K[AUTHORITY]


@pytest.mark.parametrize("code", ["busy", "expired", "old-session"])
def test_a_bad_moment_is_no_refusal(fleet, code):
    later = {"ok": False, "reply": {"error": code}}
    begun, told = course(fleet, answers(later, ["app_authority"], later, []), "keys")
    assert told[-1] is None
    assert told[-2].startswith("all parts are proven")
    # One that has no better moment is named, and the order is kept.
    with pytest.raises(HostError) as caught:
        course(fleet, answers(later), "keys", timeout_s=-1.0)
    assert caught.value.code == "timed-out"
    assert f"(last: {code})" in caught.value.text
    with Store(fleet.database) as store:
        assert store.rotation("D1").body["id"] == begun.body["id"] + 1


def test_parts_that_the_device_accepted_are_kept(fleet):
    """It may be about to prove the new key: without it no session would be possible."""
    no = {"ok": False, "reply": {"error": "unexpected"}}
    for last, code in (
        (no, "command-refused"),
        (HostError("mqtt-too-large", "2048 bytes at most"), "mqtt-too-large"),
    ):
        with refused(code):
            course(fleet, answers(["app_authority"], last), "keys")
        with Store(fleet.database) as store:
            left = store.rotation("D1")
            assert left.taken is not None
            assert left.apps[AUTHORITY] != K[AUTHORITY]


def test_a_refusal_ends_no_other_rotation(fleet):
    """This one was ended and the next begun while the device was being asked."""
    with Store(fleet.database) as store:
        begun = rotation.start_rotation(fleet, store, "D1", ("keys",))

        def ask(*_):
            store.end_rotation("D1")
            rotation.start_rotation(fleet, store, "D1", ("password",))
            return {"ok": False, "reply": {"error": "unexpected"}}

        with refused("command-refused"):
            rotation.complete_rotation(fleet, store, begun, ask, lambda _: None, 30.0)
        assert store.rotation("D1").body["id"] == begun.body["id"] + 1


def test_a_devices_word_is_not_shown_as_it_is(fleet):
    for word in ("\x1b[2Jbusy", "x" * 41, 7, None, ["busy"]):
        with pytest.raises(HostError) as caught:
            course(fleet, answers({"ok": False, "reply": {"error": word}}), "keys")
        assert caught.value.text == "D1 refused its new secrets: unreadable"


def test_another_form_of_answer(fleet):
    for result in (None, {"pending": "x"}, {"pending": [1]}, {}):
        with refused("bad-body"):
            course(fleet, answers({"ok": True, "reply": {"result": result}}), "keys")


def test_taken_up_where_it_stopped(fleet):
    with refused("timed-out"):
        course(fleet, answers(["app_authority"]), "keys", timeout_s=-1.0)
    with Store(fleet.database) as store:
        left = store.rotation("D1")
    assert left.taken is not None
    begun, told = course(fleet, answers([]), "password")
    assert begun.body == left.body
    assert told[-1] is None


def test_new_backup(fleet):
    live, backup = pki.load_pins(fleet.keys)
    pki.renew_backup(fleet.keys)
    assert pki.load_pins(fleet.keys)[0] == live
    assert pki.load_pins(fleet.keys)[1] != backup
    begun, _ = course(fleet, answers(["trust"], []), "pins")
    assert begun.body["trust"][1] == list(pki.load_pins(fleet.keys))


def test_a_password_for_an_unknown_account(fleet):
    with refused("broker-refused"), registry.opened(fleet) as accounts:
        accounts.set_password("d:relay:nobody", PASSWORD)


def test_release_keys(fleet):
    from warden_host.release import signing_key

    made = signing_key.make(fleet, "daily", "p256", b"a passphrase")
    begun, told = course(fleet, answers([]), "release")
    vendor, class_id, keys = begun.body["release"]
    assert keys == [signing_key.material(made.public)]
    assert class_id == signing_key.class_id(vendor, "relay")
    assert told == ["the device takes releases of the present keys alone", None]
    # Beside others it has its say, and they theirs; and they may have a deadline.
    begun, told = course(fleet, answers(["app_authority"], []), "keys", "release", deadline_s=60)
    assert begun.body.keys() == {"id", "apps", "release", "deadline"}
    assert told[0] == "the device takes releases of the present keys alone"
    assert told[-2].startswith("all parts are proven")


def test_an_order_that_never_fits_is_dropped(fleet):
    """Four large keys, a device of small messages: kept, it would block every later rotation."""
    with refused("mqtt-too-large"):
        course(fleet, answers(HostError("mqtt-too-large", "2048 bytes at most")), "keys")
    with Store(fleet.database) as store:
        assert store.rotation("D1") is None


def renewed_by(fleet, ask, *parts, deadline_s=None):
    told = []
    with Store(fleet.database) as store:
        rotation.rotate(fleet, store, "D1", parts, ask, told.append, 30.0, deadline_s)
        assert store.rotation("D1") is None
    return told


def test_parts_that_an_unfinished_rotation_lacks_follow(fleet):
    """Otherwise a leaked release key would stay valid for one more release."""
    from warden_host.release import signing_key

    signing_key.make(fleet, "lost", "p256", b"a passphrase")
    with refused("timed-out"):
        course(fleet, answers(["app_authority"]), "keys", "release", timeout_s=-1.0)
    # One that was begun with the key of before has the key of before in it.
    (fleet.keys / "release" / "lost.pub").unlink()
    made = signing_key.make(fleet, "found", "p256", b"a passphrase")
    ask = answers([], ["password"], [])
    told = renewed_by(fleet, ask, "keys", "release", "password", deadline_s=3600)
    bodies = [body for _, body in ask.asked]
    assert bodies[0].keys() == {"id", "apps", "release"}
    assert bodies[-1].keys() == {"id", "release", "password", "deadline"}
    assert bodies[-1]["release"][2] == [signing_key.material(made.public)]
    assert told[0] == "an unfinished rotation with another deadline comes first"
    assert "now the parts that it left out: release, password" in " ".join(told)


def test_the_same_order_again_is_one_rotation(fleet):
    with refused("timed-out"):
        course(fleet, answers(["app_authority"]), "keys", "pins", timeout_s=-1.0)
    ask = answers([])
    renewed_by(fleet, ask, "keys", "pins")
    assert len(ask.asked) == 1


def test_new_secrets_wait_for_a_backup(stage, old):
    """Proved before a backup has them, they would orphan the device of a restored fleet."""
    number = stage.store.begin_backup()
    stage.store.complete_backup(number, b"pins")
    with stage.store.transaction():
        stage.store.add_rotation(DEVICE, {"apps": {AUTHORITY: NEW}})
        stage.store.await_backup(DEVICE)
    begun = stage.store.begin_backup()  # before the device confirmed it
    with stage.store.transaction():
        stage.store.confirm_rotation(DEVICE, 1.0)
        stage.store.await_backup(DEVICE)
    stage.engine.start_rotation(DEVICE)
    new = renewed(old)
    for done in (None, begun):
        if done:
            stage.store.complete_backup(done, b"pins")
        sent = len(stage.sent)
        stage.engine.start_rotation(DEVICE)
        new.connect += 1
        stage.receive("hello", new.hello())
        assert len(stage.sent) == sent
        assert stage.store.waiting_for_backup() == [DEVICE]
    stage.store.complete_backup(stage.store.begin_backup(), b"pins")
    stage.engine.start_rotation(DEVICE)
    stage.handshake(new)
    assert key(stage) == NEW
    stage.store.end_rotation(DEVICE)
    assert stage.store.waiting_for_backup() == []


def test_after_a_compromise_no_backup_is_waited_for(tmp_path):
    fleet = new_fleet(tmp_path)
    with Store(fleet.database) as store:
        store.add_device(SEALED)
        store.complete_backup(store.begin_backup(), b"".join(pki.load_pins(fleet.keys)))
        rotation.start_rotation(fleet, store, DEVICE, ("password", "keys"), 3600)
        assert not store.waits_for_backup(DEVICE)
        store.end_rotation(DEVICE)
        rotation.start_rotation(fleet, store, DEVICE, ("pins",))
        store.end_rotation(DEVICE)
        pki.renew_backup(fleet.keys)
        with refused("backup-due"):
            rotation.start_rotation(fleet, store, DEVICE, ("pins",))
        rotation.start_rotation(fleet, store, DEVICE, ("pins",), 3600)


def test_a_key_that_only_another_party_sees_proven_is_in_force_as_well(stage, monkeypatch):
    """An exported application has the session under its new key, not the authority."""
    monkeypatch.setattr(rotation, "_PAUSE_S", 0)
    stage.store.add_app(App("lights", ("relay",), ("set_relay",)))
    stage.store.set_exported("lights", 1.0)
    with stage.store.transaction():
        made = stage.store.add_rotation(DEVICE, {"apps": {"lights": NEW}})
    pending, said = iter([["app_lights"], ["app_lights"], []]), []

    def ask(_verb, _body):
        return {"ok": True, "reply": {"result": {"pending": next(pending)}}}

    rotation.complete_rotation(None, stage.store, made, ask, said.append, 60)
    keys = {pair.appid: pair.k for pair in stage.store.device(DEVICE).pairs}
    assert keys == {AUTHORITY: K[AUTHORITY], "lights": NEW}
    assert len([text for text in said if "`warden app export lights`" in text]) == 1
