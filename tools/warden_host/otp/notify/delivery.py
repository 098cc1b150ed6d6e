"""Deliver codes and alarms to a device's owner: never over the broker or the engine's thread.

Each way (console, mail, webhook) has its own thread and bounded queue: a mail server that hangs
delays neither the engine nor another way. A message older than its code is dropped.
"""

import contextlib
import io
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from warden_host.errors import internal_error
from warden_host.round_guard import RoundGuard, Tell

BACKLOG = 100
PAUSES_S = (1.0, 4.0)  # between the attempts for one message
WHOLE_S = 30.0  # for all of one attempt
MOST_BYTES = 1 << 18  # that a server may say meanwhile
_CLOSE_S = 1.0


@dataclass(frozen=True)
class Message:
    """A code or an alarm.

    purpose: "code", "alarm" or "alarms": those of the fleet, for its operators.
    device: of "alarms" the fleet's name.
    expires: steady seconds, as time.monotonic() gives them.
    way: the name of the way that delivers it, as the owner's contact in fleet.db says.
    text: of alarms; the first line is a mail's subject.
    alarms: of "alarms", as JSON objects.
    """

    device: str
    purpose: str
    way: str
    address: str
    validity: int
    expires: float
    code: str = field(default="", repr=False)
    duress: str = field(default="", repr=False)
    text: str = ""
    alarms: tuple[dict[str, Any], ...] = ()
    time: float = field(default_factory=time.time)


class Undelivered(Exception):
    """Delivery failed.

    why: shown to the fleet owner, without an address or a code.
    final: whether trying again changes nothing.
    """

    def __init__(self, why: str, final: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.final = final


class Way(Protocol):
    """A way to deliver messages, such as mail: what other programs call a channel."""

    def send(self, message: Message) -> None:
        """Return once the next server has the message. Raises Undelivered. May take seconds."""


# (message, "" or why it failed): called on the way's thread, or on the caller's of put() where no
# way takes the message.
Report = Callable[[Message, str], None]


class DeliveryQueues:
    """Queue messages, one queue and thread for each way. put() never waits and never raises.

    ways: those that warden.toml sets up, by name. A message names its way (Message.way).
    tell: called for an unforeseen exception.
    """

    def __init__(
        self,
        ways: dict[str, Way],
        report: Report,
        pauses: Iterable[float] = PAUSES_S,
        clock: Callable[[], float] = time.monotonic,
        tell: Tell = lambda *_: None,
    ) -> None:
        self._tell = tell
        self._report = report
        self._pauses = tuple(pauses)
        self._clock = clock
        self._stop = threading.Event()
        self._queues = {name: _Queue(self, name, way) for name, way in ways.items()}

    def __enter__(self) -> "DeliveryQueues":
        for each in self._queues.values():
            each.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for each in self._queues.values():
            with contextlib.suppress(queue.Full):  # then it has work, and looks at _stop after it
                each.waiting.put_nowait(None)
        for each in self._queues.values():
            each.thread.join(_CLOSE_S)  # one that hangs in a socket is left to itself

    @property
    def ways(self) -> set[str]:
        return set(self._queues)

    def put(self, message: Message) -> None:
        """Queue a message for its way."""
        found = self._queues.get(message.way)
        if found is None:
            self._report(message, "this way was not set up when `warden serve` started")
            return
        try:
            found.waiting.put_nowait(message)
        except queue.Full:
            self._report(message, f"{BACKLOG} messages wait already")

    def run(self, waiting: "queue.Queue[Message | None]", way: Way) -> None:
        rounds = RoundGuard("a delivery was not reported", self._tell)
        while (message := waiting.get()) is not None and not self._stop.is_set():
            rounds.attempt(self._deliver_and_report, way, message)

    def _deliver_and_report(self, way: Way, message: Message) -> None:
        self._report(message, self._deliver(way, message))

    def _deliver(self, way: Way, message: Message) -> str:
        for pause in (*self._pauses, None):
            if self._clock() >= message.expires:
                return "it came too late to be of use"
            try:
                way.send(message)
                return ""
            except Undelivered as error:
                why, final = error.why, error.final
            # A bug in one way must not end it for all later messages.
            except Exception as error:  # noqa: BLE001
                return internal_error(error).text
            if final or pause is None or self._stop.wait(pause):
                return why
        return why


class _Queue:
    def __init__(self, owner: DeliveryQueues, name: str, way: Way) -> None:
        self.waiting: queue.Queue[Message | None] = queue.Queue(BACKLOG)
        self.thread = threading.Thread(
            target=owner.run, args=(self.waiting, way), name=f"warden-{name}", daemon=True
        )


class LimitedReader(io.RawIOBase):
    """Read the answer of a server, limited in bytes and in time of a whole attempt.

    A time-out of each step alone lets a server send a byte at a time for days, or lines until
    memory is full. Raises TimeoutError beyond either limit. until: steady seconds.
    """

    def __init__(self, sock: socket.socket, step_s: float, until: float) -> None:
        self._sock = sock
        self._step_s = step_s
        self._until = until
        self._left = MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._until - time.monotonic()
        if left_s <= 0 or self._left <= 0:
            raise TimeoutError("it goes on for too long")
        self._sock.settimeout(min(left_s, self._step_s))
        count = self._sock.recv_into(buffer)
        self._left -= count
        return count


def compose_mail(message: Message) -> tuple[str, str]:
    """Return the subject and the text of a mail."""
    if message.purpose == "alarms":
        return message.text.split("\n", 1)[0], message.text + "\n"
    if message.purpose == "alarm":
        return f"{message.device}: {message.text}", f"{message.text}, at {message.device}.\n"
    subject = (
        f"Code for {message.device}"  # the subject shows on locked screens: the code is inside
    )
    lines = [
        f"{message.device} asks for a code.",
        "",
        f"Code: {message.code}",
        *([f"Under duress: {message.duress}"] if message.duress else []),
        "",
        f"It is valid for {message.validity} seconds and for one use. "
        "If you are not there, someone else is.",
    ]
    return subject, "\n".join(lines) + "\n"
