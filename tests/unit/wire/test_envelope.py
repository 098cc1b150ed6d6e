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
TOPIC = b"topic"
AAD = b"\x82\x63msg\x65topic"
COUNTERS = (0, 1, 23, 24, 255, 256, 65535, 65536, (1 << 24) - 1, 1 << 24, (1 << 32) - 1)
SIZES = (0, 1, 7, 8, 23, 24, 255 - 16, 256 - 16, 300)


def sealed(counter=5, size=40, aad=AAD):
    payload = bytes(i & 255 for i in range(size))
    return payload, envelope.Sealer(CCM(KEY), KID, SID, IV).seal(counter, payload, aad)


def opened(parsed, ccm=None, iv=IV, topic=TOPIC):
    return envelope.Opener(ccm or CCM(KEY), iv).open(parsed, topic)


def test_one_opener_for_all_messages_of_a_direction():
    """Whatever the last message left in it, and whether that opened."""
    opener = envelope.Opener(CCM(KEY), IV)
    for counter in (5, 6, 300, 301, 5):
        for topic in (b"topic", b"other", b"a" * 30):
            for kind in (bytes, memoryview):
                aad = envelope.external("msg", topic)
                payload, message = sealed(counter, 9, aad)
                wrong = envelope.parse_encrypt0(memoryview(sealed(counter, 9, b"aad")[1]))
                raises("tampered", opener.open, wrong, kind(topic))
                parsed = envelope.parse_encrypt0(memoryview(message))
                equal(bytes(opener.open(parsed, kind(topic))), payload)
                swapped = envelope.parse_encrypt0(memoryview(sealed(counter, 9, aad)[1]))
                raises("tampered", opener.open, swapped, b"topik")


def _fails_at(n, work, *args):
    """Run work with a MemoryError in the n-th object that the envelope makes."""
    left = [n]

    def failing(make):
        def made(*args):
            left[0] -= 1
            if left[0] == 0:
                raise MemoryError
            return make(*args)

        return made

    makers = {"bytes": bytes, "bytearray": bytearray, "memoryview": memoryview}
    for name in makers:
        setattr(envelope, name, failing(makers[name]))
    try:
        work(*args)
    except MemoryError:
        pass
    finally:
        for name in makers:
            delattr(envelope, name)


def test_memory_that_runs_out_leaves_no_structure_of_another_topic():
    """Else a message of one topic would open under another one."""
    other = envelope.external("msg", b"other")
    for n in range(1, 9):
        opener = envelope.Opener(CCM(KEY), IV)
        sealer = envelope.Sealer(CCM(KEY), KID, SID, IV)
        first = bytes(sealer.seal(5, b"body", AAD))
        opener.open(envelope.parse_encrypt0(memoryview(bytearray(first))), TOPIC)
        second = bytearray(sealed(6, 9, other)[1])
        parsed = envelope.parse_encrypt0(memoryview(bytearray(second)))
        _fails_at(n, opener.open, parsed, b"other")
        raises("tampered", opener.open, envelope.parse_encrypt0(memoryview(second)), TOPIC)
        _fails_at(n, sealer.seal, 6, b"body", other)
        equal(bytes(sealer.seal(5, b"body", AAD)), first)


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
                cose.build_encrypt0(CCM(KEY), KID, counter, SID, IV, payload, AAD),
            )
            parsed = envelope.parse_encrypt0(memoryview(message))
            equal((parsed.kid, parsed.sid, parsed.counter), (KID, SID, counter))
            equal(bytes(opened(parsed)), payload)


def test_one_sealer_for_all_messages_of_a_direction():
    """What it keeps of the last message never shows in the next one."""
    sealer = envelope.Sealer(CCM(KEY), KID, SID, IV)
    for counter in COUNTERS:
        for aad in (b"aad", b"aae", b"", bytes(30), b"aad"):
            for size in (0, 40, 300, 1):
                payload = bytes(i + counter & 255 for i in range(size))
                equal(
                    bytes(sealer.seal(counter, payload, aad)),
                    cose.build_encrypt0(CCM(KEY), KID, counter, SID, IV, payload, aad),
                )


def test_wrong_key_aad_and_tag():
    message = envelope.build_mac0(KEY, KID, b"payload", b"aad")
    parsed = envelope.parse_mac0(memoryview(message))
    raises("tampered", envelope.verify_mac0, parsed, bytes(32), b"aad")
    raises("tampered", envelope.verify_mac0, parsed, KEY, b"aae")
    for wrong in (
        (CCM(bytes(32)), IV, TOPIC),
        (CCM(KEY), bytes(13), TOPIC),
        (CCM(KEY), IV, b"topik"),
    ):
        payload, message = sealed()
        parsed = envelope.parse_encrypt0(memoryview(message))
        raises("tampered", opened, parsed, *wrong)
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
        opened,
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
