"""Give one order to many devices on threads: wave by wave, several at once, with a stop.

The order reaches a device over the link, or at a place of its own: a board on a port. cli/many.py
has the journal and the summary around it.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from warden_host.errors import HostError, filesystem_error, internal_error
from warden_host.rollout import plan
from warden_host.stopping import Stop
from warden_host.store.devices import Device

_POLL_S = 0.1
_REST = "the same command with --resume does the rest"


class Place(Protocol):
    """Where one device gets the order. A context: entering it may raise HostError.

    name: what a failure is shown under while no device is chosen.
    """

    name: str

    def __enter__(self) -> object: ...

    def __exit__(self, *_: Any) -> None: ...

    def choose(self, wave: list[str], later: list[str]) -> str:
        """Return the device that gets the order here, or "": none of them.

        wave: devices of the present wave that wait, in order. later: those of the next waves.
        """

    def act(self, device: str) -> dict[str, Any]:
        """Give the order and return what JSON shows of it. Raises HostError."""


# places(enough): returns the next place when it is there, or None: no other one comes.
# enough(): returns whether no place is needed any more.
Places = Callable[[Callable[[], bool]], Place | None]


@dataclass(frozen=True)
class Order:
    """What is done with each device.

    words: the command and its arguments; with the same words a run is resumed.
    act: does it over the link and returns what JSON shows of it; raises HostError. On any thread.
    None where there are places.
    fits: returns why a device is left out, "" where it is not.
    places: of an order that is given at places; one that failed is given again at the next.
    rest: how to go on, for the summary.
    """

    words: list[Any]
    act: Callable[[str], dict[str, Any]] | None
    fits: Callable[[Device], str] = lambda known: "revoked" if known.ending else ""
    places: Places | None = None
    rest: str = _REST


@dataclass
class Outcome:
    """What became of the devices. failed: device or place → its error, in order of time.

    waiting: devices without a turn. trouble: why the run can't go on, or be noted or shown.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, HostError] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    trouble: HostError | None = None


class _Link:
    """The link, which every device has."""

    name = ""

    def __init__(self, act: Callable[[str], dict[str, Any]]) -> None:
        self.act = act

    def __enter__(self) -> None:
        """Nothing is opened."""

    def __exit__(self, *_: Any) -> None:
        """Nothing is open."""

    def choose(self, wave: list[str], _: list[str]) -> str:
        return wave[0] if wave else ""


def _over_link(order: Order) -> Places:
    if order.act is None:
        raise ValueError("an order has an act or places")
    link = _Link(order.act)
    return lambda _: link


class Runner:
    """One run. Its threads end when no device of a wave waits, or a stop was called.

    note(device): notes a device that is done; raises OSError.
    show(name, result, number): shows the turn of a device, or what failed at a place; number:
    devices that had their turn. Raises OSError.
    interrupted(): called when a Ctrl-C has stopped the run, and devices are under way.
    """

    def __init__(
        self,
        order: Order,
        rules: plan.Plan,
        at_once: int,
        before: int,
        note: Callable[[str], None],
        show: Callable[[str, dict[str, Any] | HostError, int], None],
        interrupted: Callable[[], None],
    ) -> None:
        self.outcome = Outcome()
        self._places = order.places or _over_link(order)
        self._rules = rules
        self._at_once = at_once
        self._again = order.places is not None
        self._before = before  # devices that an earlier run did
        self._note_done = note
        self._show = show
        self._interrupted = interrupted
        self._names: set[str] = set()
        self._waves: list[list[str]] = []  # devices that wait, of the present and the next waves
        self._failures = 0  # turns that failed
        self._reached = 0  # by the end of the present wave
        self._guard = threading.Lock()
        # Not a threading.Event: where KeyboardInterrupt comes, it may stay locked (stopping.py).
        self._stopped = False
        self._stop: Stop | None = None

    def give(self, devices: list[str], stop: Stop | None) -> None:
        """Give the order wave by wave, until all had it, a stop, or no place is left.

        stop: None to work on this thread, which KeyboardInterrupt stops.
        """
        self._stop = stop
        self._names = set(devices)
        waves = plan.assign(self._rules.waves, devices)
        self._waves = [[] for _ in self._rules.waves]
        for name in devices:
            self._waves[waves[name]].append(name)
        self.outcome.waiting = list(devices)
        while self._waves:
            self._reached += len(self._waves[0])
            self._wave()
            if self._stopped or self._waves[0]:
                return
            del self._waves[0]

    def _wave(self) -> None:
        if self._stop is None:
            try:
                self._work_off()
            except KeyboardInterrupt:  # the board under way goes on from here next time
                self._call_stop("interrupted")
            return
        threads = [
            threading.Thread(target=self._work_off, name="warden-order", daemon=True)
            for _ in range(min(self._at_once, len(self._waves[0])))
        ]
        for thread in threads:
            thread.start()
        ended = _joined(threads, self._stop, 1)
        if self._stop.requested:
            self._call_stop("interrupted")
        if not ended:
            self._interrupted()
            _joined(threads, self._stop, 2)  # if not: they are daemons, which end with the process

    def _work_off(self) -> None:
        while not self._enough():
            try:
                place = self._places(self._enough)
            except HostError as error:
                self._fail_all(error)
                return
            if place is None:
                return
            device = ""
            try:
                with place:
                    device = self._choose(place)
                    if not device:
                        continue
                    result: dict[str, Any] | HostError = place.act(device)
            except HostError as error:
                result = error
            except OSError as error:
                result = filesystem_error(error)
            except Exception as error:  # noqa: BLE001  one device's bug ends no other's order
                result = internal_error(error)
            self._note(device, place.name, result)

    def _enough(self) -> bool:
        requested = self._stop is not None and self._stop.requested
        return self._stopped or requested or not self._waves[0]

    def _choose(self, place: Place) -> str:
        with self._guard:
            wave, *later = self._waves
            device = place.choose(wave, [name for names in later for name in names])
            for names in self._waves:
                if device in names:
                    names.remove(device)
        return device

    def _note(self, device: str, place: str, result: dict[str, Any] | HostError) -> None:
        name = device or place
        with self._guard:
            outcome = self.outcome
            if device in outcome.waiting:
                outcome.waiting.remove(device)
            if isinstance(result, HostError):
                if self._again and device:
                    self._waves[0].insert(0, device)
                outcome.failed[name] = result
                self._failures += 1
                if self._failures > self._rules.allowed(self._reached):
                    self._call_stop(f"{self._failures} failed")
            else:
                outcome.failed.pop(device, None)
                outcome.done.append(device)
            try:
                if not isinstance(result, HostError):
                    self._note_done(device)
                self._show(name, result, self._number())
            except OSError as error:  # a full disk, or the reader of the output is gone
                self._fail_all(filesystem_error(error))

    def _number(self) -> int:
        """Return how many devices have had their turn."""
        failed = self._names & self.outcome.failed.keys()
        return self._before + len(self.outcome.done) + len(failed)

    def _fail_all(self, error: HostError) -> None:
        self.outcome.trouble = error
        self._call_stop(error.text)

    def _call_stop(self, why: str) -> None:
        if not self._stopped:
            self.outcome.stopped = why
            self._stopped = True


def _joined(threads: list[threading.Thread], stop: Stop, signals: int) -> bool:
    """Wait for all threads; return False where so many signals came first."""
    for thread in threads:
        while thread.is_alive():
            if stop.signals >= signals:
                return False
            thread.join(_POLL_S)
    return True
