"""What the host refuses of a COSE structure and of its CBOR, each by its code."""

import pytest
from host_kit import refused
from warden_client.protocol import cose, strictcbor
from warden_client.protocol.plain import PlainPeer
from warden_host import names

KEY, IV, EIGHT = bytes(32), bytes(13), bytes(8)
LABELS = {1: 31, 4: EIGHT, 6: b"\x01", 10: EIGHT}


def message(protected: bytes, *rest: object) -> bytes:
    return strictcbor.encode([protected, {}, *rest])


def sealed(**changes: object) -> bytes:
    return strictcbor.encode(LABELS | {int(key[1:]): value for key, value in changes.items()})


def test_the_messages_below_are_read_where_nothing_is_wrong():
    assert cose.parse_encrypt0(message(sealed(), bytes(16))).counter == 1
    assert cose.claimed_kid(message(sealed(), bytes(16))) == EIGHT


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (message(sealed(), bytes(strictcbor.MAX_BYTES)), "cbor-limit"),
        (message(sealed(), bytes(15)), "cose-malformed"),  # shorter than its tag
        (message(sealed(), bytes(16), bytes(16)), "cose-malformed"),  # as of COSE_Mac0
        (message(b"", bytes(16)), "cose-malformed"),
        (message(strictcbor.encode([1]), bytes(16)), "cose-malformed"),
        (message(sealed(_6=b"\x00\x01"), bytes(16)), "cose-malformed"),
        (message(sealed(_6=bytes(5)), bytes(16)), "cose-malformed"),
        (message(sealed(_4=bytes(7)), bytes(16)), "cose-malformed"),
        (message(sealed(_10=bytes(9)), bytes(16)), "cose-malformed"),
        (message(sealed(_6=b"\x01" * 5), bytes(16)), "cose-malformed"),
        (message(sealed(_6=b""), bytes(16)), "cose-malformed"),
        (message(sealed(_4="8 bytes!"), bytes(16)), "cose-malformed"),
        (message(sealed(_6="1"), bytes(16)), "cose-malformed"),
        (message(sealed(_10="8 bytes!"), bytes(16)), "cose-malformed"),
        (message(sealed(_5=b"x"), bytes(16)), "cose-malformed"),
        (message(sealed(_1=10), bytes(16)), "cose-algorithm"),
        (strictcbor.encode([sealed(), {1: 2}, bytes(16)]), "cose-malformed"),
        (message(sealed(), bytes(16)) + b"\x00", "cbor-malformed"),
        (strictcbor.encode([{}, {}, bytes(16)]), "cose-malformed"),
        (strictcbor.encode([sealed(), {}]), "cose-malformed"),
        (strictcbor.encode({1: 2}), "cose-malformed"),
    ],
)
def test_sealed_messages_of_another_form(data, code):
    with refused(code):
        cose.parse_encrypt0(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (message(strictcbor.encode({1: 5, 4: EIGHT}), bytes(20000), bytes(32)), "cbor-limit"),
        (message(strictcbor.encode({1: 5, 4: EIGHT}), b"p"), "cose-malformed"),
        (message(strictcbor.encode({1: 5, 4: bytes(7)}), b"p", bytes(32)), "cose-malformed"),
        (message(strictcbor.encode({1: 5}), b"p", bytes(32)), "cose-malformed"),
        (message(strictcbor.encode({1: 5, 4: "8 bytes!"}), b"p", bytes(32)), "cose-malformed"),
        (message(strictcbor.encode({1: 5, 4: EIGHT, 5: 0}), b"p", bytes(32)), "cose-malformed"),
        (message(strictcbor.encode({1: 5, 4: EIGHT}), b"p", bytes(31)), "cose-malformed"),
        (message(strictcbor.encode({1: 4, 4: EIGHT}), b"p", bytes(32)), "cose-algorithm"),
    ],
)
def test_authenticated_messages_of_another_form(data, code):
    with refused(code):
        cose.parse_mac0(data)


def test_a_header_beyond_its_bound_is_not_looked_at():
    """No one's key ID is found in it."""
    assert cose.claimed_kid(message(sealed(_4=bytes(100)), bytes(16))) is None


def test_a_map_is_no_message_whose_key_id_counts():
    assert cose.claimed_kid(b"\xa3" + message(sealed(), bytes(16))[1:]) is None


@pytest.mark.parametrize("counter", [-1, cose.MAX_COUNTER + 1])
def test_a_counter_beyond_four_bytes(counter):
    with refused("counter-exhausted"):
        cose.seal_encrypt0(KEY, IV, EIGHT, EIGHT, counter, b"", b"")


def test_cbor_above_its_limit():
    data = strictcbor.encode(bytes(50))
    assert strictcbor.decode(data, len(data)) == bytes(50)
    with refused("cbor-limit"):
        strictcbor.decode(data, len(data) - 1)


@pytest.mark.parametrize("data", [b"\x1a\xff\xff\xff", b"\xfb\x00"])
def test_a_number_that_ends_early_is_not_completed(data):
    with refused("cbor-malformed"):
        strictcbor.read_head(data, 0)
    with refused("cbor-malformed"):
        strictcbor.decode(data)


@pytest.mark.parametrize("number", [2.0**17, -(2.0**17), 2.0**200, 1e300])
def test_a_number_beyond_a_narrower_float_is_read(number):
    assert strictcbor.decode(strictcbor.encode(number)) == number


def test_a_tag_is_no_empty_list():
    with refused("cbor-malformed"):
        strictcbor.scan(b"\x82\xc0\x60")


@pytest.mark.parametrize(
    "body",
    [
        b'{"event":"x","deviceId":"D1","body":{},"n":-1}',
        b'{"event":"x","deviceId":"D1","body":{},"n":4294967296}',
        b'{"event":"x","deviceId":"D1","body":{},"n":true}',
        b'{"event":"x","deviceId":"D1","body":[]}',
        b'{"event":"y","deviceId":"D1","body":{}}',
        b'{"event":"x","deviceId":"D2","body":{}}',
    ],
)
def test_plain_events_of_another_form(body):
    peer = PlainPeer(names.Address("relay", "D1", "lights"), bytes(32))
    (good,) = peer.receive("x", b'{"event":"x","deviceId":"D1","body":{},"n":1}')
    assert good.id == 1
    (outcome,) = peer.receive("x", body)
    assert outcome.code == "bad-body"


@pytest.mark.parametrize("fields", ['"ok":true', '"id":-1,"ok":true', '"id":1', '"id":1,"ok":1'])
def test_plain_replies_of_another_form(fields):
    peer = PlainPeer(names.Address("relay", "D1", "lights"), bytes(32))
    text = '{"event":"reply","deviceId":"D1",%s}'
    (good,) = peer.receive("reply", (text % '"id":1,"ok":true').encode())
    assert (good.event, good.id, good.body) == ("reply", 1, {"ok": True})
    (outcome,) = peer.receive("reply", (text % fields).encode())
    assert outcome.code == "bad-body"
