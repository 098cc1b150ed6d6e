"""When a ping is due, when a silent peer is given up, and how much of a flood is skipped."""

import time

from micropython import const

from ..errors import LinkError

# Bytes of messages above the limit that are received and dropped: at once, and for each
# millisecond. Above that the link is closed. An RP2040 spends a third of its time on so much.
_MOST_SKIPPED = const(262144)
_SKIPPED_EACH_MS = const(64)


class SkipAllowance:
    """The bytes of too large messages that may still be received and dropped."""

    def __init__(self) -> None:
        self._left = _MOST_SKIPPED
        self._at = time.ticks_ms()

    def spend(self, size: int) -> bool:
        """Use up size bytes of the allowance; return whether it had them."""
        now = time.ticks_ms()
        passed = max(0, time.ticks_diff(now, self._at))
        self._at = now
        self._left = min(_MOST_SKIPPED, self._left + passed * _SKIPPED_EACH_MS)
        if size > self._left:
            return False
        self._left -= size
        return True


class Keepalive:
    """Times of one connection, in ticks_ms(). They come from the caller.

    keepalive_ms: MQTT's keepalive. stall_ms: how long the peer may owe bytes or an answer.
    sent_at, received_at: the last packet of each direction. ping_at: an unanswered ping, or None.
    began_at: the first byte of an incomplete packet, or None.
    """

    def __init__(self, keepalive_ms: int, stall_ms: int) -> None:
        self.keepalive_ms = keepalive_ms
        self.stall_ms = stall_ms
        self.start(0)

    def start(self, now: int) -> None:
        """Begin a connection."""
        self.sent_at = self.received_at = now
        self.ping_at: "int | None" = None
        self.began_at: "int | None" = None

    def left_ms(self, started: bool, now: int) -> int:
        """Return the milliseconds until the times are to be looked at again; 0: a ping is due.

        started: a packet is incomplete. Raises LinkError link-timeout.
        """
        if not started:
            self.began_at = None
        elif self.began_at is None:
            # Counted from the packet's first byte: a peer that sends byte by byte gains no time.
            self.began_at = now
        most = self.stall_ms
        for since in (self.began_at, self.ping_at):
            if since is not None:
                most = min(most, self.stall_ms - time.ticks_diff(now, since))
        if most <= 0:
            raise LinkError("link-timeout")
        if self.ping_at is not None:
            return most
        # Both directions count: a device that only sends would not notice that its peer left.
        silent = time.ticks_diff(now, self.received_at)
        left = self.keepalive_ms // 2 - max(silent, time.ticks_diff(now, self.sent_at))
        # A ping follows what is sent while nothing is received: so a half-open line is noticed
        # within one and a half of stall_ms. Sending wakes no reader, so it looks that often.
        soon = self.stall_ms // 2
        if time.ticks_diff(self.sent_at, self.received_at) > 0:
            left = min(left, soon - silent)
        return max(0, min(left, soon, most))
