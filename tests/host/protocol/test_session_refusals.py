"""What the application refuses in a session, each by its code, and what garbage does: nothing."""

import cbor2
import pytest
from host_kit import PeerDevice, canonical, topic
from hypothesis import given, settings
from hypothesis import strategies as st
from session_kit import POLICY, K, Pair
from warden_client.protocol.results import Received, Refused, Send


def test_hello_gates(pair):
    device = pair.device
    assert pair.code("hello", b"x" * 600) == "mqtt-too-large"
    assert pair.code("hello", b"\xff") == "cbor-malformed"
    assert pair.code("hello", canonical([])) == "cose-malformed"
    good = device.hello()
    assert pair.code("hello", good[:-1] + bytes([good[-1] ^ 1])) == "tampered"
    other = PeerDevice(K, POLICY, "lights")
    assert pair.code("hello", other.hello()) == "wrong-application"
    stranger = PeerDevice(bytes(32), POLICY)
    stranger.kid = device.kid
    assert pair.code("hello", stranger.hello()) == "tampered"
    elsewhere = device.mac0("hello", "hello", topic("evt", "ready"), [1])
    assert pair.code("hello", elsewhere) == "tampered"
    algorithm = device.mac0("hello", "hello", topic("evt", "hello"), [1], alg=4)
    assert pair.code("hello", algorithm) == "cose-algorithm"
    boolean = device.mac0("hello", "hello", topic("evt", "hello"), [1], alg=True)
    assert pair.code("hello", boolean) == "cose-malformed"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": True},
        {"nonce": bytes(15)},
        {"boot": -1},
        {"boot": 1 << 32},
        {"boot": True},
        {"vault_gen": "1"},
        {"policy": bytes(31)},
        {"connect": None},
        {"wake": bytes(15)},
        {"more": 0},
        {"more": True, "most": True},
    ],
)
def test_hello_fields(pair, changes):
    assert pair.code("hello", pair.device.hello(**changes)) == "bad-body"


def test_a_hello_that_is_no_list(pair):
    aad = topic("evt", "hello")
    assert pair.code("hello", pair.device.mac0("hello", "hello", aad, 1)) == "bad-body"


def test_a_message_bound_to_another_topic_is_refused(pair):
    pair.handshake()
    assert pair.code("humidity", pair.device.seal("temperature", [0, None, {}])) == "tampered"


def test_message_gates(pair):
    pair.handshake()
    device = pair.device
    assert pair.code("x", b"") == "cbor-malformed"
    assert pair.code("x", canonical({})) == "cose-malformed"
    assert pair.code("x", b"\x18\x01") == "cbor-not-canonical"
    assert pair.code("x", bytes(20000)) == "cbor-limit"
    assert pair.code("x", device.seal("x", [0, None, {}], headers={1: 30})) == "cose-algorithm"
    assert pair.code("x", device.seal("x", [0, None, {}], headers={5: b""})) == "cose-malformed"
    padded = {6: b"\x00\x05"}
    assert pair.code("x", device.seal("x", [0, None, {}], headers=padded)) == "cose-malformed"
    other = {4: bytes(8)}
    assert pair.code("x", device.seal("x", [0, None, {}], headers=other)) == "wrong-application"
    unknown = {10: bytes(8)}
    assert pair.code("x", device.seal("x", [0, None, {}], headers=unknown)) == "no-session"
    message = device.seal("x", [0, None, {}])
    assert pair.code("x", message[:-1] + bytes([message[-1] ^ 0x80])) == "tampered"
    assert isinstance(pair.receive("x", message)[0], Received)  # the forgery moved nothing
    assert pair.code("x", message) == "replayed"


@pytest.mark.parametrize(
    "payload",
    [
        [0, None],
        [0, None, {}, 0],
        {},
        1,
        [-1, None, {}],
        [True, None, {}],
        [1 << 32, None, {}],
        [0, -1, {}],
        [0, None, []],
        [0, None, {1: 1}],
    ],
)
def test_payloads(pair, payload):
    pair.handshake()
    assert pair.code("x", pair.device.seal("x", payload)) == "bad-body"


def test_a_payload_that_is_no_cbor(pair):
    pair.handshake()
    assert pair.code("x", pair.device.seal("x", b"\x9f\xff")) == "cbor-malformed"


def test_the_window_accepts_reordered_events_once(pair):
    pair.handshake()
    sealed = [pair.device.seal("x", [0, None, {"n": n}]) for n in range(100)]
    assert isinstance(pair.receive("x", sealed[99])[0], Received)
    assert isinstance(pair.receive("x", sealed[40])[0], Received)
    assert pair.code("x", sealed[40]) == "replayed"
    assert pair.code("x", sealed[35]) == "replayed"  # more than 64 behind


def test_an_event_before_ready_and_one_from_an_earlier_session(pair):
    pair.device.take_welcome(pair.welcome())
    assert pair.code("x", pair.device.seal("x", [0, None, {}], counter=1)) == "no-session"
    pair.receive("ready", pair.device.ready())
    old = pair.device.seal("x", [0, None, {}])
    pair.handshake()
    assert pair.code("x", old) == "old-session"


def test_ready_must_be_the_first_message_and_say_nothing(pair):
    pair.device.take_welcome(pair.welcome())
    assert pair.code("ready", pair.device.seal("ready", [0, None, {}], counter=1)) == "bad-body"
    assert (
        pair.code("ready", pair.device.seal("ready", [0, None, {"a": 1}], counter=0)) == "bad-body"
    )
    assert pair.kept == []


def test_a_quarantine_that_came_during_the_handshake_lets_no_session_begin(pair):
    """Another application's session put the device there: both share its mark."""
    pair.device.take_welcome(pair.welcome())
    pair.mark.quarantine = "its flash was played back"
    assert pair.code("ready", pair.device.ready()) == "quarantined"
    assert pair.kept == []


def test_a_device_in_quarantine_gets_no_second_ack(pair):
    pair.device.take_welcome(pair.welcome())
    ready = pair.device.ready()
    pair.receive("ready", ready)
    [ack] = pair.receive("ready", ready)
    assert isinstance(ack, Send)
    pair.mark.quarantine = "its flash was played back"
    assert pair.code("ready", ready) == "quarantined"


# Whatever comes


@given(st.lists(st.binary(max_size=200), max_size=8), st.sampled_from(["hello", "ready", "x"]))
@settings(max_examples=200, deadline=None)
def test_garbage_is_refused_by_name_and_changes_nothing(messages, event):
    pair = Pair()
    for data in messages:
        assert [type(outcome) for outcome in pair.receive(event, data)] == [Refused]
    pair.handshake()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_one_bit_flipped_anywhere_is_refused(data):
    pair = Pair()
    pair.handshake()
    message = pair.device.seal("x", [0, None, {"c": 1}])
    bit = data.draw(st.integers(0, len(message) * 8 - 1))
    bent = bytearray(message)
    bent[bit // 8] ^= 1 << bit % 8
    assert isinstance(pair.receive("x", bytes(bent))[0], Refused)
    assert isinstance(pair.receive("x", message)[0], Received)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_it_always_comes_to_stand_again_and_no_nonce_is_used_twice(data):
    """Messages lost, doubled and reordered, both ends restarted at any point."""
    pair = Pair()
    used: dict[bytes, bytes] = {}  # nonce and key -> ciphertext

    def note(command: str, message: bytes) -> None:
        protected, _, ciphertext = cbor2.loads(message)
        spot = protected  # kid, sid and partial IV name the key and the nonce
        assert (
            used.setdefault(spot, command.encode() + ciphertext) == command.encode() + ciphertext
        )

    flying: list[tuple[str, bytes]] = []
    for _ in range(data.draw(st.integers(1, 25))):
        step = data.draw(
            st.sampled_from(["hello", "deliver", "drop", "double", "app", "boot", "send"])
        )
        if step == "hello":
            flying.append(("hello", pair.device.hello()))
        elif step == "app":
            pair.restart_app()
        elif step == "boot":
            pair.device.boot, pair.device.connect = pair.device.boot + 1, -1
        elif step == "send" and pair.app.is_up:
            note("set_relay", pair.seal())
        elif flying:
            at = data.draw(st.integers(0, len(flying) - 1))
            event, message = flying[at] if step == "double" else flying.pop(at)
            if step == "drop":
                continue
            for outcome in pair.receive(event, message):
                if isinstance(outcome, Send) and outcome.command == "welcome":
                    if event == "hello" and message == pair.device.hello_bytes:
                        pair.device.take_welcome(outcome.data)
                        flying.append(("ready", pair.device.ready()))
                elif isinstance(outcome, Send):
                    note(outcome.command, outcome.data)
    assert not pair.mark.quarantine
    pair.handshake()
    note("set_relay", pair.seal())
