"""The certificate callback: what it refuses, that it never raises, and the codes of refusals."""

import errno
import hashlib

from harness import check, equal, raises
from test_x509 import SPKI, certificate, dated
from warden.net.failures import explain
from warden.net.verifier import TrustAnchors, Verifier

CA = certificate(serial=b"\x02\x01\x01")
LEAF = certificate()
PIN = hashlib.sha256(SPKI).digest()
BACKUP = bytes(32)
TRUST = TrustAnchors([CA], [PIN, BACKUP])


def shown(*chain, trust=TRUST):
    """The verifier after a chain, root first, and its answers."""
    verifier = Verifier(trust)
    answers = [
        verifier(memoryview(der), len(chain) - 1 - place) for place, der in enumerate(chain)
    ]
    return verifier, answers


def test_a_good_chain():
    verifier, answers = shown(CA, LEAF)
    equal((answers, verifier.pinned, verifier.refusal), ([0, 0], 1, ""))
    check(verifier.not_before < verifier.not_after)


def test_the_pin_counts_at_the_leaf_alone():
    other = certificate(spki=b"\x30\x03\x02\x01\x07")
    # The pinned key stands in the CA, the leaf has another.
    verifier, answers = shown(CA, other)
    equal((answers, verifier.refusal, verifier.pinned), ([0, 1], "pin-mismatch", 0))


def test_a_pin_with_an_end():
    ending = PIN + (1000).to_bytes(8, "big")
    trust = TrustAnchors([CA], [BACKUP, ending])
    for now, code in ((999, ""), (1000, "pin-expired"), (1 << 33, "pin-expired")):
        verifier = Verifier(trust)
        verifier.now = now
        verifier(memoryview(CA), 1)
        equal((verifier(memoryview(LEAF), 0), verifier.refusal), (1 if code else 0, code))
        equal((verifier.pin_end, verifier.pinned), (1000, 0 if code else 1))
    raises("bad-argument", TrustAnchors, [CA], [BACKUP, ending[:36]])


def test_an_anchor_is_needed():
    verifier, answers = shown(certificate(serial=b"\x02\x01\x09"), LEAF)
    equal((answers, verifier.refusal), ([0, 1], "certificate-untrusted"))
    # A server that is its own CA, and pinned: loaded as a CA, it is one.
    verifier, answers = shown(LEAF, trust=TrustAnchors([LEAF], [PIN, BACKUP]))
    equal((answers, verifier.pinned), ([0], 1))


def test_exactly_one_match():
    verifier, _ = shown(CA, LEAF)
    equal((verifier(memoryview(LEAF), 0), verifier.refusal), (1, "pin-mismatch"))


def test_no_certificate_after_the_hand_shake():
    verifier, _ = shown(CA, LEAF)
    verifier.end()
    equal((verifier(memoryview(CA), 1), verifier.refusal), (1, "pin-mismatch"))
    equal((verifier(memoryview(LEAF), 0), verifier.pinned), (1, 1))


def test_a_refusal_is_final():
    verifier, _ = shown(certificate(serial=b"\x02\x01\x09"), LEAF)
    equal(verifier(memoryview(CA), 1), 1)
    equal(verifier.refusal, "certificate-untrusted")


def test_garbage_and_sizes():
    # What the TLS stack can't read, it shows as nothing.
    verifier, answers = shown(CA, b"")
    equal((answers[-1], verifier.refusal), (1, "certificate-unsupported"))
    for der in (b"\x30", bytes(300), LEAF[:-1], LEAF + b"\0"):
        verifier, answers = shown(CA, der)
        equal((answers[-1], verifier.refusal), (1, "certificate-malformed"))
    verifier, answers = shown(CA, bytes(5000))
    equal(verifier.refusal, "certificate-malformed")
    verifier, answers = shown(*([CA] * 7))
    equal((answers[-1], verifier.refusal), (1, "certificate-malformed"))


def test_dates_of_the_whole_chain():
    early = dated(b"\x17\x0d210101000000Z")
    verifier, _ = shown(CA, early)
    late = shown(CA, LEAF)[0]
    check(verifier.not_before > late.not_before)


def test_explanations():
    failed = OSError(-9984, "The certificate validity starts in the future")
    verifier, _ = shown(CA, LEAF)
    equal(explain(verifier, failed, verifier.not_before - 1), "certificate-not-yet-valid")
    equal(explain(verifier, failed, verifier.not_after + 1), "certificate-expired")
    name = ValueError("The certificate Common Name (CN) does not match with the expected CN")
    equal(explain(verifier, name, verifier.not_before), "certificate-name")
    # Dates of a certificate that our CA did not sign are not worth trying.
    unsigned = ValueError("The certificate is not correctly signed by the trusted CA")
    equal(explain(verifier, unsigned, verifier.not_before - 1), "certificate-untrusted")
    equal(explain(Verifier(TRUST), ValueError("x"), 0), "tls-failed")
    # Signatures that the TLS stack does not know: of a CA of ours, and of what the server shows.
    equal(explain(Verifier(TRUST), ValueError("invalid cert"), 0), "certificate-unsupported")
    for number in (-8320, -8960, -9774, -12288, -12393):
        equal(explain(Verifier(TRUST), OSError(number), 0), "certificate-unsupported")
    for number in (-8319, -12416, -30592):
        equal(explain(Verifier(TRUST), OSError(number), 0), "tls-failed")


def test_a_hand_shake_without_memory():
    """What mbedTLS 3.6 says when its allocator fails (its headers; modtls_mbedtls.c turns the
    smallest and that of SSL into positive numbers)."""
    ssl, x509, pk, ecp, md, cipher = errno.ENOMEM, -0x2880, -0x3F80, -0x4D80, -0x5180, -0x6180
    mpi, asn1 = 0x10, 0x6A
    added = (-0x2180 - asn1, -0x3B00 - asn1, -0x4280 - mpi)
    for number in (ssl, x509, pk, ecp, md, cipher, mpi, asn1) + added:
        try:
            explain(Verifier(TRUST), OSError(number), 0)
            check(False, str(number))
        except MemoryError:
            pass
    # What the callback refused stays refused, whatever the stack makes of it.
    refused = Verifier(TRUST)
    refused.refusal = "pin-mismatch"
    equal(explain(refused, OSError(ssl), 0), "pin-mismatch")
    # Positive numbers are the socket's own above that.
    for number in (128 + mpi, 128 + asn1):
        equal(explain(Verifier(TRUST), OSError(number), 0), "tls-failed")


def test_trust():
    raises("bad-argument", TrustAnchors, [], [PIN, BACKUP])
    raises("bad-argument", TrustAnchors, [CA], [PIN])
    raises("bad-argument", TrustAnchors, [CA], [PIN, b"short"])
