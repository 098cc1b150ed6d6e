"""Which devices are online, asleep, stopped or away, from what they say and what they don't."""

from dataclasses import replace

import pytest
from engine_kit import PLAIN, POLICY, SEALED, K, Stage, reply, run
from host_kit import DEVICE, PeerDevice, refused
from warden_client.protocol.session import Instant
from warden_host.engine import commands as commands_of
from warden_host.engine.presence import ANSWER_S, KEEPALIVES, LATE_S, QUIET_S
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.protocol import policy
from warden_host.store.held import HeldCommand


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


@pytest.fixture
def peer(stage):
    made = PeerDevice(K["authority"], policy.policy_hash(POLICY))
    stage.handshake(made)
    return made


def goodbye(stage: Stage, peer: PeerDevice, **body) -> None:
    stage.receive("offline", peer.seal("offline", [0, None, body]), peer.names[3])


def presence(stage: Stage) -> str:
    return stage.engine.presences()[DEVICE][0]


def left(stage: Stage) -> list[str]:
    return [news.text for news in stage.news if news.kind == "left"]


def wakes(stage: Stage) -> int:
    return [where.verb for appid, where, _ in stage.sent if appid == "authority"].count("wake")


def test_a_device_that_sleeps_says_until_when(stage, peer):
    assert presence(stage) == "online"
    goodbye(stage, peer, state="asleep", s=600)
    assert stage.engine.presences()[DEVICE] == ("asleep", stage.now.unix + 600)
    assert stage.engine.online() == {}
    assert left(stage) == ["it sleeps for 600 s"]
    stage.pass_time(600)
    assert presence(stage) == "asleep"
    stage.handshake(peer)
    assert presence(stage) == "online"
    stage.pass_time(LATE_S * 2)
    assert presence(stage) == "online"


def test_a_sleeper_that_does_not_wake_up_is_away(stage, peer):
    goodbye(stage, peer, state="asleep", s=600)
    stage.pass_time(600 + LATE_S)
    assert presence(stage) == "asleep"
    stage.pass_time(1)
    assert presence(stage) == "away"
    assert left(stage)[1:] == ["it did not wake up when it said"]
    stage.pass_time(10_000)
    assert len(left(stage)) == 2
    # A long sleep may end later: a board's clock is not exact.
    stage.handshake(peer)
    goodbye(stage, peer, state="asleep", s=100_000)
    stage.pass_time(109_000)
    assert presence(stage) == "asleep"
    stage.pass_time(2_000)
    assert presence(stage) == "away"


def test_a_device_that_is_stopped_says_so(stage, peer):
    goodbye(stage, peer, state="stopped")
    assert (presence(stage), left(stage)) == ("stopped", ["it was stopped"])
    # What the broker says after it, for whoever reads no sealed one, takes nothing back.
    stage.receive("offline", b"{}", fmt="json")
    assert (presence(stage), len(left(stage))) == ("stopped", 1)
    stage.pass_time(100_000)
    assert wakes(stage) == 0


def test_a_forged_last_will_does_not_end_a_sleep(stage, peer):
    goodbye(stage, peer, state="asleep", s=600)
    stage.receive("offline", b"{}", fmt="json")
    stage.pass_time(10)
    assert (presence(stage), wakes(stage)) == ("asleep", 0)


def test_a_last_will_is_asked_about(stage, peer):
    stage.receive("offline", b"{}", fmt="json")
    assert presence(stage) == "away"
    stage.pass_time(3)
    assert wakes(stage) == 1
    stage.handshake(peer)
    assert presence(stage) == "online"


@pytest.mark.parametrize("body", [{}, {"state": "dead"}, {"state": "asleep", "s": -1}, {"s": 1}])
def test_a_goodbye_of_no_known_form(stage, peer, body):
    goodbye(stage, peer, **body)
    assert stage.codes()[-1] == "bad-body"
    assert presence(stage) == "online"


def test_only_the_authority_is_told(stage, peer):
    other = PeerDevice(K["lights"], policy.policy_hash(POLICY), "lights")
    other.connect = 5
    stage.handshake(other, "lights")
    goodbye(stage, other, state="stopped")
    assert presence(stage) == "online"


def test_a_goodbye_can_t_be_played_back(stage, peer):
    data = peer.seal("offline", [0, None, {"state": "stopped"}])
    stage.receive("offline", data)
    stage.handshake(peer)
    stage.receive("offline", data)
    assert presence(stage) == "online"
    assert stage.codes()[-1] == "old-session"


def test_a_sleep_outlives_the_authority(stage, peer, tmp_path):
    goodbye(stage, peer, state="asleep", s=600)
    until = stage.now.unix + 600
    stage.store.close()
    again = Stage(tmp_path)
    again.engine.wake_all()
    assert again.engine.presences()[DEVICE] == ("asleep", until)
    again.pass_time(601 + LATE_S)
    assert presence(again) == "away"
    again.store.close()
    later = Stage(tmp_path)
    later.now = later.now._replace(unix=until + int(LATE_S) + 1)
    later.engine.wake_all()
    assert presence(later) == "away"


def test_after_its_restart_the_authority_is_as_patient_with_a_sleeper(stage, peer, tmp_path):
    goodbye(stage, peer, state="asleep", s=100_000)
    seen, until = stage.now.unix, stage.now.unix + 100_000
    stage.engine.store.set_last_seen(DEVICE, seen)
    stage.store.close()
    for late, shown in ((9_000, "asleep"), (11_000, "away")):
        again = Stage(tmp_path)
        again.now = again.now._replace(unix=until + late)
        again.engine.wake_all()
        assert presence(again) == shown
        again.store.close()


def test_without_a_word_the_keepalive_decides(tmp_path):
    for keepalive, quiet in ((60, QUIET_S), (3600, KEEPALIVES * 3600)):
        record = policy.record(keepalive_s=keepalive)
        folder = tmp_path / str(keepalive)
        folder.mkdir()
        stage = Stage(folder, device(record))
        peer = PeerDevice(K["authority"], policy.policy_hash(record))
        stage.handshake(peer)
        stage.pass_time(quiet - 1)
        assert wakes(stage) == 0
        stage.pass_time(1)
        assert wakes(stage) == 1
        stage.pass_time(ANSWER_S)
        assert (presence(stage), left(stage)) == ("away", ["it gives no answer"])


def device(record):
    return replace(SEALED, policy=record)


def test_plain_mode_has_the_broker_s_word_alone(tmp_path):
    stage = Stage(tmp_path, PLAIN)
    stage.receive("x", b'{"event": "x", "deviceId": "D1", "body": {}}', fmt="json")
    assert presence(stage) == "online"
    stage.receive("offline", b"{}", fmt="json")
    assert presence(stage) == "away"


# -- sleepers -------------------------------------------------------------------------------------


def commands(stage: Stage, peer: PeerDevice) -> list[list]:
    """Return [number, expiry, body] of the commands that were sent since the last call."""
    sent, stage.sent = stage.sent, []
    found = [data for _, where, data in sent if where.verb == "set_relay"]
    return [peer.open("set_relay", data)[1] for data in found]


def hold(stage: Stage, ttl_s: int = 3600) -> dict:
    (result,) = run(stage, Request(DEVICE, "set_relay", {"on": 1}, ttl_s=ttl_s, hold=True))
    return result


def test_a_command_waits_for_a_sleeper_and_its_life_goes_on(stage, peer):
    goodbye(stage, peer, state="asleep", s=600)
    stage.sent.clear()
    result = hold(stage)
    assert (result["ok"], result["held"]) == (True, True)
    assert result["expires"] == stage.now.unix + 3600
    stage.pass_time(600)
    assert commands(stage, peer) == []
    # It goes on in the session from before its sleep, without a hand-shake.
    stage.receive("x", peer.seal("x", [0, None, {}]))
    ((number, expiry, body),) = commands(stage, peer)
    assert (number, body) == (result["id"], {"on": 1})
    assert expiry == 3600
    reply(stage, peer, number)
    answers = [news for news in stage.news if news.kind == "reply"]
    assert [(news.name, news.id) for news in answers] == [("set_relay", number)]
    assert stage.engine.held == {}


def test_and_for_a_new_session_where_the_old_one_is_lost(stage, peer):
    goodbye(stage, peer, state="asleep", s=600)
    hold(stage)
    stage.pass_time(600)
    peer.boot, peer.connect = 2, -1
    stage.receive("hello", peer.hello())
    peer.take_welcome(stage.last("welcome"))
    assert not [where for _, where, _ in stage.sent if where.verb == "set_relay"]
    stage.receive("ready", peer.ready())
    ((_, expiry, body),) = commands(stage, peer)
    assert (expiry, body) == (3000, {"on": 1})


def test_a_held_command_expires(stage, peer):
    goodbye(stage, peer, state="asleep", s=600)
    hold(stage, ttl_s=60)
    stage.pass_time(61)
    notices = [news for news in stage.news if news.kind == "notice"]
    assert [news.code for news in notices] == ["timed-out"]
    stage.sent.clear()
    stage.receive("x", peer.seal("x", [0, None, {}]))
    assert commands(stage, peer) == []
    assert stage.engine.held == {}


def test_held_commands_are_sent_one_after_the_other(stage, peer):
    """A device lets two wait while one runs: the others would be refused as busy."""
    goodbye(stage, peer, state="asleep", s=600)
    numbers = [hold(stage)["id"] for _ in range(5)]
    stage.pass_time(600)
    stage.receive("x", peer.seal("x", [0, None, {}]))
    for number in numbers:
        assert [sent[0] for sent in commands(stage, peer)] == [number]
        stage.pass_time(0.5)
        assert commands(stage, peer) == []
        reply(stage, peer, number)
        stage.pass_time(0.5)
    assert stage.engine.held == {}
    # One without a reply does not stop the next one, which is asked again where it was busy.
    goodbye(stage, peer, state="asleep", s=600)
    lost, busy = hold(stage)["id"], hold(stage)["id"]
    stage.receive("x", peer.seal("x", [0, None, {}]))
    assert [sent[0] for sent in commands(stage, peer)] == [lost]
    stage.pass_time(11)
    stage.pass_time(1)
    assert [sent[0] for sent in commands(stage, peer)] == [busy]
    reply(stage, peer, busy, {"ok": False, "error": "busy"})
    stage.pass_time(2)
    assert [sent[0] for sent in commands(stage, peer)] == [busy]


def test_a_command_that_a_long_sleep_would_expire_gets_a_new_session(stage, peer):
    """The device counts an eighth of its sleep more, so its session's age runs away from ours."""
    for held in (True, False):
        goodbye(stage, peer, state="asleep", s=36000)
        if held:
            hold(stage, ttl_s=36300)
        stage.pass_time(36000)
        stage.sent.clear()
        stage.receive("x", peer.seal("x", [0, None, {}]))
        if not held:
            run(stage, Request(DEVICE, "set_relay", {"on": 1}, ttl_s=60))
        assert (wakes(stage), commands(stage, peer)) == (1, [])
        stage.receive("x", peer.seal("x", [0, None, {}]))
        assert commands(stage, peer) == []
        stage.handshake(peer)
        ((number, expiry, _),) = commands(stage, peer)
        assert expiry == (300 if held else 60)
        reply(stage, peer, number)


def test_few_commands_are_held(stage, peer):
    goodbye(stage, peer, state="asleep", s=600)
    for _ in range(16):
        hold(stage)
    with refused("no-session"):
        hold(stage)


def restarted(stage: Stage, seconds: float) -> Stage:
    """Return what serves the same fleet after a restart."""
    stage.engine.abandon()
    stage.store.close()
    after = Stage(stage.folder)
    after.now = Instant(stage.now.unix + int(seconds), 5.0)
    commands_of.restore_held(after.engine)
    return after


def test_held_commands_outlive_a_restart(stage, peer):
    goodbye(stage, peer, state="asleep", s=600)
    short, long = hold(stage, ttl_s=60)["id"], hold(stage)["id"]
    assert [news for news in stage.news if news.code == "not-serving"] == []
    after = restarted(stage, 100)
    notices = [(news.code, news.text) for news in after.news if news.kind == "notice"]
    assert notices == [("timed-out", f"set_relay expired: {DEVICE} did not wake up before")]
    assert presence(after) == "asleep"
    peer.boot, peer.connect = 2, -1
    after.handshake(peer)
    ((number, expiry, body),) = commands(after, peer)
    assert (number, body, expiry) == (long, {"on": 1}, 3500)
    assert short != long
    # Before its reply the authority stops once more: it is not sent again.
    again = restarted(after, 1)
    ((code, text),) = [(news.code, news.text) for news in again.news if news.kind == "notice"]
    assert (code, "is not known" in text) == ("timed-out", True)
    peer.boot, peer.connect = 3, -1
    again.handshake(peer)
    assert commands(again, peer) == []
    assert again.store.held_commands() == []


def test_a_held_command_that_was_answered_is_gone(stage, peer):
    goodbye(stage, peer, state="asleep", s=600)
    number = hold(stage)["id"]
    stage.receive("x", peer.seal("x", [0, None, {}]))
    reply(stage, peer, number)
    assert stage.store.held_commands() == []


def test_no_command_is_held_for_a_device_that_was_cut_off_meanwhile(stage, peer):
    goodbye(stage, peer, state="asleep", s=600)
    hold(stage)
    with stage.store.transaction():
        stage.store.order_ending(DEVICE, True, False, 1.0)
    after = restarted(stage, 1)
    assert [news.code for news in after.news if news.kind == "notice"] == ["revoked"]
    assert after.store.held_commands() == []
    # Nor for one of its name that was provisioned since.
    after.store.add_held_command(HeldCommand(1, DEVICE, "authority", "set_relay", {}, 2e9))
    with after.store.transaction():
        after.store.add_device(SEALED)
    assert after.store.held_commands() == []


def test_what_must_not_wait_is_refused_while_a_device_sleeps(stage, peer):
    goodbye(stage, peer, state="asleep", s=600)
    with refused("no-session"):
        run(stage, Request(DEVICE, "set_relay", {}))
    with refused("no-session"):
        run(stage, Request(DEVICE, "set_relay", {}, forge="tamper"))


def test_a_message_in_a_lost_session_is_answered_by_a_wake(stage, peer, tmp_path):
    """The authority restarted while the device slept: it may sleep again within seconds."""
    goodbye(stage, peer, state="asleep", s=600)
    stage.store.close()
    again = Stage(tmp_path)
    again.engine.wake_all()
    again.pass_time(200)
    again.pass_time(15)
    again.sent.clear()
    again.receive("x", peer.seal("x", [0, None, {}]))
    assert wakes(again) == 1
    again.receive("x", peer.seal("x", [0, None, {}]))
    assert wakes(again) == 1  # and no more often than each ten seconds
    sent = [data for app, where, data in again.sent if (app, where.verb) == ("authority", "wake")]
    assert len(peer.wake_nonce(sent[-1])) == 16


def test_a_dropped_connection_counts_like_a_last_will(stage, peer):
    """A broker sends no last will for a connection that its administrator drops."""
    stage.engine.presence.record_drop(stage.engine.state(DEVICE), "another type")
    assert presence(stage) == "online"
    stage.engine.presence.record_drop(stage.engine.state(DEVICE), "relay")
    assert (presence(stage), left(stage)) == ("away", ["the broker dropped its connection"])
    assert stage.engine.online() == {}
    # No command is sealed in the old session, and the device is asked whether it is there.
    with pytest.raises(HostError) as caught:
        run(stage, Request(DEVICE, "set_relay", {"on": 1}, "authority"))
    assert caught.value.code == "no-session"
    stage.pass_time(5)
    assert wakes(stage) == 1
    stage.handshake(peer)
    assert presence(stage) == "online"


def test_a_dropped_account_of_a_sleeper_changes_nothing(stage, peer):
    goodbye(stage, peer, state="asleep", s=600)
    stage.engine.presence.record_drop(stage.engine.state(DEVICE), "relay")
    assert (presence(stage), left(stage)) == ("asleep", ["it sleeps for 600 s"])
