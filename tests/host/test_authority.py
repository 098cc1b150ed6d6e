"""The authority at work against mosquitto, with a device that the tests speak for."""

import json
import queue
import ssl
import threading

import paho.mqtt.client as mqtt
import pytest
from host_kit import DEVICE, PeerDevice, new_fleet, refused, topic
from warden_host import dynsec, owner, policy, registry, sending
from warden_host.engine import Engine
from warden_host.happening import Happening
from warden_host.names import Topic
from warden_host.sending import Request
from warden_host.serving import serving
from warden_host.session import Instant
from warden_host.store import App, Device, Pair, Store

POLICY = policy.record()
K = {"authority": b"a" * 32, "lights": b"l" * 32}
UID = {"authority": b"A" * 32, "lights": b"L" * 32}
SOON_S = 15


def pairs(*appids: str) -> tuple[Pair, ...]:
    return tuple(Pair(appid, K[appid], UID[appid], ("set_relay",)) for appid in appids)


SEALED = Device(DEVICE, "relay", "UNIX", "sealed", POLICY, pairs=pairs("authority", "lights"))
PLAIN = Device(
    DEVICE, "relay", "UNIX", "plain", policy.record(mode="plain"), pairs=pairs("authority")
)


# The engine alone: no network, no threads


class Stage:
    """An engine with its store, what it published and what it announced."""

    def __init__(self, folder, device: Device = SEALED) -> None:
        self.store = Store(folder / "fleet.db")
        if self.store.find(device.device) is None:
            self.store.add_device(device)
        self.sent: list[tuple[str, Topic, bytes]] = []
        self.news: list[Happening] = []
        self.now = Instant(1_700_000_000, 50.0)
        self.engine = Engine(
            self.store,
            lambda appid, where, data: self.sent.append((appid, where, data)),
            self.news.append,
            lambda: self.now,
        )

    def hear(self, event: str, data: bytes, appid="authority", fmt="cose", retain=False) -> None:
        self.engine.on_message(appid, topic("evt", event, fmt), data, retain)

    def last(self, command: str) -> bytes:
        """The newest message under this command."""
        return next(data for _, where, data in reversed(self.sent) if where.verb == command)

    def stand(self, peer: PeerDevice, appid: str = "authority") -> None:
        self.hear("hello", peer.hello(), appid)
        peer.take_welcome(self.last("welcome"))
        self.hear("ready", peer.ready(), appid)
        assert peer.open("ack", self.last("ack"))[0] == 0

    def codes(self) -> list[str]:
        return [news.code for news in self.news if news.code]

    def pass_time(self, seconds: float) -> None:
        self.now = Instant(self.now.unix + int(seconds), self.now.steady + seconds)
        self.engine.tick()


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def peer():
    return PeerDevice(K["authority"], policy.policy_hash(POLICY))


def test_events_and_incidents_are_kept(stage, peer):
    stage.stand(peer)
    stage.hear("temperature", peer.seal("temperature", [0, None, {"c": 1.5}]))
    incident = {"code": "tampered", "n": 2, "at": "set_relay"}
    stage.hear("incident", peer.seal("incident", [0, None, incident]))
    assert [entry[2:] for entry in stage.store.events(DEVICE)] == [("temperature", '{"c": 1.5}')]
    [(_, *kept)] = stage.store.incidents(DEVICE)
    assert kept == ["device", "tampered", "set_relay", 2]
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
    stage.stand(peer)
    stage.hear("incident", peer.seal("incident", [0, None, body]))
    assert stage.codes() == ["bad-body"]


def test_what_the_engine_refuses_by_name(stage):
    engine = stage.engine
    engine.on_message("authority", "elsewhere", b"", False)
    engine.on_message("authority", topic("cmd", "x"), b"", False)
    engine.on_message("authority", topic("evt", "x").replace(DEVICE, "D9"), b"", False)
    engine.on_message("authority", topic("evt", "x").replace("relay", "door"), b"", False)
    stage.hear("a", b"", retain=True)
    stage.hear("b", bytes(20000))
    stage.hear("c", b"{}", fmt="json")
    stage.hear("d", b"garbage")
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
        stage.hear(f"x{number}", b"garbage")
        stage.hear("x0", b"garbage")
    assert len(stage.store.incidents(DEVICE)) == 8
    stage.pass_time(1.5)
    stage.hear("x0", b"garbage")
    assert len(stage.store.incidents(DEVICE)) == 9


def test_applications_do_not_complain_of_each_others_messages(stage, peer):
    lights = PeerDevice(K["lights"], policy.policy_hash(POLICY), "lights")
    stage.stand(peer)
    stage.stand(lights, "lights")
    event = lights.seal("x", [0, None, {}])
    stage.hear("x", event, "authority")
    stage.hear("x", event, "lights")
    assert stage.codes() == []
    stranger = PeerDevice(b"s" * 32, bytes(32))
    stage.hear("hello", stranger.hello(), "lights")
    stage.hear("hello", stranger.hello(), "authority")
    assert stage.codes() == ["wrong-application"]


def test_a_restart_remembers_what_was_proven(stage, peer, tmp_path):
    stage.stand(peer)
    old = peer.hello_bytes
    again = Stage(tmp_path)
    again.engine.wake_all()
    assert {(appid, where.verb) for appid, where, _ in again.sent} == {
        ("authority", "wake"),
        ("lights", "wake"),
    }
    again.hear("hello", old)
    assert again.codes() == ["stale-hello"]
    again.stand(peer)
    again.store.close()


def test_a_played_back_flash_is_quarantined_until_the_owner_clears_it(stage, peer, tmp_path):
    peer.vault_gen = 7
    stage.stand(peer)
    peer.boot, peer.connect, peer.vault_gen = 2, -1, 6
    stage.hear("hello", peer.hello())
    peer.take_welcome(stage.last("welcome"))
    sent = len(stage.sent)
    stage.hear("ready", peer.ready())
    assert len(stage.sent) == sent  # no ack
    assert stage.news[-1].kind == "quarantined"
    with refused("quarantined"):
        run(stage, Request(DEVICE, "set_relay", {}))
    again = Stage(tmp_path)  # a restart changes nothing
    again.engine.wake_all()
    assert again.sent == []
    again.hear("hello", peer.hello())
    assert again.codes() == ["quarantined"]
    again.engine.clear(DEVICE)
    assert again.last("wake")
    again.stand(peer)
    assert again.store.device(DEVICE).mark.vault_gen == 6
    again.store.close()


def test_a_device_with_another_policy_is_diverged(stage, peer):
    peer.policy_hash = bytes(32)
    stage.stand(peer)
    assert stage.store.device(DEVICE).diverged
    peer.policy_hash = policy.policy_hash(POLICY)
    stage.stand(peer)
    assert not stage.store.device(DEVICE).diverged


def test_a_last_will_is_a_hint_only(stage, peer):
    stage.stand(peer)
    stage.hear("offline", b"{}", fmt="json")
    stage.hear("offline", b"{}", fmt="json")
    assert [news.kind for news in stage.news].count("left") == 1
    assert stage.engine.online() == {}
    stage.hear("x", peer.seal("x", [0, None, {}]))
    assert stage.engine.online() == {DEVICE: ["authority"]}


# Commands and forgeries


def run(stage: Stage, request: Request):
    """Starts a command; its result as soon as there is one."""
    results: list = []
    stage.engine.start(sending.job(stage.engine, request), results.append)
    if results and isinstance(results[0], Exception):
        raise results[0]
    return results


def reply(stage: Stage, peer: PeerDevice, number: int, body=None) -> None:
    stage.hear("reply", peer.seal("reply", [number, None, body or {"ok": True, "result": 1}]))


def report(stage: Stage, peer: PeerDevice, code: str) -> None:
    body = {"code": code, "n": 1, "at": "set_relay"}
    stage.hear("incident", peer.seal("incident", [0, None, body]))


def test_a_command_and_its_reply(stage, peer):
    stage.stand(peer)
    results = run(stage, Request(DEVICE, "set_relay", {"on": 1}))
    counter, (number, expiry, body) = peer.open("set_relay", stage.last("set_relay"))
    assert (counter, expiry, body) == (1, 30, {"on": 1})
    reply(stage, peer, number + 1)
    assert results == []
    reply(stage, peer, number)
    [result] = results
    assert result["ok"] is True
    assert result["reply"] == {"ok": True, "result": 1}


def test_a_command_waits_for_a_session_but_not_for_ever(stage, peer):
    results = run(stage, Request(DEVICE, "set_relay", {}, timeout_s=5))
    assert stage.sent == []
    stage.stand(peer)
    assert stage.sent[-1][1].verb == "set_relay"
    stage.pass_time(6)
    assert [error.code for error in results] == ["timed-out"]
    lonely = run(stage, Request(DEVICE, "set_relay", {}, app="lights", timeout_s=5))
    stage.pass_time(6)
    assert [error.code for error in lonely] == ["no-session"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"device": "D9"}, "device-unknown"),
        ({"app": "doors"}, "app-unknown"),
        ({"command": "ack"}, "reserved-command"),
        ({"command": "A"}, "bad-name"),
        ({"ttl_s": 0}, "bad-argument"),
        ({"ttl_s": 1 << 32}, "bad-argument"),
        ({"forge": "x"}, "bad-argument"),
        ({"args": {"a": "x" * 3000}}, "mqtt-too-large"),
        ({"args": {"a": 1 << 64}}, "bad-argument"),
    ],
)
def test_requests_that_are_refused(stage, peer, changes, code):
    stage.stand(peer)
    request = {"device": DEVICE, "command": "set_relay", "args": {}} | changes
    with refused(code):
        run(stage, Request(**request))


def test_wrong_id(stage, peer):
    stage.stand(peer)
    results = run(stage, Request(DEVICE, "set_relay", {}, forge="wrong-id"))
    with pytest.raises(AssertionError):
        peer.open("set_relay", stage.last("set_relay"))
    report(stage, peer, "wrong-application")
    assert (results[0]["ok"], results[0]["verdict"]) == (True, "wrong-application")
    run(stage, Request(DEVICE, "set_relay", {}))
    assert peer.open("set_relay", stage.last("set_relay"))[0] == 1  # no counter was spent


def test_tamper_bends_a_copy_and_sends_the_genuine_one_after(stage, peer):
    stage.stand(peer)
    results = run(stage, Request(DEVICE, "set_relay", {}, forge="tamper"))
    bent = stage.last("set_relay")
    report(stage, peer, "tampered")
    genuine = stage.last("set_relay")
    assert sum((a ^ b).bit_count() for a, b in zip(bent, genuine, strict=True)) == 1
    counter, (number, _, _) = peer.open("set_relay", genuine)
    assert counter == 1
    reply(stage, peer, number)
    assert results[0]["original"]["ok"] is True


def test_replay_is_the_first_message_behind_an_ack(stage, peer):
    stage.stand(peer)
    results = run(stage, Request(DEVICE, "set_relay", {}, forge="replay"))
    first = stage.last("set_relay")
    reply(stage, peer, peer.open("set_relay", first)[1][0])
    assert [where.verb for _, where, _ in stage.sent[-2:]] == ["ack", "set_relay"]
    assert stage.sent[-1][2] == first
    assert peer.open("ack", stage.sent[-2][2])[0] == 2
    report(stage, peer, "replayed")
    assert results[0]["verdict"] == "replayed"


def test_old_session_forces_a_new_one(stage, peer):
    stage.stand(peer)
    old_keys = dict(peer.keys)
    results = run(stage, Request(DEVICE, "set_relay", {}, forge="old-session"))
    assert stage.last("wake")
    stage.hear("hello", peer.hello())
    peer.take_welcome(stage.last("welcome"))
    stage.hear("ready", peer.ready())
    forged = stage.last("set_relay")
    new_keys, peer.keys = peer.keys, old_keys
    assert peer.open("set_relay", forged)[0] == 1
    peer.keys = new_keys
    report(stage, peer, "old-session")
    assert results[0]["verdict"] == "old-session"


def test_a_forgery_that_is_obeyed_is_said_to_be(stage, peer):
    stage.stand(peer)
    results = run(stage, Request(DEVICE, "set_relay", {}, forge="plain"))
    _, where, data = stage.sent[-1]
    assert where.fmt == "json"
    reply(stage, peer, json.loads(data)["id"])
    assert (results[0]["ok"], results[0]["verdict"]) == (False, "obeyed")


def test_nobody_waits_for_a_service_that_stops(stage, peer):
    results = run(stage, Request(DEVICE, "set_relay", {}))
    stage.engine.abandon()
    assert [error.code for error in results] == ["not-serving"]


def test_plain_mode(tmp_path):
    stage = Stage(tmp_path, PLAIN)
    ask = {
        "event": "server_uid_request",
        "deviceId": DEVICE,
        "appid": "authority",
        "req": "ab" * 16,
    }
    stage.hear("server_uid_request", json.dumps(ask).encode(), fmt="json")
    assert json.loads(stage.last("server_uid_response"))["uid"] == UID["authority"].hex()
    stage.hear("x", b"sealed", fmt="cose")
    assert stage.codes() == ["sealed-refused"]
    results = run(stage, Request(DEVICE, "set_relay", {"on": 1}))
    command = json.loads(stage.last("set_relay"))
    answer = {"event": "reply", "deviceId": DEVICE, "id": command["id"], "ok": True, "result": 2}
    stage.hear("reply", json.dumps(answer).encode(), fmt="json")
    assert results[0]["reply"] == {"ok": True, "result": 2}
    run(stage, Request(DEVICE, "set_relay", {}, forge="wrong-id"))
    assert json.loads(stage.last("set_relay"))["uid"] != UID["authority"].hex()
    for forge in ("tamper", "replay", "old-session", "plain"):
        with refused("not-applicable"):
            run(stage, Request(DEVICE, "set_relay", {}, forge=forge))
    stage.store.close()


# All of it, over TLS


class LiveDevice(PeerDevice):
    """Answers welcomes and commands over a real connection, on paho's thread."""

    def __init__(self, fleet, password: str) -> None:
        super().__init__(K["authority"], policy.policy_hash(POLICY))
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="d:relay:" + DEVICE)
        self.client.username_pw_set("d:relay:" + DEVICE, password)
        self.client.tls_set_context(ssl.create_default_context(cafile=str(fleet.keys / "ca.crt")))
        self.client.on_connect = lambda c, *_: c.subscribe(
            topic("cmd", "+").replace("+/fmt/cose", "#"), 1
        )
        self.client.on_subscribe = lambda *_: self.say("hello", self.hello())
        self.client.on_message = self.on_message
        self.client.connect("127.0.0.1", fleet.settings.broker.port)
        self.client.loop_start()

    def say(self, event: str, data: bytes) -> None:
        self.client.publish(topic("evt", event), data, qos=0)

    def on_message(self, _client, _data, message) -> None:
        verb = message.topic.split("/")[6]
        if verb == "welcome":
            self.take_welcome(message.payload)
            self.say("ready", self.ready())
        elif verb == "wake":
            self.say("hello", self.hello(wake=self.wake_nonce(message.payload)))
        elif verb != "ack":
            _, (number, _, body) = self.open(verb, message.payload)
            answer = {"ok": True, "result": body}
            self.say("reply", self.seal("reply", [number, None, answer]))

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_fleet_at_work(tmp_path):
    fleet = new_fleet(tmp_path)
    password = dynsec.device_password()
    with Store(fleet.database) as store:
        store.add_device(SEALED)
    with registry.opened(fleet) as accounts:
        accounts.put(dynsec.device_account("relay", DEVICE, password))
    news: queue.Queue[Happening] = queue.Queue()

    def heard(kind: str) -> Happening:
        while True:
            happening = news.get(timeout=SOON_S)
            if happening.kind == kind:
                return happening

    with serving(fleet, news.put) as service:
        device = LiveDevice(fleet, password)
        assert heard("session").app == "authority"
        result = service.authority.command(Request(DEVICE, "set_relay", {"on": 1}))
        assert result["reply"] == {"ok": True, "result": {"on": 1}}
        with Store(fleet.database) as store:  # an application that comes while we serve
            owner.add_app(fleet, store, App("doors", ("door",), ("open",)))
        threads = [threading.Thread(target=service.authority.reload) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON_S)
        service.check()
    with serving(fleet, news.put) as service:  # the restarted authority wakes its device
        assert heard("session").device == DEVICE
        result = service.authority.command(Request(DEVICE, "set_relay", {"on": 0}))
        assert result["ok"] is True
    device.close()
    assert not fleet.control.exists()
