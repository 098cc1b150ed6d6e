"""Who is online, as far as the authority can know it.

A device came with its first genuine word. It left with its last will or its goodbye, which are hints
that nobody authenticates and that may be lost: a sealed device that was quiet for long is asked for
a new hello. A plain device can't be asked.
"""

import time
from collections.abc import Callable

from warden_host.engine.device_state import Seat
from warden_host.engine.events import Happening
from warden_host.names import AUTHORITY, Address
from warden_host.protocol.results import Send
from warden_host.protocol.session import WAKE_REPEAT_S, WAKE_REPEATS, Instant
from warden_host.store.store import Store

QUIET_S = 3600.0
ANSWER_S = WAKE_REPEAT_S * (WAKE_REPEATS + 1)


class Presence:
    """send(address, message) and tell(happening) are the engine's."""

    def __init__(
        self,
        store: Store,
        send: Callable[[Address, Send], None],
        tell: Callable[[Happening], None],
    ) -> None:
        self._store = store
        self._send = send
        self._tell = tell

    def arrived(self, seat: Seat, now: Instant) -> None:
        """Something genuine was heard of the device."""
        seat.left = seat.probed = False
        seat.heard = now.steady
        if not seat.came:
            seat.came = True
            self._store.seen(seat.device.device, time.time())
            self._tell(Happening("came", seat.device.device, text=seat.device.mode))

    def left(self, seat: Seat, why: str) -> None:
        seat.left = True
        if seat.came:
            seat.came = False
            self._tell(Happening("left", seat.device.device, text=why))

    def tick(self, seat: Seat, now: Instant) -> None:
        """Ask a device that was quiet for QUIET_S for a new hello; without one it has left."""
        session = seat.sessions.get(AUTHORITY)
        quiet = now.steady - seat.heard
        if not seat.came or session is None or quiet < QUIET_S:
            return
        if not seat.probed:
            seat.probed = True
            self._send(session.address, session.wake(now))
        elif quiet >= QUIET_S + ANSWER_S:
            self.left(seat, "it gives no answer")
