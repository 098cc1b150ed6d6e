"""CBOR, JSON, names and the policy at the host: one encoding, any other refused by code."""

import json
import math
import sys

import cbor2
import pytest
from host_kit import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from values_kit import nested, values
from warden_client.protocol import strictcbor
from warden_client.protocol.plain import PlainPeer
from warden_client.protocol.replay import WIDTH, ReplayWindow
from warden_client.protocol.results import Received, Refused, Send
from warden_host import jsontext, names
from warden_host.errors import HostError
from warden_host.names import Topic
from warden_host.protocol import policy


@given(values)
@settings(max_examples=300, deadline=None)
def test_encoded_values_decode_to_themselves(value):
    data = strictcbor.encode(value)
    assert cbor2.loads(data) == value
    assert strictcbor.encode(strictcbor.decode(data)) == data


@given(st.binary(max_size=64))
@settings(max_examples=500, deadline=None)
def test_whatever_decodes_has_one_encoding(data):
    try:
        value = strictcbor.decode(data)
    except HostError as error:
        assert error.code in ("cbor-malformed", "cbor-not-canonical", "cbor-limit")
    else:
        assert strictcbor.encode(value) == data


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("", "cbor-malformed"),
        ("01 01", "cbor-malformed"),
        ("18 05", "cbor-not-canonical"),
        ("1b 0000000000000001", "cbor-not-canonical"),
        ("fb 3ff8000000000000", "cbor-not-canonical"),
        ("a2 02 00 01 00", "cbor-not-canonical"),
        ("a2 01 00 01 00", "cbor-not-canonical"),
        ("a2 20 00 18 64 00", "cbor-not-canonical"),
        ("9f ff", "cbor-malformed"),
        ("5f 41 00 ff", "cbor-malformed"),
        ("c1 00", "cbor-malformed"),
        ("d8 1c 81 d8 1d 00", "cbor-malformed"),
        ("c2 49 010000000000000000", "cbor-malformed"),
        ("f7", "cbor-malformed"),
        ("f8 ff", "cbor-malformed"),
        ("61 ff", "cbor-malformed"),
        ("9b 00000000ffffffff", "cbor-malformed"),
        ("5b ffffffffffffffff", "cbor-malformed"),
        ("81" * 17 + "00", "cbor-limit"),
        ("a1 80 00", "cbor-malformed"),
        ("a1 f5 00", "cbor-malformed"),
        ("a1 f93c00 00", "cbor-malformed"),
        ("f9 7e00", "cbor-malformed"),
        ("f9 7e01", "cbor-malformed"),
        ("f9 7c00", "cbor-malformed"),
        ("f9 fc00", "cbor-malformed"),
        ("fa 7fc00000", "cbor-malformed"),
        ("fa ff800000", "cbor-malformed"),
        ("fb 7ff8000000000000", "cbor-malformed"),
        ("fb fff0000000000000", "cbor-malformed"),
        ("81 f9 7e00", "cbor-malformed"),
        ("fa 3fc00000", "cbor-not-canonical"),
        ("fb 3810000000000000", "cbor-not-canonical"),
        ("80" * 2, "cbor-malformed"),
        ("99 0801" + "00" * 2049, "cbor-limit"),
        ("b9 0401" + "".join(f"19{1000 + n:04x}00" for n in range(1025)), "cbor-limit"),
        ("84" + "99 01ff" + "99 0200" * 3, "cbor-malformed"),
        ("99 3ffd" + "a0" * 16381, "cbor-limit"),
    ],
)
def test_cbor_that_is_refused(data, code):
    with refused(code):
        strictcbor.decode(bytes.fromhex(data))


def test_map_keys_sort_by_their_bytes():
    assert strictcbor.encode({-1: 0, 100: 0}).hex() == "a21864002000"


NO_FORM = [
    1 << 64,
    -(1 << 64) - 1,
    math.nan,
    math.inf,
    -math.inf,
    {1, 2},
    object(),
    "\ud800",
    {"\udfff": 1},
    [[[]]] * 2 + [1j],
    {None: 1},
    {True: 1},
    {1.5: 1},
    {(1,): 1},
]


@pytest.mark.parametrize("value", NO_FORM)
def test_values_without_an_encoding(value):
    for around in (value, [value], {"a": (value, 1)}):
        with refused("bad-argument"):
            strictcbor.encode(around)


def test_both_ways_nest_equally_deep():
    for value in (nested(16), nested(16, {}), nested(17, 1)):
        assert strictcbor.decode(strictcbor.encode(value)) == value
    for value in (nested(17), nested(17, {}), nested(18, 1)):
        with refused("cbor-limit"):
            strictcbor.encode(value)


def test_items_have_a_limit_whatever_they_are():
    for item in (0, 300, 1.5, 0.1, None, "", b"", [], {}):
        most = strictcbor.encode([item] * 2047)
        assert len(strictcbor.decode(most, 1 << 16)) == 2047
        assert strictcbor.scan(most) == 2048
        with refused("cbor-limit"):
            strictcbor.decode(strictcbor.encode([item] * 2048), 1 << 16)
    spread = strictcbor.encode([[0] * 255] * 8)
    with refused("cbor-limit"):
        strictcbor.decode(spread)


@pytest.mark.parametrize("name", ["", "a" * 33, "a/b", "a+", "#", "..", "é", "a b", "a\n"])
def test_ids_outside_the_alphabet(name):
    with refused("bad-name"):
        names.check_id(name, "device ID")


@pytest.mark.parametrize("name", ["", "Set", "a-b", "a" * 33, "ä", "a\n"])
def test_verbs_outside_the_alphabet(name):
    with refused("bad-name"):
        names.check_verb(name, "command")


@pytest.mark.parametrize("name", ["update", "policy", "rotate", "wipe", "warden_x", "ack", "wake"])
def test_reserved_commands_are_never_granted(name):
    with refused("reserved-command"):
        names.check_grant(name)


def test_topics_there_and_back():
    topic = Topic("relay", "D-1", "evt", "temperature", "cose")
    assert names.parse_topic(str(topic)) == topic


def test_words_of_topics_are_shared_and_not_kept_for_ever():
    topics = [names.parse_topic(f"iot-2/type/shared/id/D{n}/evt/x/fmt/json") for n in range(2)]
    assert topics[0].type is topics[1].type
    verb = names.parse_topic("iot-2/type/t/id/d/evt/a_new_word/fmt/json").verb
    assert sys.intern("".join(("a_new", "_word"))) is not verb


@pytest.mark.parametrize(
    "text",
    [
        "",
        "iot-2/type/t/id/d/evt/x/fmt",
        "iot-2/type/t/id/d/evt/x/fmt/xml",
        "iot-2/type/t/id/d/mon/x/fmt/json",
        "iot-3/type/t/id/d/evt/x/fmt/json",
        "iot-2/type/+/id/d/evt/x/fmt/json",
        "iot-2/type/t/id/d/evt/X/fmt/json",
        "iot-2/type/t/id/d/evt/x/fmt/json/",
        "a/" * 5000,
    ],
)
def test_topics_that_are_not_ours(text):
    with refused("bad-topic"):
        names.parse_topic(text)


def test_the_policy_is_what_its_bounds_allow():
    assert policy.parse(policy.record())["mode"] == "sealed"
    assert policy.parse(policy.record(mode="plain", keepalive_s=5))["keepalive_s"] == 5
    for change in (
        {"mode": "open"},
        {"validate": 1},
        {"max_message": 511},
        {"max_message": 16385},
        {"stall_ms": True},
        {"v": 2},
        {"extra": 1},
        {"backoff_min_ms": 60000, "backoff_max_ms": 1000},
    ):
        with refused("bad-policy"):
            policy.record(**change)
    with refused("bad-policy"):
        policy.parse(strictcbor.encode({"v": 1}))
    with refused("bad-policy"):
        policy.parse(strictcbor.encode([]))


@pytest.mark.parametrize(
    "text", ["", "[]", "1", '"a"', "null", "{", '{"a": 1, "a": 2}', '{"a": NaN}', "[" * 100_000]
)
def test_json_that_is_no_object(text):
    with refused("bad-json"):
        jsontext.parse_object(text, 1 << 20)
    with refused("bad-json"):
        jsontext.parse_object(b'{"a": 1}', 4)
    with refused("bad-json"):
        jsontext.parse_object(b"\xff\xfe", 100)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("\ud800", "\ufffd"), ("\U0001f600", "\U0001f600"), (r"\ud800", r"\ud800")],
)
def test_a_line_can_be_read_whatever_it_holds(value, shown):
    line = jsontext.dump({value: [value]})
    assert jsontext.parse_object(line, 100) == {shown: [shown]}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"a": 1e400}', "too large"),
        ('{"a": [-1e999]}', "too large"),
        ('{"a": %s}' % ("9" * 5000), "too large"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "infinity"),
        ('{"a": 1, "a": 2}', "twice"),
        (r'{"a": "\ud800"}', "half"),
        (r'{"\uDFFF": 1}', "half"),
        ('{"a": "\ud800"}', "half"),
        ('{"a": }', "at character 6"),
        ("[" * 30 + "]" * 30, "deeper"),
    ],
)
def test_refused_json_names_its_fault(text, word):
    with pytest.raises(HostError) as caught:
        jsontext.parse_object(text, 1 << 14)
    assert word in caught.value.text
    assert ("not valid JSON" in caught.value.text) == (word not in ("too large", "deeper"))
    assert caught.value.code == "bad-json"


def test_json_is_limited_to_the_readers_items():
    for text in (
        '{"a": [%s1]}' % ("1," * 97),
        '{"a": [%s1]}' % ("{}," * 48),
        '{"a": "%s"}' % (",:[" * 99),
    ):
        assert jsontext.parse_object(text, 1 << 14, marks=100)
        assert jsontext.parse_object(text, 1 << 14)
    for text in (
        '{"a": [%s1]}' % ("1," * 98),
        '{"a": [%s1]}' % ("{}," * 49),
        '{"a": "[", "b": [%s' % ("[" * 98),
    ):
        with refused("bad-json"):
            jsontext.parse_object(text, 1 << 14, marks=100)


def test_shown_text_is_one_line_of_ascii():
    shown = jsontext.dump({"a": "\x1b[2J\n\u202e", "b": b"\x01", "c": math.nan, 1: [2.5]})
    assert shown.isascii()
    assert shown.isprintable()
    assert json.loads(shown)["b"] == "01"
    assert jsontext.printable("a\x1b[2Jb\u202e") == "a\ufffd[2Jb\ufffd"


@given(st.lists(st.integers(0, 300), max_size=200))
@settings(max_examples=200, deadline=None)
def test_the_window_accepts_nothing_twice(counters):
    window, taken = ReplayWindow(), set()
    for counter in counters:
        if window.is_new(counter):
            assert counter not in taken
            taken.add(counter)
            window.mark_seen(counter)
        else:
            assert counter in taken or window.highest - counter >= WIDTH


def test_the_window_survives_a_jump_of_four_billion():
    window = ReplayWindow()
    window.mark_seen(0)
    window.mark_seen((1 << 32) - 1)
    assert not window.is_new(0)
    assert window.is_new((1 << 32) - 2)


# Plain mode

UID = bytes(range(32))


@pytest.fixture
def peer() -> PlainPeer:
    return PlainPeer(names.Address("relay", "D1", "lights"), UID)


def uid_request(**changes) -> bytes:
    request = {
        "event": "server_uid_request",
        "deviceId": "D1",
        "appid": "lights",
        "req": "0f" * 16,
    }
    return json.dumps(request | changes).encode()


def test_an_id_request_is_answered_with_its_req(peer):
    [send] = peer.receive("server_uid_request", uid_request())
    assert isinstance(send, Send)
    assert json.loads(send.data) == {
        "cmd": "server_uid_response",
        "appid": "lights",
        "uid": UID.hex(),
        "req": "0f" * 16,
    }
    assert peer.receive("server_uid_request", uid_request(appid="other")) == []


@pytest.mark.parametrize(
    "changes", [{"req": "0F" * 16}, {"req": "0f"}, {"req": 1}, {"deviceId": "D2"}, {"event": "x"}]
)
def test_bad_id_requests(peer, changes):
    [refusal] = peer.receive("server_uid_request", uid_request(**changes))
    assert isinstance(refusal, Refused)
    assert refusal.code == "bad-body"


def test_plain_replies_and_events(peer):
    reply = {"event": "reply", "deviceId": "D1", "id": 3, "ok": True, "result": 1}
    assert peer.receive("reply", json.dumps(reply).encode()) == [
        Received("reply", 3, {"ok": True, "result": 1})
    ]
    event = {"event": "x", "deviceId": "D1", "body": {"c": 1}}
    assert peer.receive("x", json.dumps(event).encode()) == [Received("x", 0, {"c": 1})]
    for bad in (reply | {"id": True}, reply | {"ok": 1}, reply | {"id": 1 << 32}):
        [refusal] = peer.receive("reply", json.dumps(bad).encode())
        assert refusal.code == "bad-body"
    [refusal] = peer.receive("x", json.dumps(event | {"body": []}).encode())
    assert refusal.code == "bad-body"


@pytest.mark.parametrize("value", [*NO_FORM, b"ab", {1: 2}, {b"a": 2}])
def test_plain_commands_that_json_has_no_form_for(peer, value):
    for args in ({"a": value}, {"a": [1, (value,)]}, {"a": {"b": value}}):
        with refused("bad-argument"):
            peer.command("set_relay", 9, args)


def test_plain_commands_nest_as_deep_as_a_device_reads(peer):
    """The command and its arguments are two levels of the eight."""
    peer.command("set_relay", 9, {"a": nested(6)})
    with refused("cbor-limit"):
        peer.command("set_relay", 9, {"a": nested(7)})


def test_plain_events_have_bounds(peer):
    for body in ({"a": [1] * 5000}, {"a": [{}] * 3000}):
        event = {"event": "x", "deviceId": "D1", "body": body}
        [refusal] = peer.receive("x", json.dumps(event, separators=(",", ":")).encode())
        assert (refusal.code, refusal.text) == (
            "bad-body",
            "JSON of more items than 4096 brackets, commas and colons give",
        )
    event = b'{"event":"x","deviceId":"D1","body":{"a":1e400}}'
    [refusal] = peer.receive("x", event)
    assert (refusal.code, refusal.text) == ("bad-body", "a number that is too large")
    long = uid_request(more="x" * 400)
    [refusal] = peer.receive("server_uid_request", long)
    assert refusal.code == "bad-body"


def test_a_plain_command_carries_the_uid(peer):
    command = json.loads(peer.command("set_relay", 9, {"on": 1}))
    assert command == {
        "cmd": "set_relay",
        "appid": "lights",
        "uid": UID.hex(),
        "id": 9,
        "args": {"on": 1},
    }
    assert json.loads(peer.command("a", 1, {}, uid=bytes(32)))["uid"] == "00" * 32
    assert UID.hex() not in repr(peer)
