"""The device as its application sees it: link, sessions and commands, kept going on asyncio.

    device = Device.from_board()

    @device.command("set_relay")
    def set_relay(args):
        relay.value(args["on"])

    await device.start()
    await device.publish("temperature", {"c": 21.5})

from_board() gets the hardware (`hal`) from board/load.py and board/panel.py, which alone join it
with features. agent/build.py makes the agent that this class stands in front of.
"""

import asyncio

from micropython import const

from .. import unload
from ..errors import PeerError, UsageError, ensure

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..net.clock import Rtc
    from ..session.session import Session
    from ..vault import Vault
    from ..vault.secrets import Secrets

_OWN_EVENTS = const(
    (
        "hello",
        "ready",
        "reply",
        "incident",
        "offline",
        "server_uid_request",
        "update",
        "server_otp_request",
        "device_otp_response",
        "gate",
    )
)


# Codes of the log that tell of progress; every other one is an error's.
_PROGRESS = const(
    "link-up link-wait session-stands rotated wifi-changed policy-changed update gate-open "
    "command-refused apps-changed"
)


def print_errors(code: str, text: str) -> None:
    """Print an error to the console, and nothing of progress."""
    if code not in _PROGRESS.split():
        print("warden:", code, text)


def silent(code: str, text: str) -> None:
    """Discard a log message."""


class Device:
    """A connected device: the interface for its application, described in docs/device.md.

    vault: open. rtc: the clock chip. network: brings the board online (agent/agent.py); None where
    it is online. floor: unix seconds that the clock is at least set to. log(code, text): called
    with all that happens. on_fatal(): restarts the board when the agent itself fails. panel():
    returns what the board has for a gate (board/panel.py). wrong: what is wrong in board.py.
    development: why the console is open, "pin" or "order" (board/development.py). memory: that
    outlives deep sleep, and in which sessions do (hal/retained.py).
    """

    def __init__(
        self,
        vault: "Vault",
        rtc: "Rtc",
        network: "Any",
        floor: int,
        log: "Callable[[str, str], None]" = silent,
        on_fatal: "Callable[[], None] | None" = None,
        panel: "Callable[[], Any] | None" = None,
        wrong: "list[str] | None" = None,
        development: str = "",
        memory: "Any" = None,
    ) -> None:
        from .build import build

        self._agent, apps = build(vault, rtc, network, floor, log, on_fatal)
        for sentence in wrong or ():
            log("no-board", sentence)
            self._agent.report("no-board", "board")
        if development:
            log("development", development)
            self._agent.report("development", development)
            self._agent.development = True
        self._agent.use_policy = _use_policy
        self._agent.tampered = _tampered
        otp = self._agent.policy.otp
        # Needed by start() alone.
        self._parts: "Any" = apps, None if otp is None or panel is None else panel(), memory
        self._memory = memory
        self._event: "str | None" = None  # the last one published, whose name was checked

    @staticmethod
    def from_board(
        log: "Callable[[str, str], None] | None" = print_errors,
        ask: "Callable[[], bytes] | None" = None,
        sleeps: bool = False,
    ) -> "Device":
        """Return the device that board.py describes: open its vault, find its hardware.

        log(code, text): None for silence. ask(): returns the PIN where the root key needs one and
        board.py names no ASK. sleeps: the program calls sleep(). UsageError no-board; StoreError.
        """
        from ..board.load import parts

        vault, rtc, network, floor, wrong, mode = parts(ask)
        from ..hal import system

        # All of it was used: two kilobytes that a connection needs more.
        _unload("board", "warden.board.load")
        hardware = vault, rtc, network, floor, log or silent, system.reset, _panel, wrong, mode
        memory = None
        if sleeps:
            from ..hal import retained

            memory = retained.find()
        return Device(*hardware, memory)

    def command(self, name: str, call: bool = False) -> "Callable[[Any], Any]":
        """Decorator: let this function, sync or async, run the command.

        name: 1 to 32 of a-z 0-9 _. call: it takes the call (session/inbox.py) as a second
        argument. It gets the arguments, a dict, returns the reply's value, and may raise Refused.
        UsageError bad-name.
        """

        def register(handler: "Any") -> "Any":
            self._agent.commands.register(name, handler, call)
            return handler

        return register

    @property
    def health(self) -> "Callable[[Any], Any]":
        """Decorator: ask this function, sync or async, during the trial of an update.

        It returns True when the application is well. Without one it is enough that the
        authority's session is up and the gate is open.
        """

        def register(function: "Any") -> "Any":
            self._agent.health = function
            return function

        return register

    async def start(self, timeout: "float | None" = None) -> None:
        """Go online, and wait for the first session and for the gate where the policy has one.

        In plain mode: until every application's ID is known. For codes that the device verifies
        itself no session is waited for. timeout: seconds; the device connects on after it, and
        start() may be called again. LinkError link-timeout.
        """
        if timeout is not None:
            from .waits import within

            return await within(self.start(), timeout)
        agent = self._agent
        if self._parts is not None:
            from .build import start

            start(agent, *self._parts)
            self._parts = None
            del start
            # All of it was used: kilobytes that a connection needs more.
            _unload("warden.policy.policy", "warden.vault.records", "warden.vault.opening")
            unload("warden.crypto.ccm_long")
            unload("warden.agent.build", empty=True)
        opened = None if agent.gate is None else agent.gate.opened
        if agent.gate is None or not agent.gate.offline:
            await agent.session_up.wait()
        if opened is not None:
            await opened.wait()

    async def stop(self, asleep: "int | None" = None) -> None:
        """Say goodbye to the authority, disconnect, end all tasks and erase the keys in RAM.

        asleep: seconds until the device means to be back. UsageError bad-argument.
        """
        from .leaving import leave

        await leave(self._agent, asleep)

    async def sleep(self, seconds: int) -> None:
        """Stop, and sleep deeply; the board and its program start anew afterwards.

        With from_board(sleeps=True) the sessions go on then, where the board's memory allows it.
        seconds: a whole number, above 0. UsageError bad-argument.
        """
        from ..hal import retained
        from .leaving import leave

        await leave(self._agent, seconds or 0, self._memory)  # None would mean no sleep
        retained.deep_sleep(seconds)

    async def __aenter__(self) -> "Device":
        try:
            await self.start()
        except BaseException:  # whatever ended it, __aexit__() is not called
            await self.stop()
            raise
        return self

    async def __aexit__(self, *error: "Any") -> None:
        await self.stop()

    @property
    def connected(self) -> bool:
        """Whether the broker accepted the log-in of the present connection."""
        return self._agent.client.connected

    @property
    def session(self) -> "tuple[str, ...]":
        """The IDs of the applications whose session is up; in plain mode, whose ID is known."""
        agent = self._agent
        if agent.plain is not None:
            return tuple(agent.plain.appids) if agent.session_up.is_set() else ()
        return tuple({session.appid: 0 for session in agent.sessions if session.up})

    async def changed(self, timeout: "float | None" = None) -> None:
        """Wait until `connected` or `session` changes.

        timeout: seconds
        Raises: LinkError link-timeout.
        """
        from . import waits

        work = waits.changed(self._agent, self)
        await (work if timeout is None else waits.within(work, timeout))

    @property
    def secrets(self) -> "Secrets":
        """The application's own secrets, kept in the vault (vault/secrets.py)."""
        from ..vault.secrets import Secrets

        return Secrets(self._agent.vault)

    async def publish(
        self,
        event: str,
        body: "dict[str, Any]",
        to: "str | None" = None,
        qos: int = 0,
        timeout: "float | None" = None,
    ) -> str:
        """Send an event to each application whose session is up; wait while there is none.

        Wait for the gate too, unless the policy lets telemetry out.

        event: 1 to 32 of a-z 0-9 _
        body: its keys are text
        to: one application's ID; without it the authority gets the event only where it is the
          only application
        qos: 0: the event may be lost when the connection breaks; 1: return when the broker has
          acknowledged it, and send it again after each reconnect until then, so that an
          application may get it twice
        timeout: seconds, for all of it
        Returns: "sent": nothing more is known. With an outbox (docs/telemetry.md), which never
          waits for a session: "sent", "queued" or "dropped", with qos=1 "delivered" or "dropped"
        Raises: UsageError bad-name, bad-argument; LinkError link-timeout.
        """
        if timeout is not None:
            from .waits import within

            return await within(self.publish(event, body, to, qos), timeout)
        agent = self._agent
        if event != self._event:
            ensure(
                agent.names.is_event(event) and event not in _OWN_EVENTS,
                "bad-name",
                "an event's name is 1 to 32 of a-z 0-9 _ and none of Warden's own",
            )
            self._event = event
        if not isinstance(body, dict):
            raise UsageError("bad-argument", "an event's body is a dict")
        for key in body:
            if not isinstance(key, str):
                raise UsageError("bad-argument", "a key of the body is no text")
        if qos != 0:
            ensure(qos == 1, "bad-argument", "QoS is 0 or 1")
            pending: "list[str]" = []
        while True:
            if not agent.session_up.is_set() and agent.delivery is None:
                await agent.session_up.wait()
            # After that: before start() there is none to wait at.
            if agent.gate is not None and not agent.gate.early:
                await agent.gate.opened.wait()
            if agent.delivery is not None:
                return await agent.delivery.publish(event, body, to, bool(qos))
            try:
                if qos:
                    from .waits import publish

                    if await publish(agent, event, body, self._receivers(to), pending):
                        return "sent"
                elif self._post(event, body, to):
                    # As a rule the connection took it all, and no coroutine was made on the way.
                    if agent.client.owes:
                        await agent.client.flush()
                    return "sent"
            except PeerError as error:  # the connection broke, and the agent makes another
                agent.log(error.code, error.text)
            # Another application's session alone is up, or the agent has not noticed the loss yet.
            await asyncio.sleep_ms(100)

    async def tampered(self, at: str = "case") -> None:
        """Report a tamper switch, and do what the policy says: ignore, lock or wipe.

        Locked, the device obeys the authority alone until `warden unlock`, over restarts too.
        Wiped, it restarts, not provisioned.

        at: what it guards, 1 to 32 of a-z 0-9 _. UsageError bad-name.
        """
        agent = self._agent
        ensure(agent.names.is_event(at), "bad-name", "a place is 1 to 32 of a-z 0-9 _")
        agent.report("tamper-detected", at)
        terms = agent.policy.incidents
        if terms is not None:
            await _tampered(agent, terms["tamper"], at)

    def _receivers(self, to: "str | None") -> "list[Session]":
        """Return the sessions that are up and get an event; to: as in publish()."""
        return [session for session in self._agent.sessions if self._gets(session, to)]

    def _gets(self, session: "Session", to: "str | None") -> bool:
        if not session.up or to is not None:
            return session.up and session.appid == to
        return not session.authority or self._agent.alone

    def _post(self, event: str, body: "dict[str, Any]", to: "str | None") -> bool:
        """Queue an event with QoS 0. Return whether a session was up for it.

        Nothing waits between sealing and posting: counters reach the broker in their order.
        """
        if self._agent.plain is not None:
            return self._agent.plain.post(self._agent.post, event, body)
        # By an index and in small functions: a board allocates a frame of more than eleven words.
        at, posted = -len(self._agent.sessions), False  # from the end, so that 0 is behind it
        while at:
            if self._gets(self._agent.sessions[at], to):
                self._post_sealed(at, event, body)
                posted = True
            at += 1
        return posted

    def _post_sealed(self, at: int, event: str, body: "dict[str, Any]") -> None:
        """Seal an event for the session of this index, and queue it."""
        agent = self._agent
        sealed = agent.names.sealed(event)
        data = agent.sessions[at].seal_event(sealed[1], body)
        agent.post(sealed[0], data)


def _use_policy(agent: "Any", record: "bytes | None", brokers: "Any" = None) -> "Any":
    from .build import use_policy

    try:
        return use_policy(agent, record, brokers)
    finally:
        unload("warden.agent.build")


def _tampered(agent: "Any", reaction: str, at: str) -> "Any":
    from .tamper import react

    return react(agent, reaction, at)


def _panel() -> "Any":
    from ..board.panel import panel

    found = panel()
    _unload("board", "warden.board.load")
    return found


def _unload(*names: str) -> None:
    for name in names:
        unload(name)
