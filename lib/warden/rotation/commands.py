"""What the authority alone may order: `rotate`, `wipe` and `unlock`. Loaded when the first of them comes, or when a rotation waits in the vault.

The device hands itself over: this is its own code, kept out of a heap that hardly ever needs it.
"""

import asyncio

from micropython import const

from ..errors import PeerError, StoreError
from ..net.link import TrustAnchors
from ..vault import records
from .rotation import Rotation, prepare

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent
    from ..session.session import Session

_POLL_MS = const(60000)  # the clock may be set meanwhile, so a deadline is looked at again


def obey(agent: "Agent", command: str, args: "dict[str, Any]") -> "dict[str, Any]":
    """The result for the reply. PeerError: bad-body and what rotation.prepare() raises; an incident as well."""
    try:
        return _obey(agent, command, args)
    except PeerError as error:
        agent.report(error.code, command)
        raise


def _obey(agent: "Agent", command: str, args: "dict[str, Any]") -> "dict[str, Any]":
    if command == "wipe":
        # A command that names its device can't have been meant for another one.
        if args != {"device": agent.names.device}:
            raise PeerError("bad-body")
        agent.after_reply = _wipe
        return {}
    if command == "unlock":
        if args != {"device": agent.names.device}:
            raise PeerError("bad-body")
        if agent.gate is None:
            raise PeerError("gate-open")
        agent.gate.unlock()
        return {"unlocked": True}
    link = agent.link
    pin = link.verifier.leaf if link is not None and link.verifier is not None else b""
    if prepare(agent.vault, args, pin, agent.clock.now()):
        if "release" in args:
            _let_go(agent)
        if "rotation" in agent.vault.names():
            begin(agent)
        if "trust" in args:
            agent.after_reply = _reconnect
    waiting = agent.rotation
    return {"pending": [] if waiting is None else waiting.what.pending()}


def _let_go(agent: "Agent") -> None:
    """What downloads was signed under the keys of before. Its manifest, sent again, is judged under the new ones, and goes on where it stopped."""
    updating = agent.ota
    if updating is not None:
        updating.drop()


def begin(agent: "Agent") -> None:
    """A rotation waits in the vault: from now on the device goes by it."""
    agent.rotation = waiting = PendingRotation(agent)
    waiting.add_sessions()
    waiting.expire()


async def _reconnect(agent: "Agent") -> None:
    """New pins prove themselves on a connection of their own."""
    agent.client.close()


async def _wipe(agent: "Agent") -> None:
    from ..vault.wipe import wipe

    # A connection that is closed with bytes unread takes down what was sent last: the reply. It gets the time to arrive.
    await asyncio.sleep_ms(500)
    # Off the air, then: nothing may come in while the keys go.
    await agent.client.disconnect()
    for session in agent.sessions:
        session.drop()
    wipe(agent.vault)
    raise StoreError("wiped", "the authority ordered it")  # the board starts anew


class PendingRotation:
    """A rotation on this device's link."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self.what = Rotation(agent.vault)
        self._new: "list[Session]" = []

    def add_sessions(self) -> None:
        """For each application with a new key a second session, beside the one under the old key: the one that the application answers will stand."""
        from ..session.session import Session

        agent = self._agent
        now = agent.now_ms()
        for session in list(agent.sessions):
            key = self.what.apps.get(session.appid)
            if key is not None:
                new = Session(
                    agent.names,
                    session.appid,
                    key,
                    session.counter,
                    agent.policy.digest,
                    session.authority,
                )
                self._new.append(new)
                agent.sessions.append(new)
                if agent.client.connected:
                    new.begin(now)

    def choose_secrets(self) -> None:
        """Before a connection: old or new password and pins."""
        self.expire()
        self._use(self.what.tries("password"), self.what.tries("trust"))

    def _use(self, password: bool, trust: bool) -> None:
        """The new password, the new pins; or those that are in their places."""
        agent, what, vault = self._agent, self.what, self._agent.vault
        secret = what.password if password else None
        agent.client.set_password(secret or records.load(vault, "broker")[3])
        agent.trust = TrustAnchors(*(what.trust if trust else records.load(vault, "trust")))

    def failed(self, error: "PeerError") -> bool:
        """Whether the next attempt is to come soon: with the other of the two."""
        soon, often = self.what.failed(error)
        if often:
            self._say("rotation-failed", often)
        return soon

    def check(self) -> None:
        """Something may stand now."""
        agent = self._agent
        authority = False
        for session in agent.sessions:
            authority = authority or (session.authority and session.up)
        self._done(self.what.stood(authority, [new.appid for new in self._new if new.up]))

    def due_ms(self, now: int) -> "int | None":
        """When the deadline is to be looked at, or None without one."""
        self.expire()
        return None if self.what.deadline is None else now + _POLL_MS

    def expire(self) -> None:
        """After the deadline the old ones are gone."""
        parts = self.what.expire(self._agent.clock.now())
        if parts:
            for part in parts:
                self._say("rotation-expired", part)
            self._done(parts)
            self._use(False, False)
            if "password" in parts or "trust" in parts:
                self._agent.client.close()  # it may stand on what is gone

    def _say(self, code: str, part: str) -> None:
        agent = self._agent
        agent.log(code, part)
        at = "keys" if part.startswith("app_") else part  # an incident's place is a word
        agent.report(code, at)

    def _done(self, parts: "list[str]") -> None:
        """These are in their places now: the sessions under the old keys end."""
        agent = self._agent
        for part in parts:
            agent.log("rotated", part)
            for new in list(self._new):
                if "app_" + new.appid == part:
                    self._new.remove(new)
                    self._retire(new)
        if parts and not self.what.pending():
            agent.rotation = None

    def _retire(self, new: "Session") -> None:
        agent = self._agent
        for old in list(agent.sessions):
            if old.appid == new.appid and old is not new:
                old.drop()
                agent.sessions.remove(old)
