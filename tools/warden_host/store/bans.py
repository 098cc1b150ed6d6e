"""Addresses in fleet.db: bans, the owner's lists, and from where clients logged in."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from warden_host.errors import HostError
from warden_host.store.database import Database

MAX_BANS = 50_000
MAX_ENTRIES = 10_000  # of both lists
MAX_LOGINS = 100_000
BAN, SLOW = "ban", "slow"
ALLOW, BLOCK = "allow", "block"
LISTS = (ALLOW, BLOCK)
_ACTIVE = "address_list"


class Ban(NamedTuple):
    """network: CIDR, canonical. kind: BAN: no packet; SLOW: few new connections.

    since, until: unix seconds; until: None for one that lasts until it is lifted. source: "watch",
    or who added it. attempts: refused log-ins that led to it.
    """

    network: str
    kind: str
    since: float
    until: float | None
    source: str
    why: str
    attempts: int


class Bans(Database):
    """The rows about addresses."""

    def put_ban(self, ban: Ban) -> None:
        """Add a ban, or replace the one of the same network. Raises not-applicable when full."""
        self.put_bans([ban])

    def put_bans(self, bans: Sequence[Ban]) -> None:
        """Add bans by one commit, or replace those of the same networks.

        The watch's own ones make room for newer ones, the oldest first; a person's never do.
        Raises not-applicable where there is no room: then none is added.
        """
        with self.transaction():
            for ban in bans:
                self._do("INSERT OR REPLACE INTO bans VALUES (?, ?, ?, ?, ?, ?, ?)", *ban)
            (count,) = self._do("SELECT count(*) FROM bans").fetchone()
            gone = self._do(
                "DELETE FROM bans WHERE network IN (SELECT network FROM bans "
                "WHERE source = 'watch' ORDER BY since, network LIMIT ?)",
                max(0, count - MAX_BANS),
            )
            if count - gone.rowcount > MAX_BANS:
                raise HostError(
                    "not-applicable",
                    f"there are {MAX_BANS} bans already",
                    "lift some, or ban whole networks: `warden bans add 203.0.113.0/24`",
                )

    def ban_counts(self, now: float) -> dict[str, int]:
        """Return kind → how many bans are in force."""
        rows = self._do(
            "SELECT kind, count(*) FROM bans WHERE until IS NULL OR until > ? GROUP BY kind", now
        )
        return {BAN: 0, SLOW: 0} | dict(rows.fetchall())

    def bans(self, now: float) -> list[Ban]:
        """Return the bans in force, the oldest first."""
        rows = self._do(
            "SELECT * FROM bans WHERE until IS NULL OR until > ? ORDER BY since, network", now
        )
        return [Ban(*row) for row in rows.fetchall()]

    def newest_bans(self, now: float, start: int, most: int) -> list[Ban]:
        """Return bans in force, the newest first. start: how many of them are left out."""
        rows = self._do(
            "SELECT * FROM bans WHERE until IS NULL OR until > ? "
            "ORDER BY since DESC, network LIMIT ? OFFSET ?",
            now,
            most,
            start,
        )
        return [Ban(*row) for row in rows.fetchall()]

    def lift_ban(self, network: str) -> bool:
        """Remove a ban; return whether there was one."""
        with self.transaction():
            return self._do("DELETE FROM bans WHERE network = ?", network).rowcount > 0

    def lift_all_bans(self) -> int:
        """Remove all bans; return how many there were."""
        with self.transaction():
            return self._do("DELETE FROM bans").rowcount

    def drop_past_bans(self, now: float) -> int:
        """Remove those that have ended; return how many."""
        with self.transaction(durable=False):
            return self._do("DELETE FROM bans WHERE until <= ?", now).rowcount

    # The owner's lists

    def list_entries(self, name: str) -> list[str]:
        """Return the entries of a list: networks and `country:XX`. name: of LISTS."""
        rows = self._do("SELECT entry FROM address_lists WHERE list = ? ORDER BY entry", name)
        return [row[0] for row in rows.fetchall()]

    def add_entry(self, name: str, entry: str, now: float) -> None:
        """Add an entry to a list. Raises not-applicable where the lists are full."""
        with self.transaction():
            (count,) = self._do("SELECT count(*) FROM address_lists").fetchone()
            if count >= MAX_ENTRIES:
                raise HostError(
                    "not-applicable",
                    f"the lists have {MAX_ENTRIES} entries already",
                    "give whole networks or countries",
                )
            self._do("INSERT OR IGNORE INTO address_lists VALUES (?, ?, ?)", name, entry, now)

    def remove_entry(self, name: str, entry: str) -> bool:
        """Remove an entry; return whether it was there."""
        with self.transaction():
            return (
                self._do(
                    "DELETE FROM address_lists WHERE list = ? AND entry = ?", name, entry
                ).rowcount
                > 0
            )

    def active_list(self) -> str:
        """Return the list in force, or "" for none: never both."""
        row = self._do("SELECT value FROM settings WHERE name = ?", _ACTIVE).fetchone()
        name = "" if row is None else bytes(row[0]).decode(errors="replace")
        return name if name in LISTS else ""

    def activate_list(self, name: str) -> None:
        """Put one list in force, and the other one out of force. name: of LISTS, or ""."""
        with self.transaction():
            self._do("INSERT OR REPLACE INTO settings VALUES (?, ?)", _ACTIVE, name.encode())

    # From where clients logged in

    def note_logins(self, logins: Iterable[tuple[str, str, float]], oldest: float) -> None:
        """Keep the last log-in of each (network, client, unix seconds); drop those before oldest.

        The newest MAX_LOGINS stay.
        """
        with self.transaction(durable=False):
            for row in logins:
                self._do("INSERT OR REPLACE INTO good_logins VALUES (?, ?, ?)", *row)
            self._do("DELETE FROM good_logins WHERE time < ?", oldest)
            self._do(
                "DELETE FROM good_logins WHERE rowid IN (SELECT rowid FROM good_logins "
                "ORDER BY time DESC LIMIT -1 OFFSET ?)",
                MAX_LOGINS,
            )

    def good_logins(self, since: float) -> list[tuple[str, str, float]]:
        """Return (network, client, time) of the log-ins since then, the oldest first."""
        rows = self._do("SELECT * FROM good_logins WHERE time >= ? ORDER BY time", since)
        return [(row[0], row[1], row[2]) for row in rows.fetchall()]

    def count_logins(self, network: str, since: float) -> int:
        """Return how many clients logged in from a network since then."""
        row = self._do(
            "SELECT count(*) FROM good_logins WHERE network = ? AND time >= ?", network, since
        ).fetchone()
        return int(row[0])
