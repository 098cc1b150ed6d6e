"""Reactions in fleet.db: devices that the fleet quarantined or de-registered by itself."""

from dataclasses import dataclass

from warden_host.store.database import Database

QUARANTINE, DEREGISTER = "quarantine", "de-register"


@dataclass(frozen=True, slots=True)
class Reaction:
    """What was done with a device, and why.

    kind: QUARANTINE or DEREGISTER. code: of docs/errors.md. text: for people. since: unix seconds.
    readmitting: an operator lets it in again, and it has not proved its new secrets yet.
    """

    kind: str
    code: str
    text: str
    since: float
    readmitting: bool = False


class Reactions(Database):
    """The reactions' rows: one of each device at most."""

    def reaction(self, device: str) -> Reaction | None:
        """Return what was done with the device, or None."""
        row = self._do(
            "SELECT kind, code, text, since, readmitting FROM reactions WHERE device = ?", device
        ).fetchone()
        return None if row is None else _made(*row)

    def reactions(self) -> dict[str, Reaction]:
        """Return device → reaction, in the order of names."""
        rows = self._do(
            "SELECT device, kind, code, text, since, readmitting FROM reactions ORDER BY device"
        ).fetchall()
        return {row[0]: _made(*row[1:]) for row in rows}

    def set_reaction(self, device: str, reaction: Reaction) -> None:
        """Set or replace a device's reaction. Call it inside a transaction."""
        self._do(
            "INSERT OR REPLACE INTO reactions VALUES (?, ?, ?, ?, ?, ?)",
            device,
            reaction.kind,
            reaction.code,
            reaction.text,
            reaction.since,
            int(reaction.readmitting),
        )

    def end_reaction(self, device: str) -> None:
        """Delete the device's reaction, if any. Call it inside a transaction."""
        self._do("DELETE FROM reactions WHERE device = ?", device)


def _made(kind: str, code: str, text: str, since: float, readmitting: int) -> Reaction:
    return Reaction(kind, code, text, since, bool(readmitting))
