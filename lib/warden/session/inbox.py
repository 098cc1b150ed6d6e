"""Every message that reaches the device, through the gates in their order (docs/protocol.md, What the device refuses). Sans-IO.

take() gives the job that a command asks for, or None. What is to be sent goes to `out` as (event, format, bytes), what was refused to the
incidents; nothing a peer sends makes take() raise, except when the whole link must fall.
"""

import hashlib

from micropython import const

from ..errors import PeerError, UsageError, ensure
from ..wire import envelope
from ..wire.names import COSE, JSON
from .command import AUTHORITY_ONLY

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..wire.names import Names
    from .command import Commands, Handler
    from .incident import Incidents
    from .plain import Plain
    from .session import Session


# What may wait to be sent. A handler that takes its time holds it up, while duplicates of the last command go on asking for their reply.
_MOST_OUT = const(16)


class Job:
    """A command to obey. answer(body) seals or packs the reply and puts it into the outbox. late(now_ms): why it must not be obeyed any
    more, "" while it may: others' handlers can hold it up for longer than it was meant to live."""

    def __init__(
        self,
        handler: "Handler",
        args: "dict[str, Any]",
        command: str,
        answer: "Callable[[dict[str, Any]], None]",
        appid: str = "",
        late: "Callable[[int], str] | None" = None,
    ) -> None:
        self.handler = handler
        self.args = args
        self.command = command
        self.answer = answer
        self.appid = appid
        self._late = late

    def late(self, now_ms: int) -> str:
        return self._late(now_ms) if self._late is not None else ""

    async def obey(self, log: "Callable[[str, str], None]") -> "dict[str, Any]":
        """Call the handler; the reply's body."""
        try:
            result = self.handler(self.args)
            # Of an async function; nothing that a reply can hold has it.
            if hasattr(result, "send"):
                result = await result
        except Exception as error:  # the application's own bug must not take the agent down
            code = "command-failed"
            if self.command in AUTHORITY_ONLY and isinstance(error, PeerError):
                code = error.code
            log(code, "%s: %s" % (self.command, repr(error)))
            return {"ok": False, "error": code}
        return {"ok": True, "result": result}

    def finish(self, body: "dict[str, Any]", log: "Callable[[str, str], None]") -> None:
        """Put the reply into the outbox, or one that says why it can't be."""
        try:
            self.answer(body)
        except UsageError as error:
            # A result that has no CBOR or JSON form, or is too large for a message.
            log("command-failed", "%s: %s" % (self.command, error.text))
            self.finish({"ok": False, "error": "command-failed"}, log)
        except PeerError as error:
            log(error.code, error.text)  # the session ended meanwhile: nobody waits for this reply


class Inbox:
    """sessions: those of sealed mode, by kid; or plain: the plain mode. on_time(unix_time) is told what the authority's welcome says. limit: bytes of the
    largest reply."""

    def __init__(
        self,
        names: "Names",
        commands: "Commands",
        incidents: "Incidents",
        sessions: "dict[bytes, Session]",
        plain: "Plain | None",
        on_time: "Callable[[int], None]",
        limit: int = 16384,
    ) -> None:
        self._names = names
        self._commands = commands
        self._incidents = incidents
        self._sessions = sessions
        self._plain = plain
        self._on_time = on_time
        # Of a reply's payload: a packet has its head and its topic besides.
        self._limit = limit - len(names.event("reply", COSE)) - 5
        self.out: "list[tuple[str, str, bytes]]" = []

    def take(
        self, topic: "memoryview | bytes", payload: memoryview, retained: bool, now_ms: int
    ) -> "Job | None":
        """`payload` is decrypted in place. PeerError certificate-dates only: then the link must fall."""
        command = ""
        try:
            command, fmt = self._names.parse(topic)
            if retained:
                raise PeerError("retained")
            if len(self.out) >= _MOST_OUT:
                raise PeerError("busy")
            if self._plain is not None:
                if fmt != JSON:
                    raise PeerError("sealed-refused")
                return self._take_plain(self._plain, command, payload, now_ms)
            if fmt != COSE:
                raise PeerError("plain-refused")
            return self._take_sealed(command, payload, now_ms)
        except PeerError as error:
            self._incidents.add(error.code, command, now_ms)
            if error.code == "certificate-dates":
                raise
            return None

    # -- sealed -------------------------------------------------------------------------------

    def _find(self, parsed: "envelope.Envelope") -> "Session":
        session = self._sessions.get(parsed.kid)
        if session is None:
            raise PeerError("wrong-application")
        return session

    def _take_sealed(self, command: str, payload: memoryview, now_ms: int) -> "Job | None":
        if command in ("welcome", "wake"):
            parsed = envelope.parse_mac0(payload)
            session = self._find(parsed)
            if command == "wake":
                session.on_wake(parsed, now_ms)
                return None
            welcomed = session.on_welcome(parsed, hashlib.sha256(payload).digest(), now_ms)
            if welcomed is not None:
                ready, unix_time = welcomed
                if session.authority:
                    self._on_time(unix_time)
                self.out.append(("ready", COSE, ready))
            return None
        parsed = envelope.parse_encrypt0(payload)
        session = self._find(parsed)
        digest = hashlib.sha256(payload).digest()
        message = session.open(command, parsed, digest, now_ms)
        if message.repeat:
            if message.reply is not None:
                self.out.append(("reply", COSE, message.reply))
            return None
        if message.gap:
            self._incidents.add("gap", command, now_ms)
        if command == "ack":
            return None
        sid = session.sid

        def answer(body: "dict[str, Any]") -> None:
            # A reply belongs to the session that asked; after a new one began, nobody waits for it.
            if session.sid == sid:
                reply = session.seal("reply", message.id, body)
                self._post(COSE, reply)
                session.remember(digest, reply)

        def late(now_ms: int) -> str:
            if session.sid != sid:
                return "old-session"
            deadline = message.deadline_ms
            return "expired" if deadline is not None and deadline < now_ms else ""

        if message.expired:
            self._refuse(PeerError("expired"), command, answer, now_ms)
            return None
        return self._dispatch(session.appid, command, message.body, answer, now_ms, late)

    # -- plain --------------------------------------------------------------------------------

    def _take_plain(
        self, plain: "Plain", command: str, payload: memoryview, now_ms: int
    ) -> "Job | None":
        fields = plain.parse(payload)
        if command == "server_uid_response":
            plain.on_response(fields, now_ms)
            return None
        appid, id, args = plain.open(command, fields)

        def answer(body: "dict[str, Any]") -> None:
            reply = {"id": id}
            reply.update(body)
            self._post(JSON, plain.event("reply", reply))

        return self._dispatch(appid, command, args, answer, now_ms)

    def _post(self, fmt: str, reply: "bytes | bytearray") -> None:
        ensure(len(reply) <= self._limit, "bad-argument", "a reply is above the policy's limit")
        self.out.append(("reply", fmt, reply))

    # -- both ---------------------------------------------------------------------------------

    def _dispatch(
        self,
        appid: str,
        command: str,
        args: "dict[str, Any]",
        answer: "Callable[[dict[str, Any]], None]",
        now_ms: int,
        late: "Callable[[int], str] | None" = None,
    ) -> "Job | None":
        try:
            return Job(self._commands.find(appid, command), args, command, answer, appid, late)
        except PeerError as error:
            self._refuse(error, command, answer, now_ms)
            return None

    def _refuse(
        self,
        error: PeerError,
        command: str,
        answer: "Callable[[dict[str, Any]], None]",
        now_ms: int,
    ) -> None:
        """Refused, but by somebody who proved who they are: they get the reason as well."""
        self._incidents.add(error.code, command, now_ms)
        answer({"ok": False, "error": error.code})
