"""A flash in memory, for littlefs and FAT, that behaves as NOR does and loses its power when told.

A program only clears bits, so one over what was not erased is a failure of the filesystem or of
this model, and counted in `violations`.
`budget`: operations (programs and erases) until the cut; the one that it falls on is done not at
all, by half (`torn`), or whole but unreported, and from then on every access fails.
"""

import errno

BLOCK = 512


class RamDisk:
    def __init__(self, blocks, nor=True):
        self.data = bytearray(b"\xff" * (BLOCK * blocks))
        self._view = memoryview(self.data)
        self.nor = nor
        self.operations = 0
        self.violations = 0
        self.budget = None
        self.torn = 0  # eighths of the last operation that still happen
        self.dead = False

    def power_up(self):
        """The contents stay, the power is back for good."""
        self.budget, self.dead = None, False

    def renewed(self):
        """The same flash once the power is back.

        This object stays dead, for files that were open then.
        """
        other = RamDisk(0, self.nor)
        self.dead = True
        other.data, other._view = self.data, self._view
        other.violations = self.violations
        return other

    def _allowed(self, size):
        """How many bytes of this operation happen."""
        if self.dead:
            return 0
        self.operations += 1
        if self.budget is not None:
            if not self.budget:
                self.dead = True
                return size * self.torn // 8
            self.budget -= 1
        return size

    def readblocks(self, block, buf, offset=0):
        if self.dead:
            return -errno.EIO
        at = block * BLOCK + offset
        try:
            buf[:] = self._view[at : at + len(buf)]
        except MemoryError:  # littlefs closes files while the collector holds the heap locked
            for i in range(len(buf)):
                buf[i] = self._view[at + i]
        return 0

    def writeblocks(self, block, buf, offset=None):
        if self.dead:
            return (
                -errno.EIO
            )  # before memory is taken: littlefs also closes files while the heap is locked
        at = block * BLOCK + (offset or 0)
        done = self._allowed(len(buf))
        new = bytes(buf[:done])
        if self.nor:
            wanted = int.from_bytes(new, "big")
            kept = wanted & int.from_bytes(self._view[at : at + done], "big")
            self.violations += kept != wanted
            new = kept.to_bytes(done, "big")
        self._view[at : at + done] = new
        return -errno.EIO if self.dead else 0

    def ioctl(self, operation, argument):
        if operation == 4:
            return len(self.data) // BLOCK
        if operation == 5:
            return BLOCK
        if operation == 6:
            if not self.nor:
                return 0
            at = argument * BLOCK
            done = self._allowed(BLOCK)
            self._view[at : at + done] = b"\xff" * done
            return -errno.EIO if self.dead else 0
        return 0
