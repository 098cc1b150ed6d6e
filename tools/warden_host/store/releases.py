"""Releases and rollouts in fleet.db: sequence numbers, content keys, progress of each device."""

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from warden_host.errors import HostError
from warden_host.store.backups import Backups
from warden_host.store.database import guard

MAX_SEQUENCE = (1 << 32) - 1
MAX_HISTORY = 60  # steps of one device in one rollout; the oldest are dropped


@dataclass(frozen=True)
class Release:
    """A release's record; its files are in releases/NAME."""

    sequence: int
    name: str
    type: str
    version: str
    made: float
    cek: bytes | None = field(default=None, repr=False)


class Target(NamedTuple):
    """One device of a rollout. state: a word of docs/update.md."""

    device: str
    wave: int
    state: str
    reason: str
    changed: float


class Step(NamedTuple):
    """A state that a device had from this time on, unix seconds."""

    time: float
    state: str
    reason: str


@dataclass(frozen=True)
class Rollout:
    """A rollout. plan: the request, as JSON. state: active, done or stopped.

    forgiven: failures that the owner has acknowledged.
    """

    id: int
    release: str
    sequence: int
    plan: dict[str, Any]
    state: str
    reason: str
    started: float
    forgiven: int
    targets: tuple[Target, ...] = ()


class Releases(Backups):
    """The rows of releases and rollouts."""

    def vendor(self) -> bytes:
        """Return this fleet's vendor ID in manifests: 16 random bytes, drawn at the first call."""
        self._do("INSERT OR IGNORE INTO settings VALUES ('vendor', ?)", secrets.token_bytes(16))
        row = self._do("SELECT value FROM settings WHERE name = 'vendor'").fetchone()
        return bytes(row[0])

    # Releases

    def reserve_sequence(
        self, name: str, type_: str, version: str, wanted: int | None, cek: bytes | None
    ) -> Release:
        """Reserve a sequence number, durably, before anything is made with it.

        wanted: the number, or None for the next. Raises old-manifest, bad-argument.
        """
        with self.transaction():
            # A release that failed, or whose folder is gone, keeps its number.
            self._do("UPDATE releases SET name = name || '#' || sequence WHERE name = ?", name)
            last = self._do("SELECT coalesce(max(sequence), 0) FROM releases").fetchone()[0]
            last = max(last, self.sequence_floor())
            if wanted is not None and wanted <= last:
                raise HostError(
                    "old-manifest",
                    f"sequence number {wanted} where {last} was given already",
                    "leave the number out: it only rises",
                )
            sequence = last + 1 if wanted is None else wanted
            if sequence > MAX_SEQUENCE:
                raise HostError("bad-argument", f"sequence numbers end at {MAX_SEQUENCE}")
            made = Release(sequence, name, type_, version, time.time(), cek)
            self._do(
                "INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?)",
                made.sequence,
                made.name,
                made.type,
                made.version,
                made.made,
                made.cek,
            )
        return made

    def release(self, name: str) -> Release | None:
        """Return the release of this name, or None."""
        row = self._do("SELECT * FROM releases WHERE name = ?", name).fetchone()
        return None if row is None else Release(*row)

    def releases(self) -> list[Release]:
        """Return all releases by sequence number."""
        return [Release(*row) for row in self._do("SELECT * FROM releases ORDER BY sequence")]

    # Rollouts

    def add_rollout(
        self, release: str, sequence: int, plan: dict[str, Any], waves: dict[str, int]
    ) -> int:
        """Add an active rollout and return its number. waves: device → wave, from 0."""
        now = time.time()
        with self.transaction():
            cursor = self._do(
                "INSERT INTO rollouts (release, sequence, plan, state, began) "
                "VALUES (?, ?, ?, 'active', ?)",
                release,
                sequence,
                json.dumps(plan),
                now,
            )
            number = cursor.lastrowid or 0
            for device, wave in waves.items():
                self._do(
                    "INSERT INTO rollout_devices (rollout, device, wave, state, changed) "
                    "VALUES (?, ?, ?, 'Waiting', ?)",
                    number,
                    device,
                    wave,
                    now,
                )
            self._do(
                "INSERT INTO rollout_history (rollout, device, time, state, reason) "
                "SELECT rollout, device, changed, state, reason FROM rollout_devices "
                "WHERE rollout = ?",
                number,
            )
        return number

    def rollout(self, number: int) -> Rollout:
        """Return a rollout; raises rollout-unknown."""
        found = self._rollouts("WHERE id = ?", number)
        if not found:
            raise HostError(
                "rollout-unknown", f"there is no rollout {number}", "`warden rollouts` lists them"
            )
        return found[0]

    def rollouts(self, active: bool = False) -> list[Rollout]:
        """Return all rollouts, or the active ones, oldest first."""
        return self._rollouts("WHERE state = 'active' ORDER BY id" if active else "ORDER BY id")

    def newest_rollouts(self, start: int, most: int) -> list[tuple[Rollout, dict[str, int]]]:
        """Return rollouts without their devices, and state → how many devices are in it.

        start: how many of the newest are left out.
        """
        rows = self._do(
            "SELECT id, release, sequence, plan, state, reason, began, forgiven FROM rollouts "
            "ORDER BY id DESC LIMIT ? OFFSET ?",
            most,
            start,
        ).fetchall()
        found = []
        for number, release, sequence, plan, *rest in rows:
            with guard():
                one = Rollout(number, release, sequence, json.loads(plan), *rest)
            counts = self._do(
                "SELECT state, count(*) FROM rollout_devices WHERE rollout = ? GROUP BY state",
                number,
            )
            found.append((one, dict(counts.fetchall())))
        return found

    def rollout_counts(self) -> dict[str, int]:
        """Return state → how many rollouts are in it."""
        rows = self._do("SELECT state, count(*) FROM rollouts GROUP BY state")
        return dict(rows.fetchall())

    def target_counts(self) -> dict[str, int]:
        """Return state → how many devices of the active rollouts are in it."""
        rows = self._do(
            "SELECT state, count(*) FROM rollout_devices WHERE rollout IN "
            "(SELECT id FROM rollouts WHERE state = 'active') GROUP BY state"
        )
        return dict(rows.fetchall())

    def set_rollout(self, number: int, state: str, reason: str = "", forgiven: int = 0) -> None:
        """Set a rollout's state."""
        with self.transaction():
            self._do(
                "UPDATE rollouts SET state = ?, reason = ?, forgiven = ? WHERE id = ?",
                state,
                reason,
                forgiven,
                number,
            )

    def set_target(self, number: int, device: str, state: str, reason: str, last: bool) -> None:
        """Set the state of one device.

        last: no state follows, so it is durable. A power cut may lose a state in between: the
        device is asked for its state then.
        """
        now = time.time()
        with self.transaction(durable=last):
            self._do(
                "UPDATE rollout_devices SET state = ?, reason = ?, changed = ? "
                "WHERE rollout = ? AND device = ?",
                state,
                reason,
                now,
                number,
                device,
            )
            if state != "Waiting":  # for its next turn: no step of its own
                self._add_step(number, device, now, state, reason)

    def _add_step(self, number: int, device: str, moment: float, state: str, reason: str) -> None:
        """Add a step to the history unless it repeats the last one: retries are many."""
        mine = "FROM rollout_history WHERE rollout = ?1 AND device = ?2 ORDER BY id DESC"
        last = self._do(f"SELECT state, reason {mine} LIMIT 1", number, device).fetchone()
        if last == (state, reason):
            return
        self._do(
            "INSERT INTO rollout_history (rollout, device, time, state, reason) "
            "VALUES (?, ?, ?, ?, ?)",
            number,
            device,
            moment,
            state,
            reason,
        )
        beyond = "LIMIT -1 OFFSET ?3"
        self._do(
            f"DELETE FROM rollout_history WHERE id IN (SELECT id {mine} {beyond})",  # noqa: S608
            number,
            device,
            MAX_HISTORY,
        )

    def history(self, number: int) -> dict[str, list[Step]]:
        """Return device → its steps in this rollout, oldest first."""
        found: dict[str, list[Step]] = {}
        rows = self._do(
            "SELECT device, time, state, reason FROM rollout_history WHERE rollout = ? "
            "ORDER BY id",
            number,
        )
        for device, *step in rows:
            found.setdefault(device, []).append(Step(*step))
        return found

    def _rollouts(self, where: str, *values: Any) -> list[Rollout]:
        columns = "id, release, sequence, plan, state, reason, began, forgiven"
        query = f"SELECT {columns} FROM rollouts {where}"  # noqa: S608
        rows = self._do(query, *values).fetchall()
        with guard():
            return [
                Rollout(
                    id=number,
                    release=release,
                    sequence=sequence,
                    plan=json.loads(plan),
                    state=state,
                    reason=reason,
                    started=began,
                    forgiven=forgiven,
                    targets=self._targets(number),
                )
                for number, release, sequence, plan, state, reason, began, forgiven in rows
            ]

    def _targets(self, number: int) -> tuple[Target, ...]:
        rows = self._do(
            "SELECT device, wave, state, reason, changed FROM rollout_devices "
            "WHERE rollout = ? ORDER BY wave, device",
            number,
        )
        return tuple(Target(*row) for row in rows)
