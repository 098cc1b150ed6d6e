"""The root key in a secure element, against a model of its commands."""

from atecc_model import Element
from harness import check, equal, raises
from warden.crypto.kdf import hmac_sha256
from warden.errors import StoreError, UsageError
from warden.hal.rootkey_atecc import AteccRootKey, crc16

PURE = True

K = bytes(range(1, 33))


def pair(slot=3, **settings):
    element = Element({3: K}, **settings)
    return AteccRootKey(element, slot, sleep_ms=element.sleep_ms), element


def refused(function, *arguments):
    check(isinstance(raises("root-key", function, *arguments), StoreError))


def test_the_packets_check():
    # Both from the data sheet: the answer to a wake-up, and the command Info.
    equal(crc16(b"\x04\x11"), b"\x33\x43")
    equal(crc16(b"\x07\x30\x00\x00\x00"), b"\x03\x5d")


def test_every_length():
    key, element = pair()
    for size in (0, 1, 14, 55, 63, 64, 65, 127, 128, 129, 200):
        message = bytes(i & 255 for i in range(size))
        equal(key.mac(message), hmac_sha256(K, message), str(size))
        check(not element.awake)


def test_the_commands():
    key, element = pair()
    key.mac(bytes(70))
    equal(element.opcodes, [(0x47, 4), (0x47, 1), (0x47, 0xC2)])
    equal(element.sleeps, 1)


def test_it_works_for_a_while():
    for busy in (0, 1, 20):
        key, _ = pair(busy=busy)
        equal(key.mac(b"m"), hmac_sha256(K, b"m"))


def test_it_never_answers():
    key, element = pair(busy=10000)
    refused(key.mac, b"m")
    check(element.slept_ms < 1000, "the wait has an end")


def test_no_element():
    key, _ = pair(present=False)
    check(not key.exists())
    refused(key.mac, b"m")
    refused(key.create)


def test_another_slot():
    key, element = pair(slot=4)
    check(not key.exists())
    refused(key.mac, b"m")
    check(not element.awake)
    # A refusal is an answer: asking again would not help.
    equal(len([one for one in element.opcodes if one == (0x47, 4)]), 2)


def test_a_good_slot():
    key, _ = pair()
    check(key.exists())
    key.create()
    key.close()
    equal(key.mac(b"m"), hmac_sha256(K, b"m"))


def test_no_such_slot():
    for slot in (-1, 16):
        check(isinstance(raises("no-board", AteccRootKey, None, slot), UsageError))


def count():
    key, element = pair()
    key.mac(b"m")
    return element.operation


def test_noise_at_every_operation():
    """One fault anywhere, and the next try is right."""
    total = count()
    check(total >= 8)
    for fault in (
        "nack",
        "noise",
        "zeros",
        "ones",
        "short",
        "other",
        "lost bit",
        "watchdog",
        "watchdog soon",
    ):
        for at in range(total):
            key, element = pair(faults={at: fault})
            equal(key.mac(b"m"), hmac_sha256(K, b"m"), "%s at %d" % (fault, at))


def test_only_its_own_answer_says_that_it_is_awake():
    key, element = pair(faults={1: "stale"})
    equal(key.mac(b"m"), hmac_sha256(K, b"m"))
    equal(element.sleeps, 2)


def test_noise_without_end():
    for fault in ("noise", "zeros", "ones", "short", "watchdog"):
        key, _ = pair(faults={at: fault for at in range(1000)})
        refused(key.mac, b"m")


def test_lost_commands_without_end():
    """Wakes up each time, and then nothing gets through."""
    for fault in ("lost bit", "watchdog soon"):
        key, element = pair(faults={at: fault for at in range(1000)})
        refused(key.mac, b"m")
        check(element.operation < 100)


def test_a_refusal_ends_it():
    for fault in ("parse", "health"):
        for at in range(count()):
            key, element = pair(faults={at: fault})
            try:
                equal(key.mac(b"m"), hmac_sha256(K, b"m"))
            except StoreError as error:
                equal(error.code, "root-key")
                check(not element.awake)


def test_no_noise_gives_a_wrong_key():
    """Two faults anywhere: the right answer or an error."""
    total = count()
    for first in range(total):
        for second in range(first + 1, total + 4):
            key, _ = pair(faults={first: "noise", second: "watchdog"})
            try:
                equal(key.mac(b"m"), hmac_sha256(K, b"m"))
            except StoreError as error:
                equal(error.code, "root-key")
