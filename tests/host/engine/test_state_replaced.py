"""A rotation's messages that cross between applications, and a state that is loaded anew."""

import time

import pytest
from engine_kit import POLICY, SEALED, K, Stage, reply, run
from host_kit import DEVICE, PeerDevice
from warden_host.engine import restriction
from warden_host.engine.held import MOST
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.store.reactions import QUARANTINE, Reaction

LIGHTS = "lights"
NEW = {AUTHORITY: b"n" * 32, LIGHTS: b"m" * 32}
HASH = policy.policy_hash(POLICY)


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.store.close()


def rotated(stage: Stage) -> tuple[PeerDevice, PeerDevice]:
    """Return an application's device end under its old and its new key, which was just proven."""
    old, new = (PeerDevice(k, HASH, LIGHTS) for k in (K[LIGHTS], NEW[LIGHTS]))
    stage.handshake(old, LIGHTS)
    with stage.store.transaction():
        stage.store.add_rotation(DEVICE, {"apps": NEW})
    stage.engine.start_rotation(DEVICE)
    new.connect = old.connect
    stage.handshake(new, LIGHTS)
    return old, new


def is_up(stage: Stage, appid: str) -> bool:
    return stage.engine.state(DEVICE).sessions[appid].is_up


def test_a_late_hello_under_a_replaced_key_of_another_application(stage):
    """The authority's link brings it behind the ready that the application's link brought."""
    old, new = rotated(stage)
    state = stage.engine.state(DEVICE)
    old.connect = new.connect
    stage.receive("hello", old.hello())
    assert "wrong-application" not in stage.codes()
    assert stage.engine.state(DEVICE) is state
    assert is_up(stage, LIGHTS)


def test_a_late_event_under_a_replaced_key_of_another_application(stage):
    old, _ = rotated(stage)
    stage.receive("temperature", old.seal("temperature", [0, None, {"c": 1}]))
    assert stage.codes() == []


def test_a_strangers_hello_after_a_rotation_ends_no_session(stage):
    rotated(stage)
    stage.receive("hello", PeerDevice(b"x" * 32, HASH).hello())
    assert stage.codes()[-1] == "wrong-application"
    assert is_up(stage, LIGHTS)


def command(stage: Stage) -> list:
    return run(stage, Request(DEVICE, "set_relay", {"on": 1}, AUTHORITY, timeout_s=60.0))


def sent(stage: Stage) -> list[bytes]:
    return [data for _, where, data in stage.sent if where.verb == "set_relay"]


def test_a_command_waits_for_the_session_of_the_state_that_replaced_its_own(stage):
    results = command(stage)
    stage.engine.unload(DEVICE)
    peer = PeerDevice(K[AUTHORITY], HASH)
    stage.handshake(peer)
    assert not results
    assert peer.open("set_relay", sent(stage)[-1])


def test_so_does_one_that_was_given_in_a_handshake(stage):
    """It looks again when a welcome's time is over, or a session stands before."""
    peer = PeerDevice(K[AUTHORITY], HASH)
    stage.receive("hello", peer.hello())
    results = command(stage)
    stage.engine.unload(DEVICE)
    stage.pass_time(6)
    assert not results and not sent(stage)
    stage.handshake(peer)
    assert not results
    assert peer.open("set_relay", sent(stage)[-1])


def quarantine(stage: Stage, unloaded: bool) -> None:
    reaction = Reaction(QUARANTINE, "tampered", "why", time.time())
    with stage.store.transaction():
        stage.store.set_reaction(DEVICE, reaction)
    if unloaded:
        stage.engine.unload(DEVICE)
    else:
        restriction.follow(stage.engine.state(DEVICE), stage.store.device(DEVICE))


@pytest.mark.parametrize("unloaded", [False, True])
def test_a_device_that_is_put_in_quarantine_meanwhile_gets_no_command(stage, unloaded):
    results = command(stage)
    quarantine(stage, unloaded)
    stage.handshake(PeerDevice(K[AUTHORITY], HASH))
    assert [one.code for one in results] == ["quarantined"]
    assert not sent(stage)


def put_to_sleep(stage: Stage) -> PeerDevice:
    peer = PeerDevice(K[AUTHORITY], HASH)
    stage.handshake(peer)
    stage.receive("offline", peer.seal("offline", [0, None, {"state": "asleep", "s": 600}]))
    return peer


def hold(stage: Stage) -> list:
    return run(stage, Request(DEVICE, "set_relay", {"on": 1}, AUTHORITY, 3600, hold=True))


def notices(stage: Stage) -> list[str]:
    return [news.code for news in stage.news if news.kind == "notice" and news.code]


def test_a_held_command_is_sent_in_the_session_of_the_state_that_replaced_its_own(stage):
    peer = put_to_sleep(stage)
    first, second = hold(stage), hold(stage)
    stage.engine.unload(DEVICE)
    stage.handshake(peer)
    for (result,) in (first, second):
        assert peer.open("set_relay", sent(stage)[-1])[1][0] == result["id"]
        reply(stage, peer, result["id"])
        stage.pass_time(0.5)
    assert len(sent(stage)) == 2
    assert not stage.engine.held and not stage.store.held_commands()
    assert notices(stage) == []


def test_what_a_sleeper_has_waiting_counts_on_in_a_state_that_is_loaded_anew(stage):
    put_to_sleep(stage)
    for _ in range(MOST):
        hold(stage)
    stage.engine.unload(DEVICE)
    with pytest.raises(HostError, match=f"{MOST} commands wait already"):
        hold(stage)


@pytest.mark.parametrize("unloaded", [False, True])
def test_a_sleeper_that_is_put_in_quarantine_gets_no_held_command(stage, unloaded):
    peer = put_to_sleep(stage)
    hold(stage)
    quarantine(stage, unloaded)
    stage.handshake(peer)
    assert notices(stage) == ["quarantined"]
    assert not sent(stage) and not stage.store.held_commands()


def test_the_held_command_of_a_device_that_is_gone_ends(stage):
    put_to_sleep(stage)
    hold(stage)
    stage.store.remove_device(DEVICE)
    stage.engine.unload(DEVICE)
    stage.pass_time(3601)
    assert not stage.engine.held and not stage.store.held_commands()


def test_a_device_that_is_provisioned_anew_gets_no_command_that_was_held_for_it_before(stage):
    peer = put_to_sleep(stage)
    hold(stage)
    with stage.store.transaction():
        stage.store.add_device(SEALED)
    stage.engine.unload(DEVICE)
    stage.handshake(peer)
    assert notices(stage) == ["device-unknown"]
    assert not sent(stage) and not stage.engine.held


def test_a_forgery_asks_for_an_old_session_in_the_state_that_replaced_its_own(stage):
    peer = PeerDevice(K[AUTHORITY], HASH)
    stage.handshake(peer)
    request = Request(DEVICE, "set_relay", {"on": 1}, AUTHORITY, forge="old-session")
    results = run(stage, request)
    stage.engine.unload(DEVICE)
    stage.handshake(peer)
    assert not sent(stage) and not results  # the first session of this state
    stage.sent.clear()
    old = dict(peer.keys)
    stage.handshake(peer)
    (data,) = sent(stage)
    peer.keys = old
    assert peer.open("set_relay", data)
