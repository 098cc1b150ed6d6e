"""Send commands and forgeries, step by step, to an independent model of a device."""

import json
import re
from pathlib import Path

import pytest
from engine_kit import PLAIN, POLICY, UID, K, Stage, reply, report, run
from host_kit import DEVICE, PeerDevice, refused
from warden_host.engine.request import REPORT_PAUSE_S, Request
from warden_host.errors import HostError
from warden_host.protocol.policy import policy_hash
from warden_host.store.store import App


def test_a_command_and_its_reply(stage, peer):
    stage.handshake(peer)
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
    stage.handshake(peer)
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
    stage.handshake(peer)
    request = {"device": DEVICE, "command": "set_relay", "args": {}} | changes
    with refused(code):
        run(stage, Request(**request))


def test_the_database_is_not_asked_at_each_command_for_exported_applications(stage, peer):
    """It would take as long as sealing the command does; Authority.reload() clears the answer."""
    stage.handshake(peer)
    statements: list[str] = []
    stage.store._db.set_trace_callback(statements.append)
    for _ in range(3):
        run(stage, Request(DEVICE, "set_relay", {}))
    assert sum("app_exports" in statement for statement in statements) == 1
    stage.store.add_app(App("lights", (), ()))
    stage.store.set_exported("lights", 1.0)
    stage.engine.exported.cache_clear()
    with refused("not-applicable"):
        run(stage, Request(DEVICE, "set_relay", {}, app="lights"))


def test_deadlines_go_on_while_no_event_can_be_written(stage, peer):
    stage.handshake(peer)
    results = run(stage, Request(DEVICE, "set_relay", {}, timeout_s=10))
    pages = stage.store._db.execute("PRAGMA page_count").fetchone()[0]
    stage.store._db.execute(f"PRAGMA max_page_count = {pages}")
    body = {"text": "y" * 8000}
    for _ in range(11):
        stage.receive("note", peer.seal("note", [0, None, body]))
        with refused("database-damaged"):
            stage.pass_time(1)
    assert [error.code for error in results] == ["timed-out"]


def test_wrong_id(stage, peer):
    stage.handshake(peer)
    results = run(stage, Request(DEVICE, "set_relay", {}, forge="wrong-id"))
    with pytest.raises(AssertionError):
        peer.open("set_relay", stage.last("set_relay"))
    report(stage, peer, "wrong-application")
    assert (results[0]["ok"], results[0]["verdict"]) == (True, "wrong-application")
    run(stage, Request(DEVICE, "set_relay", {}))
    assert peer.open("set_relay", stage.last("set_relay"))[0] == 1  # no counter was spent


def test_a_second_forgery_waits_for_a_report_that_the_device_holds_back(stage, peer, repo: Path):
    stage.handshake(peer)
    source = (repo / "lib" / "warden" / "session" / "incident.py").read_text()
    pause_s = int(re.search(r"^REPEAT_MS = const\((\d+)\)$", source, re.MULTILINE)[1]) / 1000
    assert pause_s == REPORT_PAUSE_S
    results = run(stage, Request(DEVICE, "set_relay", {}, forge="wrong-id", timeout_s=5))
    stage.pass_time(pause_s + 4)
    report(stage, peer, "wrong-application")
    assert results[0]["verdict"] == "wrong-application"
    results = run(stage, Request(DEVICE, "set_relay", {}, forge="wrong-id", timeout_s=5))
    stage.pass_time(pause_s + 6)
    assert results[0].code == "timed-out"
    assert "in 15 s" in results[0].text


def test_tamper_bends_a_copy_and_sends_the_genuine_one_after(stage, peer):
    stage.handshake(peer)
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
    stage.handshake(peer)
    results = run(stage, Request(DEVICE, "set_relay", {}, forge="replay"))
    first = stage.last("set_relay")
    reply(stage, peer, peer.open("set_relay", first)[1][0])
    assert [where.verb for _, where, _ in stage.sent[-2:]] == ["ack", "set_relay"]
    assert stage.sent[-1][2] == first
    assert peer.open("ack", stage.sent[-2][2])[0] == 2
    report(stage, peer, "replayed")
    assert results[0]["verdict"] == "replayed"


@pytest.mark.parametrize(
    ("forge", "texts"),
    [("tamper", ["forgery: tamper", ""]), ("replay", ["", "forgery: replay"])],
)
def test_only_the_forged_one_of_both_is_called_a_forgery(stage, peer, forge, texts):
    """Else the genuine one's good reply looks as if the device had obeyed the forgery."""
    stage.handshake(peer)
    run(stage, Request(DEVICE, "set_relay", {}, forge=forge))
    if forge == "tamper":
        report(stage, peer, "tampered")
    reply(stage, peer, peer.open("set_relay", stage.last("set_relay"))[1][0])
    assert [news.text for news in stage.news if news.kind == "command"] == texts


def test_old_session_forces_a_new_one(stage, peer):
    stage.handshake(peer)
    old_keys = dict(peer.keys)
    results = run(stage, Request(DEVICE, "set_relay", {}, forge="old-session"))
    assert stage.last("wake")
    stage.receive("hello", peer.hello())
    peer.take_welcome(stage.last("welcome"))
    stage.receive("ready", peer.ready())
    forged = stage.last("set_relay")
    new_keys, peer.keys = peer.keys, old_keys
    assert peer.open("set_relay", forged)[0] == 1
    peer.keys = new_keys
    report(stage, peer, "old-session")
    assert results[0]["verdict"] == "old-session"


def test_executed_forgery_is_reported(stage, peer):
    stage.handshake(peer)
    results = run(stage, Request(DEVICE, "set_relay", {}, forge="plain"))
    _, where, data = stage.sent[-1]
    assert where.fmt == "json"
    reply(stage, peer, json.loads(data)["id"])
    assert (results[0]["ok"], results[0]["verdict"]) == (False, "obeyed")


def test_commands_end_when_the_service_stops(stage, peer):
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
    stage.receive("server_uid_request", json.dumps(ask).encode(), fmt="json")
    assert json.loads(stage.last("server_uid_response"))["uid"] == UID["authority"].hex()
    stage.receive("x", b"sealed", fmt="cose")
    assert stage.codes() == ["sealed-refused"]
    results = run(stage, Request(DEVICE, "set_relay", {"on": 1}))
    command = json.loads(stage.last("set_relay"))
    answer = {"event": "reply", "deviceId": DEVICE, "id": command["id"], "ok": True, "result": 2}
    stage.receive("reply", json.dumps(answer).encode(), fmt="json")
    assert results[0]["reply"] == {"ok": True, "result": 2}
    run(stage, Request(DEVICE, "set_relay", {}, forge="wrong-id"))
    assert json.loads(stage.last("set_relay"))["uid"] != UID["authority"].hex()
    for forge in ("tamper", "replay", "old-session", "plain"):
        with refused("not-applicable"):
            run(stage, Request(DEVICE, "set_relay", {}, forge=forge))
    stage.store.close()


def test_a_device_that_left_is_not_waited_for(stage, peer):
    stage.handshake(peer)
    stage.receive("offline", b"{}", fmt="json")
    sent = len(stage.sent)
    with pytest.raises(HostError) as caught:
        run(stage, Request(DEVICE, "set_relay", {}))
    assert caught.value.code == "no-session"
    assert "is it running?" in caught.value.hint
    assert len(stage.sent) == sent
    stage.receive("x", peer.seal("x", [0, None, {}]))  # it was there all the time
    assert run(stage, Request(DEVICE, "set_relay", {})) == []


def test_a_command_waits_for_the_session_of_a_device_that_came_back(stage, peer):
    stage.handshake(peer)
    stage.receive("offline", b"{}", fmt="json")
    lights = PeerDevice(K["lights"], policy_hash(POLICY), "lights")
    stage.handshake(lights, "lights")  # it is back, and goes on to its next application
    results = run(stage, Request(DEVICE, "set_relay", {}, timeout_s=5))
    assert "set_relay" not in [where.verb for _, where, _ in stage.sent]
    stage.handshake(peer)
    assert peer.open("set_relay", stage.last("set_relay"))[0] == 1
    assert results == []


def test_the_late_last_will_of_a_replaced_connection_makes_it_ask(stage, peer):
    stage.handshake(peer)
    stage.receive("offline", b"{}", fmt="json")
    stage.pass_time(3)
    assert peer.wake_nonce(stage.last("wake"))
    stage.receive("x", peer.seal("x", [0, None, {}]))
    results = run(stage, Request(DEVICE, "set_relay", {}, timeout_s=5))
    assert stage.last("set_relay")
    assert results == []
    stage.sent.clear()
    stage.pass_time(60)
    assert stage.sent == []


def test_one_that_leaves_in_the_meantime_is_named(stage, peer):
    stage.handshake(peer)
    results = run(stage, Request(DEVICE, "set_relay", {}, timeout_s=5))
    stage.receive("offline", b"{}", fmt="json")
    stage.pass_time(6)
    assert (results[0].code, "is it running?" in results[0].hint) == ("timed-out", True)


def test_device_with_an_older_boot_counter_is_reported_and_cleared(stage, peer):
    peer.boot = 9
    stage.handshake(peer)
    stage.receive("offline", b"{}", fmt="json")
    peer.boot, peer.connect = 1, -1
    stage.receive("hello", peer.hello())
    assert stage.codes() == ["stale-hello"]
    results = run(stage, Request(DEVICE, "set_relay", {}, timeout_s=5))
    stage.pass_time(6)
    assert results[0].code == "no-session"
    assert "stale-hello" in results[0].hint
    assert "devices --clear DEVICE" in results[0].hint
    assert stage.engine.clear(DEVICE)
    stage.handshake(peer)
    assert stage.store.device(DEVICE).mark.boot == 1
    assert run(stage, Request(DEVICE, "set_relay", {}, timeout_s=5)) == []


def test_replayed_hello_does_not_block_the_device(stage, peer):
    stage.handshake(peer)
    for _ in range(50):
        stage.receive("hello", peer.hello_bytes)
    assert stage.codes() == ["stale-hello"]
    (row,) = stage.store.incidents(DEVICE)  # a flood of them is one record, once a second
    assert (row.source, row.code, row.at, row.n) == ("host", "stale-hello", "hello", 1)
    stage.pass_time(2)
    stage.receive("hello", peer.hello_bytes)
    assert [one.n for one in stage.store.incidents(DEVICE)] == [2]
    stage.receive("x", peer.seal("x", [0, None, {}]))
    before = stage.store.device(DEVICE)
    assert not stage.engine.clear(DEVICE)
    assert stage.store.device(DEVICE) == before


def test_commands_and_replies_are_announced(stage, peer):
    stage.handshake(peer)
    run(stage, Request(DEVICE, "set_relay", {"on": 1}))
    given = stage.news[-1]
    assert (given.kind, given.name, given.body) == ("command", "set_relay", {"on": 1})
    reply(stage, peer, given.id)
    assert (stage.news[-1].kind, stage.news[-1].name) == ("reply", "set_relay")
    reply(stage, peer, 4711)
    assert stage.news[-1].name == "reply"  # to nothing that we gave
    run(stage, Request(DEVICE, "rotate", {"password": b"secret"}))
    assert stage.news[-1].name == "rotate"
    assert stage.news[-1].body == {}
    run(stage, Request(DEVICE, "set_relay", {}, forge="wrong-id"))
    assert stage.news[-1].text == "forgery: wrong-id"
    for _ in range(200):
        run(stage, Request(DEVICE, "set_relay", {}))
    assert len(stage.engine.state(DEVICE).command_names) <= 64


def test_a_command_that_is_not_allowed_names_those_that_are(stage, peer):
    stage.handshake(peer)
    results = run(stage, Request(DEVICE, "open", {}))
    reply(stage, peer, stage.news[-1].id, {"ok": False, "error": "not-allowed"})
    assert (results[0]["ok"], results[0]["allowed"]) == (False, ["set_relay"])


def test_no_command_goes_into_a_session_that_the_device_may_have_lost(stage, peer):
    """A broker that died took the device's session along: a command sealed in it would be lost."""
    stage.handshake(peer)
    stage.engine.on_link_lost("authority")
    results = run(stage, Request(DEVICE, "set_relay", {}))
    assert stage.engine.online() == {}
    stage.engine.on_link_restored("authority")
    assert "set_relay" not in [where.verb for _, where, _ in stage.sent]
    stage.handshake(peer)
    reply(stage, peer, peer.open("set_relay", stage.last("set_relay"))[1][0])
    assert results[0]["ok"] is True


def test_message_in_the_session_restores_it(stage, peer):
    stage.handshake(peer)
    stage.engine.on_link_lost("authority")
    run(stage, Request(DEVICE, "set_relay", {}))
    stage.receive("temperature", peer.seal("temperature", [0, None, {}]))
    stage.engine.on_link_restored("authority")
    sent = len(stage.sent)
    run(stage, Request(DEVICE, "set_relay", {}))
    assert [where.verb for _, where, _ in stage.sent[sent:]] == ["set_relay"]
    stage.pass_time(30)
    assert "wake" not in [where.verb for _, where, _ in stage.sent]


def test_a_silent_device_is_woken_when_the_line_is_back(stage, peer):
    stage.handshake(peer)
    stage.engine.on_link_lost("lights")
    stage.engine.on_link_restored("lights")
    stage.pass_time(5)
    assert "wake" not in [where.verb for _, where, _ in stage.sent], "its line never broke"
    stage.engine.on_link_lost("authority")
    stage.pass_time(5)
    assert "wake" not in [where.verb for _, where, _ in stage.sent], "there is no line yet"
    stage.engine.on_link_restored("authority")
    stage.pass_time(1)
    assert "wake" not in [where.verb for _, where, _ in stage.sent], "it may say hello by itself"
    stage.pass_time(2)
    assert peer.wake_nonce(stage.last("wake"))


def test_a_command_waits_while_a_welcome_is_under_way(stage, peer):
    """The device drops its session at the welcome: until its ready, neither session is certain."""
    stage.handshake(peer)
    stage.receive("hello", peer.hello())
    results = run(stage, Request(DEVICE, "set_relay", {}))
    assert stage.sent[-1][1].verb == "welcome"
    peer.take_welcome(stage.last("welcome"))
    stage.receive("ready", peer.ready())
    peer.open("ack", stage.last("ack"))
    reply(stage, peer, peer.open("set_relay", stage.last("set_relay"))[1][0])
    assert results[0]["ok"] is True


def test_a_hello_that_leads_nowhere_holds_no_command_for_long(stage, peer):
    stage.handshake(peer)
    keys = dict(peer.keys)
    stage.receive("hello", peer.hello())
    run(stage, Request(DEVICE, "set_relay", {}))
    assert stage.sent[-1][1].verb == "welcome"
    stage.pass_time(6)
    peer.keys = keys
    assert peer.open("set_relay", stage.last("set_relay"))[0] == 1


def test_a_reply_to_the_authoritys_own_command_is_for_who_gave_it(stage, peer):
    stage.handshake(peer)
    results = run(stage, Request(DEVICE, "wifi", {}))
    _, (number, _, _) = peer.open("wifi", stage.last("wifi"))
    reply(stage, peer, number, {"ok": True, "result": {"networks": ["home of alice"]}})
    assert results[0]["reply"]["result"] == {"networks": ["home of alice"]}
    (shown,) = [news for news in stage.news if news.kind == "reply"]
    assert (shown.name, shown.body) == ("wifi", {"ok": True})
    run(stage, Request(DEVICE, "set_relay", {"on": 1}))
    _, (number, _, _) = peer.open("set_relay", stage.last("set_relay"))
    reply(stage, peer, number)
    assert stage.news[-1].body == {"ok": True, "result": 1}
