"""Find a copy of a device: one identity that lives in two places.

Each start and each hello of a device raises its counters, so hellos of one device rise. A hello
below the proven counters comes of a record that is played back, of a device whose flash was
restored, or of a copy. Which of them, two things tell:

- A wake with a fresh nonce goes to the client that is connected. A hello that repeats the nonce
  and is still below was made now, by a holder of the keys: no record.
- A restored device stays below until its counters have passed, once. Two devices under one account
  push each other off the broker, and prove themselves by turns: below, above, below, above.

So each return from a live hello below to a proof above counts, within WINDOW_S: one, or two where
the broker's log shows that the device logged in from one address, another one, and the first again
meanwhile. At ENOUGH it is a copy. Devices that were restored twice, and devices that change their
address, stay below that.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from warden_client.protocol.results import LIVE, OLD, Refused, Send
from warden_client.protocol.session import Instant

from warden_host.engine.device_state import DeviceState
from warden_host.names import AUTHORITY, Address

CODE = "device-cloned"
WINDOW_S = 3600.0
ENOUGH = 3
CHALLENGE_S = 1.0  # between two of them; a device answers one wake in 10 s


@dataclass
class Track:
    """What is known of one device. Times are steady seconds."""

    challenged: float = float("-inf")
    below: bool = False  # a live hello below came since the last proof
    returns: list[tuple[float, int]] = field(default_factory=list)  # (when, what it counts)
    since: float = 0.0  # when the last proof came


class CloneWatch:
    """Called by the one who has the engine.

    changed_place(device, since): whether the broker's log shows it, as above; since: steady.
    """

    def __init__(
        self,
        send: Callable[[Address, Send], None],
        refuse: Callable[[DeviceState, str, Refused], None],
        clock: Callable[[], Instant],
    ) -> None:
        self._send = send
        self._refuse = refuse
        self._clock = clock
        self.changed_place: Callable[[str, float], bool] = lambda _device, _since: False

    def on_stale(self, state: DeviceState, appid: str, refused: Refused) -> None:
        """Look at a genuine hello below the proven counters."""
        session = state.sessions.get(appid)
        if appid != AUTHORITY or session is None:
            return
        track, now = _track(state), self._clock().steady
        if refused.hello == LIVE:
            track.below = True
        elif refused.hello == OLD and now - track.challenged >= CHALLENGE_S:
            track.challenged = now
            self._send(session.address, session.challenge())

    def on_proof(self, state: DeviceState, appid: str) -> None:
        """Look at a session that came up; report the copy where there is one."""
        if appid != AUTHORITY or state.clones is None:
            return
        track, now = _track(state), self._clock().steady
        if track.below:
            moved = self.changed_place(state.device.device, track.since)
            kept = [one for one in track.returns if now - one[0] < WINDOW_S]
            track.returns = [*kept, (now, 2 if moved else 1)]
            if sum(weight for _, weight in track.returns) >= ENOUGH:
                count = len(track.returns)
                text = f"two devices with its keys prove themselves by turns, {count} times"
                track.returns = []
                self._refuse(state, appid, Refused("hello", CODE, text))
        track.below, track.since = False, now


def _track(state: DeviceState) -> Track:
    if state.clones is None:
        state.clones = Track()
    return state.clones
