"""What fleet.db knows of devices that are to end: cut off at the broker, to be wiped, or both."""

from dataclasses import dataclass

from warden_host.store.database import Database


@dataclass(frozen=True)
class Ending:
    """revoked: it is cut off, where wipe is set but for the little that a wipe needs. wipe: its secrets go on its next
    contact. Unix seconds: ordered; sent, when it was last told; wiped, when it answered that it obeys."""

    revoked: bool
    wipe: bool
    ordered: float
    sent: float | None = None
    wiped: float | None = None


class Endings(Database):
    def ending(self, device: str) -> Ending | None:
        row = self._do(
            "SELECT revoked, wipe, ordered, sent, wiped FROM endings WHERE device = ?", device
        ).fetchone()
        return None if row is None else Ending(bool(row[0]), bool(row[1]), *row[2:])

    def endings(self) -> dict[str, Ending]:
        rows = self._do("SELECT device FROM endings ORDER BY device").fetchall()
        found = {row[0]: self.ending(row[0]) for row in rows}
        return {device: ending for device, ending in found.items() if ending is not None}

    def order_ending(self, device: str, revoked: bool, wipe: bool, moment: float) -> None:
        """What was ordered before stays ordered. Inside a transaction."""
        self._do(
            "INSERT INTO endings (device, revoked, wipe, ordered) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (device) DO UPDATE SET revoked = max(revoked, excluded.revoked), "
            "wipe = max(wipe, excluded.wipe)",
            device,
            int(revoked),
            int(wipe),
            moment,
        )

    def record_wipe_sent(self, device: str, moment: float) -> None:
        self._do("UPDATE endings SET sent = ? WHERE device = ?", moment, device)

    def record_wipe_done(self, device: str, moment: float) -> None:
        """It answered: from now on its account may go. On disk when this returns."""
        with self.transaction():
            self._do("UPDATE endings SET wiped = ? WHERE device = ?", moment, device)
