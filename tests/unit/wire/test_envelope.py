"""The protocol's two envelopes: one spelling each, the same one that general COSE has."""

import cose_kit as cose
from harness import check, equal, raises
from warden.crypto.ccm import CCM
from warden.errors import PeerError
from warden.wire import envelope

PURE = True

KEY = bytes(range(32))
KID = b"kid-kid-"
SID = b"sid-sid-"
IV = bytes(range(100, 113))
COUNTERS = (0, 1, 23, 24, 255, 256, 65535, 65536, (1 << 24) - 1, 1 << 24, (1 << 32) - 1)
SIZES = (0, 1, 7, 8, 23, 24, 255 - 16, 256 - 16, 300)


def sealed(counter=5, size=40, aad=b"aad"):
    payload = bytes(i & 255 for i in range(size))
    return payload, envelope.seal_encrypt0(CCM(KEY), KID, counter, SID, IV, payload, aad)


def test_mac0_is_cose():
    for size in SIZES:
        payload = bytes(size)
        message = envelope.build_mac0(KEY, KID, payload, b"aad")
        equal(message, cose.build_mac0(KEY, KID, payload, b"aad"))
        parsed = envelope.parse_mac0(memoryview(message))
        equal(parsed.kid, KID)
        equal(bytes(parsed.body), payload)
        check(envelope.verify_mac0(parsed, KEY, b"aad") is None)


def test_encrypt0_is_cose():
    for counter in COUNTERS:
        for size in SIZES:
            payload, message = sealed(counter, size)
            equal(
                bytes(message),
                cose.build_encrypt0(CCM(KEY), KID, counter, SID, IV, payload, b"aad"),
            )
            parsed = envelope.parse_encrypt0(memoryview(message))
            equal((parsed.kid, parsed.sid, parsed.counter), (KID, SID, counter))
            equal(bytes(envelope.open_encrypt0(parsed, CCM(KEY), IV, b"aad")), payload)


def test_wrong_key_aad_and_tag():
    message = envelope.build_mac0(KEY, KID, b"payload", b"aad")
    parsed = envelope.parse_mac0(memoryview(message))
    raises("tampered", envelope.verify_mac0, parsed, bytes(32), b"aad")
    raises("tampered", envelope.verify_mac0, parsed, KEY, b"aae")
    for wrong in (
        (CCM(bytes(32)), IV, b"aad"),
        (CCM(KEY), bytes(13), b"aad"),
        (CCM(KEY), IV, b"aae"),
    ):
        payload, message = sealed()
        parsed = envelope.parse_encrypt0(memoryview(message))
        raises("tampered", envelope.open_encrypt0, parsed, *wrong)
        equal(bytes(parsed.body[: len(payload)]), bytes(len(payload)), "plaintext is left behind")


def flips(message, parse, finish):
    """Every bit of a message flipped: refused by form or by tag, never opened."""
    for i in range(len(message)):
        for bit in range(8):
            changed = bytearray(message)
            changed[i] ^= 1 << bit
            try:
                finish(parse(memoryview(changed)))
            except PeerError as error:
                check(error.code in ("cose-malformed", "tampered"), error.code)
            else:
                # Kid and sid choose a key, and are authentic as well: a change of them must not
                # open.
                check(False, "bit %d of byte %d went through" % (bit, i))


def test_every_bit_of_a_mac0():
    message = envelope.build_mac0(KEY, KID, b"payload", b"aad")
    flips(message, envelope.parse_mac0, lambda parsed: envelope.verify_mac0(parsed, KEY, b"aad"))


def test_every_bit_of_an_encrypt0():
    message = sealed(300, 9)[1]
    flips(
        message,
        envelope.parse_encrypt0,
        lambda parsed: envelope.open_encrypt0(parsed, CCM(KEY), IV, b"aad"),
    )


def test_every_truncation_and_extension():
    for message, parse in (
        (envelope.build_mac0(KEY, KID, b"payload", b"aad"), envelope.parse_mac0),
        (bytes(sealed(70000, 33)[1]), envelope.parse_encrypt0),
    ):
        for end in range(len(message)):
            raises("cose-malformed", parse, memoryview(message[:end]))
        raises("cose-malformed", parse, memoryview(message + b"\0"))


def test_the_other_structure():
    message = envelope.build_mac0(KEY, KID, bytes(40), b"aad")
    raises("cose-malformed", envelope.parse_encrypt0, memoryview(message))
    raises("cose-malformed", envelope.parse_mac0, memoryview(sealed()[1]))


def test_one_spelling_of_a_counter():
    message = bytes(sealed(5)[1])
    at = message.index(b"\x06\x41\x05")
    # The same counter with a leading zero, with the header's and the string's lengths put right.
    longer = message[:at] + b"\x06\x42\x00\x05" + message[at + 3 :]
    longer = longer[:2] + bytes((longer[2] + 1,)) + longer[3:]
    raises("cose-malformed", envelope.parse_encrypt0, memoryview(longer))
    # Five bytes, and none.
    for piv in (b"\x45\x01\0\0\0\0", b"\x40"):
        other = message[:at] + b"\x06" + piv + message[at + 3 :]
        other = other[:2] + bytes((other[2] + len(piv) - 2,)) + other[3:]
        raises("cose-malformed", envelope.parse_encrypt0, memoryview(other))


def test_one_spelling_of_a_length():
    message = envelope.build_mac0(KEY, KID, b"payload", b"aad")
    at = message.index(b"\x47payload")
    for head in (b"\x58\x07", b"\x59\x00\x07", b"\x5a\0\0\0\x07", b"\x5f"):
        longer = message[:at] + head + message[at + 1 :]
        raises("cose-malformed", envelope.parse_mac0, memoryview(longer))


def test_algorithms_are_not_negotiable():
    message = bytes(sealed()[1])
    for alg in (10, 30, 33, 1):
        other = message.replace(b"\x01\x18\x1f\x04", bytes((1, 0x18, alg, 4)), 1)
        raises("cose-malformed", envelope.parse_encrypt0, memoryview(other))
    mac = envelope.build_mac0(KEY, KID, b"payload", b"aad")
    for alg in (4, 6, 7):
        other = mac.replace(b"\xa2\x01\x05\x04", bytes((0xA2, 1, alg, 4)), 1)
        raises("cose-malformed", envelope.parse_mac0, memoryview(other))


def test_too_short_for_a_tag():
    message = bytes(sealed(5, 0)[1])
    at = message.index(b"\xa0\x50") + 1
    short = message[:at] + b"\x4f" + message[at + 1 : -1]
    raises("cose-malformed", envelope.parse_encrypt0, memoryview(short))
