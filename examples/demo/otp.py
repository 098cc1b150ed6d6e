"""Show the keypad: a wrong code, a late code, and the right one."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

from warden_client.protocol.session import Instant
from warden_host import control_client
from warden_host.devices.provision import Order, provision
from warden_host.engine.engine import Engine
from warden_host.engine.request import Request
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.service.run import Service
from warden_host.sim.keyboard import Keyboard
from warden_host.sim.simulated import SimulatedDevice
from warden_host.store.store import Store

from demo.script import Mismatch, Story, wait_for

TYPE, DEVICE, APP = "lock", "safe", "home"
_WAIT_S = 120.0
_VALIDITY_S = 300


class Safe:
    """The device, its keys and its display; and the terminal where its owner reads codes."""

    def __init__(self, fleet: Fleet, service: Service) -> None:
        self._fleet = fleet
        self.service = service
        self.lines: queue.Queue[str] = queue.Queue()
        self.codes: queue.Queue[dict[str, Any]] = queue.Queue()
        self._keyboard = Keyboard()
        self._device: SimulatedDevice | None = None

    def start(self) -> None:
        """Start the device, or restart it."""
        self.stop()
        home = self._fleet.simulated(DEVICE)
        device = self._device = SimulatedDevice(home, keyboard=self._keyboard)
        self.lines = queue.Queue()
        threading.Thread(target=device.lines, args=(self.lines.put,), daemon=True).start()

    def stop(self) -> None:
        """Stop the device."""
        if self._device is not None:
            self._device.stop()

    def shows(self, *starts: str) -> str:
        """Return the next line of its console that begins with one of these."""
        return wait_for(self.lines, lambda line: line.startswith(starts), starts[0], _WAIT_S)

    def code(self) -> str:
        """Return the code that its owner gets."""
        receive_code = wait_for(self.codes, lambda one: one["device"] == DEVICE, "code", _WAIT_S)
        return str(receive_code["code"])

    def _wait_for_echo(self, digits: int) -> None:
        wait_for(self.lines, lambda line: line.endswith("|" + "*" * digits), "echo", _WAIT_S)

    def types(self, code: str) -> str:
        """Type a code, and return what the display shows then."""
        for place, digit in enumerate(code, 1):
            self._keyboard.feed(digit.encode())
            self._wait_for_echo(place)
        self._keyboard.feed(b"#")
        self.shows("display Checking")
        line = self.shows("display Code? ", "display Press", "display Open")
        first, _, second = line.removeprefix("display ").partition("|")
        return second or first


@contextlib.contextmanager
def _safe(fleet: Fleet, service: Service) -> Iterator[Safe]:
    gate = policy.otp(validity_s=_VALIDITY_S)
    with Store(fleet.database) as store:
        provision(fleet, store, Order(DEVICE, TYPE, otp=gate))
    control_client.call(fleet.control, {"op": "reload", "device": DEVICE})
    safe, gone = Safe(fleet, service), threading.Event()
    service.authority.codes.console.watch(safe.codes.put, gone)
    try:
        yield safe
    finally:
        gone.set()
        safe.stop()


def _later(service: Service, seconds: int) -> None:
    """Advance the authority's clocks, instead of waiting five minutes."""

    def work(engine: Engine) -> None:
        before = engine.clock
        engine.clock = lambda: Instant(before().unix + seconds, before().steady + seconds)

    service.authority.ask(work)


def run_chapter(story: Story, fleet: Fleet, service: Service) -> None:
    """Run the chapter. It is the last: the authority's clocks are ahead after it."""
    codes: list[str] = []
    order = Request(DEVICE, "set_relay", {"on": 1}, app=APP, timeout_s=_WAIT_S)
    with _safe(fleet, service) as safe:

        def receive_code() -> str:
            safe.start()
            codes.append(safe.code())
            safe.shows("display Code?")
            error = service.authority.command(order)["reply"].get("error")
            if error != "gate-shut":
                raise Mismatch(f"set_relay was answered {error}")
            return f"{len(codes[0])} digits, to the owner alone; set_relay meanwhile: {error}"

        def wrong() -> str:
            return _refused(safe.types(_wrong(codes[0])), "Wrong code")

        def late() -> str:
            _later(service, _VALIDITY_S + 1)
            return _refused(safe.types(codes[0]), "Code expired")

        def right() -> str:
            safe.start()
            codes.append(safe.code())
            safe.shows("display Code?")
            shown = safe.types(codes[1])
            if shown != "Open":
                raise Mismatch(f"the display shows {shown}")
            if service.authority.command(order)["reply"].get("result") != {"on": 1}:
                raise Mismatch("set_relay was not executed")
            return f"opened; set_relay is executed: {safe.shows('relay')}"

        story.line("its owner gets a code", receive_code)
        story.line("a stranger types a wrong one", wrong)
        story.line("the right one, five minutes later", late)
        story.line("the right one of a new start, in time", right)


def _refused(shown: str, wanted: str) -> str:
    if shown != wanted:
        raise Mismatch(f"the display shows {shown}")
    return f"refused: {shown}"


def _wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"
