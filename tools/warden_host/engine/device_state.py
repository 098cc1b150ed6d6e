"""A device as the engine holds it in memory, and which of its sessions a message is for."""

from dataclasses import dataclass, field

from warden_host.protocol import cose
from warden_host.protocol.freshness import DeviceMark
from warden_host.protocol.plain import PlainPeer
from warden_host.protocol.session import Session
from warden_host.store.endings import Ending
from warden_host.store.store import Device


@dataclass
class DeviceState:
    device: Device
    sessions: dict[str, Session] = field(default_factory=dict)
    plain: dict[str, PlainPeer] = field(default_factory=dict)
    # Under new keys that have not proved themselves: each ends as the one above.
    new_sessions: dict[str, Session] = field(default_factory=dict)
    # Under old keys, for what was on its way when the new one took over: (session, until, steady).
    old_sessions: dict[str, tuple[Session, float]] = field(default_factory=dict)
    old_keys_expire: float | None = None  # when the old keys are gone whatever was proven
    online: bool = False
    gone: bool = False  # by its last will, and nothing was heard since
    last_heard: float = 0.0  # when anything genuine was heard last, steady
    probed: bool = False  # it was asked for a new hello since, for being quiet
    # Applications whose hello was refused as old and that nothing genuine was heard of since: a device
    # whose counters went back is mute, and can't say why.
    stale_apps: set[str] = field(default_factory=set)
    command_names: dict[int, str] = field(
        default_factory=dict
    )  # our commands' names, for their replies
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


def is_for_other_app(state: DeviceState, session: Session, data: bytes) -> bool:
    """Sealed under the key of another application of the device."""
    kid = cose.claimed_kid(data) if len(state.sessions) > 1 else None
    others = (*state.sessions.values(), *state.new_sessions.values())
    return kid != session.kid and any(kid == other.kid for other in others)
