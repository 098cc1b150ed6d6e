"""Full-jitter exponential back-off, so that a fleet does not return to its broker as one wave."""

from ..crypto.rand import random_bytes


class Backoff:
    """Waits drawn evenly below a ceiling that doubles with each of them.

    least_ms: the first ceiling. most_ms: the highest one. Call reset() after a success.
    """

    def __init__(self, least_ms: int, most_ms: int) -> None:
        self.least_ms = least_ms
        self.most_ms = most_ms
        self._ceiling_ms = least_ms

    def next_ms(self) -> int:
        """Return the next wait, from 1 to the ceiling, and double the ceiling."""
        drawn = int.from_bytes(random_bytes(4), "big")
        wait = 1 + drawn * self._ceiling_ms // (1 << 32)
        self._ceiling_ms = min(2 * self._ceiling_ms, self.most_ms)
        return wait

    def slow_down(self) -> None:
        """Use the highest ceiling, for what time alone does not mend: a refused log-in."""
        self._ceiling_ms = self.most_ms

    def limit(self, most_ms: int) -> None:
        """Lower the ceiling to most_ms."""
        self._ceiling_ms = min(self._ceiling_ms, most_ms)

    def reset(self) -> None:
        """Use the first ceiling again."""
        self._ceiling_ms = self.least_ms
