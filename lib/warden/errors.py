"""Every error that Warden raises, and its code.

The type says whose fault it is; the code (a slug) says what was refused and never changes its meaning.

UsageError   our caller's bug: a wrong argument, a missing registration. Never reaches the incident log.
PeerError    hostile or broken input: the network, a server, an application.
StoreError   the flash, the root key, the chip's randomness.

No text of an error ever holds a secret: texts end up in logs and on screens.
`docs/errors.md` tells what each code means and what to do; a test holds that page and this registry together.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    # The registry: for readers and for the tests, which read the source; it takes no memory on the device. A retired slug is never
    # used again for something else.
    USAGE = (
        "bad-argument",
        "bad-name",
        "bad-policy",
        "bad-credential",
        "bad-bundle",
        "no-board",
        "closed",
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
        # updates
        "suit-malformed",
        "suit-unsupported",
        "suit-limit",
        "suit-digest",
        "suit-condition",
        "suit-component",
        "wrong-device",
        "old-manifest",
        "update-state",
        "update-chunk",
        "update-timeout",
        "image-mismatch",
        "payload-key",
        "payload-tampered",
        "https-address",
        "https-status",
        "https-range",
        "https-malformed",
        "firmware-unsigned",
        "firmware-key",
        "firmware-invalid",
        # link
        "unreachable",
        "link-timeout",
        "link-closed",
        "link-taken",
        "tls-failed",
        "tls-address",
        "certificate-untrusted",
        "certificate-expired",
        "certificate-not-yet-valid",
        "certificate-name",
        "certificate-unsupported",
        "certificate-dates",
        "pin-mismatch",
        # messages
        "bad-topic",
        "retained",
        "plain-refused",
        "sealed-refused",
        "wrong-application",
        "no-session",
        "old-session",
        "replayed",
        "gap",
        "tampered",
        "bad-body",
        "expired",
        "not-allowed",
        "unknown-command",
        "command-failed",
        "unexpected",
        "policy-mismatch",
        "counter-exhausted",
        "busy",
        "incident-overflow",
        "gate-shut",
        "gate-open",
        "otp-wrong",
        "otp-locked",
        "otp-no-keypad",
        "duress",
        "keypad-failed",
        "rotation-failed",
        "rotation-expired",
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


class WardenError(Exception):
    """code: the slug. text: what happened and what to do, without secrets."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return self.code + ": " + self.text if self.text else self.code


class UsageError(WardenError):
    """The caller's bug."""


class PeerError(WardenError):
    """Hostile or broken input."""


class StoreError(WardenError):
    """The flash, the root key or the chip failed."""


def ensure(ok: object, code: str, text: str = "") -> None:
    """A caller's contract, kept even under -O, where `assert` is deleted."""
    if not ok:
        raise UsageError(code, text)
