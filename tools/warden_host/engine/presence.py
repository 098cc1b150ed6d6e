"""Track which devices are online, as far as the authority can know it.

A device is online from its first genuine message until its goodbye or last will. These are not
authenticated and may be lost: a sealed device that is quiet for QUIET_S is asked for a new hello.
A plain device can't be asked.
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
    """send and notify: the engine's methods."""

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
        """Note that the device sent something genuine."""
        state.gone = state.probed = False
        state.last_heard = now.steady
        if not state.online:
            state.online = True
            self._store.set_last_seen(state.device.device, time.time())
            self._notify(FleetEvent("came", state.device.device, text=state.device.mode))

    def record_departure(self, state: DeviceState, why: str) -> None:
        """Note that the device left. why: for people."""
        state.gone = True
        if state.online:
            state.online = False
            self._notify(FleetEvent("left", state.device.device, text=why))

    def tick(self, state: DeviceState, now: Instant) -> None:
        """Ask a device that is quiet for QUIET_S for a new hello; without one it left."""
        session = state.sessions.get(AUTHORITY)
        quiet = now.steady - state.last_heard
        if not state.online or session is None or quiet < QUIET_S:
            return
        if not state.probed:
            state.probed = True
            self._send(session.address, session.request_hello(now))
        elif quiet >= QUIET_S + ANSWER_S:
            self.record_departure(state, "it gives no answer")
