"""Authority commands but `update`: `rotate`, `wipe`, `unlock`, `wifi`, …; a rotation on the link.

Loaded for the first of these commands, or at a start with a rotation pending: few devices need it.
"""

import asyncio

from micropython import const

from .. import unload
from ..errors import LinkError, PeerError, StoreError
from ..net.verifier import TrustAnchors
from ..vault import records
from ..wire import cbor
from .rotation import Rotation, prepare

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent
    from ..session.session import Session

_POLL_MS = const(60000)  # between two looks at a deadline: the clock may be set meanwhile
# An order for development mode: seconds that it lasts, and starts at most.
_LEAST_DEVELOP_S = const(60)
_MOST_DEVELOP_S = const(86400)
_DEVELOP_STARTS = const(100)
_REPLY_MS = const(500)  # for a reply to arrive before the connection is closed


def run(agent: "Agent", command: str, args: "dict[str, Any]") -> "dict[str, Any]":
    """Run one of the authority's commands and return the result for its reply.

    PeerError: bad-body, gate-open, not-allowed, and what prepare() and the run() of others raise;
    incidents too.
    """
    try:
        return _run(agent, command, args)
    except PeerError as error:
        # An operator who unlocks an open gate tried nothing that was refused to him.
        if error.code != "gate-open":
            agent.report(error.code, command)
        raise


def _run(agent: "Agent", command: str, args: "dict[str, Any]") -> "dict[str, Any]":
    if command == "rotate":
        return _rotate(agent, args)
    if command == "wifi":
        from .networks import run as change_networks

        return change_networks(agent, args)
    if command == "policy":
        from .policies import run as change_policy

        return change_policy(agent, args)
    if command == "apps":
        from .apps import run as change_app

        return change_app(agent, args)
    if command == "token":
        from ..token.commands import run as change_token

        return change_token(agent, args)
    if command == "develop":
        return _develop(agent, args)
    # A command that names its device cannot be meant for another one.
    if args != {"device": agent.names.device}:
        raise PeerError("bad-body")
    if command == "wipe":
        agent.after_reply = _wipe
        return {}
    if agent.rotation is None:
        unload("warden.rotation.commands")  # the application starts now, and needs the heap
    if agent.inbox.locked:
        agent.vault.delete("locked")
        agent.inbox.locked = False
        if agent.gate is None:
            return {"unlocked": True}
    if agent.gate is None:
        raise PeerError("gate-open")
    agent.gate.unlock()
    return {"unlocked": True}


def _develop(agent: "Agent", args: "dict[str, Any]") -> "dict[str, Any]":
    """Keep the order for development mode, or end it; the board restarts behind the reply."""
    seconds = args.get("seconds")
    if (
        len(args) != 2
        or args.get("device") != agent.names.device
        or type(seconds) is not int
        or not (seconds == 0 or _LEAST_DEVELOP_S <= seconds <= _MOST_DEVELOP_S)
    ):
        raise PeerError("bad-body")
    if not agent.policy.development:
        raise PeerError("not-allowed")
    record = None
    if seconds:
        record = cbor.encode([1, agent.clock.now() + seconds, _DEVELOP_STARTS, seconds])
    agent.vault.commit({"development": record})
    agent.after_reply = restart
    return {"seconds": seconds}


async def restart(agent: "Agent") -> None:
    """Let the reply arrive, then restart the board; the vault is open for what is to be saved."""
    await asyncio.sleep_ms(_REPLY_MS)
    await agent.client.disconnect()
    agent.restart()


def _rotate(agent: "Agent", args: "dict[str, Any]") -> "dict[str, Any]":
    if args == {"certificate": "key"}:
        from .certificate import make_key

        return make_key(agent.vault)
    names = agent.vault.names()
    if "network_new" in names or "policy_new" in names:
        raise LinkError("busy")
    link = agent.link
    pin: "bytes | None" = b""
    if agent.policy.connection is not None and not agent.policy.connection["tls"]:
        pin = None
    elif link is not None and link.verifier is not None:
        pin = link.verifier.leaf
    if prepare(agent.vault, args, pin, agent.clock.now()):
        # A download was verified with the old keys: the authority sends its manifest again.
        if "release" in args and agent.ota is not None:
            agent.ota.drop()
        replaced: "Any" = agent.rotation
        if replaced is not None:
            replaced.discard()
        if "rotation" in agent.vault.names():
            start(agent)
        if "trust" in args or "certificate" in args:
            agent.after_reply = _reconnect
    pending: "Any" = agent.rotation
    return {"pending": [] if pending is None else pending.secrets.pending()}


def start(agent: "Agent") -> None:
    """Let the agent use the rotation that is pending in its vault."""
    agent.rotation = pending = PendingRotation(agent)
    pending.add_sessions()
    pending.expire()


async def _reconnect(agent: "Agent") -> None:
    """Close the connection: pins and certificates prove themselves on the next one."""
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

    def discard(self) -> None:
        """End the sessions under new keys: another rotation has taken the place of this one."""
        for new in self._new:
            new.drop()
            self._agent.sessions.remove(new)
        self._agent.rotation = None

    def choose_secrets(self) -> None:
        """Set what the next connection is made with: of each part the old or the new."""
        self.expire()
        choose = self.secrets.choose
        self._use(choose("password"), choose("trust"), choose("certificate"))

    def _use(self, password: bool, trust: bool, certificate: bool) -> None:
        """Set password, trust anchors and certificate; True: the new, False: the old."""
        agent, secrets, vault = self._agent, self.secrets, self._agent.vault
        secret = secrets.password if password else None
        agent.client.password = secret or records.load(vault, "broker")[3]
        cas, pins = secrets.trust if trust else records.load(vault, "trust")
        if hasattr(agent.trust, "own"):
            from ..net.client_certificate import ClientTrust

            new = secrets.certificate if certificate else None
            agent.trust = ClientTrust(cas, pins, vault, new)
        else:
            agent.trust = TrustAnchors(cas, pins)

    def failed(self, error: PeerError) -> bool:
        """Count a connection that ended with `error`; return whether to try another secret."""
        verifier = self._agent.link.verifier if self._agent.link is not None else None
        behind_pin = verifier is not None and verifier.pinned == 1
        retry, refused = self.secrets.failed(error, behind_pin and not self._agent.client.accepted)
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
            self._use(False, False, False)
            if "password" in parts or "trust" in parts or "certificate" in parts:
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

    def drop_app(self, appid: str) -> None:
        """Let go of an application's new key: the authority removed it, or replaced both keys."""
        self.secrets.apps.pop(appid, None)
        self._new = [new for new in self._new if new.appid != appid]
        if not self.secrets.pending():
            self._agent.rotation = None

    def _end_old(self, new: "Session") -> None:
        for old in list(self._agent.sessions):
            if old.appid == new.appid and old is not new:
                old.drop()
                self._agent.sessions.remove(old)
