"""The gate in a connected device: the keypad, the display and the messages around gate/machine.py. Loaded where the policy has a gate, and let go of once it is
open.

Until then commands of applications are refused (`gate-shut`), those of the authority and the session itself work; Device.start() has not
returned, so the application is not started. docs/otp.md tells the order.
"""

import asyncio
import sys

from micropython import const

from .. import unload
from ..errors import PeerError
from ..session.command import AUTHORITY_ONLY
from ..session.inbox import Inbox
from .machine import Otp

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable, Coroutine

    from ..agent.interface import Agent
    from ..session.inbox import Call
    from ..session.plain import Plain
    from ..session.session import Session

_TICK_MS = const(500)
_AGAIN_MS = const(1000)
_QUIET_MS = const(5000)
_IDLE_MS = const(32)  # what a keypad's poll() says while nothing is pressed (hal/keypad.py)
_ANSWERS = const(("server_otp_response", "server_otp_validate"))


class Gate:
    """agent: the one that runs it; panel: what its board has (board/panel.py)."""

    def __init__(self, agent: "Agent", panel: "Any") -> None:
        terms: "Any" = agent.policy.otp
        codes = None
        if terms["source"] != "authority":
            from .codes import Codes

            codes = Codes(agent.vault, terms["duress"])
        self.otp = Otp(terms, agent.vault, codes, agent.now_ms())
        self.offline = codes is not None
        self._early = terms["before"] != "nothing"  # telemetry passes before it opens
        self.agent = agent
        self._panel, self._screen, self._kept = panel
        self._keypad: "Any" = None
        self._display: "Any" = None
        self._shown = ("", "")
        self._failed = False
        self._calm = False  # nothing is waited for but keys
        self._touched: "Any" = None  # set by an interrupt, where the keypad has one
        self._news = False
        self._opened = asyncio.Event()
        self._zero: "int | None" = None  # the proven time less the uptime, seconds
        agent.receive(Gated).gate = self

    async def wait(self, telemetry: bool = False) -> None:
        """Until the gate is open; at once for telemetry where the policy lets it out before."""
        if not (telemetry and self._early):
            await self._opened.wait()

    def unlock(self) -> None:
        """The operator's order. PeerError not-allowed."""
        self.otp.unlock()
        self._wake()

    def hear(self, appid: str, command: str, fields: "dict[str, Any]", now_ms: int) -> None:
        """An answer of the authority. PeerError bad-body, unexpected."""
        response = command == _ANSWERS[0]
        if (
            len(fields) != (6 if response else 7)
            or fields.get("cmd") != command
            or fields.get("appid") != appid
            or not isinstance(fields.get("uid"), str)
        ):
            raise PeerError("bad-body")
        if response:
            self.otp.on_response(fields, now_ms)
        else:
            self.otp.on_validate(fields, now_ms)
        self._wake()

    def _wake(self) -> None:
        self._news = True
        if self._touched is not None:
            self._touched.set()

    # -- the task -----------------------------------------------------------------------------

    async def run(self) -> None:
        otp, agent = self.otp, self.agent
        rest = 0
        while not otp.by:
            touched = self._touched
            if touched is not None:
                touched.clear()  # before the look, so that no key falls between
            pause = self._poll()
            quiet = touched is not None and pause == _IDLE_MS
            if quiet:
                # Keys, messages and orders wake this task; the time alone is looked at, and that there is a link.
                pause = _QUIET_MS if self._calm else _TICK_MS
            rest -= pause
            if rest <= 0 or self._news or (self._keypad is not None and self._keypad.keys):
                rest = _TICK_MS
                await self._work()
            if not quiet:
                await asyncio.sleep_ms(pause)
                continue
            try:
                await asyncio.wait_for_ms(touched.wait(), pause)
            except asyncio.TimeoutError:
                pass  # time for a look at the clock
        await self._work()
        if self._touched is not None:
            # A handler that stays would be called for ever, and hold all of this code.
            try:
                self._keypad.watch(None)
            except OSError:
                pass  # an expander that went away
        agent.log("gate-open", otp.by)
        agent.receive(Inbox)
        agent.gate = None
        self._opened.set()
        while not await self._send("gate", {"open": True, "by": otp.by}):
            await asyncio.sleep_ms(_AGAIN_MS)

    def _poll(self) -> int:
        """Look at the keys; in how many milliseconds to do so again. A keypad that can't be read leaves the gate shut, and the operator a way in."""
        try:
            if self._keypad is None:
                make, args = self._panel
                self._keypad = make(args)
                flag = asyncio.ThreadSafeFlag()
                self._touched = flag if self._keypad.watch(lambda _: flag.set()) else None
            pause: int = self._keypad.poll()
            return pause
        except OSError:
            self._keypad = self._touched = None
            self._lost("keypad")
            return _AGAIN_MS

    def _lost(self, what: str) -> None:
        if not self._failed:
            self._failed = True
            self.agent.log("keypad-failed", what)
            self.agent.report("keypad-failed", what)

    async def _work(self) -> None:
        otp, agent = self.otp, self.agent
        self._news = False
        now = agent.now_ms()
        linked = self._linked()
        self._calm = linked or self.offline
        otp.tick(now, linked)
        while self._keypad is not None and self._keypad.keys:
            otp.key(self._keypad.take(), now, self._time(now))
        for code, count in otp.told:
            agent.report(code, "gate", count)
        otp.told = []
        self._show(otp.lines(now))
        while otp.out:
            await self._send(*otp.out.pop(0))

    def _show(self, lines: "tuple[str, str]") -> None:
        if lines == self._shown or self._screen is None:
            return
        self._shown = lines
        try:
            if self._display is None:
                make, args = self._screen
                self._display = make(args)
            self._display.lines(*lines)
        except OSError:
            self._display = None
            self._lost("display")

    # -- the link -----------------------------------------------------------------------------

    def _linked(self) -> bool:
        """Whether the authority can be spoken to."""
        agent = self.agent
        if agent.plain is not None:
            return agent.client.connected and agent.plain.ready
        return agent.authority() is not None

    def on_time(self, unix_time: int) -> None:
        """What the authority's welcome says. Counted on from there by the ticks: whatever the clock does after that moves no code."""
        agent = self.agent
        if unix_time >= agent.clock.least():
            self._zero = unix_time - agent.now_ms() // 1000

    def _time(self, now_ms: int) -> "int | None":
        """Unix seconds for codes that depend on them: what the authority proved in this boot, or a clock that a battery keeps and
        that did not stop meanwhile: lifted to its mark it would say a time in the past, whose codes somebody may have seen."""
        if self._zero is not None:
            return self._zero + now_ms // 1000
        clock = self.agent.clock
        return clock.now() if self._kept and not clock.gap else None

    async def _send(self, event: str, fields: "dict[str, Any]") -> bool:
        """Send it to the authority, in plain mode to whoever listens; False when that can't be done now."""
        agent, wrap = self.agent, event == "gate"
        if not wrap:
            fields["event"], fields["deviceId"] = event, agent.names.device
        try:
            return await agent.send(event, fields, wrap)
        except PeerError as error:
            agent.log(error.code, error.text)  # the connection broke
            return False


class Gated(Inbox):
    """The inbox of a device whose gate is shut."""

    gate: Gate

    def _receive_plain(
        self, plain: "Plain", command: str, payload: memoryview, now_ms: int
    ) -> "Call | None":
        if command not in _ANSWERS:
            return super()._receive_plain(plain, command, payload, now_ms)
        fields = plain.parse(payload)
        self.gate.hear(plain.prove(fields), command, fields, now_ms)
        return None

    def _dispatch(
        self,
        appid: str,
        command: str,
        args: "dict[str, Any]",
        answer: "Callable[[dict[str, Any]], None]",
        now_ms: int,
        session: "Session | None" = None,
        deadline_ms: "int | None" = None,
    ) -> "Call | None":
        if command in _ANSWERS:
            # What answers us is answered to no one.
            authority = self.gate.agent.authority()
            if authority is None or authority.appid != appid:
                raise PeerError("not-allowed")
            self.gate.hear(appid, command, args, now_ms)
            return None
        if command not in AUTHORITY_ONLY:
            self._refuse(PeerError("gate-shut"), command, answer, now_ms)
            return None
        return super()._dispatch(appid, command, args, answer, now_ms, session, deadline_ms)


def begin(agent: "Agent", panel: "Any") -> "Coroutine[Any, Any, bool]":
    """Shut the gate of an agent whose policy has one; return the coroutine of its task, which ends with True.

    panel: what the board has for it (board/panel.py); None on a board without a keypad.
    """
    # The rest of it ends with agent/build.py; these are of no more use either.
    unload("warden.policy.otp")
    unload("warden.board.panel")
    if panel is None:
        # No keypad, no gate; the host provisions no such device, so somebody should know.
        agent.log("otp-no-keypad", "the policy asks for a code, and the board has no keypad")
        agent.report("otp-no-keypad", "gate")
        return _nothing()
    agent.gate = gate = Gate(agent, panel)
    if _granted():
        gate.otp.by = "grant"
    return _run(gate)


async def _nothing() -> bool:
    return True


def _granted() -> bool:
    """Whether this start is the trial of an update that came with a grant: it proves nothing about who stands here, and forgives no attempt."""
    if "warden.ota.boot" not in sys.modules:
        return False
    from ..ota.boot import present

    return present is not None and present.granted is True


async def _run(gate: Gate) -> bool:
    await gate.run()
    for name in ("warden.gate.gate", "warden.gate.machine", "warden.gate.codes"):
        unload(name)
    return True
