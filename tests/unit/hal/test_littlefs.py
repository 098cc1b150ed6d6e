"""A partition of the vault's own: mounted, wiped raw, and what is refused to be formatted."""

import errno
import os
import sys

import vfs
from board_model import RootKey
from harness import check, equal, has_text, raises
from nor_model import Dice
from ramdisk_model import BLOCK, RamDisk
from vault_kit import spread, thorough
from warden.board import load
from warden.errors import StoreError
from warden.hal.littlefs import Littlefs
from warden.hal.store_file import FileStore
from warden.vault import Vault
from warden.vault.wipe import finish, wipe

MOUNT = "/own"
BLOCKS = 24
SECRETS = {"s%d" % number: bytes((number + 65,)) * 60 for number in range(6)}


class Place:
    """A board with such a partition."""

    def __init__(self, unit=32):
        self.disk = RamDisk(BLOCKS)
        self.unit = unit

    def start(self):
        """Power on: nothing is mounted yet."""
        self.stop()
        self.disk.power_up()
        own = Littlefs(self.disk, MOUNT, self.unit)
        own.mount()
        return FileStore(MOUNT, own)

    def stop(self):
        try:
            vfs.umount(MOUNT)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def holds(self, needles):
        image = bytes(self.disk.data)
        return sum(needle in image for needle in needles)


def filled(store):
    """A vault with a past; every record that it ever wrote, as it lies in the flash."""
    vault = Vault(store, RootKey())
    vault.create()
    vault.commit(dict(SECRETS), {"boot": 1})
    seen = set()
    for turn in range(5):
        vault.put("s0", bytes((turn,)) * 70)
        for name in store.names():
            seen.add(store.read(name, 5000)[-24:])
    return vault, seen


def opened(store):
    vault = Vault(store, RootKey())
    vault.open()
    return vault


def test_a_new_chip():
    with Place() as place:
        store = place.start()
        equal(store.names(), [])
        filled(store)
        equal(opened(place.start()).get("s1"), SECRETS["s1"])
        # The same start builds its store twice.
        own = Littlefs(place.disk, MOUNT)
        own.mount()
        equal(opened(FileStore(MOUNT, own)).get("s1"), SECRETS["s1"])
        equal(place.disk.violations, 0)


def test_foreign_data_is_not_formatted():
    """Foreign data, or a damaged filesystem of ours: the owner decides."""
    with Place() as place:
        filled(place.start())
        good = bytes(place.disk.data)
        place.disk.data[:] = Dice(4).bytes(len(good))
        noise = bytes(place.disk.data)
        error = raises("filesystem", place.start)
        check(isinstance(error, StoreError), str(error))
        has_text(error, "(errno 84)")
        equal(bytes(place.disk.data), noise)
        # Both copies of the superblock are bent, but its name is there.
        place.disk.data[:] = good
        for block in (0, 1):
            place.disk.data[block * BLOCK + 20] ^= 0xFF
        bent = bytes(place.disk.data)
        raises("filesystem", place.start)
        # Not where one of them was erased, either.
        place.disk.data[BLOCK : 2 * BLOCK] = b"\xff" * BLOCK
        raises("filesystem", place.start)
        equal(bytes(place.disk.data[2 * BLOCK :]), bent[2 * BLOCK :])
        place.disk.data[:] = bent
        place.disk.data[:BLOCK] = b"\xff" * BLOCK
        raises("filesystem", place.start)
        equal(bytes(place.disk.data[BLOCK:]), bent[BLOCK:])
        # Without its name in either of them, and nothing erased.
        place.disk.data[:] = good
        for block in (0, 1):
            place.disk.data[block * BLOCK + 8] ^= 0xFF
        raises("filesystem", place.start)


def test_one_byte_anywhere_is_somebody_elses():
    """A flash is taken for a new one only where the last byte of the last block is erased too."""
    for block, at in ((2, 0), (2, BLOCK - 1), (5, 255), (5, 256), (BLOCKS - 1, BLOCK - 1)):
        with Place() as place:
            # Two blocks that are no littlefs', so that only what is behind them decides.
            place.disk.data[: 2 * BLOCK] = bytes(2 * BLOCK)
            place.disk.data[block * BLOCK + at] = 0xFE
            raises("filesystem", place.start)
            equal(place.disk.data[block * BLOCK + at], 0xFE)
            place.disk.data[block * BLOCK + at] = 0xFF
            equal(place.start().names(), [])


def test_a_wipe_erases_every_block():
    with Place() as place:
        vault, seen = filled(place.start())
        check(place.holds(seen) > 8)
        wipe(vault)
        equal(place.holds(seen), 0)
        # Nothing but a new, empty filesystem.
        equal(bytes(place.disk.data[2 * BLOCK :]), b"\xff" * ((BLOCKS - 2) * BLOCK))
        raises("not-provisioned", opened, place.start())
        filled(place.start())
        equal(place.disk.violations, 0)


def test_a_wipe_cut_at_every_operation():
    """The vault is whole until the mark is written, and never opens after it.

    Each start then finishes the wipe, or finds it done.
    """
    with Place() as place:
        vault, seen = filled(place.start())
        image = bytes(place.disk.data)
        place.start()
        place.disk.operations = 0
        wipe(Vault(place.start(), RootKey()))
        total = place.disk.operations
        found = {"whole": 0, "wiped": 0, "gone": 0}
        cuts = spread(total - 2 * BLOCKS, 20, 5) + list(range(total - 2 * BLOCKS, total))
        for budget in cuts:
            for torn in (0, 3, 8) if thorough() else ((0, 3, 8)[budget % 3],):
                place.disk.data[:] = image
                store = place.start()
                place.disk.operations = 0
                place.disk.budget, place.disk.torn = budget, torn
                try:
                    wipe(Vault(store, RootKey()))
                except (StoreError, OSError):
                    pass
                store = place.start()
                try:
                    equal(opened(store).get("s1"), SECRETS["s1"])
                    found["whole"] += 1
                    continue
                except StoreError as error:
                    check(error.code in ("wiped", "not-provisioned"), error.code)
                    if error.code == "wiped":
                        found["wiped"] += 1
                        finish(store)
                    else:
                        found["gone"] += 1
                equal(place.holds(seen), 0, "cut at %d" % budget)
                Vault(store, RootKey()).create()
        print("wipe on a partition of its own: %d operations, cut: %s" % (total, found))
        check(found["whole"] > 0 and found["wiped"] > 20 and found["gone"] > 5)


def test_a_block_that_does_not_erase():
    class Worn(RamDisk):
        worn = -1

        def ioctl(self, operation, argument):
            # While littlefs is mounted, it is its own to find out.
            if operation == 6 and argument == self.worn and MOUNT[1:] not in os.listdir("/"):
                return -5
            return super().ioctl(operation, argument)

    for worn in (0, 5, BLOCKS - 1):
        with Place() as place:
            place.disk = Worn(BLOCKS)
            vault, _ = filled(place.start())
            place.disk.worn = worn
            check(isinstance(raises("filesystem", wipe, vault), StoreError))
            # It is not back, whatever is left of it.
            place.disk.worn = -1
            try:
                opened(place.start())
                check(False, "it opened")
            except StoreError as error:
                check(error.code in ("wiped", "not-provisioned"), error.code)


def test_a_chip_that_takes_nothing():
    class Dead(RamDisk):
        def writeblocks(self, block, buf, offset=None):
            return -5

    with Place() as place:
        place.disk = Dead(BLOCKS)
        check(isinstance(raises("filesystem", place.start), StoreError))


class Backwards(RamDisk):
    """Whose erase, where it is cut, has erased the end of a block and not yet its beginning."""

    def ioctl(self, operation, argument):
        if operation != 6:
            return super().ioctl(operation, argument)
        end = (argument + 1) * BLOCK
        done = self._allowed(BLOCK)
        self._view[end - done : end] = b"\xff" * done
        return -5 if self.dead else 0


def test_an_erasure_that_begins_at_a_blocks_end():
    """A block may keep only the filesystem's name after a cut.

    If that counted as damage, the erasure would never be finished.
    """
    with Place() as place:
        place.disk = Backwards(BLOCKS)
        filled(place.start())
        image = bytes(place.disk.data)
        found = {"whole": 0, "gone": 0}
        for budget in range(2 + 2 * 2 + BLOCKS):
            for torn in (1, 3, 4, 7):
                place.disk.data[:] = image
                store = place.start()
                place.disk.budget, place.disk.torn = budget, torn
                try:
                    store._own.erase()
                except (StoreError, OSError):
                    pass
                check(place.disk.dead or budget > BLOCKS)
                store = place.start()
                try:
                    equal(opened(store).get("s1"), SECRETS["s1"])
                    found["whole"] += 1
                except StoreError as error:
                    equal(error.code, "not-provisioned")
                    found["gone"] += 1
        check(found["whole"] >= 3 and found["gone"] > 60, str(found))


class Quiet(RamDisk):
    """A driver like esp32.Partition: returns None for success, False for failure.

    It programs whole units only.
    """

    fails = -1
    largest = 0
    mounted = True

    def readblocks(self, block, buf, offset=0):
        if not self.mounted:
            self.largest = max(self.largest, len(buf))
        check(super().readblocks(block, buf, offset) == 0)

    def writeblocks(self, block, buf, offset=None):
        check((offset or 0) % 32 == 0 and len(buf) % 32 == 0)
        check(super().writeblocks(block, buf, offset) == 0)

    def ioctl(self, operation, argument):
        if operation != 6:
            return super().ioctl(operation, argument)
        if argument == self.fails and not self.mounted:
            return False
        return super().ioctl(operation, argument)


def test_a_driver_that_says_nothing():
    with Place() as place:
        place.disk = Quiet(BLOCKS)
        place.disk.mounted = False
        own = Littlefs(place.disk, MOUNT)
        check(own._is_empty())
        # A block is read in pieces: a chip's block may be larger than the free memory.
        equal(place.disk.largest, 256)
        place.disk.mounted = True
        store = place.start()
        filled(store)
        store._own.erase()
        equal(place.start().names(), [])
        for block in (0, 1, 7):
            own = place.start()._own
            place.stop()
            place.disk.fails, place.disk.mounted = block, False
            raises("filesystem", own.erase)
            place.disk.fails, place.disk.mounted = -1, True


def test_a_chip_that_erases_and_takes_no_format():
    class Dead(RamDisk):
        def writeblocks(self, block, buf, offset=None):
            # What an erasure begins with is written; nothing is formatted.
            return 0 if bytes(buf)[8:16] == bytes(8) else -errno.EIO

    with Place() as place:
        place.disk = Dead(BLOCKS)
        has_text(raises("filesystem", place.start), "formatted (errno %d)" % errno.EIO)


# -- as board.py spells it ------------------------------------------------------------------------


class Partition:
    TYPE_DATA = 1
    disk = RamDisk(BLOCKS)

    @staticmethod
    def find(kind, label):
        return [Partition.disk] if (kind, label) == (1, "vault") else []


class Esp32:
    Partition = Partition


class Rp2:
    disk = RamDisk(BLOCKS)

    def Flash(self, start, len):  # noqa: N802  (MicroPython's name)
        equal((start, len), (0x100000, BLOCKS * BLOCK))
        return self.disk


def test_board():
    sys.modules["esp32"], sys.modules["rp2"] = Esp32, Rp2()
    try:
        for args, disk, unit in (
            (("file", MOUNT, "partition", "vault"), Partition.disk, 32),
            (("file", MOUNT, "rp2", 0x100000, BLOCKS * BLOCK), Rp2.disk, 256),
        ):
            store = load.store(args)
            equal(store._own._unit, unit)
            vault, seen = filled(store)
            equal(opened(load.store(args)).get("s1"), SECRETS["s1"])
            wipe(vault)
            equal(sum(one in bytes(disk.data) for one in seen), 0)
            equal(load.store(args).names(), [])
            vfs.umount(MOUNT)
        raises("filesystem", load.store, ("file", MOUNT, "partition", "other"))
        raises("no-board", load.store, ("file", MOUNT, "tea"))
    finally:
        del sys.modules["esp32"], sys.modules["rp2"]
    check("own" not in os.listdir("/"))
