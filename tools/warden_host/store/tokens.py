"""Tokens of applications in fleet.db: a row for each one that is neither ended nor forgotten.

The token itself is stored nowhere.
"""

import json
import time
from dataclasses import dataclass

from warden_host.errors import HostError
from warden_host.store.database import Database


@dataclass(frozen=True)
class Token:
    """id: the claim jti. made, expires, revoked: unix seconds. scope: its words."""

    id: str
    appid: str
    scope: tuple[str, ...]
    made: float
    expires: float
    revoked: float | None = None


class Tokens(Database):
    """The tokens' rows."""

    def add_token(self, token: Token) -> None:
        """Add a token. Call it inside a transaction."""
        self._do(
            "INSERT INTO app_tokens VALUES (?, ?, ?, ?, ?, NULL)",
            token.id,
            token.appid,
            json.dumps(token.scope),
            token.made,
            token.expires,
        )

    def tokens(self) -> list[Token]:
        """Return all tokens, those of an application together."""
        rows = self._do(
            "SELECT id, appid, scope, made, expires, revoked FROM app_tokens ORDER BY appid, made"
        ).fetchall()
        return [
            Token(id_, appid, tuple(json.loads(scope)), made, expires, revoked)
            for id_, appid, scope, made, expires, revoked in rows
        ]

    def token(self, id_: str) -> Token:
        """Return a token; raises token-unknown."""
        for token in self.tokens():
            if token.id == id_:
                return token
        raise HostError("token-unknown", "no such token in this fleet")

    def is_live_token(self, id_: str, appid: str) -> bool:
        """Return whether an application has this token, neither revoked nor ended."""
        row = self._do(
            "SELECT 1 FROM app_tokens WHERE id = ? AND appid = ? AND revoked IS NULL"
            " AND expires > ?",
            *(id_, appid, time.time()),
        ).fetchone()
        return row is not None

    def revoke_token(self, id_: str) -> None:
        """Record the revocation, durably."""
        with self.transaction():
            self._do(
                "UPDATE app_tokens SET revoked = ? WHERE id = ? AND revoked IS NULL",
                time.time(),
                id_,
            )

    def remove_token(self, id_: str) -> None:
        """Forget a token that has ended: its signature is worth nothing any more."""
        with self.transaction():
            self._do("DELETE FROM app_tokens WHERE id = ?", id_)
