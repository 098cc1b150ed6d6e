"""Check the certificates of a hand-shake, one by one. net/dial.py loads it, for its time."""

import hashlib

from micropython import const

from ..errors import PeerError
from ..wire import x509

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .verifier import TrustAnchors, Verifier

_MAX_CHAIN = const(6)
_PIN = const(32)


def check(verifier: "Verifier", trust: "TrustAnchors", data: memoryview, depth: int) -> str:
    """Return the code of what is wrong with a certificate, or ""; note in verifier what it shows.

    The chain comes from its root down to the leaf. data: DER. depth: 0 for the leaf.
    """
    verifier.seen += 1
    if verifier.seen > _MAX_CHAIN:
        return "certificate-malformed"
    if not len(data):
        return "certificate-unsupported"  # the TLS stack left out what it can't read
    try:
        # Read in the TLS stack's own memory: a copy would take kilobytes in the hand-shake.
        key, not_before, not_after = x509.fields(data)
        verifier.not_before = max(verifier.not_before, not_before)
        verifier.not_after = min(verifier.not_after, not_after)
        if data in trust.cas:
            verifier.anchored = True
        if depth:
            return ""
        if not verifier.anchored:
            return "certificate-untrusted"
        verifier.leaf = hashlib.sha256(key).digest()  # RFC 7469 §2.4
        for pin in trust.pins:
            if pin[:_PIN] == verifier.leaf:
                return _match(verifier, pin)
        return "pin-mismatch"
    except PeerError as error:
        return error.code
    except MemoryError:
        return "tls-failed"


def _match(verifier: "Verifier", pin: bytes) -> str:
    """Note the pin that the leaf matches; return the code of what is wrong with it, or ""."""
    if len(pin) > _PIN:
        verifier.pin_end = int.from_bytes(pin[_PIN:], "big")
        if verifier.now >= verifier.pin_end:
            return "pin-expired"
    verifier.pinned += 1
    return "" if verifier.pinned == 1 else "pin-mismatch"
