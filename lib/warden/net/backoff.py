"""Full-jitter exponential back-off: a fleet that lost its broker must not come back as one wave."""

from ..crypto.rand import random_bytes


class Backoff:
    """next_ms() draws evenly from 1 to a ceiling that starts at least_ms and doubles up to most_ms; reset() after a success."""

    def __init__(self, least_ms: int, most_ms: int) -> None:
        self.least_ms = least_ms
        self.most_ms = most_ms
        self._ceiling_ms = least_ms

    def next_ms(self) -> int:
        drawn = int.from_bytes(random_bytes(4), "big")
        wait = 1 + drawn * self._ceiling_ms // (1 << 32)
        self._ceiling_ms = min(2 * self._ceiling_ms, self.most_ms)
        return wait

    def slow_down(self) -> None:
        """Go to the longest waits at once: nothing that time alone will mend (a refused log-in) is hammered at."""
        self._ceiling_ms = self.most_ms

    def limit(self, most_ms: int) -> None:
        """Draw the next wait from 1 to most_ms at most."""
        self._ceiling_ms = min(self._ceiling_ms, most_ms)

    def reset(self) -> None:
        self._ceiling_ms = self.least_ms
