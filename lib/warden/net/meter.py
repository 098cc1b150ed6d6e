"""What the TLS stack may read in one call."""

import errno
import io

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

# Bytes that the TLS stack may read in one call: a flight of the hand-shake takes one or two calls,
# a few milliseconds of a board's time.
ALLOWANCE = const(4096)


class Meter(io.IOBase):
    """Give the TLS stack at most `left` bytes of the raw socket, then say that none are there.

    The stack reads on in one call until it has something to hand out. Nothing here raises: an
    exception would leave the stack's C code half done.
    """

    def __init__(self, raw: "Any") -> None:
        self._raw = raw
        self.left = 0
        self.first = 0  # byte of all that was read: the kind of a TLS record
        self.last = 0  # second of two bytes read: an alert's description, after a fatal one

    def readinto(self, buffer: bytearray) -> "int | None":
        """Read: the number of bytes, None for none now, 0 at the end, or a negative errno."""
        if self.left <= 0:
            return None
        try:
            count: "int | None" = self._raw.readinto(buffer, self.left)
        except OSError as error:
            return -(error.errno or errno.EIO)
        if count:
            self.left -= count
            self.first = self.first or buffer[0]
            if count == 2:
                self.last = buffer[1]
        return count

    def write(self, data: bytearray) -> "int | None":
        """Write: the number of bytes, None for none now, or a negative errno."""
        try:
            count: "int | None" = self._raw.write(data)
        except OSError as error:
            # A peer that closed may have said why: a record's head, and the two bytes of an alert.
            self.readinto(bytearray(5))
            self.readinto(bytearray(2))
            return -(error.errno or errno.EIO)
        return count

    def ioctl(self, request: int, argument: int) -> int:
        """Accept a close (request 4) alone, which `Link` passes to the raw socket itself."""
        return 0 if request == 4 else -errno.EINVAL
