"""Operators in fleet.db: people who use a fleet without being able to read its keys."""

from typing import NamedTuple

from warden_host.errors import HostError
from warden_host.store.database import Database

ROLES = ("look", "command", "update", "own")


class Operator(NamedTuple):
    """name: in the audit log. uid: of the Unix user. user: its name. roles: of ROLES, in order.

    Of an operator of the console alone, uid is None and user "".
    """

    name: str
    uid: int | None
    user: str
    roles: tuple[str, ...]


class Operators(Database):
    """The operators' rows."""

    def put_operator(self, operator: Operator) -> None:
        """Add an operator, or replace its user and roles; raises operator-exists."""
        with self.transaction():
            uid = operator.uid
            other = None if uid is None else self.operator_of(uid)
            if other is not None and other.name != operator.name:
                raise HostError(
                    "operator-exists", f"user {operator.user} is operator {other.name} already"
                )
            self._do(
                "INSERT INTO operators VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                "uid = excluded.uid, user = excluded.user, roles = excluded.roles",
                operator.name,
                self._placeholder(operator.name) if uid is None else uid,
                operator.user,
                " ".join(operator.roles),
            )

    def operators(self) -> list[Operator]:
        """Return all operators by name."""
        rows = self._do("SELECT name, uid, user, roles FROM operators ORDER BY name").fetchall()
        return [
            Operator(name, uid if uid >= 0 else None, user, _roles(roles))
            for name, uid, user, roles in rows
        ]

    def _placeholder(self, name: str) -> int:
        """Return a negative number of its own, which no Unix user has."""
        row = self._do(
            "SELECT uid FROM operators WHERE name = ? AND uid < 0 "
            "UNION ALL SELECT min(0, min(uid)) - 1 FROM operators",
            name,
        ).fetchone()
        return int(row[0] or -1)

    def operator_of(self, uid: int) -> Operator | None:
        """Return the operator that a Unix user is, or None."""
        return next((one for one in self.operators() if one.uid == uid), None)

    def operator(self, name: str) -> Operator | None:
        """Return an operator by name, or None."""
        return next((one for one in self.operators() if one.name == name), None)

    def remove_operator(self, name: str) -> None:
        """Remove an operator; raises operator-unknown."""
        with self.transaction():
            if self._do("DELETE FROM operators WHERE name = ?", name).rowcount == 0:
                raise HostError("operator-unknown", f"no operator {name} in this fleet")


def _roles(text: str) -> tuple[str, ...]:
    return tuple(role for role in ROLES if role in text.split())
