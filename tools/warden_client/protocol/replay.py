"""The replay window over message counters (RFC 4303 §3.4.3), since a broker may reorder."""

WIDTH = 64


class ReplayWindow:
    """Check is_new() first, call mark_seen() after the AEAD opened: a forgery moves nothing."""

    __slots__ = ("_seen", "highest")

    def __init__(self) -> None:
        self.highest = -1
        self._seen = 0  # bit n: highest - n

    def is_new(self, counter: int) -> bool:
        """Return whether the counter was not seen and lies inside or ahead of the window."""
        behind = self.highest - counter
        return behind < 0 or (behind < WIDTH and not self._seen >> behind & 1)

    def mark_seen(self, counter: int) -> None:
        """Record the counter of an authentic message."""
        ahead = counter - self.highest
        if ahead > 0:
            # A jump past the whole window leaves nothing of it, and no number of 2^32 bits either.
            self._seen = (self._seen << ahead if ahead < WIDTH else 0) & ((1 << WIDTH) - 1) | 1
            self.highest = counter
        else:
            self._seen |= 1 << -ahead
