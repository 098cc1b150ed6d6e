"""Hold what the engine knows of one device in memory."""

from dataclasses import dataclass, field

from warden_host.protocol import cose
from warden_host.protocol.freshness import DeviceMark
from warden_host.protocol.plain import PlainPeer
from warden_host.protocol.session import Session
from warden_host.store.endings import Ending
from warden_host.store.store import Device


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
    gone: bool = False  # it sent its last will, and nothing since
    last_heard: float = 0.0  # when it last sent something genuine, steady seconds
    probed: bool = False  # it was asked for a new hello because it was quiet
    # Applications whose last hello was refused as stale: a device whose counters went back can't
    # start a session, and can't report why.
    stale_apps: set[str] = field(default_factory=set)
    command_names: dict[int, str] = field(
        default_factory=dict
    )  # of our commands, by their numbers
    # (code, event) → steady seconds of the last refusal that was kept.
    refusals: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def mark(self) -> DeviceMark:
        return self.device.mark

    @property
    def ending(self) -> Ending | None:
        return self.device.ending

    @property
    def sealed(self) -> bool:
        return self.device.mode == "sealed"

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

    def is_for_other_app(self, session: Session, data: bytes) -> bool:
        """Return whether a message is sealed under the key of another application."""
        kid = cose.claimed_kid(data) if len(self.sessions) > 1 else None
        others = (*self.sessions.values(), *self.new_sessions.values())
        return kid != session.kid and any(kid == other.kid for other in others)
