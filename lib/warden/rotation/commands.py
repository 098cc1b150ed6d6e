"""Authority commands `rotate`, `wipe` and `unlock`, and a pending rotation on the link.

Loaded for the first of these commands, or at a start with a rotation pending: few devices need it.
"""

import asyncio

from micropython import const

from ..errors import PeerError, StoreError
from ..net.verifier import TrustAnchors
from ..vault import records
from .rotation import Rotation, prepare

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent
    from ..session.session import Session

_POLL_MS = const(60000)  # between two looks at a deadline: the clock may be set meanwhile
_REPLY_MS = const(500)  # for a reply to arrive before the connection is closed


def run(agent: "Agent", command: str, args: "dict[str, Any]") -> "dict[str, Any]":
    """Run one of the authority's commands and return the result for its reply.

    PeerError: bad-body, gate-open, not-allowed, and what prepare() raises; incidents too.
    """
    try:
        return _run(agent, command, args)
    except PeerError as error:
        agent.report(error.code, command)
        raise


def _run(agent: "Agent", command: str, args: "dict[str, Any]") -> "dict[str, Any]":
    if command == "rotate":
        return _rotate(agent, args)
    # A command that names its device cannot be meant for another one.
    if args != {"device": agent.names.device}:
        raise PeerError("bad-body")
    if command == "wipe":
        agent.after_reply = _wipe
        return {}
    if agent.gate is None:
        raise PeerError("gate-open")
    agent.gate.unlock()
    return {"unlocked": True}


def _rotate(agent: "Agent", args: "dict[str, Any]") -> "dict[str, Any]":
    link = agent.link
    pin = link.verifier.leaf if link is not None and link.verifier is not None else b""
    if prepare(agent.vault, args, pin, agent.clock.now()):
        # A download was verified with the old keys: the authority sends its manifest again.
        if "release" in args and agent.ota is not None:
            agent.ota.drop()
        if "rotation" in agent.vault.names():
            start(agent)
        if "trust" in args:
            agent.after_reply = _reconnect
    pending = agent.rotation
    return {"pending": [] if pending is None else pending.secrets.pending()}


def start(agent: "Agent") -> None:
    """Let the agent use the rotation that is pending in its vault."""
    agent.rotation = pending = PendingRotation(agent)
    pending.add_sessions()
    pending.expire()


async def _reconnect(agent: "Agent") -> None:
    """Close the connection: new pins prove themselves on the next one."""
    agent.client.close()


async def _wipe(agent: "Agent") -> None:
    """Erase the vault and end the agent. StoreError wiped: then the board restarts."""
    from ..vault.wipe import wipe

    # A connection that is closed with bytes unread takes down what was sent last: the reply.
    await asyncio.sleep_ms(_REPLY_MS)
    # No message may arrive while the keys go.
    await agent.client.disconnect()
    for session in agent.sessions:
        session.drop()
    wipe(agent.vault)
    raise StoreError("wiped", "the authority ordered it")


class PendingRotation:
    """A rotation that is pending, on this agent's link and sessions."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self.secrets = Rotation(agent.vault)
        self._new: "list[Session]" = []  # sessions under new keys that are not proven yet

    def add_sessions(self) -> None:
        """Open a second session for each application with a new key, beside the one of the old.

        The application answers one of them, by the key that it has.
        """
        from ..session.session import Session

        agent = self._agent
        now = agent.now_ms()
        for session in list(agent.sessions):
            key = self.secrets.apps.get(session.appid)
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
                    new.start(now)

    def choose_secrets(self) -> None:
        """Set the password and the trust anchors for the next connection: the old or the new."""
        self.expire()
        self._use(self.secrets.choose("password"), self.secrets.choose("trust"))

    def _use(self, password: bool, trust: bool) -> None:
        """Set the client's password and the trust anchors; True: the new, False: the old."""
        agent, secrets, vault = self._agent, self.secrets, self._agent.vault
        secret = secrets.password if password else None
        agent.client.set_password(secret or records.load(vault, "broker")[3])
        anchors = secrets.trust if trust else records.load(vault, "trust")
        agent.trust = TrustAnchors(*anchors)

    def failed(self, error: PeerError) -> bool:
        """Count a connection that ended with `error`; return whether to try another secret."""
        retry, refused = self.secrets.failed(error)
        if refused:
            self._report("rotation-failed", refused)
        return retry

    def check(self) -> None:
        """Replace the old secrets by the new ones that the link's sessions prove now."""
        authority = self._agent.authority() is not None
        self._finish(self.secrets.prove(authority, [new.appid for new in self._new if new.up]))

    def due_ms(self, now: int) -> "int | None":
        """Return when to call this again for the deadline, or None without one."""
        self.expire()
        return None if self.secrets.deadline is None else now + _POLL_MS

    def expire(self) -> None:
        """Replace the old secrets after the deadline, proven or not."""
        parts = self.secrets.expire(self._agent.clock.now())
        if parts:
            for part in parts:
                self._report("rotation-expired", part)
            self._finish(parts)
            self._use(False, False)
            if "password" in parts or "trust" in parts:
                self._agent.client.close()  # it may have been made with the old ones

    def _report(self, code: str, part: str) -> None:
        self._agent.log(code, part)
        # An incident's place is a word, and an application ID may be none.
        self._agent.report(code, "keys" if part.startswith("app_") else part)

    def _finish(self, parts: "list[str]") -> None:
        """End the sessions under the old keys of these parts; after the last, the rotation."""
        agent = self._agent
        for part in parts:
            agent.log("rotated", part)
            for new in list(self._new):
                if "app_" + new.appid == part:
                    self._new.remove(new)
                    self._end_old(new)
        if parts and not self.secrets.pending():
            agent.rotation = None

    def _end_old(self, new: "Session") -> None:
        for old in list(self._agent.sessions):
            if old.appid == new.appid and old is not new:
                old.drop()
                self._agent.sessions.remove(old)
