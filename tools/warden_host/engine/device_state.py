"""Hold what the engine knows of one device in memory."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from warden_client.protocol import cose
from warden_client.protocol.freshness import DeviceMark, Proof
from warden_client.protocol.plain import PlainPeer
from warden_client.protocol.results import Quarantined
from warden_client.protocol.session import WAKE_REPEAT_S, Session

from warden_host.names import AUTHORITY, Address
from warden_host.store.endings import Ending
from warden_host.store.incidents import LogHead
from warden_host.store.store import Device, Store

if TYPE_CHECKING:
    from warden_host.engine.clones import Track


@dataclass(slots=True)
class DeviceState:
    """One device: its record, its sessions, and whether it is there."""

    device: Device
    sessions: dict[str, Session] = field(default_factory=dict)
    plain: dict[str, PlainPeer] = field(default_factory=dict)
    # Sessions under new keys. The first one that is up replaces the session above.
    new_sessions: dict[str, Session] = field(default_factory=dict)
    # (session, steady deadline) under old keys, for messages in flight at the change.
    old_sessions: dict[str, tuple[Session, float]] = field(default_factory=dict)
    old_keys_expire: float | None = None  # unix seconds; the deadline of a rotation
    online: bool = False  # it sent something genuine since we serve, or since it left
    gone: bool = False  # it left, and sent nothing since
    stopped: bool = False  # and said that it was stopped
    asleep_until: float = 0.0  # when it means to be back from its sleep, unix seconds, or 0
    hurried: float = -WAKE_REPEAT_S  # when it was woken out of turn, steady seconds
    overdue: float = 0.0  # when a sleeper counts as away, unix seconds
    # Application → the highest number of an event of the device's outbox.
    numbers: dict[str, int] = field(default_factory=dict)
    # What is here of its incident log; None: fleet.db was not asked yet.
    log: LogHead | None = None
    last_heard: float = 0.0  # when it last sent something genuine, steady seconds
    development: bool = False  # its console was open when its last session came up
    probed: bool = False  # it was asked for a new hello because it was quiet
    # Applications whose last hello was refused as stale: a device whose counters went back can't
    # start a session, and can't report why.
    stale_apps: frozenset[str] = frozenset()
    command_names: dict[int, str] = field(
        default_factory=dict
    )  # of our commands, by their numbers
    clones: "Track | None" = None  # of a device that sent a stale hello
    # (code, event) → steady seconds of the last refusal that was kept.
    refusals: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def mark(self) -> DeviceMark:
        return self.device.mark

    def clear_stale(self, appid: str) -> None:
        """Take an application out of stale_apps: the device sent it something genuine."""
        if appid in self.stale_apps:  # a difference would be a new set for each device
            self.stale_apps -= {appid}

    def uid(self, appid: str) -> bytes:
        """Return the unique ID that one provisioning gave an application of this device."""
        return next(pair.uid for pair in self.device.pairs if pair.appid == appid)

    @property
    def authority_commands(self) -> tuple[str, ...]:
        """The application's commands that the authority was granted."""
        return next((pair.commands for pair in self.device.pairs if pair.appid == AUTHORITY), ())

    def choose_app(self, command: str, exported: frozenset[str]) -> str:
        """Return the application that may send the command: the authority if there is a choice.

        A plain device with an application of its own does not obey the authority. exported: the
        applications that are parties of their own.
        """
        ours = [pair for pair in self.device.pairs if pair.appid not in exported]
        if len(ours) == 1:
            return ours[0].appid
        pairs = sorted(ours, key=lambda pair: (pair.appid != AUTHORITY, pair.appid))
        if not self.sealed and len(pairs) > 1:
            pairs = pairs[1:]
        allowed = [pair.appid for pair in pairs if command in pair.commands]
        return (allowed or [pairs[0].appid])[0]

    def renew_key(self, appid: str, known: Device | None) -> None:
        """Take over an application's key from the store: its rotation is done.

        known: what the store has of the device. Without this, is_outdated() would find a change.
        """
        keys = {} if known is None else {pair.appid: pair.k for pair in known.pairs}
        if appid in keys:
            pairs = self.device.pairs
            renewed = (replace(one, k=keys[appid]) if one.appid == appid else one for one in pairs)
            self.device = replace(self.device, pairs=tuple(renewed))

    @property
    def ending(self) -> Ending | None:
        return self.device.ending

    @property
    def sealed(self) -> bool:
        return self.device.mode == "sealed"

    def is_outdated(self, known: Device | None) -> bool:
        """Return whether the store has other keys. known: what it has of the device."""
        ours = {pair.appid: pair.k for pair in self.device.pairs}
        return known is not None and ours != {pair.appid: pair.k for pair in known.pairs}

    @property
    def presence(self) -> str:
        """Return "online", "asleep", "stopped" or "away"; "" while nothing is known."""
        if self.online:
            return "online"
        if self.asleep_until:
            return "asleep"
        if self.stopped:
            return "stopped"
        return "away" if self.gone or self.device.last_seen > 0 else ""

    @property
    def live(self) -> list[str]:
        """The applications that the device, which is online, has a session with."""
        up = [appid for appid, session in self.sessions.items() if session.is_up]
        return (up if self.sealed else list(self.plain)) if self.online else []

    def find_session(self, appid: str, verb: str, data: bytes, steady: float) -> Session | None:
        """Return the application's session whose key the message names."""
        changing = appid in self.new_sessions or appid in self.old_sessions
        kid = cose.claimed_kid(data) if changing else None
        new_session = self.new_sessions.get(appid)
        if new_session is not None and kid == new_session.kid:
            return new_session
        old_session, until = self.old_sessions.get(appid, (None, 0.0))
        if old_session is not None and kid == old_session.kid:
            # Messages in flight are accepted; no session starts under the old key.
            return None if verb in ("hello", "ready") or steady > until else old_session
        return self.sessions.get(appid)

    def sessions_to_wake(self) -> list[Session]:
        """Return the sessions whose wakes may be sent.

        A device that answered under the old key of a rotation may not have the new one yet, and
        would report a wake under it.
        """
        new = self.new_sessions.items()
        unproven = [one for appid, one in new if not self.sessions[appid].exists]
        return [*self.sessions.values(), *unproven]

    def is_for_other_app(self, session: Session, data: bytes) -> bool:
        """Return whether a message is sealed under the key of another application."""
        if len(self.sessions) < 2:
            return False
        kid = cose.claimed_kid(data)
        # Links don't keep each other's order: under an old key a message may come after the new.
        replaced = [one for one, _ in self.old_sessions.values()]
        others = (*self.sessions.values(), *self.new_sessions.values(), *replaced)
        return kid != session.kid and any(kid == other.kid for other in others)


class FactKeeper:
    """Stores what a session of a device proved: its `persist`, and smaller than a closure.

    new_key: of a rotation, which the first proof under it completes.
    """

    __slots__ = ("_address", "_new_key", "_state", "_store")

    def __init__(
        self, store: Store, address: Address, state: DeviceState, new_key: bytes | None
    ) -> None:
        self._store = store
        self._address = address
        self._state = state
        self._new_key = new_key

    def __call__(self, fact: Proof | Quarantined) -> None:
        device, appid = self._address.device, self._address.appid
        if isinstance(fact, Proof):
            # The first ready under a new key deletes the old key, in the same write.
            self._store.record_proof(device, appid, fact, self._state.mark, self._new_key)
        else:
            self._store.quarantine(device, fact.reason)
