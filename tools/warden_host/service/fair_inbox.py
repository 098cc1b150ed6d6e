"""Queue work for the engine: tasks first, then one message of each sender in turn.

A task is work of the host's own: a request of the control socket, or a change of a link.
A flood from one sender costs its own messages alone. Three quotas bound each sender: how many
messages wait, how many bytes they hold, and how many are served in a second. A message above
the first two is refused and counted; one above the third waits for its time, so that a short burst
is only slowed down. Nothing here does I/O or knows a clock: times are steady seconds, passed in.

All senders together hold TOTAL_BYTES at most. The last quarter of them takes one message of each
sender, so that many floods at once leave room for the first message of every other device.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

RATE = 200.0  # messages a second that are served of one sender
BURST = 400.0  # messages that are served without a pause
WAITING = 128  # messages of one sender
SENDER_BYTES = 512 * 1024
TOTAL_BYTES = 64 * 1024 * 1024
MAX_TASKS = 1000  # that wait; Authority.do() refuses more
_OVERHEAD = 1024  # bytes that a waiting message takes beside its payload
T = TypeVar("T")


class Load(NamedTuple):
    """What waits, and how many messages were accepted and refused since the start."""

    tasks: int
    waiting: int
    bytes: int
    accepted: int
    refused: int


class Sender(NamedTuple):
    """A device and the application that its message reached; device: "" outside the fleet."""

    appid: str
    device: str


class _Waiting(NamedTuple, Generic[T]):
    item: T
    cost: int
    weight: float


@dataclass
class _Queue(Generic[T]):
    filled: float
    tokens: float = BURST
    held: int = 0
    waiting: deque[_Waiting[T]] = field(default_factory=deque)


class FairInbox(Generic[T]):
    """Not thread-safe: the owner locks it."""

    def __init__(self, total_bytes: int = TOTAL_BYTES) -> None:
        self._total_bytes = total_bytes
        self._reserve = total_bytes // 4
        self._accepted = self._refused_ever = 0
        self._tasks: deque[T] = deque()
        self._queues: dict[Sender, _Queue[T]] = {}
        # Each queue that holds messages is once in _turns, or with its time in _resting.
        self._turns: deque[_Queue[T]] = deque()
        self._resting: list[tuple[float, int, _Queue[T]]] = []
        self._numbers = itertools.count()
        self.free_bytes = total_bytes
        self._refused: dict[Sender, int] = {}

    @property
    def tasks(self) -> int:
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """Count the messages that wait; tasks are not among them."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    @property
    def load(self) -> Load:
        held = self._total_bytes - self.free_bytes
        return Load(self.tasks, self.waiting, held, self._accepted, self._refused_ever)

    def put_task(self, item: T) -> None:
        """Add an item that precedes all messages. The caller bounds how many there are."""
        self._tasks.append(item)

    def has_room(self, sender: Sender, size: int) -> bool:
        """Return whether put() would accept a message, and count the refusal if not.

        size: of the payload, bytes.
        """
        queue = self._queues.get(sender)
        count, held = (0, 0) if queue is None else (len(queue.waiting), queue.held)
        cost = size + _OVERHEAD
        free = self.free_bytes - (self._reserve if count else 0)
        if count < WAITING and held + cost <= SENDER_BYTES and cost <= free:
            return True
        self._refused[sender] = self._refused.get(sender, 0) + 1
        self._refused_ever += 1
        return False

    def put(self, sender: Sender, item: T, size: int, now: float, weight: float = 1.0) -> bool:
        """Add a message at the end of its sender's queue.

        size: of the payload, bytes. weight: how many messages it counts as in the sender's rate.
        Returns: False if a quota refuses it, which is counted.
        """
        if not self.has_room(sender, size):
            return False
        queue = self._queues.get(sender)
        if queue is None:
            queue = self._queues[sender] = _Queue(now)
        cost = size + _OVERHEAD
        queue.waiting.append(_Waiting(item, cost, weight))
        queue.held += cost
        self.free_bytes -= cost
        self._accepted += 1
        if len(queue.waiting) == 1:
            self._schedule(queue, now)
        return True

    def skip(self, sender: Sender, now: float) -> bool:
        """Count a message as served, without a queue; False if it has to wait its turn."""
        if self._tasks or self._turns or self._resting:
            return False
        queue = self._queues.get(sender)
        if queue is None:
            queue = self._queues[sender] = _Queue(now)
        _refill(queue, now)
        if queue.tokens < 1:
            return False
        queue.tokens -= 1
        self._accepted += 1
        return True

    def pop_next(self, now: float) -> T | None:
        """Remove and return the next task or message; None if none is due."""
        if self._tasks:
            return self._tasks.popleft()
        while self._resting and self._resting[0][0] <= now:
            self._turns.append(heapq.heappop(self._resting)[2])
        return self._serve(self._turns.popleft(), now) if self._turns else None

    def seconds_to_next(self, now: float) -> float:
        """Return the seconds until pop_next() finds something; infinity if nothing waits."""
        if self._tasks or self._turns:
            return 0.0
        return max(0.0, self._resting[0][0] - now) if self._resting else math.inf

    def remove(self, matches: Callable[[Sender], bool]) -> list[T]:
        """Remove the senders that match; return their messages, each sender's in order."""
        removed: list[T] = []
        for sender in [each for each in self._queues if matches(each)]:
            queue = self._queues.pop(sender)
            removed += [each.item for each in queue.waiting]
            self.free_bytes += queue.held
            queue.waiting.clear()
        self._turns = deque(queue for queue in self._turns if queue.waiting)
        self._resting = [entry for entry in self._resting if entry[2].waiting]
        heapq.heapify(self._resting)
        return removed

    def pop_refused(self) -> dict[Sender, int]:
        """Return how many messages of each sender were refused since the last call."""
        refused, self._refused = self._refused, {}
        return refused

    def _serve(self, queue: _Queue[T], now: float) -> T:
        item, cost, weight = queue.waiting.popleft()
        queue.held -= cost
        self.free_bytes += cost
        _refill(queue, now)
        queue.tokens -= weight
        if queue.waiting:
            self._schedule(queue, now)
        return item

    def _schedule(self, queue: _Queue[T], now: float) -> None:
        _refill(queue, now)
        missing = queue.waiting[0].weight - queue.tokens
        if missing <= 0:
            self._turns.append(queue)
        else:
            heapq.heappush(self._resting, (now + missing / RATE, next(self._numbers), queue))


def _refill(queue: _Queue[T], now: float) -> None:
    queue.tokens = min(BURST, queue.tokens + max(0.0, now - queue.filled) * RATE)
    queue.filled = now
