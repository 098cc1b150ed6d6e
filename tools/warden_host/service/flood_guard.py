"""Find flooders among the messages that the links receive, and drop what they send from then on.

The quotas of fair_inbox.py slow a flooder down; this finds it, so that it is cut off. Every link
has each message: it counts at the authority's own.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from warden_host.engine.events import FleetEvent
from warden_host.reactions.flood import FloodMeter
from warden_host.reactions.settings import Budget
from warden_host.service.fair_inbox import Sender
from warden_host.store.store import Store

FLOODED = "flooded"

# (device, why): called once for each flooder, on the thread that found it; it must not wait.
Found = Callable[[str, str], None]


def _unlimited(_: str) -> Budget:
    return Budget(100_000, 1 << 20, 10_000, 600)


class FloodGuard:
    """Thread-safe: links count on their threads, the engine on its own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: steady seconds. Until watch() is called nobody is a flooder."""
        self._clock = clock
        self._guard = threading.Lock()
        self._meter = FloodMeter(_unlimited)
        self._found: Found = lambda _device, _why: None
        self.dropped: set[str] = set()  # devices of which no message is accepted

    def watch(self, budget_of: Callable[[str], Budget], found: Found) -> None:
        """Begin to look for flooders. budget_of(device): called on any thread."""
        with self._guard:
            self._meter = FloodMeter(budget_of)
            self._found = found

    def admits(self, device: str, size: int) -> bool:
        """Count a message; return whether it is accepted. size: bytes. device: "" counts not."""
        if device in self.dropped:
            return False
        if device:
            with self._guard:
                why = self._meter.count(device, size, self._clock())
            if why:
                self._found(device, why)
        return True

    def handle(self, device: str, work: Callable[..., None], *arguments: Any) -> None:
        """Do the engine's work(*arguments) for a message, and count its processor time.

        A wait for the disk or for a busy machine is no fault of the device's.
        """
        began = time.thread_time()
        try:
            work(*arguments)
        finally:
            if device:
                spent = time.thread_time() - began
                with self._guard:
                    why = self._meter.spend(device, spent, self._clock())
                if why:
                    self._found(device, why)

    def drop(self, device: str) -> None:
        """Accept no message of a device any more."""
        self.dropped.add(device)

    def reset(self, device: str) -> None:
        """Drop what is known of a device that was cut off, quarantined or let in again."""
        with self._guard:
            self.dropped.discard(device)
            self._meter.reset(device)


def record_refused(store: Store, refused: dict[Sender, int]) -> Iterable[FleetEvent]:
    """Count what was refused as one incident of each device, and return a notice for each."""
    counts: dict[str, int] = {}
    for sender, count in refused.items():
        counts[sender.device] = counts.get(sender.device, 0) + count
    for device, count in counts.items():
        if store.find(device) is not None:
            store.add_incident(device, "host", FLOODED, "", count)
        text = f"{count} messages dropped: it sends more than its quota"
        yield FleetEvent("notice", device, code=FLOODED, text=text)
