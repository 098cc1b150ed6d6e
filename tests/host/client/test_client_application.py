"""The client package's Application against a device of its own, without a broker."""

import asyncio
import json

import pytest
from client_kit import NEW_K, Home, K, Line, content, write
from host_kit import DEVICE, TYPE, refused
from process_kit import PATIENCE_S
from warden_client import application, credentials
from warden_client.application import Application
from warden_client.connection import Message
from warden_client.device import Device
from warden_client.errors import HostError
from warden_client.memory import Memory
from warden_client.protocol import key_lists
from warden_client.protocol.session import Instant
from warden_client.updates import Updates, _in_json


def run(scene) -> None:
    asyncio.run(asyncio.wait_for(scene, PATIENCE_S))


def test_a_command_waits_for_a_session_and_returns_the_verdict(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            assert home.line.verbs() == ["wake"]
            asked = asyncio.create_task(home.app.command(DEVICE, "set_relay", {"on": 1}, ttl_s=9))
            await asyncio.sleep(0)
            home.begin_session()
            counter, (number, expiry, body) = home.peer.open(
                "set_relay", await home.line.until("set_relay")
            )
            assert (counter, body) == (1, {"on": 1})
            assert 9 <= expiry
            home.reply(number + 1, ok=True, result="another command's")
            home.reply(number, ok=True, result={"on": 1})
            reply = await asked
            assert (reply.ok, reply.result, reply.error) == (True, {"on": 1}, "")
            asked = asyncio.create_task(home.app.command(DEVICE, "set_relay"))
            _, (number, _, _) = home.peer.open("set_relay", await home.line.until("set_relay", 2))
            home.reply(number, ok=False, error="not-allowed")
            assert (await asked).error == "not-allowed"

    run(scene())


def test_no_reply_and_no_session_are_told_apart(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            with refused("no-session"):
                await home.app.command(DEVICE, "set_relay", timeout_s=0.01)
            home.begin_session()
            with refused("timed-out"):
                await home.app.command(DEVICE, "set_relay", timeout_s=0.01)
            # For good: it connects anew after a pause that may be none, and has no session then.
            Line.refusal = HostError("unreachable", "no one there")
            home.line.lose()
            with refused("unreachable"):
                await home.app.command(DEVICE, "set_relay", timeout_s=0.01)

    run(scene())


@pytest.mark.parametrize(
    ("command", "more", "code"),
    [
        ("rotate", {}, "reserved-command"),
        ("welcome", {}, "reserved-command"),
        ("Set", {}, "bad-name"),
        ("set_relay", {"ttl_s": 0}, "bad-argument"),
        ("set_relay", {"args": {"x": float("nan")}}, "bad-argument"),
        ("set_relay", {"args": {"x": "y" * 2048}}, "mqtt-too-large"),
    ],
)
def test_commands_that_are_not_sent(tmp_path, monkeypatch, command, more, code):
    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            home.begin_session()
            with refused(code):
                await home.app.command(DEVICE, command, **more)
            with refused("device-unknown"):
                await home.app.command("D9", "set_relay")
            assert "set_relay" not in home.line.verbs()

    run(scene())


def test_an_event_of_an_outbox_is_acknowledged_after_its_turn(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            home.begin_session()
            events = home.app.events()
            home.line.bring("x", home.peer.seal("x", [7, 0, {"n": 7}]))
            home.line.bring("x", home.peer.seal("x", [7, 0, {"n": 7}]))
            home.line.bring("x", home.peer.seal("x", [9, 8, {}]))  # the one before is missing
            assert (await anext(events)).body == {"n": 7}
            assert home.line.verbs().count("ack") == 1  # that of ready
            home.line.bring("x", home.peer.seal("x", [8, 7, {"n": 8}]))
            assert (await anext(events)).body == {"n": 8}
            assert home.peer.open("ack", home.line.last("ack"))[1][0] == 7
        async with home:  # a restart: the last one was not finished
            home.begin_session()
            home.line.bring("x", home.peer.seal("x", [7, 0, {"n": 7}]))
            assert home.peer.open("ack", home.line.last("ack"))[1][0] == 7
            home.line.bring("x", home.peer.seal("x", [8, 0, {"n": 8}]))
            assert (await anext(home.app.events())).body == {"n": 8}

    run(scene())


def test_what_was_proved_outlives_a_restart(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            home.begin_session()
            old = home.peer.hello_bytes
        async with home:
            home.line.bring("hello", old)
            assert "welcome" not in home.line.verbs()
            home.peer.vault_gen -= 1  # its flash was played back
            home.line.bring("hello", home.peer.hello())
            home.peer.take_welcome(home.line.last("welcome"))
            home.line.bring("ready", home.peer.ready())
            with refused("quarantined"):
                await home.app.command(DEVICE, "set_relay")
        async with home:
            with refused("quarantined"):
                await home.app.command(DEVICE, "set_relay")
            home.app.clear(DEVICE)
            home.begin_session()

    run(scene())


def test_hellos_that_the_authority_proved_before_the_export_are_stale(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch, proven=[1, 0, 1]) as home:
            home.line.bring("hello", home.peer.hello())
            assert "welcome" not in home.line.verbs()
            home.begin_session()

    run(scene())


def test_no_proof_counts_that_could_not_be_kept(tmp_path, monkeypatch, caplog):
    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            disk = home.app._memory._db
            disk.execute("PRAGMA query_only = ON")
            home.line.bring("hello", home.peer.hello())
            home.peer.take_welcome(home.line.last("welcome"))
            home.line.bring("ready", home.peer.ready())
            assert "ack" not in home.line.verbs()
            assert not home.app.devices[DEVICE].is_up
            disk.execute("PRAGMA query_only = OFF")
            home.begin_session()  # without an ack the device starts over
            event = home.peer.seal("x", [7, 0, {}])
            home.line.bring("x", event)
            events = home.app.events()
            await anext(events)
            disk.execute("PRAGMA query_only = ON")
            with refused("filesystem"):
                await anext(events)
            home.line.bring("x", home.peer.seal("x", [7, 0, {}]))  # and this one must not end it
            assert home.line.verbs().count("ack") == 1
            assert "home.state: " in caplog.text

    run(scene())


def test_a_device_that_was_cleared_stays_so_over_a_restart(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch, proven=[7, 7, 7], event_number=5) as home:
            home.line.bring("hello", home.peer.hello())
            assert "welcome" not in home.line.verbs()
            home.app.clear(DEVICE)  # it counts from the beginning again
            home.begin_session()
        async with home:
            home.begin_session()
            home.line.bring("x", home.peer.seal("x", [1, 0, {}]))
            assert (await anext(home.app.events())).name == "x"

    run(scene())


def test_an_account_or_a_subscription_that_changes_needs_another_connection(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            first = home.line
            changed = content(K)
            changed["topics"]["subscribe"] = ["iot-2/type/other/id/+/evt/#"]
            write(home.file, changed)
            while home.line is first:
                await asyncio.sleep(0.05)
            assert not first.up
            assert home.line.credentials.subscribe == ("iot-2/type/other/id/+/evt/#",)

    run(scene())


def test_a_new_key_replaces_the_old_one_once_it_is_proved(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            home.begin_session()
            first = home.line
            write(home.file, content(K, NEW_K))
            while home.line.verbs().count("wake") < 2:  # one of the start, one for the new key
                await asyncio.sleep(0.05)
            assert home.app.devices[DEVICE].is_up  # the session under the old one stays
            home.begin_session()  # the device has the old one still
            home.peer.k, home.peer.kid = NEW_K, b""
            home.peer.kid = home.peer.derive("kid", 8)
            home.begin_session()
            assert home.app.devices[DEVICE].is_up
            assert home.line is first

    run(scene())


UID = "ab" * 32


def test_a_plain_device_takes_commands_without_a_session(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch, mode="plain", uid=UID) as home:

            def bring(event, **fields):
                message = {"event": event, "deviceId": DEVICE, **fields}
                home.line.bring(event, json.dumps(message).encode(), "json")

            assert home.line.verbs() == []  # there is no session to wake it for
            asked = asyncio.create_task(home.app.command(DEVICE, "set_relay", {"on": 1}))
            sent = json.loads(await home.line.until("set_relay"))
            number = sent.pop("id")
            assert sent == {"cmd": "set_relay", "appid": "home", "uid": UID, "args": {"on": 1}}
            assert home.line.topics[-1].endswith("/cmd/set_relay/fmt/json")
            bring("reply", id=number + 1, ok=True)
            bring("reply", id=number, ok=True, result=1)
            assert (await asked).result == 1
            req = "0f" * 16
            bring("server_uid_request", appid="another", req=req)
            assert "server_uid_response" not in home.line.verbs()
            bring("server_uid_request", appid="home", req=req)
            answer = json.loads(home.line.last("server_uid_response"))
            assert (answer["uid"], answer["req"]) == (UID, req)
            with refused("mqtt-too-large"):
                await home.app.command(DEVICE, "set_relay", {"x": "y" * 2048})

    run(scene())


def test_of_a_plain_device_the_program_gets_events_and_no_code_that_was_typed(
    tmp_path, monkeypatch
):
    async def scene():
        async with Home(tmp_path, monkeypatch, mode="plain", uid=UID) as home:

            def bring(event, fmt="json", device=DEVICE, **fields):
                message = {"event": event, "deviceId": device, **fields}
                home.line.bring(event, json.dumps(message).encode(), fmt)

            bring("server_otp_request", req="0f" * 16)
            bring("device_otp_response", req="0f" * 16, otp="123456")
            bring("x", fmt="cose", body={"n": 0})
            bring("x", device="D2", body={"n": 0})
            bring("x")
            bring("x", body={"n": 1}, n=3)
            bring("x", body={"n": 2}, n=3)  # sent again
            bring("x", body={"n": 4}, n=4)
            events = home.app.events()
            assert [(await anext(events)).body for _ in range(2)] == [{"n": 1}, {"n": 4}]
            assert home.app._events.empty()

    run(scene())


def test_a_connection_that_is_lost_is_made_anew(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            home.begin_session()
            first, during = home.line, []

            async def open_it(_line):
                during.append(home.app.connected)

            monkeypatch.setattr(Line, "open", open_it)
            first.lose()
            assert not home.app.connected
            assert not home.app.devices[DEVICE].is_up
            while home.line is first:
                await asyncio.sleep(0.05)
            home.begin_session()
            assert during == [False]
            assert home.app.devices[DEVICE].is_up

    run(scene())


def test_what_the_broker_brings_and_no_device_sealed(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            home.begin_session()
            sealed = home.peer.seal("x", [0, None, {}])
            home.line.bring("x", sealed[:-1] + bytes([sealed[-1] ^ 1]))
            home.line.bring("x", sealed, retain=True)
            home.line.bring("x", b"\xa0" * 3000)
            home.line.bring("x", b'{"event":"x","deviceId":"D1","body":{}}', "json")
            home.line.bring("y", sealed)
            home.line.bring("x", sealed)
            home.line.bring("x", sealed)
            assert (await anext(home.app.events())).name == "x"
            assert home.app._events.empty()

    run(scene())


def test_a_refused_log_in_ends_it_and_a_broker_that_is_away_does_not(tmp_path, monkeypatch):
    home = Home(tmp_path, monkeypatch)

    async def refusals():
        for code in ("broker-refused", "pin-mismatch"):
            Line.refusal = HostError(code)
            with refused(code):
                await Application(home.file).__aenter__()
        Line.refusal = HostError("unreachable", "no one there")
        async with home:
            with refused("unreachable"):
                await home.app.command(DEVICE, "set_relay", timeout_s=0.01)
            Line.refusal = None
            while not home.app.connected:
                await asyncio.sleep(0.05)

    run(refusals())


def test_an_application_runs_once(tmp_path, monkeypatch):
    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            with refused("app-running"):
                await Application(home.file).__aenter__()
        async with home:
            pass

    run(scene())


def of_plain(**fields) -> bytes:
    return json.dumps({"event": "x", "deviceId": DEVICE, "body": {}, **fields}).encode()


@pytest.mark.parametrize(
    "where",
    [
        "",
        "iot-2",
        f"iot-2/type/{TYPE}/id/{DEVICE}/evt/x/fmt/json/more",
        f"iot-2/type/{TYPE}/id/D2/evt/x/fmt/json",
        f"iot-2/type/other/id/{DEVICE}/evt/x/fmt/json",
        f"iot-2/type/{TYPE}/id/{DEVICE}/cmd/x/fmt/json",
        f"iot-2/type/{TYPE}/id/{DEVICE}/evt/offline/fmt/cose",
        "warden/app/home/keys",  # the file has no lists of keys
    ],
)
def test_a_topic_of_no_device_of_ours_brings_nothing(tmp_path, monkeypatch, where):
    async def scene():
        async with Home(tmp_path, monkeypatch, mode="plain", uid=UID) as home:
            home.line._on_message(Message(where, of_plain(), False))
            home.line.bring("x", of_plain(), "json", retain=True)  # which anyone finds later
            assert home.app._events.empty()
            home.line.bring("x", of_plain(), "json")
            assert home.app._events.qsize() == 1

    run(scene())


def test_a_list_of_keys_that_no_authority_sealed_changes_nothing(tmp_path, monkeypatch):
    async def scene():
        home = Home(tmp_path, monkeypatch)
        where = key_lists.list_topic("home")
        updates = {"number": 7, "topic": where, "ask": key_lists.ask_topic("home")}
        write(home.file, content() | {"updates": updates | {"secret": "ab" * 32}})
        monkeypatch.setattr(Line, "publish", lambda *_: True)
        async with home:
            page = key_lists.Page(8, 7, 0, True, None, [DEVICE])  # it is gone
            for secret, retain in ((b"x" * 32, False), (b"\xab" * 32, True)):
                data = key_lists.seal_page("home", secret, b"i" * key_lists.LIST_ID, page)
                home.line._on_message(Message(where, data, retain))
            home.line._on_message(Message(where, b"", False))
            assert list(home.app.devices) == [DEVICE]
            data = key_lists.seal_page("home", b"\xab" * 32, b"i" * key_lists.LIST_ID, page)
            home.line._on_message(Message(where, data, False))
            assert list(home.app.devices) == []

    run(scene())


def test_a_file_without_lists_takes_none(tmp_path):
    with Memory(tmp_path / "home.state") as memory:
        made = Updates(memory)
        assert not made.receive(b"x", 1.0)
        made.load(credentials.parse(content()))
        assert not made.receive(b"x", 1.0)
        assert made.due_ask(1e9) is None


def test_an_entry_that_json_can_not_hold_is_refused():
    for value in ({1: "x"}, {"policies": [{b"k": 1}]}):
        with refused("key-damaged"):
            _in_json(value)


def test_a_program_that_is_too_slow_loses_events_and_none_of_an_outbox(tmp_path, monkeypatch):
    monkeypatch.setattr(application, "_EVENTS", 1)

    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            home.begin_session()
            home.line.bring("x", home.peer.seal("x", [0, None, {"n": 1}]))
            home.line.bring("x", home.peer.seal("x", [0, None, {"n": 2}]))
            home.line.bring("x", home.peer.seal("x", [7, 0, {"n": 3}]))
            assert (home.app._events.qsize(), home.app.dropped) == (1, 1)
            events = home.app.events()
            assert (await anext(events)).body == {"n": 1}
            home.line.bring("x", home.peer.seal("x", [7, 0, {"n": 3}]))  # sent again
            assert (await anext(events)).body == {"n": 3}

    run(scene())


def test_a_broker_that_is_away_at_a_reconnect_is_tried_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(application, "_LEAST_DELAY_S", 0.01)

    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            Line.refusal = HostError("unreachable", "no one there")
            home.line.lose()
            while len(Line.made) < 3:
                await asyncio.sleep(0.01)
            assert not home.app.connected
            Line.refusal = None
            while not home.app.connected:
                await asyncio.sleep(0.01)
            assert "no one there" in caplog.text
            waiting = asyncio.create_task(home.app.wait_for_session(DEVICE))
            await asyncio.sleep(0)
            assert not waiting.done()
            home.begin_session()
            await waiting
            with refused("device-unknown"):
                await home.app.wait_for_session("D9")

    run(scene())


def test_a_file_that_is_damaged_while_it_runs_changes_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(application, "_TICK_S", 0.01)

    async def scene():
        async with Home(tmp_path, monkeypatch) as home:
            home.file.write_text("{")
            while "what was read before stays in use" not in caplog.text:
                await asyncio.sleep(0.01)
            home.begin_session()
            write(home.file, content(device="D2"))
            while list(home.app.devices) != ["D2"]:  # it looks on
                await asyncio.sleep(0.01)

    run(scene())


def test_a_device_seals_nothing_without_a_session_or_in_quarantine(tmp_path):
    now = Instant(1_800_000_000, 1.0)
    (entry,) = credentials.parse(content()).devices.values()
    with Memory(tmp_path / "home.state") as memory:
        made = Device("home", entry, memory)
        with refused("no-session"):
            made.seal("set_relay", 1, {}, 30, now)
        made._mark.quarantine = "device-cloned"
        with refused("quarantined"):
            made.seal("set_relay", 1, {}, 30, now)


@pytest.mark.parametrize(
    ("changes", "is_another"),
    [
        ({"type": "other"}, True),
        ({"keys": [NEW_K.hex()]}, True),
        ({"keys": [K.hex(), NEW_K.hex()]}, False),
        ({"commands": []}, False),
    ],
)
def test_an_entry_of_another_device_keeps_no_session(tmp_path, changes, is_another):
    now = Instant(1_800_000_000, 1.0)
    (entry,), (fresh,) = (
        credentials.parse(one).devices.values() for one in (content(), content(**changes))
    )
    with Memory(tmp_path / "home.state") as memory:
        made = Device("home", entry, memory)
        assert (made.update(fresh, now) is None) == is_another
        assert made.entry == (entry if is_another else fresh)
