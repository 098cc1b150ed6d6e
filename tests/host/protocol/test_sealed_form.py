"""The host's sealed messages: what is written and read by its fixed form is COSE as any other."""

import pytest
from warden_host.protocol import cose, strictcbor


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
