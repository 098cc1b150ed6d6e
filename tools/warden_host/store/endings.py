"""Devices in fleet.db that are to end: revoked at the broker, to be wiped, or both."""

from dataclasses import dataclass

from warden_host.store.database import Database


@dataclass(frozen=True, slots=True)
class Ending:
    """An order to end a device. Times are unix seconds.

    revoked: the broker refuses it, except for what a wipe needs where wipe is set. wipe: its
    secrets are erased on its next contact. sent: when the wipe was last sent. wiped: when the
    device confirmed it.
    """

    revoked: bool
    wipe: bool
    ordered: float
    sent: float | None = None
    wiped: float | None = None


class Endings(Database):
    """The orders' rows."""

    def ending(self, device: str) -> Ending | None:
        """Return the device's order, or None."""
        row = self._do(
            "SELECT revoked, wipe, ordered, sent, wiped FROM endings WHERE device = ?", device
        ).fetchone()
        return None if row is None else Ending(bool(row[0]), bool(row[1]), *row[2:])

    def endings(self) -> dict[str, Ending]:
        """Return device → order, in the order of names."""
        rows = self._do("SELECT device FROM endings ORDER BY device").fetchall()
        found = {row[0]: self.ending(row[0]) for row in rows}
        return {device: ending for device, ending in found.items() if ending is not None}

    def revoked(self) -> set[str]:
        """Return the devices that are revoked, those to be wiped besides among them."""
        return {row[0] for row in self._do("SELECT device FROM endings WHERE revoked")}

    def orders_to_revoke(self) -> list[tuple[str, float, bool]]:
        """Return (device, when, whether it is to be wiped) of those that did not confirm one."""
        rows = self._do(
            "SELECT device, ordered, wipe FROM endings WHERE revoked AND wiped IS NULL "
            "ORDER BY ordered, device"
        )
        return [(device, ordered, bool(wipe)) for device, ordered, wipe in rows.fetchall()]

    def order_ending(self, device: str, revoked: bool, wipe: bool, moment: float) -> None:
        """Add to the device's order; an earlier order stays. Call it inside a transaction."""
        self._do(
            "INSERT INTO endings (device, revoked, wipe, ordered) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (device) DO UPDATE SET revoked = max(revoked, excluded.revoked), "
            "wipe = max(wipe, excluded.wipe)",
            device,
            int(revoked),
            int(wipe),
            moment,
        )

    def end_ending(self, device: str) -> None:
        """Delete the device's order. Call it inside a transaction."""
        self._do("DELETE FROM endings WHERE device = ?", device)

    def record_wipe_sent(self, device: str, moment: float) -> None:
        """Record when the wipe was sent."""
        self._do("UPDATE endings SET sent = ? WHERE device = ?", moment, device)

    def record_wipe_done(self, device: str, moment: float) -> None:
        """Record that the device confirmed its wipe, so that its account may go. Durable."""
        with self.transaction():
            self._do("UPDATE endings SET wiped = ? WHERE device = ?", moment, device)
