"""Errors of the host's side of the link: applications raise them, and the tool `warden`.

The class says what the caller can do; the code (a slug) says what was refused, and belongs to one
class. `HostError(code)` makes an error of the code's class, as Python's OSError does for an errno.
A code or a class that the device has too means the same there (lib/warden/errors.py), so one page
explains both: docs/errors.md. No error's text holds a secret: texts end up in logs and on screens.
"""

import errno
from typing import Any, Self


class HostError(Exception):
    """code: the slug. text: what happened and why. hint: what to do. None holds a secret."""

    def __new__(cls, code: str, *_: Any) -> Self:
        """Make an error of the class to which the code belongs."""
        made = _classes.get(code, cls) if cls is HostError else cls
        return super().__new__(made)  # type: ignore[return-value]  # a subclass of cls

    def __init__(self, code: str, text: str = "", hint: str = "") -> None:
        if code not in _classes:
            raise ValueError("unregistered error code " + code)
        super().__init__(code, text, hint)
        self.code = code
        self.text = text
        self.hint = hint or _hints.get(code, "")

    def __str__(self) -> str:
        return f"{self.code}: {self.text}" if self.text else self.code


class UsageError(HostError):
    """Wrong use: the caller asks for something else, or prepares what is missing first."""


class PeerError(HostError):
    """A device, the broker or another program refused, or its input is bad."""


class LinkError(PeerError):
    """Something did not arrive, or not whole, in order and in time: try again."""


class StoreError(HostError):
    """This machine, its clock or its files: look after them."""


class OutOfMemory(HostError):
    """A device had no memory left for it: it may be tried again."""


# A retired code is never used again for something else.
_OWN: dict[type[HostError], str] = {
    UsageError: """
        app-running bad-argument bad-json bad-name device-unknown not-applicable
        reserved-command
    """,
    LinkError: "counter-exhausted gap no-session old-session timed-out unreachable",
    PeerError: """
        bad-body bad-topic broker-refused cbor-limit cbor-malformed cbor-not-canonical
        certificate-untrusted cose-algorithm cose-malformed mqtt-too-large pin-mismatch
        plain-refused quarantined replayed retained sealed-refused stale-hello tampered
        wrong-application
    """,
    StoreError: "clock-jumped filesystem key-damaged key-missing key-permissions",
}
# Codes that the host's side does not raise, and whose class it needs when a device answers with
# them.
_DEVICES: dict[type[HostError], str] = {
    LinkError: """
        busy dns-failed expired link-closed link-taken link-timeout mqtt-unavailable outbox-full
        payload-tampered token-unavailable update-chunk update-state update-timeout
    """,
    StoreError: """
        already-provisioned counter-limit no-ota not-provisioned randomness root-key
        slot-damaged slot-full slot-unsigned vault-damaged vault-limit vault-unwritten wiped
    """,
    OutOfMemory: "out-of-memory",
}
_classes: dict[str, type[HostError]] = {}
_hints: dict[str, str] = {}


def register(codes: dict[type[HostError], str], hints: dict[str, str]) -> None:
    """Add a program's own codes, and the hints of errors that are raised without one.

    codes: class → codes, separated by spaces.
    """
    for cls, text in codes.items():
        _classes.update(dict.fromkeys(text.split(), cls))
    _hints.update(hints)


def registered() -> frozenset[str]:
    """Return every code that may be raised."""
    return frozenset(_classes)


register(_OWN, {})
CLASSES_OF_DEVICES = {code: cls for cls, codes in _DEVICES.items() for code in codes.split()}


def class_of(code: str) -> type[HostError]:
    """Return the class of a code, also of one that a device answered: PeerError if unknown."""
    return _classes.get(code) or CLASSES_OF_DEVICES.get(code, PeerError)


_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def filesystem_error(error: OSError) -> HostError:
    """Return the HostError for what the filesystem refused."""
    where = f": {error.filename}" if error.filename else ""
    hint = "look at the file or folder that is named, and give the same command again"
    if error.errno in _FULL:
        hint = "free some space, and give the same command again"
    elif error.errno in _DENIED:
        hint = "run it as the file's owner, and look at the folder's mode"
    return HostError("filesystem", f"{error.strerror or type(error).__name__}{where}", hint)
