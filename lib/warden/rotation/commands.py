"""What the authority alone may order: `rotate`, `wipe` and `unlock`. Loaded when the first of them comes, or when a rotation waits in the vault.

The device hands itself over: this is its own code, kept out of a heap that hardly ever needs it.
"""

import asyncio

from micropython import const

from ..errors import PeerError, StoreError
from ..net.link import Trust
from ..vault import records
from .rotation import Rotation, prepare

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..session.session import Session

_POLL_MS = const(60000)  # the clock may be set meanwhile, so a deadline is looked at again


def obey(device: "Any", command: str, args: "dict[str, Any]") -> "dict[str, Any]":
    """The result for the reply. PeerError: bad-body and what rotation.prepare() raises; an incident as well."""
    try:
        return _obey(device, command, args)
    except PeerError as error:
        device._incidents.add(error.code, command, device._uptime.now_ms())
        raise


def _obey(device: "Any", command: str, args: "dict[str, Any]") -> "dict[str, Any]":
    if command == "wipe":
        # A command that names its device can't have been meant for another one.
        if args != {"device": device.names.device}:
            raise PeerError("bad-body")
        device._then = _wipe
        return {}
    if command == "unlock":
        if args != {"device": device.names.device}:
            raise PeerError("bad-body")
        if device.gate is None:
            raise PeerError("gate-open")
        device.gate.unlock()
        return {"unlocked": True}
    link = device._link
    pin = link.verifier.leaf if link is not None and link.verifier is not None else b""
    if prepare(device._vault, args, pin, device._clock.now()):
        if "release" in args:
            _let_go(device)
        if "rotation" in device._vault.names():
            begin(device)
        if "trust" in args:
            device._then = _reconnect
    waiting = device._rotation
    return {"pending": [] if waiting is None else waiting.what.pending()}


def _let_go(device: "Any") -> None:
    """What downloads was signed under the keys of before. Its manifest, sent again, is judged under the new ones, and goes on where it stopped."""
    updating = device._updating
    if updating is not None:
        updating.let_go()


def begin(device: "Any") -> None:
    """A rotation waits in the vault: from now on the device goes by it."""
    device._rotation = waiting = Waiting(device)
    waiting.add_sessions()
    waiting.expire()


async def _reconnect(device: "Any") -> None:
    """New pins prove themselves on a connection of their own."""
    device._client.close()


async def _wipe(device: "Any") -> None:
    from ..vault.wipe import wipe

    # A connection that is closed with bytes unread takes down what was sent last: the reply. It gets the time to arrive.
    await asyncio.sleep_ms(500)
    # Off the air, then: nothing may come in while the keys go.
    await device._client.disconnect()
    for session in device._sessions:
        session.drop()
    wipe(device._vault)
    raise StoreError("wiped", "the authority ordered it")  # the board starts anew


class Waiting:
    """A rotation on this device's link."""

    def __init__(self, device: "Any") -> None:
        self._device = device
        self.what = Rotation(device._vault)
        self._new: "list[Session]" = []

    def add_sessions(self) -> None:
        """For each application with a new key a second session, beside the one under the old key: the one that the application answers will stand."""
        from ..session.session import Session

        device = self._device
        now = device._uptime.now_ms()
        for session in list(device._sessions):
            key = self.what.apps.get(session.appid)
            if key is not None:
                new = Session(
                    device.names,
                    session.appid,
                    key,
                    session.origin,
                    device.policy.digest,
                    session.authority,
                )
                self._new.append(new)
                device._sessions.append(new)
                device._inbox._sessions[new.kid] = new
                if device._client.connected:
                    new.begin(now)

    def equip(self) -> None:
        """Before a connection: old or new password and pins."""
        self.expire()
        self._use(self.what.tries("password"), self.what.tries("trust"))

    def _use(self, password: bool, trust: bool) -> None:
        """The new password, the new pins; or those that are in their places."""
        device, what, vault = self._device, self.what, self._device._vault
        device._client.set_password(
            what.password if password else records.load(vault, "broker")[3]
        )
        device._trust = Trust(*(what.trust if trust else records.load(vault, "trust")))

    def failed(self, error: "PeerError") -> bool:
        """Whether the next attempt is to come soon: with the other of the two."""
        soon, often = self.what.failed(error)
        if often:
            self._say("rotation-failed", often)
        return soon

    def stood(self) -> None:
        """Something may stand now."""
        device = self._device
        authority = False
        for session in device._sessions:
            authority = authority or (session.authority and session.stands)
        self._done(self.what.stood(authority, [new.appid for new in self._new if new.stands]))

    def due_ms(self, now: int) -> "int | None":
        """When the deadline is to be looked at, or None without one."""
        self.expire()
        return None if self.what.deadline is None else now + _POLL_MS

    def expire(self) -> None:
        """After the deadline the old ones are gone."""
        parts = self.what.expire(self._device._clock.now())
        if parts:
            for part in parts:
                self._say("rotation-expired", part)
            self._done(parts)
            self._use(False, False)
            if "password" in parts or "trust" in parts:
                self._device._client.close()  # it may stand on what is gone

    def _say(self, code: str, part: str) -> None:
        device = self._device
        device._log(code, part)
        at = "keys" if part.startswith("app_") else part  # an incident's place is a word
        device._incidents.add(code, at, device._uptime.now_ms())

    def _done(self, parts: "list[str]") -> None:
        """These are in their places now: the sessions under the old keys end."""
        device = self._device
        for part in parts:
            device._log("rotated", part)
            for new in list(self._new):
                if "app_" + new.appid == part:
                    self._new.remove(new)
                    self._retire(new)
        if parts and not self.what.pending():
            device._rotation = None

    def _retire(self, new: "Session") -> None:
        device = self._device
        for old in list(device._sessions):
            if old.appid == new.appid and old is not new:
                old.drop()
                device._sessions.remove(old)
                del device._inbox._sessions[old.kid]
