"""Track which devices are online, asleep or away, as far as the authority can know it.

A device is online from its first genuine message on. It leaves by a sealed goodbye, which says
whether and until when it sleeps. Its last will, and the goodbye in plain mode, are not
authenticated, and any of them may be lost: a sealed device that is quiet for QUIET_S, or for
KEEPALIVES of its keepalives, is asked for a new hello. A plain device can't be asked.
"""

import time
from collections.abc import Callable

from warden_client.protocol.results import Received, Refused, Send
from warden_client.protocol.session import WAKE_REPEAT_S, WAKE_REPEATS, Instant
from warden_client.protocol.strictcbor import is_u32

from warden_host.engine.device_state import DeviceState
from warden_host.engine.events import FleetEvent
from warden_host.names import AUTHORITY, Address
from warden_host.protocol import policy
from warden_host.store.store import Store

QUIET_S = 900.0
KEEPALIVES = 3
ANSWER_S = WAKE_REPEAT_S * (WAKE_REPEATS + 1)
# A sleeper's clock may be off by this share of its sleep, and it has to connect.
LATE_SHARE = 0.1
LATE_S = 60.0


class Presence:
    """send, notify, refuse and clock: the engine's."""

    def __init__(
        self,
        store: Store,
        send: Callable[[Address, Send], None],
        notify: Callable[[FleetEvent], None],
        refuse: Callable[[DeviceState, str, Refused], None],
        clock: Callable[[], Instant],
    ) -> None:
        self._store = store
        self._send = send
        self._notify = notify
        self._refuse = refuse
        self._clock = clock

    def restore(self, state: DeviceState) -> None:
        """Set what fleet.db knows of a device that was not heard yet."""
        until = state.device.asleep_until
        overdue = _overdue(until, until - state.device.last_seen)
        if until and overdue >= self._clock().unix:
            state.gone, state.asleep_until, state.overdue = True, until, overdue

    def record_contact(self, state: DeviceState, now: Instant) -> None:
        """Note that the device sent something genuine."""
        state.gone = state.probed = state.stopped = False
        state.asleep_until = 0.0
        state.last_heard = now.steady
        if not state.online:
            state.online = True
            self._store.set_last_seen(state.device.device, time.time())
            self._notify(FleetEvent("came", state.device.device, text=state.device.mode))

    def record_hint(self, state: DeviceState) -> None:
        """Handle a last will, or a goodbye in plain mode: anyone at the broker can forge it."""
        if state.stopped or state.asleep_until:
            return  # its sealed goodbye said more
        # The last will of a connection that it has replaced comes late: then it is asked.
        self._suspend(state, "it said goodbye, or its connection broke")

    def record_drop(self, state: DeviceState, type_: str) -> None:
        """Handle that its account at the broker was changed, which drops its connection.

        type_: that of the account.
        """
        if state.online and state.device.type == type_:
            self._suspend(state, "the broker dropped its connection")

    def _suspend(self, state: DeviceState, why: str) -> None:
        """Note that the device left without a word, and ask it whether it is there."""
        self._leave(state, why)
        # Its sessions ended, one after the other as it comes back: a command in an old one would
        # be lost.
        for ended in state.sessions.values():
            ended.mark_unconfirmed()
            ended.schedule_wake(self._clock())

    def hurry_wake(self, state: DeviceState, appid: str) -> None:
        """Wake a device that sends in a session which we don't hold: it may sleep again soon.

        The message may be forged: each 10 s at most, and only what is repeated anyway.
        """
        session, now = state.sessions.get(appid), self._clock().steady
        wake = None if session is None else session.pending_wake
        if session is not None and wake is not None and now - state.hurried >= WAKE_REPEAT_S:
            state.hurried = now
            self._send(session.address, wake)

    def on_goodbye(self, state: DeviceState, appid: str, received: Received) -> None:
        """Handle a sealed goodbye, which the authority alone gets."""
        if appid != AUTHORITY:
            return
        kind, seconds = received.body.get("state"), received.body.get("s", 0)
        if kind not in ("asleep", "stopped") or not is_u32(seconds):
            refused = Refused(received.event, "bad-body", "a goodbye of no known form")
            self._refuse(state, appid, refused)
            return
        for ended in state.sessions.values():
            ended.mark_asleep()
        state.stopped = kind == "stopped"
        text = "it was stopped"
        if not state.stopped:
            state.asleep_until = self._clock().unix + float(seconds)
            state.overdue = _overdue(state.asleep_until, seconds)
            text = f"it sleeps for {seconds} s"
        self._store.set_asleep(state.device.device, state.asleep_until)
        self._leave(state, text)

    def _leave(self, state: DeviceState, why: str) -> None:
        """Note that the device left. why: for people."""
        state.gone = True
        if state.online:
            state.online = False
            self._store.set_last_seen(state.device.device, time.time())
            self._notify(FleetEvent("left", state.device.device, text=why))

    def tick(self, state: DeviceState, now: Instant) -> None:
        """Look for a sleeper that is overdue, and ask a device that is quiet for a new hello."""
        if state.asleep_until and now.unix > state.overdue:
            state.asleep_until = 0.0
            self._notify(
                FleetEvent("left", state.device.device, text="it did not wake up when it said")
            )
        session = state.sessions.get(AUTHORITY)
        quiet = now.steady - state.last_heard
        longest = max(QUIET_S, KEEPALIVES * policy.keepalive_s(state.device.policy))
        if not state.online or session is None or quiet < longest:
            return
        if not state.probed:
            state.probed = True
            self._send(session.address, session.request_hello(now))
        elif quiet >= longest + ANSWER_S:
            self._leave(state, "it gives no answer")


def _overdue(until: float, seconds: float) -> float:
    """Return when a sleeper that meant to be back at `until`, after so many seconds, is away."""
    return until + max(LATE_S, LATE_SHARE * seconds)
