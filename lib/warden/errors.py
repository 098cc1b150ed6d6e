"""Every error that Warden raises, and its code.

The class says what the caller can do; the code (a slug) says what was refused and never changes
its meaning. Each code belongs to one class.

UsageError    wrong use: fix the caller. Never reaches the incident log.
LinkError     something did not arrive, or not whole, in order and in time: try again.
PeerError     refused by a peer, or bad input: the same again is refused again.
StoreError    this board's storage, root key or randomness: look after the board.
OutOfMemory   no memory left for it: leave more, and try again.

A LinkError is a PeerError too, so that `except PeerError` around a call that uses the network
catches both. No text of an error holds a secret: texts end up in logs and on screens.
`docs/errors.md` explains each code; a test holds that page and this registry together.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    # The registry: for readers and for the tests, which read the source; it takes no memory on the
    # device. A retired slug is never used again for something else.
    USAGE = (
        "bad-argument",
        "bad-name",
        "bad-policy",
        "bad-credential",
        "bad-bundle",
        "no-board",
        "no-network",
        "closed",
    )
    LINK = (
        # connection
        "unreachable",
        "dns-failed",
        "mqtt-unavailable",
        "link-timeout",
        "link-closed",
        "link-taken",
        # messages
        "no-session",
        "old-session",
        "counter-exhausted",
        "gap",
        "busy",
        "expired",
        "outbox-full",
        "token-unavailable",
        # updates
        "update-state",
        "update-chunk",
        "update-timeout",
        "image-mismatch",
        "payload-tampered",
    )
    PEER = (
        # formats
        "cbor-malformed",
        "cbor-not-canonical",
        "cbor-limit",
        "cose-malformed",
        "cose-algorithm",
        "certificate-malformed",
        "mqtt-malformed",
        "mqtt-too-large",
        "mqtt-refused",
        "token-refused",
        "token-malformed",
        "token-failed",
        # updates
        "suit-malformed",
        "suit-unsupported",
        "suit-limit",
        "suit-digest",
        "suit-condition",
        "suit-component",
        "wrong-device",
        "old-manifest",
        "payload-key",
        "https-address",
        "https-status",
        "https-range",
        "https-malformed",
        "firmware-unsigned",
        "firmware-key",
        "firmware-invalid",
        # link
        "no-tls",
        "tls-failed",
        "tls-address",
        "certificate-untrusted",
        "certificate-expired",
        "certificate-not-yet-valid",
        "certificate-name",
        "certificate-unsupported",
        "certificate-too-large",
        "certificate-dates",
        "time-ahead",
        "pin-mismatch",
        "pin-expired",
        "own-certificate-missing",
        "own-certificate-refused",
        "own-certificate-expired",
        "own-certificate-expires",
        # messages
        "bad-topic",
        "retained",
        "plain-refused",
        "sealed-refused",
        "wrong-application",
        "replayed",
        "tampered",
        "bad-body",
        "not-allowed",
        "unknown-command",
        "command-failed",
        "unexpected",
        "policy-mismatch",
        "incident-overflow",
        "incident-dropped",
        "app-flood",
        "tamper-detected",
        "device-locked",
        "gate-shut",
        "gate-open",
        "otp-wrong",
        "otp-locked",
        "otp-no-keypad",
        "duress",
        "keypad-failed",
        "app-failed",
        "development",
        "rotation-failed",
        "rotation-expired",
        "old-pins",
        "pins-replaced",
        "wifi-failed",
        "captive-portal",
        "policy-failed",
    )
    STORE = (
        "not-provisioned",
        "already-provisioned",
        "vault-damaged",
        "vault-limit",
        "vault-unwritten",
        "counter-limit",
        "root-key",
        "wiped",
        "filesystem",
        "randomness",
        "slot-damaged",
        "slot-full",
        "slot-unsigned",
        "no-ota",
    )
    MEMORY = ("out-of-memory",)


class WardenError(Exception):
    """code: the slug. text: what happened, why, and what to do; without secrets."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return self.code + ": " + self.text if self.text else self.code


class UsageError(WardenError):
    """Wrong use: the caller has a bug."""


class PeerError(WardenError):
    """A peer refused, or its input is bad."""


class LinkError(PeerError):
    """Something did not arrive, or not whole, in order and in time: try again."""


class StoreError(WardenError):
    """The flash, the root key or the chip failed."""


class OutOfMemory(WardenError):
    """No memory is left for it."""


def ensure(ok: object, code: str, text: str = "") -> None:
    """Raise UsageError unless `ok`: a caller's contract, kept under -O, where `assert` is not."""
    if not ok:
        raise UsageError(code, text)
