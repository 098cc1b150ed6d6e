"""The checks that every message to the device passes, in their order. Sans-IO.

receive() returns the call that a command asks for, or None. Answers go to `out` as
(event, format, bytes), refusals to the incidents. Nothing that a peer sends makes receive() raise,
except where the link must end. The order: docs/protocol.md, What the device refuses.
"""

import hashlib

from micropython import const

from ..errors import LinkError, PeerError, UsageError, ensure
from ..wire import envelope
from ..wire.names import COSE, JSON

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..wire.names import Topics
    from .command import Commands, Handler
    from .incident import Incidents
    from .plain import Plain
    from .session import Session


# Messages that may wait in `out`: while a slow handler runs, duplicates of the last command go on
# asking for their reply.
_MOST_OUT = const(16)
# An application's refused messages, of which it proved to be the sender: so many at once, and two
# a second. A message above the limit names its sender without a proof, and counts as eight.
_MOST_REFUSED = const(24)
_OVERSIZED = const(8)
# Bytes of a sealed message above which AES-CCM loads code, about: by its topic (crypto/ccm.py).
_LONG = const(384)
_OK = const(b"\xa2\x62ok\xf5\x66result")  # {"ok": true, "result": …}


class Call:
    """One command to run, and what its handler may know of it.

    handler: (the handler, whether it takes the call), None until it was found. answer(body): puts
    the reply into the outbox. appid: the application that gave the command.
    session: the session that it came in; None in plain mode. deadline_ms: of the agent's uptime,
    None without a limit. left_ms: milliseconds of validity when the handler was called, or None.
    """

    left_ms: "int | None" = None

    def __init__(
        self,
        handler: "tuple[Handler, bool | None] | None",
        args: "dict[str, Any]",
        command: str,
        answer: "Callable[[dict[str, Any]], None]",
        appid: str = "",
        session: "Session | None" = None,
        deadline_ms: "int | None" = None,
    ) -> None:
        self.handler: "Any" = handler  # not None where it is run
        self.args = args
        self.command = command
        self.answer = answer
        self.appid = appid
        self._session = session
        self._sid = b"" if session is None else session.sid
        self._deadline_ms = deadline_ms

    def late(self, now_ms: int) -> str:
        """Return why the command must not run any more, "" while it may; set left_ms.

        The handlers of other commands can hold it up for longer than it is valid.
        """
        if self._session is not None and self._session.sid != self._sid:
            return "old-session"
        if self._deadline_ms is None:
            return ""
        self.left_ms = self._deadline_ms - now_ms
        return "expired" if self.left_ms < 0 else ""

    def run(self, log: "Callable[[str, str], None]") -> "Any":
        """Call the handler; return the reply's body, or a coroutine of it for an async handler."""
        handler, wants_call = self.handler
        try:
            result = handler(self.args, self) if wants_call else handler(self.args)
        except Exception as error:  # the application's own bug must not end the agent
            return self._fail(error, log)
        # Of an async function; nothing that a reply can hold has it.
        if hasattr(result, "send"):
            return self._wait(result, log)
        return {"ok": True, "result": result}

    async def _wait(self, work: "Any", log: "Callable[[str, str], None]") -> "dict[str, Any]":
        try:
            return {"ok": True, "result": await work}
        except Exception as error:  # as in run()
            return self._fail(error, log)

    def _fail(self, error: Exception, log: "Callable[[str, str], None]") -> "dict[str, Any]":
        """Return the reply's body for what a handler raised."""
        code = "command-failed"
        try:
            from .command_failure import explain

            code = explain(error, self.command, self.handler[1] is None, log)
        except Exception:  # the error's own code or text fails, or the heap is full
            log(code, self.command + ": ?")
        return {"ok": False, "error": code}

    def finish(self, body: "dict[str, Any]", log: "Callable[[str, str], None]") -> None:
        """Put the reply into the outbox, or one that says why it can't be."""
        try:
            self.answer(body)
        except UsageError as error:
            # A result that has no CBOR or JSON form, or is too large for a message.
            log("command-failed", "%s: %s" % (self.command, error.text))
            self.finish({"ok": False, "error": "command-failed"}, log)
        except PeerError as error:
            log(error.code, error.text)  # the session ended: no one waits for this reply


class Inbox:
    """Check messages and find the handlers of commands.

    sessions: of sealed mode, a list that rotations change. plain: the plain mode, or None.
    on_time(unix_time): called with the time of the authority's welcome. limit: largest MQTT packet
    of a reply, in bytes; the attribute is that of its payload. gate: None, or the gate while it is
    shut (gate/gate.py).
    """

    def __init__(
        self,
        names: "Topics",
        commands: "Commands",
        incidents: "Incidents",
        sessions: "list[Session]",
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
        # The packet has a head of 5 bytes and the topic besides.
        self.limit = limit - len(names.event("reply", COSE)) - 5
        # By the policy's reactions (policy/incidents.py), set by agent/build.py: for how long an
        # application that floods is ignored, 0: not at all; how long reading pauses behind a
        # refused message of an unknown sender, and of an application.
        self.lock_ms = 0
        self.delays = (0, 0)
        self.pause_ms = 0  # due now
        # Apart: a sender that nothing proves must bring no application nearer to being ignored.
        self._senders: "dict[str, list[int]]" = {}
        self._oversized: "dict[str, list[int]]" = {}
        self.locked = False  # the authority alone is obeyed (agent/tamper.py)
        self.out: "list[tuple[str, str, bytes]]" = []
        self.gate: "Any" = None
        self.delivery: "Any" = None  # the outbox's acknowledgements (agent/delivery.py)

    def receive(
        self, topic: memoryview, payload: memoryview, retained: bool, now_ms: int
    ) -> "Call | None":
        """Check a message and return the call that it asks for, or None.

        payload: decrypted in place. now_ms: of the agent's uptime. PeerError certificate-dates
        alone: the link must end.
        """
        command, self.pause_ms = "", 0
        try:
            command, fmt = self._names.parse(topic)
            if retained:
                raise PeerError("retained")
            if len(self.out) >= _MOST_OUT:
                raise LinkError("busy")
            plain = self._plain
            if fmt != (COSE if plain is None else JSON):
                raise PeerError("plain-refused" if plain is None else "sealed-refused")
            if plain is None:
                call = self._receive_sealed(topic, command, payload, now_ms)
            else:
                call = self._receive_plain(plain, command, payload, now_ms)
            # Not by those two: the answer to a refused command goes deep in the C stack.
            return call and self._dispatch(call, now_ms)
        except PeerError as error:
            self._incidents.add(error.code, command, now_ms)
            self.pause_ms = self.delays[0]
            if error.code == "certificate-dates":
                raise
            return None

    # -- sealed -------------------------------------------------------------------------------

    def _find(self, kid: "bytes | memoryview") -> "Session":
        for session in self._sessions:
            if kid == session.kid:
                return session
        raise PeerError("wrong-application")

    def skip(self, topic: bytes, head: bytes, now_ms: int) -> None:
        """Count a message above the policy's limit, of which nothing was verified.

        topic: empty where it is not known. head: the payload's first bytes, as far as known. The
        sender that it names may be another one: so nothing but such messages is ignored for it.
        """
        command = source = ""
        try:
            command = self._names.parse(topic)[0]
            session = self._find(envelope.claimed_kid(head))
            source = session.appid
            if _is_ignored(self._oversized, source, now_ms):
                return
            self._count_refused(self._oversized, source, _OVERSIZED, now_ms)
        except PeerError:
            pass
        self._incidents.add("mqtt-too-large", command, now_ms, 1, source)

    def _count_refused(
        self, senders: "dict[str, list[int]]", appid: str, weight: int, now_ms: int
    ) -> None:
        """Count a refused message, and have a flood's application ignored for lock_ms.

        senders: {appid: [level, uptime of the last one, until when it is ignored]}, milliseconds.
        """
        sender = senders.setdefault(appid, [0, 0, 0])
        sender[0] = max(0, sender[0] - (now_ms - sender[1]) // 500) + weight
        sender[1] = now_ms
        if sender[0] <= _MOST_REFUSED or not self.lock_ms:
            return
        for session in self._sessions:
            if session.appid == appid and session.authority:
                return
        sender[0], sender[2] = 0, now_ms + self.lock_ms
        self._incidents.add("app-flood", "", now_ms, 1, appid)

    def _receive_sealed(
        self, topic: memoryview, command: str, payload: memoryview, now_ms: int
    ) -> "Call | None":
        is_mac0 = command in ("welcome", "wake")
        parsed = (envelope.parse_mac0 if is_mac0 else envelope.parse_encrypt0)(payload)
        session = self._find(parsed.kid)
        if _is_ignored(self._senders, session.appid, now_ms):
            return None
        if is_mac0:
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
        if len(payload) > _LONG:  # here, not where it is used: an import is deep in the C stack
            from ..crypto.ccm_long import crypt_long  # noqa: F401
        up = session.up
        message = session.open(topic, parsed, now_ms)
        if session.authority and not up:  # also where another application's session was up first
            self._incidents.wake(now_ms)
        if message.body is None:
            if message.reply is not None:
                self.out.append(("reply", COSE, message.reply))
            return None
        if message.gap:
            self._incidents.add("gap", command, now_ms, 1, session.appid)
        if command == "ack":
            if self.delivery is not None:
                self.delivery.on_ack(session.appid, message.id)
            if session.authority:
                self._incidents.acknowledge(message.body.get("incident"), now_ms)
            return None
        sid = session.sid

        def answer(body: "dict[str, Any]") -> None:
            # A reply belongs to the session of its command; in a newer one no one waits for it.
            if session.sid == sid:
                opening = b""
                if body["ok"]:
                    opening, body = _OK, body["result"]
                reply = bytes(session.seal_view("reply", message.id, body, None, opening))
                self._post(COSE, reply)
                session.remember(message.counter, reply)

        call = Call(
            None, message.body, command, answer, session.appid, session, message.deadline_ms
        )
        if message.expired:
            self._refuse(LinkError("expired"), call, now_ms)
        elif message.refused:
            self._refuse(PeerError(message.refused), call, now_ms)
        else:
            return call
        return None

    # -- plain --------------------------------------------------------------------------------

    def _receive_plain(
        self, plain: "Plain", command: str, payload: memoryview, now_ms: int
    ) -> "Call | None":
        fields = plain.parse(payload)
        if command == "server_uid_response":
            plain.on_response(fields, now_ms)
            return None
        if self.gate is not None and self.gate.receive(command, fields, now_ms):
            return None
        appid, id, args = plain.open(command, fields)
        if _is_ignored(self._senders, appid, now_ms):
            return None

        def answer(body: "dict[str, Any]") -> None:
            reply = {"id": id}
            reply.update(body)
            self._post(JSON, plain.event("reply", reply))

        return Call(None, args, command, answer, appid)

    def _post(self, fmt: str, reply: "bytes | bytearray") -> None:
        ensure(len(reply) <= self.limit, "bad-argument", "a reply is above the policy's limit")
        self.out.append(("reply", fmt, reply))

    # -- both ---------------------------------------------------------------------------------

    def _dispatch(self, call: Call, now_ms: int) -> "Call | None":
        """Return the call with its handler; None where it is refused, or the gate's."""
        gate, appid, command = self.gate, call.appid, call.command
        if gate is not None and gate.receive(command, call.args, now_ms, appid):
            return None
        try:
            shut = gate is not None or self.locked
            if shut and not self._commands.is_own(appid, command):
                raise PeerError("device-locked" if gate is None else "gate-shut")
            call.handler = self._commands.find(appid, command)
            return call
        except PeerError as error:
            self._refuse(error, call, now_ms)
            return None

    def _refuse(self, error: PeerError, call: Call, now_ms: int) -> None:
        """Record a refusal and answer with its code: the sender proved who it is."""
        self._incidents.add(error.code, call.command, now_ms, 1, call.appid)
        self.pause_ms = self.delays[1]
        self._count_refused(self._senders, call.appid, 1, now_ms)
        call.answer({"ok": False, "error": error.code})


def _is_ignored(senders: "dict[str, list[int]]", appid: str, now_ms: int) -> bool:
    return appid in senders and now_ms < senders[appid][2]
