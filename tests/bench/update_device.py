"""Runs on MicroPython: the updater beside a loop that only reads, hashes and writes.

    micropython tests/bench/update_device.py LIB FOLDER ROUNDS        LIB: the package as boards
    run it

Prints a JSON object: for each measure, percent of the bare loop's pace. Both read the same file
in pieces of 1 KB and write another one of the same filesystem: littlefs in memory, as a board's
flash has it, and this machine's own, whose writes cost next to nothing. Each part of an image
counts with the quickest of the rounds: what else this machine does only ever takes time.
"""

import sys

# Behind all that is free: a board's flash lies in no heap, and each search for a free place
# would walk over this one.
BLOCKS, BLOCK = 400, 4096
room = bytearray(2 << 20)
FLASH = memoryview(bytearray(BLOCKS * BLOCK))
del room

HERE = __file__.rsplit("/", 1)[0]
sys.path[:] = [HERE + "/../unit/kit", sys.argv[1], HERE + "/../../build/umqtt", ".frozen"]

import gc  # noqa: E402  (the path must be set first)
import hashlib  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402

import vfs  # noqa: E402
from board_model import DictStore, RootKey  # noqa: E402
from update_kit import CLASS, VENDOR, Installer, Key, envelope  # noqa: E402
from warden.hal.slots_file import FileSlots  # noqa: E402
from warden.vault import Vault  # noqa: E402

# Large enough that what is loaded once for an image counts as little as it does on a board, whose
# flash takes its time.
SIZES = {"littlefs": 1024 * 1024, "files": 1024 * 1024}
PIECE = 1024
PART = 32  # pieces between two looks at the clock


class Times:
    """The time of each part of an image, and of what follows the last one."""

    def __init__(self, size):
        self.parts = [0] * (size // PIECE // PART + 2)
        self.at = 0
        gc.collect()
        self.last = time.ticks_us()

    def lap(self):
        now = time.ticks_us()
        self.parts[self.at] = time.ticks_diff(now, self.last)
        self.at += 1
        self.last = now


def quickest(best, times):
    best = best or times.parts
    return [min(best[at], times.parts[at]) for at in range(len(best))]


class Disk:
    """The least that littlefs wants of a flash."""

    size = BLOCK
    data = FLASH

    def readblocks(self, block, buf, offset=0):
        at = block * self.size + offset
        buf[:] = self.data[at : at + len(buf)]

    def writeblocks(self, block, buf, offset=0):
        at = block * self.size + offset
        self.data[at : at + len(buf)] = buf

    def ioctl(self, operation, argument):
        return {4: len(self.data) // self.size, 5: self.size}.get(operation, 0)


def bare(source, target, size):
    buffer = bytearray(PIECE)
    sha = hashlib.sha256()
    times = Times(size)
    number = 0
    with open(source, "rb") as file, open(target, "wb") as out:
        while file.readinto(buffer):
            sha.update(buffer)
            out.write(buffer)
            number += 1
            if not number % PART:
                times.lap()
    times.lap()
    return times


def read_back(path, size):
    """A bare loop that reads and hashes once more: what an install can't do without."""
    buffer = bytearray(PIECE)
    sha = hashlib.sha256()
    times = Times(size)
    number = 0
    with open(path, "rb") as file:
        while file.readinto(buffer):
            sha.update(buffer)
            number += 1
            if not number % PART:
                times.lap()
    times.lap()
    return times


def updated(source, path, size, digest):
    """The time until the image lies in its slot, and until it is staged."""
    vault = Vault(DictStore(), RootKey())
    vault.create()
    vault.commit({"identity": b"x"})
    slots = FileSlots(path, ("app",))
    update = Installer(vault, slots, None, (Key(),), VENDOR, CLASS, PIECE)
    update.start(envelope(2, [(size, digest)]), 0)
    update.step()
    chunk = update.download.chunk
    buffer = bytearray(PIECE)
    number = 0
    times = Times(size)
    with open(source, "rb") as file:
        while file.readinto(buffer):
            chunk(number, buffer, 0)
            number += 1
            if not number % PART:
                times.lap()
    while update.state == "Downloading":
        update.step()
    times.lap()
    while update.step():
        pass
    times.lap()
    if update.state != "Testing":
        raise RuntimeError(update.reason)
    return times


def fresh(kind, folder, disk):
    """An empty filesystem, alike for both."""
    if kind == "littlefs":
        vfs.VfsLfs2.mkfs(disk, progsize=256)
        vfs.mount(vfs.VfsLfs2(disk, progsize=256), "/ram")
        return "/ram"
    return folder


def main(folder, rounds):
    found = {}
    disk = Disk()
    source = folder + "/source"
    for kind, size in SIZES.items():
        piece = bytes(range(256)) * (PIECE // 256)
        sha = hashlib.sha256()
        with open(source, "wb") as file:
            for _ in range(size // PIECE):
                file.write(piece)
                sha.update(piece)
        digest = sha.digest()
        loop, back, install = None, None, None
        for _ in range(rounds):
            path = fresh(kind, folder, disk)
            loop = quickest(loop, bare(source, path + "/target", size))
            back = quickest(back, read_back(path + "/target", size))
            if kind == "littlefs":
                vfs.umount(path)
            path = fresh(kind, folder, disk)
            install = quickest(install, updated(source, path + "/slots", size, digest))
            FileSlots(path + "/slots", ("app",)).remove(0, "app")
            if kind == "littlefs":
                vfs.umount(path)
        found["an image into its slot, %s" % kind] = 100 * sum(loop) / sum(install[:-1])
        whole = sum(loop) + sum(back)
        found["a whole install, read back, %s" % kind] = 100 * whole / sum(install)
    print(json.dumps(found))


main(sys.argv[2], int(sys.argv[3]))
