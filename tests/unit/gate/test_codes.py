"""One-time passwords against the vectors of RFC 4226 and RFC 6238; windows, and codes used up."""

import hashlib

from board_model import DictStore, RootKey
from gate_kit import OTHER, SECRET
from harness import check, equal, raises
from warden.gate import codes as codes_module
from warden.gate.codes import Codes, code
from warden.vault import Vault
from warden.wire import cbor

PURE = True

SHA256_SECRET = b"12345678901234567890123456789012"
# RFC 4226, appendix D.
HOTP = (755224, 287082, 359152, 969429, 338314, 254676, 287922, 162583, 399871, 520489)
# RFC 6238, appendix B: seconds, SHA-1, SHA-256; the step is 30 s.
TOTP = (
    (59, "94287082", "46119246"),
    (1111111109, "07081804", "68084774"),
    (1111111111, "14050471", "67062674"),
    (1234567890, "89005924", "91819424"),
    (2000000000, "69279037", "90698825"),
    (20000000000, "65353130", "77737706"),
)


def made(step_s=0, duress=None, digits=6, counters=None, tail=()):
    vault = Vault(DictStore(), RootKey())
    vault.create()
    record = cbor.encode([SECRET, digits, step_s, duress] + list(tail))
    vault.commit({"otp": record}, counters)
    return vault


def test_rfc_4226():
    for counter, number in enumerate(HOTP):
        equal(code(SECRET, counter, 6), b"%06d" % number)
    equal(code(SECRET, 0, 8), b"84755224")
    # 31 bits are below 10^10: the tenth digit is 0, 1 or 2.
    equal(code(SECRET, 0, 10), b"1284755224")
    equal(code(SECRET, 7, 10), b"%010d" % 82162583)


def test_rfc_6238():
    for seconds, sha1, sha256 in TOTP:
        equal(code(SECRET, seconds // 30, 8), sha1.encode())
        equal(code(SHA256_SECRET, seconds // 30, 8, "sha256"), sha256.encode())


def test_secrets_of_every_length():
    """Against an HMAC written out once more; RFC 2104 §2 hashes a key of more than a block."""
    for length in (20, 32, 63, 64, 65, 128):
        secret = bytes(range(length))
        key = hashlib.sha1(secret).digest() if length > 64 else secret
        padded = key + bytes(64 - len(key))
        text = (7).to_bytes(8, "big")
        inner = hashlib.sha1(bytes([b ^ 0x36 for b in padded]) + text).digest()
        mac = hashlib.sha1(bytes([b ^ 0x5C for b in padded]) + inner).digest()
        at = mac[19] & 15
        number = int.from_bytes(mac[at : at + 4], "big") % (1 << 31)
        equal(code(secret, 7, 6), b"%06d" % (number % 1000000))
        if length > 64:
            key = hashlib.sha256(secret).digest()
            equal(code(secret, 7, 6, "sha256"), code(key, 7, 6, "sha256"))


def test_the_window_of_hotp():
    # From 2^30 on a counter is no small integer, from 2^31 on it is no word of a chip of 32 bits.
    for first in (0, 5, (1 << 30) - 5, (1 << 31) - 5, 1 << 31, (1 << 32) - 12):
        codes = Codes(made(counters={"otp_step": first} if first else None))
        for ahead in range(10):
            equal(
                codes.verify(code(SECRET, first + ahead, 6), None), ("otp_step", first + ahead + 1)
            )
        for counter in (first - 1, first + 11, first + 10):
            if counter >= 0:
                equal(codes.verify(code(SECRET, counter, 6), None), None)
        equal(codes.verify(b"000000", 1 << 30), None)
        check(not codes.needs_time(None))


def test_no_counter_is_valid_twice():
    vault = made()
    codes = Codes(vault)
    name, to = codes.verify(code(SECRET, 3, 6), None)
    vault.advance(name, to)
    for counter in range(4):
        equal(codes.verify(code(SECRET, counter, 6), None), None)
    equal(codes.verify(code(SECRET, 4, 6), None), ("otp_step", 5))


def in_turn(codes, *typed):
    """What the last of these attempts opens; none before it opens anything."""
    for each in typed[:-1]:
        equal(codes.verify(each, None), None)
    return codes.verify(typed[-1], None)


def test_resynchronisation():
    """Two codes in a row, further ahead than one alone may lie (RFC 4226 §7.4)."""
    for first in (0, 5, (1 << 31) - 50):
        codes = Codes(made(counters={"otp_step": first} if first else None))
        for ahead in (10, 11, 50, 98):
            pair = [code(SECRET, first + ahead + more, 6) for more in (0, 1)]
            equal(in_turn(codes, *pair), ("otp_step", first + ahead + 2))
    codes = Codes(made())
    far = [code(SECRET, counter, 6) for counter in range(103)]
    # Any other code between them, the same once more, the other way round, one left out.
    equal(in_turn(codes, far[50], b"000000", far[51]), None)
    equal(in_turn(codes, b"000000", far[60], far[60]), None)
    equal(in_turn(codes, b"000000", far[71], far[70]), None)
    equal(in_turn(codes, b"000000", far[80], far[82]), None)
    # Past the larger window no code counts, not as the second either.
    equal(in_turn(codes, b"000000", far[99], far[100]), None)
    equal(in_turn(codes, b"000000", far[101], far[102]), None)
    # Three in a row: the last two are two.
    equal(in_turn(codes, b"000000", far[20], b"000000", far[21], far[22]), ("otp_step", 23))
    # Nothing of it outlives a start.
    vault = made()
    equal(in_turn(Codes(vault), far[50]), None)
    equal(in_turn(Codes(vault), far[51]), None)


def test_resynchronisation_of_both_secrets():
    codes = Codes(made(duress=OTHER))
    equal(in_turn(codes, code(OTHER, 40, 6), code(OTHER, 41, 6)), ("otp_duress", 42))
    # One code of each is no pair.
    for one, two in ((SECRET, OTHER), (OTHER, SECRET)):
        equal(in_turn(codes, b"000000", code(one, 40, 6), code(two, 41, 6)), None)


def test_totp_has_no_resynchronisation():
    now = 1111111111
    step = now // 30
    codes = Codes(made(30))
    for ahead in (2, 3, 4, 5):
        equal(codes.verify(code(SECRET, step + ahead, 6), now), None)


def test_the_drift_of_totp():
    now = 1111111111
    step = now // 30
    codes = Codes(made(30))
    for off in (-1, 0, 1):
        equal(codes.verify(code(SECRET, step + off, 6), now), ("otp_step", step + off + 1))
    for off in (-3, -2, 2, 3):
        equal(codes.verify(code(SECRET, step + off, 6), now), None)


def test_no_step_is_valid_twice():
    now = 1111111111
    step = now // 30
    vault = made(30)
    codes = Codes(vault)
    vault.advance("otp_step", codes.verify(code(SECRET, step, 6), now)[1])
    # The same one, the one before it, and both of them once the clock went back.
    for time in (now, now - 30, now - 86400):
        for off in (-1, 0):
            equal(codes.verify(code(SECRET, step + off, 6), time), None)
    equal(codes.verify(code(SECRET, step + 1, 6), now), ("otp_step", step + 2))
    vault.advance("otp_step", step + 2)
    for off in (-1, 0, 1):
        equal(codes.verify(code(SECRET, step + off, 6), now), None)


def test_totp_without_a_time():
    codes = Codes(made(30))
    check(codes.needs_time(None) and not codes.needs_time(59))
    for step in range(3):
        equal(codes.verify(code(SECRET, step, 6), None), None)


def test_steps_of_another_length():
    codes = Codes(made(60, digits=8))
    equal(codes.verify(code(SECRET, 100, 8), 6030), ("otp_step", 101))


def test_sha256():
    codes = Codes(made(tail=("sha256",)))
    equal(codes.verify(code(SECRET, 0, 6, "sha256"), None), ("otp_step", 1))
    equal(codes.verify(code(SECRET, 0, 6), None), None)


def test_firmware_without_sha1():
    """It comes with the firmware's TLS, as a rule. Said at the start, not at the door."""

    class Hashes:
        sha256 = hashlib.sha256

    vault, other = made(), made(tail=("sha256",))
    real, codes_module.hashlib = codes_module.hashlib, Hashes
    try:
        raises("no-board", Codes, vault)
        equal(Codes(other).verify(code(SECRET, 0, 6, "sha256"), None), ("otp_step", 1))
    finally:
        codes_module.hashlib = real


def test_duress_has_a_counter_of_its_own():
    vault = made(duress=OTHER, counters={"otp_step": 500})
    codes = Codes(vault)
    equal(codes.verify(code(OTHER, 0, 6), None), ("otp_duress", 1))
    vault.advance("otp_duress", 1)
    equal(codes.verify(code(OTHER, 0, 6), None), None)
    equal(codes.verify(code(SECRET, 500, 6), None), ("otp_step", 501))
    # Without the second secret nothing of it opens.
    equal(Codes(made()).verify(code(OTHER, 0, 6), None), None)


def test_every_counter_is_compared():
    """The work does not tell which secret it was, nor which counter, nor whether any."""
    codes = Codes(made(duress=OTHER))
    real, calls = codes_module.equal, []

    def counted(a, b):
        calls.append(1)
        return real(a, b)

    codes_module.equal = counted
    try:
        for typed in (
            code(SECRET, 0, 6),
            code(SECRET, 9, 6),
            code(OTHER, 4, 6),
            code(SECRET, 50, 6),
            b"000000",
        ):
            calls.clear()
            codes.verify(typed, None)
            equal(len(calls), 200)
    finally:
        codes_module.equal = real
