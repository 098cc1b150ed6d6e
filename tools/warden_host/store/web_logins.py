"""Passwords and second factors of operators who use the console in a browser, in fleet.db."""

from dataclasses import dataclass, field

from warden_host.errors import HostError
from warden_host.store.database import Database


@dataclass(frozen=True)
class WebLogin:
    """password: its argon2id hash, in the PHC string format. secret: of TOTP (RFC 6238), 20 bytes.

    step: the last time step whose code was used; no code counts twice.
    """

    name: str
    password: str = field(repr=False)
    secret: bytes = field(repr=False)
    step: int = 0


class WebLogins(Database):
    """The rows of operators' log-ins; they leave with their operator."""

    def put_web_login(self, login: WebLogin) -> None:
        """Set or replace an operator's log-in. Raises operator-unknown."""
        with self.transaction():
            known = self._do("SELECT 1 FROM operators WHERE name = ?", login.name).fetchone()
            if known is None:
                raise HostError("operator-unknown", f"no operator {login.name} in this fleet")
            self._do(
                "INSERT OR REPLACE INTO web_logins VALUES (?, ?, ?, ?)",
                login.name,
                login.password,
                login.secret,
                login.step,
            )

    def web_login(self, name: str) -> WebLogin | None:
        """Return an operator's log-in, or None."""
        row = self._do(
            "SELECT name, password, secret, step FROM web_logins WHERE name = ?", name
        ).fetchone()
        return None if row is None else WebLogin(*row)

    def use_web_step(self, name: str, step: int) -> bool:
        """Use up a time step; return False where it or a later one was used before."""
        with self.transaction():
            changed = self._do(
                "UPDATE web_logins SET step = ? WHERE name = ? AND step < ?", step, name, step
            )
        return changed.rowcount == 1

    def remove_web_login(self, name: str) -> bool:
        """Take an operator's log-in away; return whether there was one."""
        with self.transaction():
            return self._do("DELETE FROM web_logins WHERE name = ?", name).rowcount == 1
