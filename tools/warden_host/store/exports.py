"""Applications that are parties of their own: the authority does not log in as them."""

from warden_host.store.database import Database


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
