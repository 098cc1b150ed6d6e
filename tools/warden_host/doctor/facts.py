"""What the checks of a fleet and of its devices look at, read once."""

import functools
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from warden_host.broker import connection
from warden_host.broker.connection import ConnectionSettings, Terms
from warden_host.errors import HostError
from warden_host.fleet import board_file
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.service import clock_guard
from warden_host.service.clock_guard import Reading
from warden_host.store.store import Device, Store

DAY_S = 86400.0


@dataclass(frozen=True)
class Live:
    """What a running `warden serve` knows; serving: whether one runs.

    development: devices whose console is open. presence: device → "online", "asleep", …
    """

    serving: bool = False
    development: frozenset[str] = frozenset()
    presence: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FleetFacts:
    """A fleet, its database open for reading, and this host.

    now: unix seconds. free: returns the bytes left on the disk. clocks, unset: of clock_guard.
    """

    fleet: Fleet
    store: Store
    live: Live = Live()
    now: float = field(default_factory=time.time)
    free: Callable[[Fleet], int] = lambda fleet: shutil.disk_usage(fleet.root).free
    clocks: Callable[[], Reading] = clock_guard.read
    unset: Callable[[], bool] = clock_guard.is_unset

    @functools.cached_property
    def devices(self) -> list[Device]:
        """All devices that may still connect."""
        return [one for one in self.store.devices() if one.ending is None]

    @functools.cached_property
    def newest_releases(self) -> dict[str, str]:
        """Device type → the name of its newest release."""
        return {one.type: one.name for one in self.store.releases()}

    @functools.cached_property
    def connection(self) -> ConnectionSettings:
        return connection.load(self.fleet)


@dataclass(frozen=True)
class DeviceFacts:
    """One device of a fleet."""

    fleet: FleetFacts
    device: Device

    @functools.cached_property
    def terms(self) -> Terms:
        return connection.of_record(self.device.policy)

    @functools.cached_property
    def policy(self) -> dict[str, Any]:
        return policy.parse(self.device.policy)

    @functools.cached_property
    def board(self) -> dict[str, Any]:
        """The names of its board's board.py; {} for a board of the owner's own."""
        return _board(self.device.board)


@functools.lru_cache(64)
def _board(name: str) -> dict[str, Any]:
    try:
        return board_file.load(name).values
    except HostError:
        return {}
