"""The host's sealed messages: what is written and read by its fixed form is COSE as any other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warden_client.protocol import cose, strictcbor
from warden_host.errors import HostError


@pytest.mark.parametrize("counter", [0, 1, 255, 256, 65535, 65536, (1 << 24) - 1, (1 << 32) - 1])
def test_short_cuts_of_a_sealed_message_are_its_general_form(counter):
    kid, sid = bytes(range(8)), bytes(range(248, 256))
    data = cose.seal_encrypt0(bytes(32), bytes(13), kid, sid, counter, b"a", b"p")
    protected, unprotected, ciphertext = strictcbor.decode(data)
    assert strictcbor.encode([protected, unprotected, ciphertext]) == data
    labels = strictcbor.decode(protected)
    assert strictcbor.encode(labels) == protected
    message = cose.parse_encrypt0(data)
    assert labels == {1: 31, 4: message.kid, 6: message.partial_iv, 10: message.sid}
    assert (message.kid, message.sid, message.counter) == (kid, sid, counter)
    assert cose.open_encrypt0(bytes(32), bytes(13), message, b"a") == b"p"


def outcome(read, data):
    try:
        return read(data)
    except HostError as error:
        return error.code


@given(
    st.integers(0, (1 << 32) - 1),
    st.sampled_from([0, 7, 8, 240, 241, 300]),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=2),
    st.integers(-3, 3),
)
@settings(max_examples=300, deadline=None)
def test_the_short_cut_accepts_nothing_that_the_general_form_refuses(counter, size, flips, more):
    data = bytearray(
        cose.seal_encrypt0(bytes(32), bytes(13), bytes(8), bytes(8), counter, b"", bytes(size))
    )
    for at, byte in flips:
        data[at % len(data)] = byte
    changed = bytes(data[:more] if more < 0 else data + bytes(more))
    short = cose._match_encrypt0(changed)
    if short is not None:
        assert short == outcome(cose._read_encrypt0, changed)
    if not flips and not more:
        assert short is not None


def test_the_short_cut_looks_at_both_lengths():
    data = cose.seal_encrypt0(bytes(32), bytes(13), bytes(8), bytes(8), 1, b"", bytes(8))
    for at in (2, data.index(b"\xa0\x58") + 2):
        for step in (-1, 1):
            wrong = bytearray(data)
            wrong[at] += step
            assert cose._match_encrypt0(bytes(wrong)) is None
    assert cose._match_encrypt0(data) == cose._read_encrypt0(data)
    assert cose._match_encrypt0(data + bytes(16384)) is None
