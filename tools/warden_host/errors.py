"""Errors that the host raises on purpose.

The code (a slug) says what was refused; a code that the device has too means the same there, so
one page explains both. No error's text holds a secret: texts end up in logs and on screens.
"""

import errno

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
        "payload-key",
        "plain-refused",
        "replayed",
        "retained",
        "sealed-refused",
        "suit-component",
        "suit-condition",
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
        "clock-jumped",
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

_RESTORE = "restore it from a backup of the fleet"
_ASK_DEVICES = "`warden devices` lists them; `warden provision` makes one"
_AGAIN = "`warden provision DEVICE --again` gives it all-new secrets"
# Hints for errors that are raised without one of their own.
_HINTS = {
    "app-exists": "choose another ID; `warden app list` shows those that are taken",
    "app-unknown": "`warden app list` shows them; `warden app add` registers one",
    "bad-argument": "the command's --help lists what it takes",
    "bad-code": "type the code that the authenticator shows now; set this machine's clock right",
    "bad-json": """give one object in single quotes, such as '{"on": 1}'""",
    "bad-name": "1 to 32 of A-Z a-z 0-9 _ - in an ID, of a-z 0-9 _ in a command",
    "broker-failed": "see broker/mosquitto.log in the fleet",
    "broker-missing": "install mosquitto 2.0 or newer, with its dynamic-security plugin",
    "broker-port": "change the port in warden.toml",
    "broker-refused": "look for an account or a role that was changed by hand",
    "broker-running": "stop the other `warden serve` first",
    "clock-jumped": "set this machine's clock right",
    "command-refused": "docs/errors.md explains the device's code; this order changed nothing",
    "config-malformed": "put warden.toml right, or restore it",
    "control-malformed": "use the same version of `warden` in both windows",
    "database-damaged": _RESTORE,
    "device-exists": "choose another ID, or replace it with --again",
    "device-running": "stop the other `warden run` first",
    "device-unknown": _ASK_DEVICES,
    "fleet-exists": "choose another folder",
    "fleet-missing": "make a fleet with `warden init FLEET`, or name one with --fleet",
    "flooded": "find out why the device sends so much; `warden revoke` cuts it off",
    "group-unknown": "`warden group list` shows them; `warden group add` makes one",
    "image-failed": "change the file or folder that is named; see docs/update.md",
    "internal-error": "report this as a bug",
    "key-damaged": _RESTORE,
    "key-missing": _RESTORE,
    "key-permissions": "chmod 600, as the fleet's owner, and ask who could read it until now",
    "micropython-missing": "run `make setup`, or name the unix port's binary in MICROPYTHON",
    "no-session": "wait until the device is online: `warden devices`",
    "not-applicable": "`warden devices` shows the device's mode and state",
    "not-enrolled": "`warden otp enrol DEVICE` makes a secret",
    "not-serving": "start `warden serve`, and give the same command again",
    "passphrase-wrong": "give the right one, by prompt or --passphrase-file",
    "provision-failed": "give the same command again once the cause is gone",
    "quarantined": "look at the device, then `warden devices --clear DEVICE`",
    "registry-damaged": _RESTORE,
    "release-exists": "choose the next version",
    "release-key": "`warden keys list` shows this fleet's keys",
    "release-missing": "`warden release` makes one; restore its folder from a backup",
    "reserved-command": "give the command another name",
    "revoked": _AGAIN,
    "rollout-running": "stop the other one first: `warden rollouts --stop N`",
    "rollout-unknown": "`warden rollouts` lists them",
    "stale-hello": "a device that stays mute needs `warden devices --clear DEVICE`",
    "timed-out": "look whether the device is online, `warden devices`, and try again",
    "tree-missing": "install the tool from the repository or from its wheel",
    "unreachable": "look whether the host and the port answer",
    "wrong-device": "choose devices of the release's type",
}


class HostError(Exception):
    """code: the slug. text: what happened and why. hint: what to do. None holds a secret."""

    def __init__(self, code: str, text: str = "", hint: str = "") -> None:
        if code not in CODES:
            raise ValueError("unregistered error code " + code)
        super().__init__(code, text, hint)
        self.code = code
        self.text = text
        self.hint = hint or _HINTS.get(code, "")

    def __str__(self) -> str:
        return f"{self.code}: {self.text}" if self.text else self.code


def internal_error(error: BaseException) -> HostError:
    """Return the HostError for an unforeseen exception: its name; its text may hold a secret."""
    return HostError(
        "internal-error", f"{type(error).__name__} in the authority", "report this as a bug"
    )


_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def filesystem_error(error: OSError) -> HostError:
    """Return the HostError for what the filesystem refused."""
    where = f": {error.filename}" if error.filename else ""
    hint = "look at the file or folder that is named, and give the same command again"
    if error.errno in _FULL:
        hint = "free some space, and give the same command again"
    elif error.errno in _DENIED:
        hint = "run it as the fleet's owner, and look at the folder's mode"
    return HostError("filesystem", f"{error.strerror or type(error).__name__}{where}", hint)
