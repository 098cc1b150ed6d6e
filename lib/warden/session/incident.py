"""What went wrong, counted until somebody can be told. Memory is bounded: an attacker chooses how often, never how much we keep."""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

# Every code that a stranger can provoke has its row, with three places each, so that noise hides nothing.
_MOST = const(32)
_PLACES = const(3)
_SHARED = const(16)  # beyond so many, the rows that are left are for codes that have none
_WINDOW_MS = const(1000)


class Incidents:
    """Distinct (code, at) pairs with their counts. The fourth and later places of a code are counted together under "", all but the first where many
    rows are taken, what is beyond all rows as `incident-overflow`."""

    def __init__(self) -> None:
        self._counts: "dict[tuple[str, str], int]" = {}
        self._since_ms: "int | None" = None

    def add(self, code: str, at: str, now_ms: int, n: int = 1) -> None:
        """code: an error's slug. at: the command or the place, without secrets. n: how often."""
        key = (code, at)
        if key not in self._counts:
            mine = [other for other in self._counts if other[0] == code]
            full = len(self._counts) >= _SHARED
            if len(mine) >= _PLACES or (mine and full):
                key = (code, "")
                if full and key not in self._counts:
                    self._counts[key] = self._counts.pop(mine[0])
        if key not in self._counts and len(self._counts) >= _MOST:
            key = ("incident-overflow", "")
        self._counts[key] = self._counts.get(key, 0) + n
        if self._since_ms is None:
            self._since_ms = now_ms

    def due_ms(self) -> "int | None":
        """When the next batch may be told, or None when there is nothing to tell. One second's worth goes together, so a flood of
        garbage is not answered by a flood of reports."""
        return None if self._since_ms is None else self._since_ms + _WINDOW_MS

    def take(self) -> "list[dict[str, Any]]":
        """The batch, as report bodies {"code", "n", "at"}; it is forgotten here."""
        batch = [
            {"code": code, "n": count, "at": at} for (code, at), count in self._counts.items()
        ]
        self._counts = {}
        self._since_ms = None
        return batch

    def put_back(self, batch: "list[dict[str, Any]]", now_ms: int) -> None:
        """What take() gave and could not be told."""
        for body in batch:
            self.add(body["code"], body["at"], now_ms, body["n"])
