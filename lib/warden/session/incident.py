"""Refusals and failures, counted until they can be reported. Memory is bounded, whatever comes."""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

# Every code that a peer can provoke has rows for three places: noise hides no code.
_MOST = const(32)
_PLACES = const(3)
_SHARED = const(16)  # beyond these, a row is for a code that has none yet
_WINDOW_MS = const(1000)


class Incidents:
    """Counts of distinct (code, place) pairs.

    The fourth and later places of a code are counted together under "", all but the first where
    16 rows are in use; what is beyond all 32 rows as `incident-overflow`.
    """

    def __init__(self) -> None:
        self._counts: "dict[tuple[str, str], int]" = {}
        self._since_ms: "int | None" = None

    def add(self, code: str, at: str, now_ms: int, n: int = 1) -> None:
        """Count an incident. code: an error's slug. at: a command or a place. n: how often."""
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
        """Return when the next batch is due, or None without one.

        Incidents of one second go together: a flood of garbage is not answered by one of reports.
        """
        return None if self._since_ms is None else self._since_ms + _WINDOW_MS

    def collect(self) -> "list[dict[str, Any]]":
        """Remove and return the batch, as report bodies {"code", "n", "at"}."""
        batch = [
            {"code": code, "n": count, "at": at} for (code, at), count in self._counts.items()
        ]
        self._counts = {}
        self._since_ms = None
        return batch

    def put_back(self, batch: "list[dict[str, Any]]", now_ms: int) -> None:
        """Count a batch again that could not be sent."""
        for body in batch:
            self.add(body["code"], body["at"], now_ms, body["n"])
