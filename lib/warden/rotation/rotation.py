"""Rotation of secrets: the old one stays valid until the new one proves itself, then it goes.

Rules: docs/protocol.md, Rotation. The vault's record `rotation` holds what is pending. At every
power cut the device has the old secrets and the pending new ones, or the new ones alone. A
rotation after a compromise has a deadline: then the new secrets replace the old, proven or not.

New release keys replace the old ones at once, by the commit that accepts the command: they prove
nothing on a link, and the authority can correct wrong ones over it. To keep an old key for a time,
the command lists it beside the new one.
"""

import hashlib

from micropython import const

from ..errors import LinkError, PeerError, UsageError
from ..vault import records
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault

_FORMAT = const(1)
_FIELDS = const(("id", "password", "trust", "apps", "deadline", "release"))
_MAX_ID = const((1 << 32) - 1)
_DEADLINE_S = const((60, 30 * 86400))
_MAX_RECORD = const(4096)
# A new password or new pins that were refused so often are not tried first again.
_MOST_REFUSALS = const(3)


def prepare(vault: "Vault", args: "dict[str, Any]", live_pin: bytes, now: int) -> bool:
    """Store a `rotate` command's release keys in place, its other secrets as pending: one commit.

    args: of the command. live_pin: of the server at the other end of this connection, 32 bytes.
    now: unix seconds. Return False for the command that was accepted last, sent again.
    PeerError bad-body, unexpected; LinkError busy.
    """
    for name in args:
        _require(name in _FIELDS)
    id: "Any" = args.get("id")
    _require(_is_number(id, 1, _MAX_ID))
    taken, pending = vault.counter("rotation"), vault.get("rotation")
    digest = hashlib.sha256(cbor.encode(args)).digest()
    if id < taken:
        raise PeerError("unexpected")
    if id == taken:
        # Its reply was lost, or the authority asks what is pending.
        if pending is not None:
            fields: "Any" = cbor.decode(pending)
            _require(fields[2] == digest)
        return False
    if pending is not None:
        raise LinkError("busy")

    password, trust, apps, deadline, release = [args.get(name) for name in _FIELDS[1:]]
    waits = password is not None or trust is not None or apps is not None
    _require(waits or release is not None)
    if password is not None:
        _require(isinstance(password, bytes) and 0 < len(password) <= 4000)
        _require(password != records.load(vault, "broker")[3])
    if trust is not None:
        _check_record(trust, "trust")
        # Without the key of the server at the other end, no command could correct these pins.
        _require(live_pin in trust[1])
    if apps is not None:
        _check_apps(vault, apps)
    if deadline is not None:
        _require(_is_number(deadline, *_DEADLINE_S))
        deadline += now
    changes: "dict[str, bytes | None]" = {}
    if waits:
        record = cbor.encode([_FORMAT, id, digest, password, trust, apps or {}, deadline])
        _require(len(record) <= _MAX_RECORD)
        changes["rotation"] = record
    if release is not None:
        _check_record(release, "release")
        changes["release"] = cbor.encode(release)
    counters: "dict[str, int]" = {"rotation": id}
    vault.commit(changes, counters)
    return True


def _check_record(value: "Any", what: str) -> None:
    """Check trust anchors or release keys by the rules of a provisioning bundle."""
    from ..provisioning import bundle

    try:
        if what == "trust":
            bundle.check_trust(value)
        else:
            bundle.check_release(value)
    except UsageError:
        raise PeerError("bad-body")


def _check_apps(vault: "Vault", apps: "Any") -> None:
    _require(isinstance(apps, dict) and 0 < len(apps) <= 8)
    seen = []
    for appid, key in apps.items():
        _require(isinstance(appid, str) and isinstance(key, bytes) and len(key) == 32)
        # A key ID names one application: no key may be in use already, or given twice.
        _require("app_" + appid in vault.names() and key not in seen)
        seen.append(key)
    for app in records.load_apps(vault):
        _require(app.key not in seen)


class Rotation:
    """The pending secrets of the vault's record `rotation`, and which of them were tried."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        fields = records.load(vault, "rotation")
        self._head = fields[:3]
        self.password: "bytes | None" = fields[3]
        self.trust: "Any" = fields[4]
        self.apps: "dict[str, bytes]" = fields[5]  # application ID → new key
        self.deadline: "int | None" = fields[6]  # unix seconds
        self._choices = {"password": _Choice(), "trust": _Choice()}

    def pending(self) -> "list[str]":
        """Return the parts that are not proven yet: "app_…", "password", "trust"."""
        parts = ["app_" + appid for appid in self.apps]
        if self.password is not None:
            parts.append("password")
        if self.trust is not None:
            parts.append("trust")
        return parts

    def choose(self, part: str) -> bool:
        """Return whether the next connection is to use the new secret of this part."""
        return part in self.pending() and self._choices[part].choose()

    def failed(self, error: PeerError) -> "tuple[bool, str]":
        """Count a connection that ended with `error`.

        Return whether to try the other secret at once, and the part whose new secret has just been
        refused too often, or "".
        """
        part = "password" if error.code == "mqtt-refused" else "trust"
        if isinstance(error, LinkError) or part not in self.pending():
            return False, ""
        choice = self._choices[part]
        choice.failed()
        often = choice.used and choice.failures == _MOST_REFUSALS
        return choice.turns % 2 == 1, part if often else ""

    def prove(self, authority: bool, appids: "list[str]") -> "list[str]":
        """Replace the old secrets whose new ones are proven; return these parts.

        authority: the authority's session is up on this connection. appids: applications whose
        session is up under their new key.
        """
        parts = ["app_" + appid for appid in appids if appid in self.apps]
        for part, choice in self._choices.items():
            if authority and choice.used and part in self.pending():
                parts.append(part)
        if parts:
            self._replace(parts)
        return parts

    def expire(self, now: int) -> "list[str]":
        """Replace all old secrets after the deadline; return the parts. now: unix seconds."""
        parts = self.pending()
        if self.deadline is None or now < self.deadline:
            return []
        self._replace(parts)
        return parts

    def _replace(self, parts: "list[str]") -> None:
        """Put the new secrets of these parts in place of the old ones, by one commit."""
        vault = self._vault
        changes: "dict[str, bytes | None]" = {}
        apps, password, trust = dict(self.apps), self.password, self.trust
        for part in parts:
            if part == "password":
                broker = records.load(vault, "broker")
                broker[3], password = password, None
                changes["broker"] = cbor.encode(broker)
            elif part == "trust":
                changes["trust"], trust = cbor.encode(trust), None
            else:
                app = records.load(vault, part)
                app[0] = apps.pop(part[4:])
                changes[part] = cbor.encode(app)
        left = None
        if apps or password is not None or trust is not None:
            left = cbor.encode(self._head + [password, trust, apps, self.deadline])
        changes["rotation"] = left
        vault.commit(changes)
        self.apps, self.password, self.trust = apps, password, trust


class _Choice:
    """Which of two secrets a connection uses: each in turn, the new one first.

    The old one is first once the new one was refused _MOST_REFUSALS times.
    """

    def __init__(self) -> None:
        self.used = False  # the new one, on this connection
        self.failures = 0  # of the new one
        self.turns = 0  # refused connections in a row
        self._refused = False

    def choose(self) -> bool:
        if not self._refused:
            self.used = self.failures < _MOST_REFUSALS
            self.turns = 0
        else:
            self.used = not self.used
        self._refused = False
        return self.used

    def failed(self) -> None:
        self._refused = True
        self.turns += 1
        if self.used:
            self.failures += 1


def _require(condition: object) -> None:
    if not condition:
        raise PeerError("bad-body")


def _is_number(value: object, least: int, most: int) -> bool:
    return (
        isinstance(value, int)
        and value is not True
        and value is not False
        and least <= value <= most
    )
