"""The CAs and pins that a device accepts, and the check of a server's certificates by them."""

from micropython import const

from ..errors import PeerError, ensure
from ..wire import x509

_MAX_CHAIN = const(6)


class TrustAnchors:
    """The CAs and the keys that this device accepts.

    cas: CA certificates, DER, one at least. pins: SHA-256 digests of a server's
    SubjectPublicKeyInfo, 32 bytes, two at least. Raises UsageError bad-argument.
    """

    def __init__(self, cas: "list[bytes]", pins: "list[bytes]") -> None:
        ensure(len(cas) > 0, "bad-argument", "no CA: a server can't be checked without one")
        # With a single pin the device is lost when the server's key is.
        ensure(len(pins) >= 2, "bad-argument", "a live pin and a backup pin are needed")
        for pin in pins:
            ensure(len(pin) == 32, "bad-argument", "a pin is a SHA-256 digest, 32 bytes")
        self.cas = cas
        self.pins = pins


class Verifier:
    """The hand-shake's certificate callback.

    It never raises, which would leak 2 KB inside the firmware: `refusal` keeps the error code.
    seen: certificates so far. pinned: 1 after the leaf matched a pin. leaf: the pin that matched.
    not_before, not_after: dates of the whole chain, unix seconds.
    """

    def __init__(self, trust: TrustAnchors) -> None:
        self._trust = trust
        self._anchored = False
        self.seen = 0
        self.pinned = 0
        self.not_before = 0
        self.not_after = (1 << 62) - 1
        self.refusal = ""
        self.leaf = b""

    def __call__(self, data: memoryview, depth: int) -> int:
        """Check one certificate, from the chain's root down to the leaf: return 1 to refuse, or 0.

        data: DER. depth: 0 for the leaf.
        """
        if not self.refusal:
            self.refusal = self._check(data, depth)
        return 1 if self.refusal else 0

    def _check(self, data: memoryview, depth: int) -> str:
        self.seen += 1
        if self.seen > _MAX_CHAIN:
            return "certificate-malformed"
        if not len(data):
            return "certificate-unsupported"  # the TLS stack left out what it can't read
        try:
            # Read in the TLS stack's own memory: a copy would take kilobytes in the hand-shake.
            _, not_before, not_after = x509.fields(data)
            self.not_before = max(self.not_before, not_before)
            self.not_after = min(self.not_after, not_after)
            if data in self._trust.cas:
                self._anchored = True
            if depth:
                return ""
            if not self._anchored:
                return "certificate-untrusted"
            self.leaf = x509.spki_pin(data)
            if self.leaf not in self._trust.pins:
                return "pin-mismatch"
        except PeerError as error:
            return error.code
        except MemoryError:
            return "tls-failed"
        self.pinned += 1
        return "" if self.pinned == 1 else "pin-mismatch"
