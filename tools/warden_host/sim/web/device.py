"""A simulated board that is on a page: its power, and the state of all that can be seen of it.

Everything here runs on the event loop's thread, which is the main one: the board's process is tied
to the thread that started it (childprocess.tie_to_us).
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warden_host import filelock, jsontext
from warden_host.errors import HostError
from warden_host.fleet import board_file
from warden_host.fleet.board_file import BoardFile
from warden_host.sim import simulated, wires
from warden_host.sim.clock import MAX_SHIFT_S, Clock
from warden_host.sim.keyboard import Keyboard
from warden_host.sim.network import MAX_DELAY_MS, MODES, Network
from warden_host.sim.web import panel
from warden_host.sim.web.log import Log
from warden_host.sim.wires import Incident, Lookup, Operation, Output, Wires, Written

MAX_CUT = 100_000
MAX_KEYS = 16
_MAX_PINS = 64
_OPERATIONS = 20  # that are shown
_LINES_AHEAD = 32  # of the console, which the loop has yet to show


class SimulatedBoard:
    """One board, from its first power-on until close().

    home: its folders; the caller holds its lock. pin: typed at each start. gated: whether its
    policy asks for a code. changed(): called with each change of what is seen. say(line): takes
    each line of its log.
    """

    def __init__(
        self,
        home: Path,
        lock: filelock.Lock,
        heapsize: str,
        pin: bytes,
        gated: bool,
        changed: Callable[[], None],
        say: Callable[[str, str], None],
    ) -> None:
        self.name = home.name
        self.root = home / "root"
        self._home, self._lock = home, lock
        self._heapsize, self._pin, self._gated = heapsize, pin, gated
        self._changed, self._say = changed, say
        self.log = Log()
        self.versions: dict[str, int] = {}
        self.clock = Clock(home / "fuses" / "clock")
        self.network = Network()
        self._keyboard = Keyboard()
        self._wanted = asyncio.Event()
        self._waits = asyncio.Event()  # set to end a pause before a restart
        self._run: simulated.SimulatedDevice | None = None
        self._wires: Wires | None = None
        self._why = "not switched on yet"
        self._was_cut = False  # the run that ends was
        self._armed = 0
        self._lookup: asyncio.Task[None] | None = None
        self._show_board(board_file.read(self._board_py))
        self._power = asyncio.create_task(self._keep_power())

    @property
    def _board_py(self) -> Path:
        return self.root / "lib" / "board.py"

    # -- what a person does ---------------------------------------------------------------------

    def switch_on(self) -> None:
        """Switch the power on, if it is off."""
        self._wanted.set()

    def switch_off(self, why: str = "the power was cut") -> None:
        """Cut the power now: the interpreter is killed where it stands."""
        if self._wanted.is_set():
            self._why = why
        self._wanted.clear()
        self._waits.set()
        if self._run is not None:
            self._was_cut = True
            self._run.process.kill()
        self._armed = 0
        self._note("power", "flash")

    def cut_after(self, count: int) -> None:
        """Cut the power within the flash's operation that comes so many later; 0: don't."""
        if not 0 <= count <= MAX_CUT:
            raise HostError("bad-argument", f"an operation is 1 to {MAX_CUT} from now, or 0")
        self._armed = count
        if self._wires is not None:
            self._wires.cut_after(count)
        self._note("flash")

    def press(self, keys: str) -> None:
        """Press keys one after the other. Raises bad-argument for a key that is not there."""
        if not 0 < len(keys) <= MAX_KEYS or any(key not in self._keypad.keys for key in keys):
            raise HostError("bad-argument", "the board's keypad has no such key")
        self._keyboard.feed(keys.encode("latin-1"))

    def shift_clock(self, seconds: int) -> None:
        """Set the clock to this machine's and so many seconds."""
        if not self.clock.can_be_set:
            raise HostError(
                "bad-argument", "libfaketime is not installed: the clock is the host's"
            )
        if abs(seconds) > MAX_SHIFT_S:
            raise HostError("bad-argument", f"a shift is at most {MAX_SHIFT_S} s")
        self.clock.shift(seconds)
        self._note("clock")

    def switch_network(self, mode: str, delay_ms: int) -> None:
        """Change what the network does. Raises bad-argument."""
        if mode not in MODES or not 0 <= delay_ms <= MAX_DELAY_MS:
            raise HostError("bad-argument", f"a network is {', '.join(MODES)}; {MAX_DELAY_MS} ms")
        self.network.switch(mode, delay_ms)
        self.log_line(f"-- the network is {mode}, {delay_ms} ms --")
        self._note("network")

    # -- what is seen ---------------------------------------------------------------------------

    def parts(self) -> dict[str, Callable[[], Any]]:
        """Return what is shown, by name; Board.versions counts the changes of each."""
        return {
            "power": lambda: {"on": self._run is not None, "why": self._why},
            "keypad": lambda: {
                "keys": self._keypad.keys,
                "columns": self._keypad.columns,
                "gated": self._gated,
            },
            "display": lambda: self._display.shown() | ({} if self._run else {"light": False}),
            "pins": lambda: self._pins,
            "flash": lambda: {
                "count": self._operations,
                "newest": [f"{one.number} {one.name} {one.path}" for one in self._newest],
                "armed": self._armed,
            },
            "network": lambda: {"mode": self.network.mode, "delay": self.network.delay_ms},
            "clock": lambda: {"now": self.clock.now(), "can_be_set": self.clock.can_be_set},
        }

    def log_line(self, text: str, mark: str | None = None) -> None:
        """Show a line in the log. mark: None to find it by the line's code."""
        self.log.add(text, mark)
        self._say(self.name, text)
        self._note()

    def _note(self, *parts: str) -> None:
        for part in parts:
            self.versions[part] = self.versions.get(part, 0) + 1
        self._changed()

    # -- the power ------------------------------------------------------------------------------

    async def close(self) -> None:
        """Cut the power for good."""
        self.switch_off("the simulator ended")
        self._power.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._power
        await self.network.close()
        self.clock.close()

    async def _keep_power(self) -> None:
        """Start the board while it has power, again after each reset."""
        restarts = simulated.Restarts()
        while True:
            await self._wanted.wait()
            restarts.begin()
            try:
                code = await self._start()
            except (HostError, OSError) as error:  # of the system: no memory, no more files
                self._wanted.clear()
                self._why = error.text if isinstance(error, HostError) else str(error.strerror)
                named = f"{error.code}: " if isinstance(error, HostError) else ""
                self.log_line(f"-- {named}{self._why} --")
                code = -1
            self._note("power")
            if self._was_cut or not self._wanted.is_set():
                self._was_cut = False
                self.log_line(f"-- off: {self._why} --")
                continue
            pause = restarts.pause(code)
            if pause is None:
                self._wanted.clear()
                self._why = f"its program ended with the status {code}"
                self.log_line(f"-- off: {self._why} --")
                self._note("power")
                continue
            self.log_line(f"-- it reset; starts again in {pause:g} s --")
            self._waits.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._waits.wait(), pause)

    async def _start(self) -> int:
        """Run the board's process until it ends; return its exit code."""
        simulated.check_not_wiped(self._home)
        simulated.check(self._home)
        self._show_board(board_file.read(self._board_py))
        self.clock.go_on()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()
        self._wires = ends = Wires(self._on_event)
        run = None
        try:
            self._run = run = simulated.SimulatedDevice(
                self._home,
                self._heapsize,
                self._lock,
                self._pin,
                self._keyboard,
                ends,
                self.clock.environment(),
            )
            ends.attach()
            self._why = ""
            if self._armed:
                ends.cut_after(self._armed)
            self.log_line("-- on --")
            self._note("power")
            threading.Thread(target=self._read, args=(run, loop, ended), daemon=True).start()
            return await ended
        finally:
            self._run = self._wires = None
            if self._lookup is not None:
                self._lookup.cancel()
                self._lookup = None
            if run is not None:
                run.process.kill()
                await asyncio.to_thread(run.stop)
            ends.close()
            self._show_panel()
            self._note("power", "flash")

    def _read(
        self,
        run: simulated.SimulatedDevice,
        loop: asyncio.AbstractEventLoop,
        ended: "asyncio.Future[int]",
    ) -> None:
        """Pass on the board's lines, on a thread of its own."""

        ahead = threading.Semaphore(_LINES_AHEAD)

        def take(line: str) -> None:
            ahead.release()
            self._on_line(line)

        def show(line: str) -> None:
            # A board that prints faster than the loop shows waits, as at a slow serial port.
            ahead.acquire()
            loop.call_soon_threadsafe(take, line)

        def finish(code: int) -> None:
            if not ended.done():
                ended.set_result(code)

        with contextlib.suppress(RuntimeError, ValueError):  # the loop has ended, or the pipe
            code = run.lines(show)
            loop.call_soon_threadsafe(finish, code)

    def _show_board(self, board: BoardFile) -> None:
        """Show the board as it is when the power comes on."""
        self._board = board
        self._operations = 0
        self._newest: deque[Operation] = deque(maxlen=_OPERATIONS)
        self._show_panel()
        self._note("flash", "clock")

    def _show_panel(self) -> None:
        """Show keypad, display and outputs without anything that a program did to them."""
        self._keypad = panel.keypad(self._board)
        self._address, self._display = panel.display(self._board)
        self._pins: dict[str, int] = {}
        self._note("keypad", "display", "pins")

    # -- what the board does --------------------------------------------------------------------

    def _on_line(self, line: str) -> None:
        if isinstance(self._display, panel.Printed) and self._display.take(line):
            self._note("display")
        else:
            self.log_line(line)

    def _on_event(self, event: wires.Event) -> None:
        if isinstance(event, Written):
            if event.address == self._address:
                self._display.write(event.data)
                self._note("display")
        elif isinstance(event, Output):
            if event.pin in self._pins or len(self._pins) < _MAX_PINS:
                self._pins[event.pin] = event.level
                self._note("pins")
        elif isinstance(event, Incident):
            times = f", {event.times} times" if event.times > 1 else ""
            self.log_line(jsontext.printable(f"incident {event.code} {event.at}{times}"))
        elif isinstance(event, Lookup):
            # A board waits for each answer; the answer to a question of an earlier run is dropped.
            if self._wires is not None and (self._lookup is None or self._lookup.done()):
                self._lookup = asyncio.create_task(self._answer(event, self._wires))
        elif event.cut:
            last = self._newest[-1] if self._newest else event
            self.switch_off(f"cut within operation {last.number}, {last.name} {last.path}")
        else:
            self._operations = event.number
            self._newest.append(event)
            if self._armed > 1:
                self._armed -= 1
            self._note("flash")

    async def _answer(self, lookup: Lookup, ends: Wires) -> None:
        port = None
        with contextlib.suppress(OSError):  # no more files, no more ports
            port = await self.network.port_of(lookup.host, lookup.port)
        ends.answer(port)
