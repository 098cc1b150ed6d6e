"""Passkeys (WebAuthn) of operators who use the console in a browser, in fleet.db.

No secret is kept here: of a passkey its public key, of a code that registers one its hash.
"""

import hmac
from dataclasses import dataclass, replace
from typing import Any

from warden_host.errors import HostError
from warden_host.store.database import Database

MOST = 8  # passkeys of an operator


@dataclass(frozen=True)
class Passkey:
    """A registered passkey.

    credential: its ID. user: the operator as authenticators know it, random. key: COSE_Key.
    count: of signatures, as the authenticator told it last. made, used: unix seconds, used 0 for
    never. cloned: whether the count went back, so that it logs in no more.
    """

    credential: bytes
    name: str
    user: bytes
    key: bytes
    count: int
    label: str
    made: float
    used: float = 0.0
    cloned: bool = False


class Passkeys(Database):
    """The rows of operators' passkeys, and of codes that register one; both leave with them."""

    def add_passkey(self, made: Passkey, code: bytes | None = None) -> None:
        """Add a passkey, and use up the code that allowed it.

        code: its hash. Raises operator-unknown; login-refused for a code that was used meanwhile;
        not-applicable above MOST, and for a credential that is registered already.
        """
        with self.transaction():
            known = self._do("SELECT 1 FROM operators WHERE name = ?", made.name).fetchone()
            if known is None:
                raise HostError("operator-unknown", f"no operator {made.name} in this fleet")
            if code is not None and not self._remove_code(made.name, code):
                raise HostError("login-refused", "the code was used already")
            if len(self.passkeys(made.name)) >= MOST:
                raise HostError("not-applicable", f"{made.name} has {MOST} passkeys already")
            if self.passkey(made.credential) is not None:
                raise HostError("not-applicable", "this passkey is registered already")
            self._do(
                "INSERT INTO passkeys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(made.credential, made.name, made.user, made.key, made.count),
                *(made.label, made.made, made.used, made.cloned),
            )

    def passkeys(self, name: str) -> list[Passkey]:
        """Return an operator's passkeys, the oldest first."""
        rows = self._do(
            "SELECT * FROM passkeys WHERE name = ? ORDER BY made, credential", name
        ).fetchall()
        return [_passkey(*row) for row in rows]

    def passkey(self, credential: bytes) -> Passkey | None:
        """Return a passkey by its ID, or None."""
        row = self._do("SELECT * FROM passkeys WHERE credential = ?", credential).fetchone()
        return None if row is None else _passkey(*row)

    def use_passkey(self, credential: bytes, count: int, now: float) -> bool:
        """Note a log-in and its count of signatures; return False where the count went back.

        Then the passkey is marked: its key is in two places. An authenticator that doesn't count
        says 0 always.
        """
        with self.transaction():
            changed = self._do(
                "UPDATE passkeys SET count = ?, used = ? WHERE credential = ? AND cloned = 0 "
                "AND (count < ? OR (count = 0 AND ? = 0))",
                *(count, now, credential, count, count),
            ).rowcount
            if not changed:
                self._do("UPDATE passkeys SET cloned = 1 WHERE credential = ?", credential)
        return changed == 1

    def remove_passkey(self, name: str, credential: bytes) -> bool:
        """Remove an operator's passkey; return whether there was one."""
        with self.transaction():
            gone = self._do(
                "DELETE FROM passkeys WHERE name = ? AND credential = ?", name, credential
            )
        return gone.rowcount == 1

    def put_passkey_code(self, name: str, code: bytes, until: float) -> None:
        """Set or replace the code that registers an operator's passkey. Raises operator-unknown.

        code: its hash. until: unix seconds.
        """
        with self.transaction():
            if self._do("SELECT 1 FROM operators WHERE name = ?", name).fetchone() is None:
                raise HostError("operator-unknown", f"no operator {name} in this fleet")
            self._do("INSERT OR REPLACE INTO passkey_codes VALUES (?, ?, ?)", name, code, until)

    def is_passkey_code(self, name: str, code: bytes, now: float) -> bool:
        """Return whether a code's hash is the operator's and counts still."""
        row = self._do("SELECT code, until FROM passkey_codes WHERE name = ?", name).fetchone()
        kept, until = (bytes(32), 0.0) if row is None else row
        return hmac.compare_digest(kept, code) and now < until

    def remove_all_passkeys(self, name: str) -> bool:
        """Remove an operator's passkeys and code; return whether there was any."""
        with self.transaction():
            gone = self._do("DELETE FROM passkeys WHERE name = ?", name).rowcount
            gone += self._do("DELETE FROM passkey_codes WHERE name = ?", name).rowcount
        return gone > 0

    def _remove_code(self, name: str, code: bytes) -> bool:
        return (
            self._do("DELETE FROM passkey_codes WHERE name = ? AND code = ?", name, code).rowcount
            == 1
        )


def _passkey(*row: Any) -> Passkey:
    found = Passkey(*row)
    return replace(found, cloned=bool(found.cloned))
