"""Several brokers: which one the next attempt takes, and the back-off across all of them.

Loaded where the vault has the record `brokers` (docs/protocol.md, The link).
"""

from micropython import const

from ..crypto.rand import random_bytes
from .backoff import Backoff

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


class Brokers(Backoff):
    """A back-off in rounds: it grows once all brokers were tried, not with each of them.

    listed: [[host, port, weight], …], or with a way to log in behind that. A round takes those
    with a weight in an order that is drawn by it, then those of weight 0 in their own. least_ms,
    most_ms: as Backoff has them.
    server: (host, port) for the next attempt. way: its way to log in, or "". count: entries.
    """

    def __init__(self, listed: "list[Any]", least_ms: int, most_ms: int) -> None:
        super().__init__(least_ms, most_ms)
        self._listed = listed
        self._left: "list[Any]" = []
        self._kept_ms = 0  # ceiling of the rounds, while the next of one is awaited
        self._first = ""
        self.count = len(listed)
        self._choose(True)

    def reset(self) -> None:
        """Use the first ceiling again."""
        self._kept_ms = 0
        super().reset()

    def resume(self) -> None:
        """Put the ceiling of the rounds back in its place, before a failure is counted."""
        if self._kept_ms:
            self._ceiling_ms = self._kept_ms
            self._kept_ms = 0

    def failed(self, accepted: bool) -> None:
        """Choose the next broker. accepted: the last one had accepted the log-in.

        Behind one that did, a new round begins: the first broker of the list is back soon.
        """
        if accepted or not self._left:
            self._choose(True)
        else:
            self._kept_ms = self._ceiling_ms
            self._ceiling_ms = self.least_ms
            self._choose(False)

    def prefer(self, way: str) -> None:
        """Take the entries of this way first in each round; "": the order of the list."""
        if way != self._first:
            self._first = way
            if len(self._left) == self.count - 1:
                self._choose(True)

    def _choose(self, anew: bool) -> None:
        if anew:
            self._left = list(self._listed)
        at, total = 0, sum([one[2] for one in self._left])
        if total:
            drawn = int.from_bytes(random_bytes(4), "big") * total >> 32
            while drawn >= self._left[at][2]:
                drawn -= self._left[at][2]
                at += 1
        if self._first:
            ways = [one[3] for one in self._left]
            at = ways.index(self._first) if self._first in ways else at
        one = self._left.pop(at)
        self.server = tuple(one[:2])
        self.way = one[3] if len(one) > 3 else ""
