"""Devices as fleet.db has them: read by every command, changed in store.py alone."""

import functools
import json
import sys
from dataclasses import dataclass, field
from typing import Any

from warden_client.protocol.freshness import NOTHING_PROVEN, DeviceMark, Proof

from warden_host.errors import HostError
from warden_host.store.database import guard
from warden_host.store.endings import Ending, Endings
from warden_host.store.reactions import Reaction, Reactions


@dataclass(frozen=True, slots=True)
class Pair:
    """One device and one application: their secrets, and the last hello that a ready proved."""

    appid: str
    k: bytes = field(repr=False)
    uid: bytes = field(repr=False)
    commands: tuple[str, ...]
    proven: Proof = NOTHING_PROVEN
    event_number: int = 0  # the highest of an event of the device's outbox


@dataclass(frozen=True, slots=True)
class Device:
    """A device, its policy record, its mark and its pairs.

    next_policy: a record that it tries, and has not proved yet.
    """

    device: str
    type: str
    board: str
    mode: str
    policy: bytes
    mark: DeviceMark = field(default_factory=DeviceMark)
    diverged: bool = False
    last_seen: float = 0.0
    asleep_until: float = 0.0  # when it means to be back from its last sleep, unix seconds
    pairs: tuple[Pair, ...] = ()
    ending: Ending | None = None
    next_policy: bytes | None = None
    reaction: Reaction | None = None


class Devices(Endings, Reactions):
    """The rows of devices and of their pairs, to read."""

    def find(self, device: str) -> Device | None:
        """Return a device, or None."""
        return next(iter(self._devices("WHERE device = ?", device)), None)

    def device(self, device: str) -> Device:
        """Return a device; raises device-unknown."""
        found = self.find(device)
        if found is None:
            raise HostError("device-unknown", f"no device {device} in this fleet")
        return found

    def names(self) -> list[str]:
        """Return the IDs of all devices."""
        return [row[0] for row in self._do("SELECT device FROM devices").fetchall()]

    def devices(self) -> list[Device]:
        """Return all devices by ID."""
        return self._devices("ORDER BY device")

    def _devices(self, where: str, *values: Any) -> list[Device]:
        columns = "device, type, board, mode, policy, diverged, last_seen, asleep_until"
        columns += ", (SELECT record FROM policy_changes AS p WHERE p.device = devices.device)"
        mark = "boot, connect, vault_gen, quarantine"
        query = f"SELECT {columns}, {mark} FROM devices {where}"  # noqa: S608
        rows = self._do(query, *values).fetchall()
        with guard():
            return [
                Device(
                    device=name,
                    type=sys.intern(type_),
                    board=sys.intern(board),
                    mode=sys.intern(mode),
                    policy=_shared(record),
                    mark=DeviceMark(*mark),
                    diverged=bool(diverged),
                    last_seen=last_seen,
                    asleep_until=until,
                    pairs=self._pairs(name),
                    ending=self.ending(name),
                    next_policy=following,
                    reaction=self.reaction(name),
                )
                for name, type_, board, mode, record, diverged, last_seen, until, *rest in rows
                for following, *mark in (rest,)
            ]

    def _pairs(self, device: str) -> tuple[Pair, ...]:
        columns = "appid, k, uid, commands, event_number, boot, connect, vault_gen"
        rows = self._do(
            f"SELECT {columns} FROM pairs WHERE device = ? ORDER BY appid",  # noqa: S608
            device,
        )
        return tuple(
            Pair(sys.intern(appid), k, uid, texts(commands), Proof(*proof), number)
            for appid, k, uid, commands, number, *proof in rows
        )


@functools.lru_cache(64)
def _shared(record: bytes) -> bytes:
    """Return one object for equal records: most devices of a fleet have the same policy."""
    return record


@functools.lru_cache(64)
def texts(text: str) -> tuple[str, ...]:
    """Return a column that holds a JSON list of texts."""
    return tuple(str(item) for item in json.loads(text))
