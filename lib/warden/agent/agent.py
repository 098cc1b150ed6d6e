"""Agent: the tasks of a device on asyncio (connection, timers, commands), made by agent/build.py.
Applications see agent/device.py, features agent/interface.py."""

import asyncio
import gc

from micropython import const

from .. import unload
from ..errors import PeerError, UsageError, WardenError
from ..net.backoff import Backoff
from ..net.clock import Uptime, earlier
from ..net.link import Link
from ..session.command import Commands
from ..session.incident import Incidents
from ..wire.names import COSE, JSON

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable, Coroutine

    from ..gate.gate import Gate
    from ..net.clock import Clock
    from ..net.mqtt import Client
    from ..net.verifier import TrustAnchors
    from ..ota.standby import Standby
    from ..policy.policy import Policy
    from ..session.inbox import Call, Inbox
    from ..session.plain import Plain
    from ..session.session import Session
    from ..vault import Vault
    from ..wire.names import Topics
    from . import interface
    from .delivery import Delivery

_MOST_CALLS = const(2)  # of one application, waiting to run
_DAY_MS = const(86400000)
_LATER_MS = const(60000)
_TRIES = const(5)  # to connect anew without the memory for it
_OFTEN = const(4096)  # bytes allocated between two collections, as in firmware/boot.py


class Agent:
    """Keep one device connected and run its commands.

    vault: open. server: (host, port). network: None where the board is online, else as WiFi of
    hal/network_wifi.py; failed() and good() may be missing. log(code, text) is called with what
    happens. on_fatal() restarts the board; None: a failure raises RuntimeError.
    """

    client: "Client"  # agent/build.py adds it; calls on_message(), on_skipped() and greet()
    inbox: "Inbox"  # the same
    use_policy: "interface.UsePolicy"  # agent/device.py adds it
    tampered: "Callable[[Any, str, str], Any]"  # the same

    def __init__(
        self,
        vault: "Vault",
        names: "Topics",
        policy: "Policy",
        clock: "Clock",
        trust: "TrustAnchors",
        server: "tuple[str, int]",
        network: "Any",
        log: "Callable[[str, str], None]",
        on_fatal: "Callable[[], None] | None",
    ) -> None:
        self.vault = vault
        self.names = names
        self.policy = policy
        self.clock = clock
        self.trust = trust
        self.server = server
        self.network = network
        self.log = log
        self._on_fatal = on_fatal
        self.now_ms = Uptime().now_ms
        self.commands = Commands()
        self.incidents = Incidents()
        self.backoff = Backoff(policy.backoff_min_ms, policy.backoff_max_ms)
        self.sessions: "list[Session]" = []
        self.plain: "Plain | None" = None
        self.link: "Link | None" = None
        self.link_type = Link
        self.gate: "Gate | None" = None  # while it is shut
        self.rotation: "interface.Pending | None" = None
        self.alone = False  # the authority is the only application
        self.delivery: "Delivery | None" = None  # where the policy has an outbox
        self.token: "Any" = None  # token/keeper.py, where the policy asks for one
        self.ota: "Standby | None" = None  # on a board with slots
        self.health: "Callable[[], Any] | None" = None
        self.after_reply: "Callable[[interface.Agent], Coroutine[Any, Any, None]] | None" = None
        self.development = False  # the console is open (board/development.py)
        self.session_up = asyncio.Event()
        self._calls: "list[Call]" = []
        self._queued = asyncio.Event()  # a call or a message waits
        self.wakeup = asyncio.Event()  # something may be due, or has changed
        self.tasks: "list[Any]" = []
        self._ends = (0, 0, 0)  # what link_failure.record() returned
        self.stopping = False

    def run(self, works: "list[Coroutine[Any, Any, Any]]") -> None:
        """Start tasks of features; the first time the agent's own as well."""
        own = [] if self.tasks else [self._keep_connected(), self._run_timers(), self._run_calls()]
        for work in own + works:
            self.tasks.append(asyncio.create_task(self._guard(work)))

    def restart(self, reason: str = "restart") -> None:
        """Restart the board. RuntimeError where nothing does that."""
        try:
            from .leaving import save

            save(self)
        finally:  # without memory, too
            if self._on_fatal is None:
                raise RuntimeError(reason)
            self._on_fatal()

    async def _guard(self, work: "Coroutine[Any, Any, Any]") -> None:
        """Run a task. Restart the board when it ends, unless it returns True: its work is done."""
        try:  # without it (a bug, broken flash, another's cancellation) the agent must not go on
            done = await work
            del work  # it holds all of its module, and lists of tasks hold this coroutine
            if done:
                return
            text = "task ended"
        except asyncio.CancelledError:
            if self.stopping:
                raise
            text = "cancelled"
        except Exception as error:  # of any kind: see above
            text = str(error) if isinstance(error, WardenError) else repr(error)
        self.log("agent-failed", text)
        self.restart(text)

    # -- the connection -----------------------------------------------------------------------
    async def _keep_connected(self) -> None:
        left = 0  # of _TRIES; before a first connection a restart would help nothing
        while True:
            gc.threshold(_OFTEN)
            gc.collect()  # a hand-shake needs its buffers in one piece
            began, failed = self.now_ms(), None
            try:
                if self.rotation is not None:
                    self.rotation.choose_secrets()
                await self.client.subscribe(self.names.subscription, 1)
                if self.network is not None:
                    await self.network.up(self.policy.handshake_ms)
                if self.token is not None:
                    await self.token.prepare()
                self.link = self.link_type(self.trust, self.clock, self.policy.stall_ms)
                gc.threshold(-1)  # collecting would take half of the hand-shake's time
                await self.client.connect(self.link, *self.server, self.policy.handshake_ms)
                # Oftener takes nine tenths of an event's time; rarer leaves nothing in one piece.
                gc.collect()
                gc.threshold(max(_OFTEN, gc.mem_free() // 2))
                self.log("link-up", "%s:%d" % self.server)
                left = _TRIES
                self._check_sessions()
                self.wakeup.set()
                # A task of its own has the C stack that a message needs.
                await asyncio.create_task(self.client.pump())
            except PeerError as error:
                self.log(error.code, error.text)
                failed = error
            except MemoryError:
                self.log("out-of-memory", "connection")
                left -= 1
                if not left:
                    raise  # and restart: a heap in pieces stays so
                if self.ota is not None:
                    self.ota.make_room()
            self.clock.undo()  # a tentative time ends with its connection
            for session in self.sessions:
                session.drop()
            self.session_up.clear()
            self.wakeup.set()
            if failed is not None:
                self._record_failure(failed, began)
            unload("warden.agent.link_failure")
            wait = self.backoff.next_ms()
            self.log("link-wait", "%d ms" % wait)
            await asyncio.sleep_ms(wait)

    def greet(self) -> "list[tuple[bytes, bytes]]":
        """Begin all sessions anew; return their hellos, which follow the log-in."""
        now, hellos = self.now_ms(), []
        for session in self.sessions:
            session.start(now)
            message = session.tick(now)
            if message is not None:
                hellos.append((self.names.event(message[0], COSE).encode(), message[1]))
        return hellos

    def _record_failure(self, error: PeerError, began_ms: int) -> None:
        try:
            from . import link_failure

            self._ends = link_failure.record(self, self._ends, error, began_ms)
        except MemoryError:
            pass  # the back-off goes on as before

    def _check_sessions(self) -> None:
        if self.rotation is not None:
            self.rotation.check()
        up = self.plain.ready if self.plain else any([one.up for one in self.sessions])
        if not up:
            self.session_up.clear()
        elif not self.session_up.is_set():
            self.log("session-stands", "")
            self.backoff.reset()
            self.session_up.set()
            self.incidents.wake(self.now_ms())
            if hasattr(self.network, "good"):
                self.network.good()

    # -- timers -------------------------------------------------------------------------------
    async def _run_timers(self) -> None:
        """Send what is due at some time: hellos, ID requests, incidents."""
        while True:
            self.wakeup.clear()
            now = self.now_ms()
            due = None
            if self.client.connected:
                try:
                    # Here too: a slow handler must not delay the messages of a hand-shake.
                    await self._flush()
                    due = await self._run_due(now)
                except PeerError as error:  # the connection broke, and is made anew
                    self.log(error.code, error.text)
            self.clock.keep_mark()
            due = earlier(due, await self._report_incidents(now))
            wait = _DAY_MS if due is None else max(1, due - now)
            try:
                await asyncio.wait_for_ms(self.wakeup.wait(), wait)
            except asyncio.TimeoutError:
                pass

    async def _run_due(self, now_ms: int) -> "int | None":
        """Send what is due by now; return when the next is, or None."""
        due = None
        for session in list(self.sessions):  # a rotation may change them meanwhile
            message = session.tick(now_ms)
            if message is not None:
                await self._send_bytes(message[0], COSE, message[1])
            due = earlier(due, session.due_ms())
        if self.plain is not None:
            for request in self.plain.requests(now_ms):
                await self._send_bytes("server_uid_request", JSON, request)
            due = earlier(due, self.plain.due_ms())
        if self.rotation is not None:
            due = earlier(due, self.rotation.due_ms(now_ms))
        return due

    async def _report_incidents(self, now_ms: int) -> "int | None":
        """Log and report incidents that are due; return when the next are, or None."""
        if self.incidents.due is not None and now_ms >= self.incidents.due:
            try:
                from . import incident_report

                await asyncio.create_task(incident_report.run(self, now_ms))
            except PeerError as error:
                self.log(error.code, error.text)  # the connection broke
            except MemoryError:
                self.incidents.due = now_ms + _LATER_MS
            unload("warden.agent.incident_report")
        return self.incidents.due

    # -- commands -----------------------------------------------------------------------------
    async def _run_calls(self) -> None:
        """Run commands one at a time, and send what the inbox has for its peers."""
        while True:
            await self._queued.wait()
            self._queued.clear()
            while self._calls:
                call = self._next_call()
                call.finish(await self._run_call(call), self.log)
                del call  # its arguments need not live until the next one
                await self._flush()
                if self.after_reply is not None:
                    after, self.after_reply = self.after_reply, None
                    await after(self)
            await self._flush()

    def _next_call(self) -> "Call":
        """Return the next call, the authority's first: no application may delay it."""
        authority = self.authority()
        for i, call in enumerate(self._calls):
            if authority is not None and call.appid == authority.appid:
                return self._calls.pop(i)
        return self._calls.pop(0)

    async def _run_call(self, call: "Call") -> "dict[str, Any]":
        """Run a command, and return its reply's body."""
        late = call.late(self.now_ms())
        if late:
            self.report(late, call.command, 1, call.appid)
            return {"ok": False, "error": late}
        try:
            reply = call.run(self.log)
            return await reply if hasattr(reply, "send") else reply
        except asyncio.CancelledError:
            if self.stopping:
                raise
            # By something that the handler awaited: the handler failed, this task goes on.
            self.log("command-failed", call.command + ": cancelled")
            return {"ok": False, "error": "command-failed"}

    def run_authority_command(self, command: str, args: "dict[str, Any]") -> "Any":
        """Run one of the authority's own commands; return its result, or a coroutine of it."""
        if command == "update":
            if self.ota is None:
                raise PeerError("unknown-command")  # this board has no slots
            return self.ota.command(args)
        if command == "warden_clock":
            from .clock_order import run
        else:
            from ..rotation.commands import run
        return run(self, command, args)

    # -- messages to the broker ---------------------------------------------------------------
    def authority(self) -> "Session | None":
        """Return the authority's session once it is up."""
        for session in self.sessions:
            if session.authority and session.up:
                return session
        return None

    async def send(self, event: str, body: "dict[str, Any]", wrap: bool = True) -> bool:
        """Send an event to the authority, in plain mode to all who subscribed.
        wrap: in plain mode the body is one field; else the message has the body's fields.
        Return False where no session with the authority is up. PeerError when the link breaks.
        """
        session = self.authority()
        if session is not None:
            await self._send_bytes(event, COSE, session.seal(event, 0, body))
        elif self.plain is not None:
            fields = {"body": body} if wrap else body
            await self._send_bytes(event, JSON, self.plain.event(event, fields))
        else:
            return False
        return True

    def report(self, code: str, at: str, count: int = 1, source: str = "") -> None:
        """Count an incident. at: the command or the part of the device; source: an appid."""
        self.incidents.add(code, at, self.now_ms(), count, source)
        self.wakeup.set()

    async def _flush(self) -> None:
        """Send what the inbox has for its peers."""
        out = self.inbox.out
        while out:
            try:
                await self._send_bytes(*out.pop(0))
            except PeerError as error:
                self.log(error.code, error.text)  # the connection broke
                out.clear()

    async def _send_bytes(self, event: str, fmt: str, data: bytes) -> None:
        self.post(self.names.sending(event, fmt), data)
        if self.client.owes:
            await self.client.flush()

    def post(self, topic: bytes, data: "bytes | memoryview", qos: int = 0) -> "Any":
        """Send a message at once with QoS 0, or return the coroutine that sends it with QoS 1."""
        if len(topic) + len(data) + 5 + 2 * qos > self.policy.max_message:  # head and ID
            raise UsageError("bad-argument", "%d bytes are above the policy's limit" % len(data))
        return self.client.publish(topic, data, 1) if qos else self.client.post(topic, data)

    # -- messages from the broker -------------------------------------------------------------
    def on_message(self, topic: memoryview, payload: memoryview, retained: bool) -> None:
        """Check a message, and queue its command. Both views are invalid after the return."""
        call = self.inbox.receive(topic, memoryview(payload), retained, self.now_ms())
        if call is not None:
            # A share for each application: none can fill the queue for all.
            if [waiting.appid for waiting in self._calls].count(call.appid) >= _MOST_CALLS:
                self.report("busy", call.command, 1, call.appid)
                call.answer({"ok": False, "error": "busy"})
            else:
                self._calls.append(call)
        if self.inbox.pause_ms:
            self.client.pause_ms = self.inbox.pause_ms
        self._check_sessions()
        self._queued.set()
        self.wakeup.set()
        if self.delivery is not None:
            self.delivery.changed.set()

    def on_skipped(self, topic: bytes, head: bytes) -> None:
        """Count a message above the policy's limit; as Inbox.skip()."""
        self.inbox.skip(topic, head, self.now_ms())
        self.wakeup.set()

    def on_time(self, unix_time: int) -> None:
        """Set the clock by the authority's welcome. PeerError certificate-dates."""
        verifier = self.link.verifier if self.link is not None else None
        if verifier is not None and not self.clock.prove(unix_time, verifier, self.now_ms()):
            self.report("time-ahead", "welcome")
