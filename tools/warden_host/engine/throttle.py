"""Limit how many events of one device reach a screen: a token bucket each, the rest counted."""

from dataclasses import dataclass

RATE = 20.0  # a second
BURST = 100.0
_SUMMARY_S = 1.0
_MANY = 1024  # buckets, beyond which those that are full again are removed


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float
    missed: int = 0
    last_summary: float = float("-inf")


class Throttle:
    """Token buckets by device, code or caller. Times are steady seconds.

    A bucket that is full again is as none: there are no more than were used lately.
    """

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        """rate: events a second. burst: events without a pause."""
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, _Bucket] = {}
        self._room = _MANY

    def admit(self, device: str, now: float) -> bool:
        """Return whether an event may be shown, and count it if not."""
        bucket = self._buckets.get(device)
        if bucket is None:
            if len(self._buckets) >= self._room:
                self._remove_full(now)
            bucket = self._buckets[device] = _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled) * self._rate)
        bucket.filled = now
        if bucket.tokens < 1:
            bucket.missed += 1
            return False
        bucket.tokens -= 1
        return True

    def due(self, now: float) -> list[tuple[str, int]]:
        """Return (device, events not shown), for each device once a second at most."""
        result = []
        for device, bucket in self._buckets.items():
            if bucket.missed and now - bucket.last_summary >= _SUMMARY_S:
                result.append((device, bucket.missed))
                bucket.missed, bucket.last_summary = 0, now
        return result

    def _remove_full(self, now: float) -> None:
        """Remove what was not used since it was filled; look again when there are twice as many.

        A caller that asks due() once a second was told what those buckets missed.
        """
        since = now - self._burst / self._rate
        self._buckets = {name: one for name, one in self._buckets.items() if one.filled > since}
        self._room = max(_MANY, 2 * len(self._buckets))
