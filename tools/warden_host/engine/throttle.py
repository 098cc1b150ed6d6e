"""How much of one device's news reaches a screen: a token bucket for each, and a count of the rest."""

from dataclasses import dataclass

RATE = 20.0  # a second
BURST = 100.0
_SUMMARY_S = 1.0


@dataclass
class _Bucket:
    tokens: float
    filled: float
    missed: int = 0
    last_summary: float = float("-inf")


class Throttle:
    """Times are steady seconds. Keys are few: the devices of a fleet and "", or codes."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    def admit(self, device: str, now: float) -> bool:
        """Whether this one may be told; if not, it is counted."""
        bucket = self._buckets.setdefault(device, _Bucket(BURST, now))
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled) * RATE)
        bucket.filled = now
        if bucket.tokens < 1:
            bucket.missed += 1
            return False
        bucket.tokens -= 1
        return True

    def due(self, now: float) -> list[tuple[str, int]]:
        """(device, how many were not told), for each device once a second at most."""
        result = []
        for device, bucket in self._buckets.items():
            if bucket.missed and now - bucket.last_summary >= _SUMMARY_S:
                result.append((device, bucket.missed))
                bucket.missed, bucket.last_summary = 0, now
        return result
