"""The CAs and pins that a device accepts, and the check of a server's certificates by them."""

from micropython import const

from ..errors import ensure

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable


class TrustAnchors:
    """The CAs and the keys that this device accepts.

    cas: CA certificates, DER, one at least. pins: SHA-256 digests of a server's
    SubjectPublicKeyInfo, 32 bytes, two at least; a pin that ends has its end behind it, unix
    seconds in 8 bytes, big-endian. Raises UsageError bad-argument.
    """

    def __init__(self, cas: "list[bytes]", pins: "list[bytes]") -> None:
        ensure(len(cas) > 0, "bad-argument", "no CA: a server can't be checked without one")
        # With a single pin the device is lost when the server's key is.
        ensure(len(pins) >= 2, "bad-argument", "a live pin and a backup pin are needed")
        for pin in pins:
            ensure(len(pin) in (32, 40), "bad-argument", "a pin is a SHA-256 digest, 32 bytes")
        self.cas = cas
        self.pins = pins

    def load(self, context: "Any") -> None:
        """Load the CAs into the TLS context of a new connection. ValueError where it can't."""
        for ca in self.cas:
            context.load_verify_locations(ca)


class Verifier:
    """The hand-shake's certificate callback.

    It never raises, which would leak 2 KB inside the firmware: `refusal` keeps the error code.
    seen: certificates so far. anchored: one of them was a CA of ours. pinned: 1 after the leaf
    matched a pin. leaf: the digest that matched. not_before, not_after: dates of the whole chain,
    unix seconds. now: the device's time. pin_end: when the pin that matched ends, or 0.
    """

    def __init__(self, trust: TrustAnchors) -> None:
        from .chain import check

        self.trust = trust
        self._check: "Callable[..., str]" = check
        self.anchored = False
        self.seen = 0
        self.pinned = 0
        self.not_before = 0
        self.not_after = (1 << 62) - 1
        self.refusal = ""
        self.now = self.pin_end = 0
        self.leaf = b""

    def __call__(self, data: memoryview, depth: int) -> int:
        """Check one certificate, from the chain's root down to the leaf: return 1 to refuse, or 0.

        data: DER. depth: 0 for the leaf.
        """
        if not self.refusal:
            self.refusal = self._check(self, self.trust, data, depth)
        return 1 if self.refusal else 0

    def end(self) -> None:
        """Refuse any certificate that is shown after the hand-shake, and let go of the checks."""
        self._check = _refuse


def _refuse(*_: object) -> str:
    return "pin-mismatch"
