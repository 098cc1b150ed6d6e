"""Who is online, as far as the authority can know it.

A device came with its first genuine word. It left with its last will or its goodbye, which are hints
that nobody authenticates and that may be lost: a sealed device that was quiet for long is asked for
a new hello. A plain device can't be asked.
"""

import time
from collections.abc import Callable

from warden_host.engine.device_state import DeviceState
from warden_host.engine.events import FleetEvent
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
        notify: Callable[[FleetEvent], None],
    ) -> None:
        self._store = store
        self._send = send
        self._notify = notify

    def record_contact(self, state: DeviceState, now: Instant) -> None:
        """Something genuine was heard of the device."""
        state.gone = state.probed = False
        state.last_heard = now.steady
        if not state.online:
            state.online = True
            self._store.seen(state.device.device, time.time())
            self._notify(FleetEvent("came", state.device.device, text=state.device.mode))

    def record_departure(self, state: DeviceState, why: str) -> None:
        state.gone = True
        if state.online:
            state.online = False
            self._notify(FleetEvent("left", state.device.device, text=why))

    def tick(self, state: DeviceState, now: Instant) -> None:
        """Ask a device that was quiet for QUIET_S for a new hello; without one it has left."""
        session = state.sessions.get(AUTHORITY)
        quiet = now.steady - state.last_heard
        if not state.online or session is None or quiet < QUIET_S:
            return
        if not state.probed:
            state.probed = True
            self._send(session.address, session.wake(now))
        elif quiet >= QUIET_S + ANSWER_S:
            self.record_departure(state, "it gives no answer")
