"""Every error that the host raises on purpose.

The code (a slug) says what was refused. Where the meaning is the same as on the device the slug is
the same too, so one page explains both. No text of an error ever holds a secret: texts end up in
logs and on screens.
"""

# Codes shared with the device's registry (lib/warden/errors.py): same word, same meaning.
SHARED = frozenset(
    {
        "bad-argument",
        "bad-body",
        "bad-name",
        "bad-policy",
        "bad-topic",
        "cbor-limit",
        "cbor-malformed",
        "cbor-not-canonical",
        "cose-algorithm",
        "cose-malformed",
        "counter-exhausted",
        "filesystem",
        "image-mismatch",
        "mqtt-too-large",
        "no-session",
        "old-manifest",
        "old-session",
        "plain-refused",
        "replayed",
        "retained",
        "sealed-refused",
        "suit-component",
        "suit-digest",
        "suit-limit",
        "suit-malformed",
        "suit-unsupported",
        "tampered",
        "unreachable",
        "wrong-application",
        "wrong-device",
    }
)
# The host's own codes.
OWN = frozenset(
    {
        "app-exists",
        "app-unknown",
        "bad-code",
        "bad-json",
        "broker-failed",
        "broker-missing",
        "broker-port",
        "broker-refused",
        "broker-running",
        "command-refused",
        "config-malformed",
        "control-malformed",
        "database-damaged",
        "device-exists",
        "device-running",
        "device-unknown",
        "fleet-exists",
        "fleet-missing",
        "flooded",
        "group-unknown",
        "image-failed",
        "internal-error",
        "key-damaged",
        "key-missing",
        "key-permissions",
        "micropython-missing",
        "not-applicable",
        "not-enrolled",
        "not-serving",
        "passphrase-wrong",
        "provision-failed",
        "quarantined",
        "registry-damaged",
        "release-exists",
        "release-key",
        "release-missing",
        "reserved-command",
        "revoked",
        "rollout-running",
        "rollout-unknown",
        "stale-hello",
        "timed-out",
        "tree-missing",
    }
)
CODES = SHARED | OWN


class HostError(Exception):
    """code: the slug. text: what happened and why. hint: what to do. None holds a secret."""

    def __init__(self, code: str, text: str = "", hint: str = "") -> None:
        if code not in CODES:
            raise ValueError("unregistered error code " + code)
        super().__init__(code, text, hint)
        self.code = code
        self.text = text
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.code}: {self.text}" if self.text else self.code


def unexpected(error: BaseException) -> HostError:
    """For an exception that nobody foresaw: its name alone, since its text may hold a secret."""
    return HostError(
        "internal-error", f"{type(error).__name__} in the authority", "report this as a bug"
    )
