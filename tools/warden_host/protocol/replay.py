"""Which counters were seen: a window of 64, as in RFC 4303 §3.4.3, since a broker may reorder."""

WIDTH = 64


class ReplayWindow:
    """Ask first (`fresh`), commit only after the AEAD opened (`take`): a forgery moves nothing."""

    def __init__(self) -> None:
        self.highest = -1
        self._seen = 0  # bit n: highest - n

    def is_new(self, counter: int) -> bool:
        behind = self.highest - counter
        return behind < 0 or (behind < WIDTH and not self._seen >> behind & 1)

    def mark_seen(self, counter: int) -> None:
        ahead = counter - self.highest
        if ahead > 0:
            # A jump past the whole window leaves nothing of it, and no number of 2^32 bits either.
            self._seen = (self._seen << ahead if ahead < WIDTH else 0) & ((1 << WIDTH) - 1) | 1
            self.highest = counter
        else:
            self._seen |= 1 << -ahead
