"""The gate of a connected device: keypad, display and messages around gate/machine.py.

Loaded where the policy has a gate, and unloaded once it is open. Until then the device refuses
commands of applications (`gate-shut`), runs those of the authority, and Device.start() waits, so
the application does not run. docs/otp.md describes the order.
"""

import asyncio
import sys

from micropython import const

from .. import interrupt, unload
from ..errors import PeerError
from .machine import Otp

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Coroutine

    from ..agent.interface import Agent

_TICK_MS = const(500)  # between two looks at the clock and the link
_QUIET_MS = const(5000)  # the same, where nothing but keys is expected
_RETRY_MS = const(1000)
_IDLE_MS = const(32)  # what a keypad's poll() returns while no key is down (hal/keypad.py)
_DRIVERS = const(("keypad", "displa"))  # how their modules' names begin
_ANSWERS = const(("server_otp_response", "server_otp_validate"))


class Gate:
    """The shut gate of one agent.

    agent: whose policy has a gate. panel: what its board has for it (board/panel.py).
    """

    def __init__(self, agent: "Agent", panel: "Any") -> None:
        gate_policy: "Any" = agent.policy.otp
        codes = None
        if gate_policy["source"] != "authority":
            from .codes import Codes

            codes = Codes(agent.vault, gate_policy["duress"])
        self.otp = Otp(gate_policy, agent.vault, codes, agent.now_ms())
        self.offline = codes is not None  # the device verifies the codes itself
        self.early = gate_policy["before"] != "nothing"  # telemetry passes the shut gate
        self._agent = agent
        terms: "Any" = agent.policy.incidents
        # Of codes that the device verifies itself: no network has a say in how many were wrong.
        wipes = self.offline and terms is not None and terms["codes"] == "wipe"
        self._wipe_after = terms["wipe_after"] if wipes else 0
        # Keypad and display: (make, its arguments). Whether a battery keeps the clock.
        self._keypad_parts, self._display_parts, self._clock_kept = panel
        self._keypad: "Any" = None
        self._display: "Any" = None
        self._shown = ("", "")
        self._failed = False  # keypad or display, and that was reported
        self._calm = False  # nothing but keys is expected
        self._touched: "Any" = None  # set by an interrupt, where the keypad has one
        self._news = False  # a message came
        # Waited for in place of a method: a task that has ended holds what it awaited last, and
        # this holds none of the gate's code.
        self.opened = asyncio.Event()
        agent.gate = agent.inbox.gate = self

    def unlock(self) -> None:
        """Open the gate by the operator's command. PeerError not-allowed."""
        self.otp.unlock()
        self._wake()

    def receive(
        self, command: str, fields: "dict[str, Any]", now_ms: int, appid: "str | None" = None
    ) -> bool:
        """Take an answer of the authority to a request; return False for any other message.

        appid: of the sealed session; None in plain mode, where the fields hold it and its proof.
        PeerError bad-body, not-allowed, unexpected, wrong-application.
        """
        if command not in _ANSWERS:
            return False
        authority = self._agent.authority()
        if self._agent.plain is not None:
            appid = self._agent.plain.prove(fields)
        elif authority is None or authority.appid != appid:
            raise PeerError("not-allowed")
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
        return True

    def _wake(self) -> None:
        self._news = True
        if self._touched is not None:
            self._touched.set()

    # -- the task -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve keypad, display and messages until the gate is open, and tell the authority so."""
        otp, agent = self.otp, self._agent
        rest = 0  # milliseconds until the next _work()
        while not otp.by:
            touched = self._touched
            if touched is not None:
                touched.clear()  # before the poll: a key after it sets it again
            pause = self._poll()
            quiet = touched is not None and pause == _IDLE_MS
            if quiet:
                # Keys, messages and commands wake this task; time and link need a look.
                pause = _QUIET_MS if self._calm else _TICK_MS
            rest -= pause
            if rest <= 0 or self._news or (self._keypad is not None and self._keypad.keys):
                rest = _TICK_MS
                # A task of its own has the C stack that a commit or the display's driver needs.
                await asyncio.create_task(self._work())
            if not quiet:
                await asyncio.sleep_ms(pause)
                continue
            try:
                await asyncio.wait_for_ms(touched.wait(), pause)
            except asyncio.TimeoutError:
                pass
        await asyncio.create_task(self._work())
        if self._touched is not None:
            # An interrupt handler that stays set would hold all of this code.
            try:
                self._keypad.watch(None)
            except OSError:
                pass  # the expander went away
        agent.log("gate-open", otp.by)
        while not await asyncio.create_task(self._send("gate", {"open": True, "by": otp.by})):
            await asyncio.sleep_ms(_RETRY_MS)

    def _poll(self) -> int:
        """Look at the keys; return the milliseconds until the next look.

        A keypad that cannot be read leaves the gate shut; `unlock` still opens it.
        """
        try:
            if self._keypad is None:
                make, args = self._keypad_parts
                self._keypad = make(args)
                flag = asyncio.ThreadSafeFlag()
                self._touched = flag if self._keypad.watch(interrupt(flag)) else None
            pause: int = self._keypad.poll()
            return pause
        except OSError:
            self._keypad = self._touched = None
            self._report_failure("keypad")
            return _RETRY_MS

    def _report_failure(self, part: str) -> None:
        if not self._failed:
            self._failed = True
            self._agent.log("keypad-failed", part)
            self._agent.report("keypad-failed", part)

    async def _work(self) -> None:
        otp, agent = self.otp, self._agent
        self._news = False
        now = agent.now_ms()
        linked = self._linked()
        self._calm = linked or self.offline
        otp.tick(now, linked)
        while self._keypad is not None and self._keypad.keys:
            otp.on_key(self._keypad.get(), now, self._time(now))
        for code, count in otp.incidents:
            agent.report(code, "gate", count)
        otp.incidents = []
        if 0 < self._wipe_after <= otp.failures() and not otp.by:
            await agent.tampered(agent, "wipe", "codes")
        if otp.by:  # before the display says so: a command that comes then finds it open
            agent.gate = agent.inbox.gate = None
            self.opened.set()
        self._show(otp.lines(now))
        while otp.out:
            await self._send(*otp.out.pop(0))

    def _show(self, lines: "tuple[str, str]") -> None:
        if lines == self._shown or self._display_parts is None:
            return
        self._shown = lines
        try:
            if self._display is None:
                make, args = self._display_parts
                self._display = make(args)
            self._display.lines(*lines)
        except OSError:
            self._display = None
            self._report_failure("display")

    # -- the link -----------------------------------------------------------------------------

    def _linked(self) -> bool:
        """Return whether the authority can be reached now."""
        agent = self._agent
        if agent.plain is not None:
            return agent.client.connected and agent.plain.ready
        return agent.authority() is not None

    def _time(self, now_ms: int) -> "int | None":
        """Return the unix seconds for codes, or None where no time is proven.

        Proven is the time of the authority's welcome in this boot, or a clock that a battery
        keeps. One that stopped meanwhile was set to a past time, whose codes may be known.
        """
        clock = self._agent.clock
        proven = clock.proven(now_ms)
        if proven is None and self._clock_kept and not clock.gap:
            return clock.now()
        return proven

    async def _send(self, event: str, fields: "dict[str, Any]") -> bool:
        """Send an event to the authority; return False where that is not possible now."""
        agent, wrap = self._agent, event == "gate"
        if not wrap:
            fields["event"], fields["deviceId"] = event, agent.names.device
        try:
            return await agent.send(event, fields, wrap)
        except PeerError as error:
            agent.log(error.code, error.text)  # the connection broke
            return False


def start(agent: "Agent", panel: "Any") -> "Coroutine[Any, Any, bool]":
    """Shut the gate of an agent whose policy has one; return its task, which ends with True.

    panel: what the board has for it (board/panel.py); None without a keypad: then there is no
    gate.
    """
    # Of no more use either, like agent/build.py.
    unload("warden.policy.otp")
    unload("warden.board.panel")
    if panel is None:
        # Provisioning refuses this, so the owner must hear of it.
        agent.log("otp-no-keypad", "the policy asks for a code, and the board has no keypad")
        agent.report("otp-no-keypad", "gate")
        return _nothing()
    gate = Gate(agent, panel)
    if _granted():
        gate.otp.by = "grant"
    return _run(gate)


async def _nothing() -> bool:
    return True


def _granted() -> bool:
    """Return whether this start is the trial of an update that was sent with a grant.

    It proves nothing about the person at the device, so the attempts stay counted.
    """
    if "warden.ota.result" not in sys.modules:
        return False
    from ..ota.result import boot_result

    return boot_result is not None and boot_result.granted is True


async def _run(gate: Gate) -> bool:
    await gate.run()
    for name in ("warden.gate.gate", "warden.gate.machine", "warden.gate.codes"):
        unload(name)
    for name in list(sys.modules):
        if name.rpartition(".")[2][:6] in _DRIVERS and name[:7] == "warden.":
            unload(name)
    unload("warden.hal.keypad")  # in a board's build: the file of all drivers
    return True
