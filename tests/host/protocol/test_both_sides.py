"""The limits of a value (docs/protocol.md): each side reads what the other sends."""

import json
import math
import os
import sys
from pathlib import Path

import pytest
from engine_kit import PLAIN, POLICY, SEALED, K, Stage, run
from host_kit import DEVICE, PeerDevice, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from values_kit import nested, values
from warden_client.protocol import strictcbor
from warden_client.protocol.plain import PlainPeer
from warden_client.protocol.results import Received
from warden_host import names
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.protocol import policy

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS.parent / "lib"), str(TESTS / "cpython")]

from warden.errors import PeerError, UsageError  # noqa: E402  (the path must be set first)
from warden.session.plain import Plain  # noqa: E402
from warden.wire import cbor  # noqa: E402
from warden.wire.cbor_reader import ITEMS  # noqa: E402
from warden.wire.names import Topics  # noqa: E402

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "600"))
UID = bytes(32)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"a": math.inf}, "bad-argument"),
        ({"a": [math.nan]}, "bad-argument"),
        ({"a": 1 << 64}, "bad-argument"),
        ({"a": "\ud800"}, "bad-argument"),
        ({"a": nested(7)}, "cbor-limit"),
        ({None: 1}, "bad-argument"),
    ],
)
@pytest.mark.parametrize("device", [SEALED, PLAIN], ids=["sealed", "plain"])
def test_a_command_that_no_device_reads_is_not_sent(tmp_path, device, args, code):
    """Its caller hears why at once, and the session goes on: no counter was spent."""
    stage = Stage(tmp_path, device)
    peer = PeerDevice(K["authority"], policy.policy_hash(POLICY))
    if device is SEALED:
        stage.handshake(peer)
    stage.sent.clear()
    with refused(code):
        run(stage, Request(DEVICE, "set_relay", args))
    assert not stage.sent
    run(stage, Request(DEVICE, "set_relay", {"a": nested(6)}))
    if device is SEALED:
        counter, (_, _, body) = peer.open("set_relay", stage.last("set_relay"))
        assert (counter, body) == (1, {"a": nested(6)})
    assert len(stage.sent) == 1
    stage.store.close()


class NoVault:
    def get(self, _name: str) -> None:
        return None


@pytest.fixture
def peer() -> PlainPeer:
    return PlainPeer(names.Address("relay", "D1", "lights"), UID)


@pytest.fixture
def plain() -> Plain:
    return Plain(Topics("relay", "D1"), ["lights"], NoVault(), False, False)


def test_a_device_reads_what_the_host_sends():
    for value in (nested(8), [[]] * 127, [0] * 2047, {"a": b"x" * 4000}):
        data = strictcbor.encode_for_device(value)
        assert data == strictcbor.encode(value)
        assert cbor.decode(data) == value
    for value in (nested(9), [[]] * 128, [{}] * 128):
        with refused("cbor-limit"):
            strictcbor.encode_for_device(value)
        with pytest.raises(PeerError):
            cbor.decode(strictcbor.encode(value))
    with refused("cbor-limit"):
        strictcbor.encode_for_device([0] * 2048)


def test_the_host_reads_what_a_device_sends():
    assert ITEMS + 48 == strictcbor.LIMITS.items  # the list of [id, expiry, body] has three
    assert cbor.DEEPEST == strictcbor.LIMITS.depth
    for value in (nested(16), [[]] * 1999, [0] * 1999, {"a": b"x" * 16000}):
        assert strictcbor.decode(cbor.encode(value)) == value
    with pytest.raises(UsageError):
        cbor.encode(nested(17))


def test_a_device_reads_the_host_s_plain_commands(peer, plain):
    for args in (
        {"a": nested(6)},
        {"a": [[]] * 500},
        {"a": [1.5, None, True, "\u20ac", -(1 << 64)]},
    ):
        fields = plain.parse(peer.command("set_relay", 7, args))
        assert plain.open("set_relay", fields) == ("lights", 7, args)


def test_the_host_reads_a_device_s_plain_events(peer, plain):
    for body in (
        {"a": nested(14)},
        {"a": [0] * (ITEMS - 9)},
        {"a": [{}] * (ITEMS - 9)},
        {str(n): {} for n in range(ITEMS // 2 - 5)},
        {"a": [1.5, None, True, "\u20ac", -(1 << 64)]},
    ):
        assert peer.receive("x", plain.event("x", {"body": body})) == [Received("x", 0, body)]


def verdict(decode, data: bytes) -> str:
    """Its own encoding, or the code of its refusal."""
    try:
        return strictcbor.encode(decode(data)).hex()
    except (HostError, PeerError) as error:
        return error.code


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """An encoding with a few bytes changed, put in or cut out."""
    data = bytearray(strictcbor.encode(draw(values)))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(data)


@given(st.binary(max_size=32) | bent())
@settings(max_examples=EXAMPLES, deadline=None)
def test_both_accept_the_same_values(data):
    verdicts = {
        verdict(strictcbor.decode, data),
        verdict(lambda given: cbor.decode(given, 16), data),
    }
    assert verdicts == {data.hex()} or all(code.startswith("cbor-") for code in verdicts)


@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
@settings(max_examples=EXAMPLES // 4, deadline=None)
def test_plain_text_is_json_or_refused(body):
    plain = Plain(Topics("relay", "D1"), ["lights"], NoVault(), False, False)
    try:
        text = plain.event("x", {"body": body})
    except UsageError as error:
        assert error.code == "bad-argument"
    else:
        assert json.loads(text, parse_constant=pytest.fail)["body"] == json.loads(json.dumps(body))
