"""Raw NOR flash in memory, as a block device with erase and program, strict where real chips are
silent.

A program only clears bits: one that would set a bit, is not whole units, or leaves its sector is a
bug of the store, and raises. An erase takes a whole sector. Counted: programs, erases and reads of
each sector.

`budget`: programs and erases until the power goes. The one that it falls on happens as `torn`
says: 0 not at all, 1 to 7 so many eighths from its beginning, 8 whole but unreported, -1 to -8 so
many eighths of its bits at random places, as a chip that stops in the middle leaves them. From
then on everything raises PowerCut until power_up().
"""

import errno

from board_model import PowerCut


class Misused(Exception):
    """The store did what flash can't do."""


class Dice:
    """Chance that repeats: the same on every interpreter."""

    def __init__(self, seed=1):
        self.state = seed * 2654435761 % 4294967296 or 1

    def draw(self, below):
        # The generator "mulberry32" without its multiplications would do; this one is Marsaglia's
        # xorshift of 32 bits.
        x = self.state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self.state = x
        return x % below

    def bytes(self, count):
        return bytes([self.draw(256) for _ in range(count)])


class Nor:
    def __init__(self, sectors=8, sector=1024, unit=16):
        self.sectors, self.sector, self.unit = sectors, sector, unit
        self.data = bytearray(b"\xff" * (sectors * sector))
        self.programs = 0
        self.erases = [0] * sectors
        self.reads = [0] * sectors
        self.operations = 0
        self.budget = None
        self.torn = 0
        self.dice = Dice()
        self.dead = False
        self.stuck = set()  # sectors whose bits can't be cleared any more

    def power_up(self):
        """The contents stay, the power is back for good."""
        self.budget, self.dead = None, False

    def copy(self):
        other = Nor(self.sectors, self.sector, self.unit)
        other.data[:] = self.data
        return other

    def _count_operation(self):
        if self.dead:
            raise PowerCut()
        if self.budget is not None and self.operations >= self.budget:
            self.dead = True
        self.operations += 1

    def _write(self, at, new):
        """Put the bytes, or the part of them that a cut allows."""
        if not self.dead:
            self.data[at : at + len(new)] = new
            return
        if self.torn >= 0:
            size = len(new) * self.torn // 8
            self.data[at : at + size] = new[:size]
        else:
            for i in range(len(new)):
                mask = 0
                for bit in range(8):
                    if self.dice.draw(8) < -self.torn:
                        mask |= 1 << bit
                self.data[at + i] = self.data[at + i] & ~mask & 255 | new[i] & mask
        raise PowerCut()

    def readblocks(self, block, buf, offset=0):
        if self.dead:
            raise PowerCut()
        if offset + len(buf) > self.sector or block >= self.sectors:
            raise Misused("a read leaves its sector")
        self.reads[block] += 1
        at = block * self.sector + offset
        buf[:] = self.data[at : at + len(buf)]
        return 0

    def writeblocks(self, block, buf, offset=0):
        at = block * self.sector + offset
        if offset % self.unit or len(buf) % self.unit or not len(buf):
            raise Misused("a program of %d bytes at %d" % (len(buf), offset))
        if offset + len(buf) > self.sector or block >= self.sectors:
            raise Misused("a program leaves its sector")
        new = bytes(buf)
        wanted = int.from_bytes(new, "big")
        if wanted & int.from_bytes(self.data[at : at + len(new)], "big") != wanted:
            raise Misused("programmed what was not erased")
        self._count_operation()
        self.programs += not self.dead
        if block in self.stuck:
            new = bytes(self.data[at : at + len(new)])
        self._write(at, new)
        return 0

    def ioctl(self, operation, argument):
        if operation == 4:
            return self.sectors
        if operation == 5:
            return self.sector
        if operation == 6:
            self._count_operation()
            self.erases[argument] += 1
            self._write(argument * self.sector, b"\xff" * self.sector)
        return 0


class Part:
    """Some sectors of a chip, for a filesystem.

    Power that is gone is an error to it, not an exception in the middle of C code.
    """

    def __init__(self, chip, first, count):
        self.chip, self.first, self.count = chip, first, count
        self.dead = False

    def renewed(self):
        """The same sectors once the power is back.

        This object stays dead, for files that were open then.
        """
        self.dead = True
        self.chip.power_up()
        return Part(self.chip, self.first, self.count)

    def _call(self, operation, *arguments):
        if self.dead or self.chip.dead:
            return -errno.EIO
        try:
            return operation(*arguments)
        except PowerCut:
            return -errno.EIO

    def readblocks(self, block, buf, offset=0):
        return self._call(self.chip.readblocks, self.first + block, buf, offset)

    def writeblocks(self, block, buf, offset=0):
        return self._call(self.chip.writeblocks, self.first + block, buf, offset)

    def ioctl(self, operation, argument):
        if operation == 4:
            return self.count
        if operation == 6:
            argument += self.first
        return self._call(self.chip.ioctl, operation, argument)
