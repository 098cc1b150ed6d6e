"""The authority's engine: records, refusals, and its state after a restart."""

import pytest
from engine_kit import POLICY, K, Stage, run
from host_kit import DEVICE, PeerDevice, refused, topic
from warden_host.engine.presence import ANSWER_S, QUIET_S
from warden_host.engine.request import Request
from warden_host.protocol import policy


def test_events_and_incidents_are_kept(stage, peer):
    stage.handshake(peer)
    stage.receive("temperature", peer.seal("temperature", [0, None, {"c": 1.5}]))
    incident = {"code": "tampered", "n": 2, "at": "set_relay"}
    stage.receive("incident", peer.seal("incident", [0, None, incident]))
    assert [entry[2:] for entry in stage.store.events(DEVICE)] == [("temperature", '{"c": 1.5}')]
    [kept] = stage.store.incidents(DEVICE)
    assert list(kept[1:5]) == ["device", "tampered", "set_relay", 2]
    assert [news.kind for news in stage.news] == ["came", "session", "event", "incident"]
    assert stage.engine.online() == {DEVICE: ["authority"]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"code": "Tampered!", "n": 1, "at": ""},
        {"code": "tampered", "n": 0, "at": ""},
        {"code": "tampered", "n": True, "at": ""},
        {"code": "tampered", "n": 1, "at": "\x1b[2J"},
    ],
)
def test_a_malformed_incident_is_one(stage, peer, body):
    stage.handshake(peer)
    stage.receive("incident", peer.seal("incident", [0, None, body]))
    assert stage.codes() == ["bad-body"]


def test_errors_of_the_engine_keep_their_codes(stage):
    engine = stage.engine
    engine.on_message("authority", "elsewhere", b"", False)
    engine.on_message("authority", topic("cmd", "x"), b"", False)
    engine.on_message("authority", topic("evt", "x").replace(DEVICE, "D9"), b"", False)
    engine.on_message("authority", topic("evt", "x").replace("relay", "door"), b"", False)
    stage.receive("a", b"", retain=True)
    stage.receive("b", bytes(20000))
    stage.receive("c", b"{}", fmt="json")
    stage.receive("d", b"garbage")
    assert stage.codes() == [
        "bad-topic",
        "bad-topic",
        "device-unknown",
        "bad-topic",
        "retained",
        "mqtt-too-large",
        "plain-refused",
        "cbor-malformed",
    ]


def test_a_flood_of_refusals_is_kept_once_a_second(stage):
    for number in range(100):
        stage.receive(f"x{number}", b"garbage")
        stage.receive("x0", b"garbage")
    assert len(stage.store.incidents(DEVICE)) == 8
    stage.pass_time(1.5)
    stage.receive("x0", b"garbage")
    kept = stage.store.incidents(DEVICE)
    assert [each.n for each in kept] == [1] * 7 + [2]
    assert kept[-1].at == "x0"


def test_applications_do_not_complain_of_each_others_messages(stage, peer):
    lights = PeerDevice(K["lights"], policy.policy_hash(POLICY), "lights")
    stage.handshake(peer)
    stage.handshake(lights, "lights")
    event = lights.seal("x", [0, None, {}])
    stage.receive("x", event, "authority")
    stage.receive("x", event, "lights")
    assert stage.codes() == []
    stranger = PeerDevice(b"s" * 32, bytes(32))
    stage.receive("hello", stranger.hello(), "lights")
    stage.receive("hello", stranger.hello(), "authority")
    assert stage.codes() == ["wrong-application"]


def test_a_restart_remembers_what_was_proven(stage, peer, tmp_path):
    stage.handshake(peer)
    old = peer.hello_bytes
    again = Stage(tmp_path)
    again.engine.wake_all()
    assert {(appid, where.verb) for appid, where, _ in again.sent} == {
        ("authority", "wake"),
        ("lights", "wake"),
    }
    again.receive("hello", old)
    assert again.codes() == ["stale-hello"]
    again.handshake(peer)
    again.store.close()


def test_a_played_back_flash_is_quarantined_until_the_owner_clears_it(stage, peer, tmp_path):
    peer.vault_gen = 7
    stage.handshake(peer)
    peer.boot, peer.connect, peer.vault_gen = 2, -1, 6
    stage.receive("hello", peer.hello())
    peer.take_welcome(stage.last("welcome"))
    sent = len(stage.sent)
    stage.receive("ready", peer.ready())
    assert len(stage.sent) == sent  # no ack
    assert stage.news[-1].kind == "quarantined"
    with refused("quarantined"):
        run(stage, Request(DEVICE, "set_relay", {}))
    again = Stage(tmp_path)  # a restart changes nothing
    again.engine.wake_all()
    assert again.sent == []
    again.receive("hello", peer.hello())
    assert again.codes() == ["quarantined"]
    again.engine.clear(DEVICE)
    assert again.last("wake")
    again.handshake(peer)
    assert again.store.device(DEVICE).mark.vault_gen == 6
    again.store.close()


def test_a_device_with_another_policy_is_diverged(stage, peer):
    peer.policy_hash = bytes(32)
    stage.handshake(peer)
    assert stage.store.device(DEVICE).diverged
    peer.policy_hash = policy.policy_hash(POLICY)
    stage.handshake(peer)
    assert not stage.store.device(DEVICE).diverged


def test_a_last_will_is_a_hint_only(stage, peer):
    stage.handshake(peer)
    stage.receive("offline", b"{}", fmt="json")
    stage.receive("offline", b"{}", fmt="json")
    assert [news.kind for news in stage.news].count("left") == 1
    assert stage.engine.online() == {}
    stage.receive("x", peer.seal("x", [0, None, {}]))
    assert stage.engine.online() == {DEVICE: ["authority"]}


def wakes(stage: Stage) -> int:
    return [where.verb for appid, where, _ in stage.sent if appid == "authority"].count("wake")


def test_a_device_that_is_quiet_for_long_is_asked_whether_it_is_there(stage, peer):
    """A last will can be lost, and a DISCONNECT cancels it: the device does not stay online."""
    stage.handshake(peer)
    stage.pass_time(QUIET_S - 1)
    assert wakes(stage) == 0
    stage.pass_time(1)
    assert wakes(stage) == 1
    stage.handshake(peer)  # it answers
    stage.pass_time(ANSWER_S)
    assert stage.engine.online() == {DEVICE: ["authority"]}
    stage.pass_time(QUIET_S - ANSWER_S)
    stage.pass_time(ANSWER_S - 1)
    assert stage.engine.online() == {DEVICE: ["authority"]}
    stage.pass_time(1)
    assert stage.engine.online() == {}
    left = [news for news in stage.news if news.kind == "left"]
    assert [news.text for news in left] == ["it gives no answer"]
    stage.handshake(peer)
    assert stage.engine.online() == {DEVICE: ["authority"]}


def test_a_device_that_speaks_is_not_asked(stage, peer):
    stage.handshake(peer)
    for _ in range(4):
        stage.pass_time(QUIET_S / 2)
        stage.receive("x", peer.seal("x", [0, None, {}]))
    assert wakes(stage) == 0
