"""Codes on the fleet owner's own terminal: `warden otp watch`, and `warden serve` where it writes to a terminal.

They are held in memory while they are valid, so that a terminal that is opened after a code was made still shows it.
Not in `warden watch`, whose lines people keep: and not where serve's output is no terminal, which may be a log.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from warden_host.otp.notify.delivery import Message

Record = dict[str, Any]
Show = Callable[[Record], None]


class ConsoleWay:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._latest: dict[tuple[str, str], Message] = {}  # (device, purpose)
        self._shows: list[tuple[Show, threading.Event]] = []

    def send(self, message: Message) -> None:
        with self._guard:
            self._forget()
            self._latest[message.device, message.purpose] = message
            self._shows = [each for each in self._shows if not each[1].is_set()]
            shows = list(self._shows)
        for show, _ in shows:
            show(record(message, self._clock()))

    def watch(self, show: Show, gone: threading.Event) -> None:
        """show gets what is valid now, then whatever comes until it is gone; it must not wait."""
        with self._guard:
            self._forget()
            self._shows.append((show, gone))
            known = list(self._latest.values())
        for message in known:
            show(record(message, self._clock()))

    def _forget(self) -> None:
        now = self._clock()
        self._latest = {key: old for key, old in self._latest.items() if old.expires > now}


def record(message: Message, now: float) -> Record:
    """One JSON line of `warden otp watch --json`."""
    said: Record = {"purpose": message.purpose, "device": message.device, "time": message.time}
    if message.purpose == "alarm":
        return said | {"text": message.text}
    said |= {"code": message.code, "left": max(0, int(message.expires - now))}
    return said | ({"duress": message.duress} if message.duress else {})
