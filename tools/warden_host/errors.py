"""Errors that the host raises on purpose.

The class says what the caller can do; the code (a slug) says what was refused, and belongs to one
class. `HostError(code)` makes an error of the code's class, as Python's OSError does for an errno.
A code or a class that the device has too means the same there (lib/warden/errors.py), so one page
explains both. No error's text holds a secret: texts end up in logs and on screens.
"""

import errno
from typing import Any, Self

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
    "broker-failed": "see the log in the fleet's folder broker/",
    "broker-missing": "install the broker; docs/brokers.md names the versions",
    "broker-port": "change the port in warden.toml",
    "broker-refused": "look for an account or a role that was changed by hand",
    "broker-running": "stop the other `warden serve` first",
    "clock-jumped": (
        "set this machine's clock right; if it is right now, confirm it with "
        "`warden serve --accept-clock`"
    ),
    "command-refused": "docs/errors.md explains the device's code; this order changed nothing",
    "config-malformed": "put warden.toml right, or restore it",
    "control-malformed": "use the same version of `warden` in both windows",
    "database-damaged": _RESTORE,
    "device-exists": f"choose another ID; {_AGAIN}, and the old ones become invalid",
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
    "stale-hello": "`warden devices --clear DEVICE` lets the authority accept it again",
    "timed-out": "look whether the device is online, `warden devices`, and try again",
    "tree-missing": "install the tool from the repository or from its wheel",
    "unreachable": "look whether the host and the port answer",
    "wrong-device": "choose devices of the release's type",
}


class HostError(Exception):
    """code: the slug. text: what happened and why. hint: what to do. None holds a secret."""

    def __new__(cls, code: str, *_: Any) -> Self:
        """Make an error of the class to which the code belongs."""
        made = _CLASSES.get(code, cls) if cls is HostError else cls
        return super().__new__(made)  # type: ignore[return-value]  # a subclass of cls

    def __init__(self, code: str, text: str = "", hint: str = "") -> None:
        if code not in CODES:
            raise ValueError("unregistered error code " + code)
        super().__init__(code, text, hint)
        self.code = code
        self.text = text
        self.hint = hint or _HINTS.get(code, "")

    def __str__(self) -> str:
        return f"{self.code}: {self.text}" if self.text else self.code


class UsageError(HostError):
    """Wrong use: the caller asks for something else, or prepares the fleet first."""


class PeerError(HostError):
    """A device, the broker or another program refused, or its input is bad."""


class LinkError(PeerError):
    """Something did not arrive, or not whole, in order and in time: try again."""


class StoreError(HostError):
    """This machine, its clock or the fleet's files: look after them."""


class OutOfMemory(HostError):
    """A device had no memory left for it: it may be tried again."""


# The registry. A retired code is never used again for something else.
_OWN: dict[type[HostError], str] = {
    HostError: "internal-error",
    UsageError: """
        app-exists app-unknown bad-argument bad-code bad-json bad-name bad-policy
        broker-missing broker-port broker-running config-malformed control-malformed
        device-exists device-running device-unknown fleet-exists fleet-missing group-unknown
        image-failed micropython-missing not-applicable not-enrolled not-serving
        passphrase-wrong release-exists release-key release-missing reserved-command revoked
        rollout-running rollout-unknown tree-missing
    """,
    LinkError: """
        counter-exhausted image-mismatch no-session old-session provision-failed timed-out
        unreachable
    """,
    PeerError: """
        bad-body bad-topic broker-refused cbor-limit cbor-malformed cbor-not-canonical
        command-refused cose-algorithm cose-malformed flooded mqtt-too-large old-manifest
        payload-key plain-refused quarantined replayed retained sealed-refused stale-hello
        suit-component suit-condition suit-digest suit-limit suit-malformed suit-unsupported
        tampered wrong-application wrong-device
    """,
    StoreError: """
        broker-failed clock-jumped database-damaged filesystem key-damaged key-missing
        key-permissions registry-damaged
    """,
}
# Codes that the host does not raise, and whose class it needs when a device answers with them.
_DEVICES: dict[type[HostError], str] = {
    LinkError: """
        busy expired gap link-closed link-taken link-timeout payload-tampered update-chunk
        update-state update-timeout
    """,
    StoreError: """
        already-provisioned counter-limit no-ota not-provisioned randomness root-key slot-damaged
        slot-full slot-unsigned vault-damaged vault-limit vault-unwritten wiped
    """,
    OutOfMemory: "out-of-memory",
}
_CLASSES = {code: cls for cls, codes in _OWN.items() for code in codes.split()}
CODES = frozenset(_CLASSES)
_CLASSES_OF_ALL = _CLASSES | {
    code: cls for cls, codes in _DEVICES.items() for code in codes.split()
}


def class_of(code: str) -> type[HostError]:
    """Return the class of a code, also of one that a device answered: PeerError if unknown."""
    return _CLASSES_OF_ALL.get(code, PeerError)


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
