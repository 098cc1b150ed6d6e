"""The vault over FileStore on littlefs, with the power cut at every program and erase of a flash
in memory.

    micropython tests/faults/device/power.py [STORE]        STORE: a class of this file, FileStore
    without

Prints for each scenario `NAME: OPERATIONS operations, CUTS cuts, OLD old, NEW new, HEALS heals`,
then the count of NOR violations; ends with status 1 and the reason when the vault breaks a
promise.
"""

import sys

HERE = __file__.rsplit("/", 1)[0]
sys.path[:] = [HERE + "/../../unit/kit", HERE + "/../../../lib", ".frozen"]

import os  # noqa: E402  (the path must be set first)

import vfs  # noqa: E402
from ramdisk_model import RamDisk  # noqa: E402
from vault_kit import SCENARIOS, Wrong, begin, check_after_cut, heals_at  # noqa: E402
from vault_kit import change as make  # noqa: E402
from warden.errors import StoreError  # noqa: E402
from warden.hal.store_file import FileStore  # noqa: E402

BLOCKS = 48
MOUNT = "/flash"
TURNS = 8
# How much of the operation that the cut falls on still happens, in eighths.
TORN = (0, 3, 8)


class RemovesFirst(FileStore):
    """Wrong: no commit at all between the removal and the rename."""

    def write(self, name, data):
        self.remove(name)
        super().write(name, data)


class InPlace(FileStore):
    """Wrong: writes over what stands, and the filesystem learns of each half."""

    def write(self, name, data):
        with open(self._file(name), "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            file.write(data[len(data) // 2 :])


class CommitFirst(FileStore):
    """Wrong: the commit is there before its records."""

    def __init__(self, path):
        super().__init__(path)
        self._late = {}

    def write(self, name, data):
        if name == "commit":
            super().write(name, data)
            for other, late in self._late.items():
                super().write(other, late)
            self._late = {}
        elif name == "key":
            super().write(name, data)
        else:
            self._late[name] = data

    def read(self, name, limit):
        return self._late[name] if name in self._late else super().read(name, limit)


class Flash:
    """One littlefs, whose contents can be put back."""

    def __init__(self, kind):
        self.kind = kind
        self.disk = RamDisk(BLOCKS)
        vfs.VfsLfs2.mkfs(self.disk)
        self.mounted = False
        self.mount()

    def mount(self):
        """Power on: the board starts."""
        if self.mounted:
            vfs.umount(MOUNT)
        self.disk.power_up()
        vfs.mount(vfs.VfsLfs2(self.disk), MOUNT)
        self.mounted = True

    def store(self):
        return self.kind(MOUNT + "/vault")

    def restart(self):
        self.mount()
        return self.store()

    def load(self, image):
        self.disk.data[:] = image

    def image(self):
        return bytes(self.disk.data)


def attempt(flash, work, budget, torn):
    """Do the work with the power cut at operation `budget`; (finished, operations)."""
    disk = flash.disk
    disk.operations, disk.budget, disk.torn = 0, budget, torn
    try:
        work()
        finished = not disk.dead
    except (StoreError, OSError):
        if not disk.dead:
            raise
        finished = False
    return finished, disk.operations


def change(flash, name, image, budget, torn=0):
    flash.load(image)
    vault = begin(name, flash.restart())
    return attempt(flash, lambda: make(name, vault), budget, torn)


def heal(flash, image, budget, torn=0):
    """Start a board over this flash as its firmware does, with the power cut at operation
    `budget`."""
    flash.load(image)
    flash.mount()

    def start():
        store = flash.store()
        begin("start" if "commit" in store.names() else "provision", store)

    return attempt(flash, start, budget, torn)


def scenario(flash, name, title, image):
    """Cut one change everywhere; once more while the board heals from each cut."""
    _, operations = change(flash, name, image, None)
    found = {"old": 0, "new": 0}
    cuts = heals = 0
    for budget in range(operations):
        for torn in TORN:
            change(flash, name, image, budget, torn)
            cut = flash.image()
            result = check_after_cut(name, flash.restart, False)
            found[result] += 1
            cuts += 1
            if torn != TORN[1] or not heals_at(name, budget):
                continue
            _, healing = heal(flash, cut, None)
            for second in range(healing):
                heal(flash, cut, second, torn)
                if check_after_cut(name, flash.restart, False) != result:
                    raise Wrong("healing changed what was found")
                heals += 1
    finished, _ = change(flash, name, image, None)
    if check_after_cut(name, flash.restart, finished) != "new":
        raise Wrong("an uncut change was lost")
    print(
        "%s: %d operations, %d cuts, %d old, %d new, %d heals"
        % (title, operations, cuts, found["old"], found["new"], heals)
    )


def main(kind):
    flash = Flash(kind)
    os.mkdir(MOUNT + "/vault")
    empty = flash.image()
    make("provision", begin("provision", flash.store()))
    full = flash.image()
    for name in sorted(SCENARIOS):
        scenario(flash, name, name, empty if name == "provision" else full)
    # littlefs compacts its log now and then: the same small change wherever that falls.
    for turn in range(TURNS):
        flash.load(full)
        vault = begin("advance", flash.restart())
        vault.put("x", bytes(turn))
        vault.delete("x")
        full = flash.image()
        scenario(flash, "advance", "advance after %d" % (turn + 1), full)
    print("violations: %d" % flash.disk.violations)


if __name__ == "__main__":
    try:
        main(globals()[sys.argv[1]] if len(sys.argv) > 1 else FileStore)
    except Wrong as error:
        print("wrong:", error)
        sys.exit(1)
