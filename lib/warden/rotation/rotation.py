"""New secrets for old ones: both are valid until the new one proved itself on the link, then the old one goes. Rules: docs/protocol.md, Rotation.

What waits to replace what is one record of the vault, `rotation`, so at every cut the device has the old secrets and knows the new ones, or
has the new ones alone. A rotation after a compromise has a deadline: from then on the old ones are gone, proven or not.

Release keys have nothing to prove on a link, and a wrong one cuts nobody off: the authority can give others. So they are in force at once,
by the same commit; for a time of both the order names both.
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
# So often a new password or new pins may be refused before the old ones are tried first: nobody hammers the broker with a wrong one.
_PATIENCE = const(3)


def prepare(vault: "Vault", args: "dict[str, Any]", live_pin: bytes, now: int) -> bool:
    """Keep the new secrets of the authority's command beside the old ones, and new release keys in their place, by one commit; False when this
    very command was taken before.

    live_pin: of the server at the other end of this connection. now: unix seconds. PeerError bad-body, busy, unexpected.
    """
    for name in args:
        _want(name in _FIELDS)
    id: "Any" = args.get("id")
    _want(_is_number(id, 1, _MAX_ID))
    taken, pending = vault.counter("rotation"), vault.get("rotation")
    digest = hashlib.sha256(cbor.encode(args)).digest()
    if id < taken:
        raise PeerError("unexpected")
    if id == taken:
        # The answer got lost, or the authority asks how it stands.
        if pending is not None:
            fields: "Any" = cbor.decode(pending)
            _want(fields[2] == digest)
        return False
    if pending is not None:
        raise LinkError("busy")

    password, trust, apps, deadline, release = [args.get(name) for name in _FIELDS[1:]]
    waits = password is not None or trust is not None or apps is not None
    _want(waits or release is not None)
    if password is not None:
        _want(isinstance(password, bytes) and 0 < len(password) <= 4000)
        _want(password != records.load(vault, "broker")[3])
    if trust is not None:
        _check(trust, "trust")
        # A set without the key of the server that we speak with would cut us off from the only one who could mend it.
        _want(live_pin in trust[1])
    if apps is not None:
        _check_apps(vault, apps)
    if deadline is not None:
        _want(_is_number(deadline, *_DEADLINE_S))
        deadline += now
    changes: "dict[str, bytes | None]" = {}
    if waits:
        record = cbor.encode([_FORMAT, id, digest, password, trust, apps or {}, deadline])
        _want(len(record) <= _MAX_RECORD)
        changes["rotation"] = record
    if release is not None:
        _check(release, "release")
        changes["release"] = cbor.encode(release)
    counters: "dict[str, int]" = {"rotation": id}
    vault.commit(changes, counters)
    return True


def _check(value: "Any", what: str) -> None:
    """As the bundle has it."""
    from ..provisioning import bundle

    try:
        if what == "trust":
            bundle.check_trust(value)
        else:
            bundle.check_release(value)
    except UsageError:
        raise PeerError("bad-body")


def _check_apps(vault: "Vault", apps: "Any") -> None:
    _want(isinstance(apps, dict) and 0 < len(apps) <= 8)
    seen = []
    for appid, key in apps.items():
        _want(isinstance(appid, str) and isinstance(key, bytes) and len(key) == 32)
        # Neither one that is in use nor one given twice: kid would say which application it is no more.
        _want("app_" + appid in vault.names() and key not in seen)
        seen.append(key)
    for app in records.load_apps(vault):
        _want(app.key not in seen)


class Rotation:
    """What waits in the vault's record `rotation`, and what was tried of it since the start."""

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        fields = records.load(vault, "rotation")
        self._head = fields[:3]
        self.password: "bytes | None" = fields[3]
        self.trust: "Any" = fields[4]
        self.apps: "dict[str, bytes]" = fields[5]
        self.deadline: "int | None" = fields[6]
        self._choices = {"password": _Choice(), "trust": _Choice()}

    def pending(self) -> "list[str]":
        """What has not proved itself: "password", "trust", "app_…"."""
        parts = ["app_" + appid for appid in self.apps]
        if self.password is not None:
            parts.append("password")
        if self.trust is not None:
            parts.append("trust")
        return parts

    def tries(self, part: str) -> bool:
        """Whether the connection that begins now is to use the new one of this part."""
        return part in self.pending() and self._choices[part].begin()

    def failed(self, error: PeerError) -> "tuple[bool, str]":
        """The connection ended with this error: (whether the other one is worth trying at once, the part that was refused too often just now)."""
        part = "password" if error.code == "mqtt-refused" else "trust"
        if isinstance(error, LinkError) or part not in self.pending():
            return False, ""
        choice = self._choices[part]
        choice.failed()
        often = choice.used and choice.failures == _PATIENCE
        return choice.turns % 2 == 1, part if often else ""

    def stood(self, authority: bool, appids: "list[str]") -> "list[str]":
        """What proved itself: on this connection a session stands, with the authority; and under these applications' new keys. Commits and returns the parts."""
        parts = ["app_" + appid for appid in appids if appid in self.apps]
        for part, choice in self._choices.items():
            if authority and choice.used and part in self.pending():
                parts.append(part)
        if parts:
            self._replace(parts)
        return parts

    def expire(self, now: int) -> "list[str]":
        """After the deadline the old ones go, whatever the new ones have shown: the parts that this is said of."""
        parts = self.pending()
        if self.deadline is None or now < self.deadline:
            return []
        self._replace(parts)
        return parts

    def _replace(self, parts: "list[str]") -> None:
        """New for old, and nothing waits any more: one commit."""
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
    """New or old: each once in turn, the new one first, until it was refused too often."""

    def __init__(self) -> None:
        self.used = False  # the new one, on this connection
        self.failures = 0
        self.turns = 0
        self._refused = False

    def begin(self) -> bool:
        if not self._refused:
            self.used = self.failures < _PATIENCE
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


def _want(condition: object) -> None:
    if not condition:
        raise PeerError("bad-body")


def _is_number(value: object, least: int, most: int) -> bool:
    return (
        isinstance(value, int)
        and value is not True
        and value is not False
        and least <= value <= most
    )
