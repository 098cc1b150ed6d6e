"""Keep the fleet's newest events for those who watch, each encoded once for all of them.

An event has a mark: steady microseconds, each higher than the one before. A page says when it was
made, or what it showed last, by a mark: it gets the later events, each once, or is told that some
of them are not kept any more.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from warden_host import jsontext
from warden_host.control_client import now_mark
from warden_host.engine.events import FleetEvent

if TYPE_CHECKING:
    from warden_host.service.control import Caller

MOST_EVENTS, MOST_BYTES = 4096, 4 << 20  # that are kept
_GATHER_S = 0.1  # between two writes to one reader: what comes meanwhile goes together
_WRITE = 65536  # bytes of one write, unless an event alone is longer
_BEAT_S = 10.0  # a reader of batches hears this often that all is well


class Entry(NamedTuple):
    """number: counts the events that were kept. data: the event as JSON."""

    number: int
    mark: int
    device: str
    data: bytes


class EventFeed:
    """The events, oldest first. Any thread announces; each reader has a thread of its own."""

    def __init__(self, mark: Callable[[], int] = now_mark) -> None:
        self.retains = False  # keep events also while nobody watches: for pages that come back
        self._mark = mark
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._number = 0  # of the newest event
        self._newest = self._dropped = mark()  # of it; of the newest one that is not kept
        self._callers: set[Caller] = set()
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)

    def add(
        self,
        caller: "Caller",
        after: int | None = None,
        device: str = "",
        batched: bool = False,
        shown: Callable[["Entry"], bytes] = attrgetter("data"),
    ) -> None:
        """Send a caller the events from now on, or those after a mark.

        device: only its events. batched: as objects of many events, else one a line.
        shown: what the caller gets of an event, b"" for nothing; called on its own thread.
        """
        with self._guard:
            self._callers.add(caller)
            now = self._newest = max(self._newest, self._mark())
            known = after is not None and self._dropped <= after <= now
            mark = after if after is not None and known else now
            later = sum(1 for _ in takewhile(lambda one: one.mark > mark, reversed(self._entries)))
            lost = int(after is not None and not known)
            number = self._number - later
            caller.reader = Reader(self, number, mark, lost, device, batched, shown)

    def discard(self, caller: "Caller") -> None:
        """Send no event to this caller any more."""
        with self._guard:
            self._callers.discard(caller)

    def announce(self, fleet_event: FleetEvent) -> None:
        """Send an event to all who watch."""
        kept = bool(self._callers) or self.retains
        data = jsontext.dump(fleet_event.record()).encode() if kept else b""
        with self._guard:
            self._newest = max(self._newest + 1, self._mark())
            if not kept:
                self._dropped = self._newest
                return
            self._number += 1
            self._entries.append(Entry(self._number, self._newest, fleet_event.device, data))
            self._bytes += len(data)
            while len(self._entries) > MOST_EVENTS or self._bytes > MOST_BYTES:
                oldest = self._entries.popleft()
                self._bytes -= len(oldest.data)
                self._dropped = oldest.mark
            self._changed.notify_all()

    def later(self, number: int, seconds: float) -> tuple[list[Entry], int]:
        """Return the events after a number, once there is one, and how many of them are lost."""
        with self._guard:
            self._changed.wait_for(lambda: self._number > number, seconds)
            found = list(takewhile(lambda one: one.number > number, reversed(self._entries)))
            return found[::-1], self._number - number - len(found)


class Reader:
    """What one caller has heard of the feed."""

    def __init__(
        self,
        feed: EventFeed,
        number: int,
        mark: int,
        lost: int,
        device: str,
        batched: bool,
        shown: Callable[[Entry], bytes],
    ) -> None:
        self._feed = feed
        self._shown = shown
        self._number, self._mark, self._lost = number, mark, lost
        self._device, self._batched = device, batched
        self._told = mark  # by the last batch
        self._next = 0.0  # steady seconds: no write before
        self._beat = 0.0

    def read(self, seconds: float) -> bytes:
        """Return lines with what is new; b"" where nothing came within `seconds`."""
        found, lost = self._feed.later(self._number, seconds)
        if found and (wait := self._next - time.monotonic()) > 0:
            time.sleep(min(wait, _GATHER_S))
            found, lost = self._feed.later(self._number, 0)
        size, count = 0, 0
        for entry in found:
            size += len(entry.data)
            if count and size > _WRITE:
                break
            count += 1
        behind = count < len(found)
        if found:
            self._number, self._mark = found[count - 1][:2]
        self._lost += lost
        self._next = time.monotonic() + (0.0 if behind else _GATHER_S)
        chosen = [self._shown(one) for one in found[:count] if self._device in ("", one.device)]
        chosen = [data for data in chosen if data]
        return self._batch(chosen) if self._batched else self._lines(chosen)

    def _lines(self, chosen: list[bytes]) -> bytes:
        lost, self._lost = self._lost, 0
        if lost:
            chosen.insert(0, jsontext.dump(missed(lost).record()).encode())
        return b"".join(one + b"\n" for one in chosen)

    def _batch(self, chosen: list[bytes]) -> bytes:
        now = time.monotonic()
        if not chosen and not self._lost and now < self._beat:
            return b""
        self._beat = now + _BEAT_S
        told, self._told = self._told, self._mark
        lost, self._lost = self._lost, 0
        return b'{"after": %d, "mark": %d, "lost": %d, "events": [%b]}\n' % (
            *(told, self._mark, lost),
            b", ".join(chosen),
        )


def missed(count: int) -> FleetEvent:
    """Return the event that stands for events which a reader was too slow for."""
    return FleetEvent("notice", text=f"{count} missed: this reader was too slow")
