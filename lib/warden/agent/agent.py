"""What runs behind the façade of agent/device.py: the link, the sessions, what is due, and the commands, each in a task of its own on asyncio."""

import asyncio
import gc
import sys

from micropython import const

from .. import unload
from ..errors import PeerError, UsageError, WardenError
from ..net.clock import Uptime
from ..net.link import Link
from ..wire.names import COSE, JSON

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..net.backoff import Backoff
    from ..net.clock import Clock, Rtc
    from ..net.link import Trust
    from ..net.mqtt import Client
    from ..policy.policy import Policy
    from ..session.command import Commands
    from ..session.inbox import Call, Inbox
    from ..session.incident import Incidents
    from ..session.plain import Plain
    from ..session.session import Session
    from ..vault import Vault
    from ..vault.records import App
    from ..wire.names import Topics

_MAX_JOBS = const(2)
_DAY_MS = const(86400000)
_OFTEN = const(4096)  # bytes allocated between two collections, as in firmware/boot.py


def silent(code: str, text: str) -> None:
    """Discard log messages."""


class Settings:
    """The policy's values, without the code that checked them."""


class Agent:
    """vault: open. rtc: the clock chip. network: what brings the board online by up(timeout_ms), and joins anew after failed(), where it has that; None where the board is online. floor: unix seconds. log(code, text) hears what happens; on_fatal() is called when the
    agent itself fails, and should start the board anew."""

    if TYPE_CHECKING:  # what agent/build.py puts in
        names: Topics
        _trust: Trust
        _host: str
        _port: int
        _clock: Clock
        _backoff: Backoff
        _commands: Commands
        _incidents: Incidents
        _apps: list[App]
        _alone: bool
        _client: Client

    def __init__(
        self,
        vault: "Vault",
        rtc: "Rtc",
        network: "Any",
        floor: int,
        log: "Callable[[str, str], None]" = silent,
        on_fatal: "Callable[[], None] | None" = None,
    ) -> None:
        self._log = log
        self._on_fatal = on_fatal
        self._network = network
        self._vault = vault
        self.policy: "Policy" = Settings()  # type: ignore[assignment]
        self._uptime = Uptime()
        self._sessions: "list[Session]" = []
        self._plain: "Plain | None" = None
        self._authority = ""
        self._inbox: "Inbox | None" = None
        self._link: "Link | None" = None
        self._jobs: "list[Call]" = []
        self._working = asyncio.Event()
        self._kick = asyncio.Event()
        self._standing = asyncio.Event()
        self._tasks: "list[Any]" = []
        # Where the policy has a gate: its board's keypad and display (board/panel.py) until it begins, then gate.Gate, and None once it is open.
        self.gate: "Any" = None
        self._rotation: "Any" = None  # orders.Waiting, while one waits
        self._updating: "Any" = None  # updating.Updating, on a board with slots
        # Asked during the trial of an update: the application says True when it is well. May be async.
        self.health: "Callable[[], Any] | None" = None
        # Kept for link_failure.py: counts, and when the broker was last reached.
        self._unreached = self._ended_early = self._reached_ms = 0
        self._stopping = False
        self._then: "Any" = None  # what an order leads to once it was answered
        from . import build

        build.build(self, rtc, floor)

    # -- tasks --------------------------------------------------------------------------------

    def _begin(self) -> None:
        from . import build

        build.begin(self, lambda: self._vault.generation)
        if "rotation" in self._vault.names():
            from ..rotation.commands import begin

            begin(self)
        works = [self._keep_connected(), self._keep_time(), self._work()]
        if "warden.ota.boot" in sys.modules:
            from ..ota import service

            self._updating = service.begin(self)
            if self._updating is not None:
                works.append(self._updating.run())
        for work in works:
            self._tasks.append(asyncio.create_task(self._guard(work)))
        if self.policy.otp is not None:
            from ..gate import gate

            self._tasks.append(asyncio.create_task(gate.begin(self, self._guard)))
        # All of it was used: kilobytes that a connection needs more.
        for name in ("warden.agent.build", "warden.policy.policy", "warden.vault.records"):
            unload(name)

    async def _guard(self, coro: "Any") -> None:
        # A bug, broken flash, or a task that somebody else's code cancelled: nothing may go on half alive behind the owner's back.
        try:
            await coro
            text = "a task of the agent ended"
        except asyncio.CancelledError:
            if self._stopping:
                raise
            text = "a task of the agent was cancelled"
        except Exception as error:  # whatever it is: see above
            text = str(error) if isinstance(error, WardenError) else repr(error)
        self._log("agent-failed", text)
        if self._on_fatal is None:
            raise RuntimeError(text)
        self._on_fatal()

    async def _keep_connected(self) -> None:
        await self._client.subscribe(self.names.subscription, 1)
        while True:
            gc.threshold(_OFTEN)
            gc.collect()  # a hand-shake wants its buffers in one piece
            began, failed = self._uptime.now_ms(), None
            try:
                if self._network is not None:
                    await self._network.up(self.policy.handshake_ms)
                if self._rotation is not None:
                    self._rotation.equip()
                self._link = Link(self._trust, self._clock, self.policy.stall_ms)
                await self._client.connect(
                    self._link, self._host, self._port, self.policy.handshake_ms
                )
                # The large buffers have their places. To go on collecting as often would take nine tenths of the time that an event takes;
                # half of what is free keeps the rest in one piece for the next hand-shake.
                gc.collect()
                gc.threshold(max(_OFTEN, gc.mem_free() // 2))
                self._log("link-up", "%s:%d" % (self._host, self._port))
                now = self._uptime.now_ms()
                for session in self._sessions:
                    session.begin(now)
                self._note_standing()
                self._kick.set()
                await self._client.pump()
            except PeerError as error:
                self._log(error.code, error.text)
                self._incidents.add(error.code, "link", self._uptime.now_ms())
                failed = error
            except MemoryError:
                self._log("out-of-memory", "not enough memory for the connection")
            self._clock.undo()  # a tentative time ends with the connection that it was for
            for session in self._sessions:
                session.drop()
            self._standing.clear()
            if failed is not None:
                self._note_failure(failed, began)
            wait = self._backoff.next_ms()
            self._log("link-wait", "the next attempt begins in %d ms" % wait)
            await asyncio.sleep_ms(wait)

    def _note_failure(self, error: PeerError, began_ms: int) -> None:
        try:
            from . import link_failure

            link_failure.record(self, error, began_ms)
        except MemoryError:
            pass  # the back-off goes on as it did
        unload("warden.agent.link_failure")

    async def _keep_time(self) -> None:
        """Everything that is due at some time: hellos, ID requests, reports of incidents."""
        while True:
            self._kick.clear()
            now = self._uptime.now_ms()
            due = None
            if self._client.connected:
                try:
                    # Here too, for a handler that takes its time must not hold back what a hand-shake answers.
                    await self._flush()
                    due = await self._do_due(now)
                except PeerError as error:
                    # The connection broke meanwhile: _keep_connected() makes a new one.
                    self._log(error.code, error.text)
            try:
                await asyncio.wait_for_ms(
                    self._kick.wait(), _DAY_MS if due is None else max(1, due - now)
                )
            except asyncio.TimeoutError:
                pass  # that's what was waited for

    async def _do_due(self, now_ms: int) -> "int | None":
        dues = []
        for session in self._sessions:
            message = session.tick(now_ms)
            if message is not None:
                await self._send(message[0], COSE, message[1])
            dues.append(session.due_ms())
        if self._plain is not None:
            for request in self._plain.requests(now_ms):
                await self._send("server_uid_request", JSON, request)
            dues.append(self._plain.due_ms())
        if self._rotation is not None:
            dues.append(self._rotation.due_ms(now_ms))
        dues.append(await self._report(now_ms))
        times = [due for due in dues if due is not None]
        return min(times) if times else None

    async def _report(self, now_ms: int) -> "int | None":
        """Tell the authority what happened; in plain mode whoever listens. Returns when the next report is due."""
        due = self._incidents.due_ms()
        authority = None
        for session in self._sessions:
            if session.authority and session.stands:
                authority = session
        if due is None or (authority is None and self._plain is None):
            return None
        if now_ms < due:
            return due
        batch = self._incidents.take()
        try:
            while batch:
                body = batch[-1]
                if authority is not None:
                    await self._send("incident", COSE, authority.seal("incident", 0, body))
                elif self._plain is not None:
                    await self._send(
                        "incident", JSON, self._plain.event("incident", {"body": body})
                    )
                batch.pop()
        finally:
            # Whoever cuts the line just now must not make us forget.
            self._incidents.put_back(batch, now_ms)
        return None

    async def _work(self) -> None:
        """Obey commands one at a time, and send what the inbox has to say."""
        while True:
            await self._working.wait()
            self._working.clear()
            while self._jobs:
                job = self._next_job()
                job.finish(await self._obey(job), self._log)
                del job  # or its arguments would live until the next one
                await self._flush()
                if self._then is not None:
                    then, self._then = self._then, None
                    await then(self)
            await self._flush()

    def _next_job(self) -> "Call":
        """The authority's first: an application that is slow, or means harm, must not keep it out."""
        for i, job in enumerate(self._jobs):
            if job.appid == self._authority:
                return self._jobs.pop(i)
        return self._jobs.pop(0)

    async def _obey(self, job: "Call") -> "dict[str, Any]":
        now = self._uptime.now_ms()
        late = job.late(now)
        if late:
            self._incidents.add(late, job.command, now)
            return {"ok": False, "error": late}
        try:
            return await job.run(self._log)
        except asyncio.CancelledError:
            if self._stopping:
                raise
            # It came out of something that the handler awaited: its own failure, not an order to this task.
            self._log("command-failed", job.command + ": cancelled")
            return {"ok": False, "error": "command-failed"}

    async def _flush(self) -> None:
        inbox = self._inbox
        while inbox is not None and inbox.out:
            event, fmt, data = inbox.out.pop(0)
            try:
                await self._send(event, fmt, data)
            except PeerError as error:
                self._log(error.code, error.text)  # as above
                inbox.out.clear()

    async def _send(self, event: str, fmt: str, data: bytes) -> None:
        self._post(self.names.event(event, fmt).encode(), data)
        if self._client.owes:
            await self._client.flush()

    def _post(self, topic: bytes, data: "bytes | bytearray") -> None:
        if len(topic) + len(data) + 5 > self.policy.max_message:  # 5: the packet's head
            raise UsageError(
                "bad-argument", "an event of %d bytes is above the policy's limit" % len(data)
            )
        self._client.post(topic, data)

    def _order(self, command: str, args: "dict[str, Any]") -> "Any":
        if command == "update":
            if self._updating is None:
                raise PeerError("unknown-command")  # this board has no slots
            return self._updating.obey(args)
        from ..rotation.commands import obey

        return obey(self, command, args)

    # -- what the broker sends ----------------------------------------------------------------

    def _on_message(self, topic: memoryview, payload: memoryview, retained: bool) -> None:
        inbox = self._inbox
        if inbox is None:
            return
        now = self._uptime.now_ms()
        job = inbox.receive(topic, memoryview(payload), retained, now)
        if job is not None:
            # A share for each application, so that none can fill the queue for all.
            if sum([waiting.appid == job.appid for waiting in self._jobs]) >= _MAX_JOBS:
                self._incidents.add("busy", job.command, now)
                job.answer({"ok": False, "error": "busy"})
            else:
                self._jobs.append(job)
        self._note_standing()
        self._working.set()
        self._kick.set()

    def _on_skipped(self, topic: bytes) -> None:
        """Count a message that was above the policy's limit; topic: empty where it is not known."""
        try:
            command = self.names.parse(topic)[0]
        except PeerError:
            command = ""
        self._incidents.add("mqtt-too-large", command, self._uptime.now_ms())
        self._kick.set()

    def _note_standing(self) -> None:
        if self._rotation is not None:
            self._rotation.stood()
        stands = (
            self._plain.ready if self._plain is not None else any(s.stands for s in self._sessions)
        )
        if stands and not self._standing.is_set():
            self._log("session-stands", "commands are obeyed from now on")
            self._backoff.reset()
            self._standing.set()
        elif not stands:
            self._standing.clear()

    def _on_time(self, unix_time: int) -> None:
        verifier = self._link.verifier if self._link is not None else None
        if verifier is not None:
            self._clock.prove(unix_time, verifier.not_before, verifier.not_after)
