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
_FORMAT_CERTIFICATE = const(2)  # the same, and a certificate behind the rest
_FIELDS = const(
    ("id", "password", "trust", "apps", "deadline", "release", "certificate", "instead")
)
_MAX_ID = const((1 << 32) - 1)
_DEADLINE_S = const((60, 30 * 86400))
_MAX_RECORD = const(4096)
# A new password or new pins that were refused so often are not tried first again.
_MOST_REFUSALS = const(3)


def prepare(vault: "Vault", args: "dict[str, Any]", live_pin: "bytes | None", now: int) -> bool:
    """Store a `rotate` command's release keys in place, its other secrets as pending: one commit.

    args: of the command. live_pin: of the server at the other end of this connection, 32 bytes;
    None on a link without TLS. now: unix seconds.
    Return False for the command that was accepted last, sent again.
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
    password, trust, apps, deadline, release, certificate, instead = [
        args.get(name) for name in _FIELDS[1:]
    ]
    _require(instead is None or instead is True)
    # An authority out of a backup does not know the pending secrets, nor does its broker.
    if pending is not None and instead is None:
        raise LinkError("busy")

    waits = any([part is not None for part in (password, trust, apps, certificate)])
    _require(waits or release is not None)
    if password is not None:
        _require(isinstance(password, bytes) and 0 < len(password) <= 4000)
        _require(password != records.load(vault, "broker")[3])
    if trust is not None:
        check_record(trust, "trust")
        # Without the key of the server at the other end, no command could correct these pins.
        _require(live_pin is None or live_pin in _pins_at(trust, now))
    if apps is not None:
        _check_apps(vault, apps)
    if deadline is not None:
        _require(_is_number(deadline, *_DEADLINE_S))
        deadline += now
    changes: "dict[str, bytes | None]" = {}
    if certificate is not None:
        from .certificate import check

        certificate, made_here = check(vault, certificate)
        if made_here:
            changes["certificate_key"] = None
    if waits:
        record = _encode([id, digest, password, trust, apps or {}, deadline], certificate)
        _require(len(record) <= _MAX_RECORD)
        changes["rotation"] = record
    elif pending is not None:
        changes["rotation"] = None
    if release is not None:
        check_record(release, "release")
        changes["release"] = cbor.encode(release)
    counters: "dict[str, int]" = {"rotation": id}
    if trust is not None and now > vault.counter("pins"):
        counters["pins"] = now  # no file from before counts any more
    vault.commit(changes, counters)
    return True


def _pins_at(trust: "Any", now: int) -> "list[bytes]":
    """Return the digests of the pins that have not ended. now: unix seconds."""
    pins = trust[1]
    return [pin[:32] for pin in pins if len(pin) == 32 or now < int.from_bytes(pin[32:], "big")]


def _encode(fields: "list[Any]", certificate: "Any") -> bytes:
    if certificate is None:
        return cbor.encode([_FORMAT] + fields)
    return cbor.encode([_FORMAT_CERTIFICATE] + fields + [certificate])


def check_record(value: "Any", what: str) -> None:
    """Check a part of a provisioning bundle by its rules. PeerError bad-body.

    what: "trust", "release", or "brokers": [brokers, the policy's auth], with one at least.
    """
    from ..provisioning import bundle

    try:
        if what == "trust":
            bundle.check_trust(value)
        elif what == "brokers":
            bundle.check_brokers(value[0], bundle.ways_of(value[1]), 1)
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
        self._head = fields[1:3]
        self.password: "bytes | None" = fields[3]
        self.trust: "Any" = fields[4]
        self.apps: "dict[str, bytes]" = fields[5]  # application ID → new key
        self.deadline: "int | None" = fields[6]  # unix seconds
        # [leaf, intermediate, key]
        self.certificate: "Any" = fields[7] if fields[0] == _FORMAT_CERTIFICATE else None
        self._choices = {part: _Choice() for part in ("password", "trust", "certificate")}

    def pending(self) -> "list[str]":
        """Return the parts that are not proven: app_APPID, password, trust, certificate."""
        parts = ["app_" + appid for appid in self.apps]
        for part in self._choices:
            if getattr(self, part) is not None:
                parts.append(part)
        return parts

    def without_trust(self) -> "bytes | None":
        """Return the record without its pins; None where nothing else is pending."""
        return self._record(self.password, None, self.apps, self.certificate)

    def choose(self, part: str) -> bool:
        """Return whether the next connection is to use the new secret of this part."""
        return part in self.pending() and self._choices[part].choose()

    def is_used(self, part: str) -> bool:
        """Return whether the next connection uses the new secret of this part, as chosen."""
        return self._choices[part].used

    def leave_out(self, part: str) -> None:
        """Note that the next connection needs no secret of this part, and so proves none."""
        self._choices[part].used = False

    def failed(self, error: PeerError, behind_pin: bool) -> "tuple[bool, str]":
        """Count a connection that ended with `error`.

        behind_pin: in the hand-shake, after the server's key was found to be right: it refused
        this device's certificate, whatever the TLS stack makes of that.
        Return whether to try the other secret at once, and the part whose new secret has just been
        refused too often, or "".
        """
        if error.code == "mqtt-refused":
            part = "password"
        elif behind_pin:
            part = "certificate"
        else:
            part = "trust"
        lost = isinstance(error, LinkError) and part != "certificate"
        if lost or part not in self.pending():
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

    def record_without(self, appid: str) -> "bytes | None":
        """Return the record without an application's new key; None where nothing is left."""
        apps = {one: key for one, key in self.apps.items() if one != appid}
        return self._record(self.password, self.trust, apps, self.certificate)

    def _record(
        self, password: "Any", trust: "Any", apps: "dict[str, bytes]", certificate: "Any"
    ) -> "bytes | None":
        if not apps and not any([part is not None for part in (password, trust, certificate)]):
            return None
        return _encode(self._head + [password, trust, apps, self.deadline], certificate)

    def _replace(self, parts: "list[str]") -> None:
        """Put the new secrets of these parts in place of the old ones, by one commit."""
        vault = self._vault
        changes: "dict[str, bytes | None]" = {}
        apps, password, trust = dict(self.apps), self.password, self.trust
        certificate = self.certificate
        for part in parts:
            if part == "password":
                broker = records.load(vault, "broker")
                broker[3], password = password, None
                changes["broker"] = cbor.encode(broker)
            elif part == "trust":
                changes["trust"], trust = cbor.encode(trust), None
            elif part == "certificate":
                changes["certificate"], certificate = cbor.encode(certificate), None
            else:
                app = records.load(vault, part)
                app[0] = apps.pop(part[4:])
                changes[part] = cbor.encode(app)
        changes["rotation"] = self._record(password, trust, apps, certificate)
        vault.commit(changes)
        self.apps, self.password, self.trust = apps, password, trust
        self.certificate = certificate


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
