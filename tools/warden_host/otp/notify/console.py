"""Show codes on the fleet owner's terminal: `warden otp watch`, and `serve` on a terminal.

Codes are held in memory while they are valid, so a terminal opened later still shows them. They
are not in `warden watch`, whose lines people keep, nor in the output of `serve` to a file.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from warden_host.otp.notify.delivery import Message

Record = dict[str, Any]
Show = Callable[[Record], None]


class ConsoleWay:
    """Hold valid codes, and show them to the terminals that watch."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._latest: dict[tuple[str, str], Message] = {}  # (device, purpose)
        self._shows: list[tuple[Show, threading.Event]] = []

    def send(self, message: Message) -> None:
        with self._guard:
            self._drop_expired()
            self._latest[message.device, message.purpose] = message
            self._drop_gone()
            shows = list(self._shows)
        for show, _ in shows:
            show(record(message, self._clock()))

    def valid_code(self, device: str) -> Record | None:
        """Return the record of the device's code if one is valid now, for one terminal."""
        with self._guard:
            self._drop_expired()
            found = self._latest.get((device, "code"))
        return None if found is None else record(found, self._clock())

    def watch(self, show: Show, gone: threading.Event) -> None:
        """Call show with each valid code, then each new one until gone; show must not wait."""
        with self._guard:
            self._drop_expired()
            self._drop_gone()  # codes are rare: who calls and hangs up adds one each time
            self._shows.append((show, gone))
            known = list(self._latest.values())
        for message in known:
            show(record(message, self._clock()))

    def _drop_gone(self) -> None:
        self._shows = [each for each in self._shows if not each[1].is_set()]

    def _drop_expired(self) -> None:
        now = self._clock()
        self._latest = {key: old for key, old in self._latest.items() if old.expires > now}


def record(message: Message, now: float) -> Record:
    """Return the message as the JSON object that `warden otp watch` prints."""
    line: Record = {"purpose": message.purpose, "device": message.device, "time": message.time}
    if message.purpose == "alarm":
        return line | {"text": message.text}
    line |= {"code": message.code, "left": max(0, int(message.expires - now))}
    return line | ({"duress": message.duress} if message.duress else {})
