"""Applications that are parties of their own: the authority does not log in as them.

Each has a secret under which the authority seals the lists of its devices' keys. SQLite's triggers
(schema.py) note in the table key_changes what such an application has yet to learn, in the very
transaction that changes it, whichever process that is.
"""

from typing import NamedTuple

from warden_host.store.database import Database, guard


class ListSecret(NamedTuple):
    """secret: 32 bytes, in the application's file too. number: of the last list sealed so."""

    secret: bytes
    number: int


class Exports(Database):
    """The rows of exported applications. They go with their application."""

    def set_exported(self, appid: str, moment: float) -> None:
        """Mark an application as a party of its own, since this moment. Durable."""
        with self.transaction():
            self._do("INSERT OR IGNORE INTO app_exports VALUES (?, ?)", appid, moment)

    def inherit_export(self, old: str, new: str) -> None:
        """Mark an application that follows another one as that one is. In a transaction."""
        self._do(
            "INSERT OR IGNORE INTO app_exports SELECT ?, since FROM app_exports WHERE appid = ?",
            new,
            old,
        )

    def exported(self) -> frozenset[str]:
        """Return the applications that are parties of their own."""
        return frozenset(row[0] for row in self._do("SELECT appid FROM app_exports"))

    # Lists of keys

    def renew_list_secret(self, appid: str, secret: bytes, moment: float) -> ListSecret:
        """Replace an application's secret for its lists; all that was noted for it is dropped.

        Call it inside a transaction, before the devices are read.
        """
        known = self.list_secret(appid)
        number = max(0 if known is None else known.number + 1, int(moment))
        self._do("INSERT OR REPLACE INTO app_lists VALUES (?, ?, ?)", appid, secret, number)
        self.drop_key_changes(appid)
        return ListSecret(secret, number)

    def list_secret(self, appid: str) -> ListSecret | None:
        """Return an application's secret for its lists; None for one that has no file with it."""
        row = self._do("SELECT secret, number FROM app_lists WHERE appid = ?", appid).fetchone()
        return None if row is None else ListSecret(*row)

    def next_list(self, appid: str, moment: float) -> int:
        """Return the next list's number. Call it inside a transaction.

        It is not below the time, so that a fleet.db from a backup gives no number that the
        application has seen. moment: unix seconds.
        """
        row = self._do(
            "UPDATE app_lists SET number = max(number + 1, ?) WHERE appid = ? RETURNING number",
            int(moment),
            appid,
        ).fetchone()
        with guard():
            return int(row[0])

    def listed_apps(self) -> frozenset[str]:
        """Return the applications with a secret for lists."""
        return frozenset(row[0] for row in self._do("SELECT appid FROM app_lists"))

    def apps_with_changes(self) -> list[str]:
        """Return the applications for which something is noted."""
        return [row[0] for row in self._do("SELECT DISTINCT appid FROM key_changes ORDER BY 1")]

    def key_changes(self, appid: str, most: int) -> list[str]:
        """Return devices whose entry changed; "" among them: the application's scopes did."""
        rows = self._do(
            "SELECT device FROM key_changes WHERE appid = ? ORDER BY device LIMIT ?", appid, most
        )
        return [row[0] for row in rows]

    def drop_key_change(self, appid: str, device: str) -> None:
        """Drop what is noted of a device. Call it in the transaction that reads the entry."""
        self._do("DELETE FROM key_changes WHERE appid = ? AND device = ?", appid, device)

    def drop_key_changes(self, appid: str) -> None:
        """Drop all that is noted. Call it in a transaction: all devices are read from then on."""
        self._do("DELETE FROM key_changes WHERE appid = ?", appid)
