"""Verify a slot's firmware as a whole: short or different firmware is refused.

The file is closed either way.
"""

import hashlib

from harness import check, equal, raises
from warden.ota import firmware_verify


class Slot:
    def __init__(self, size, digest):
        self.images = [[1, b"a" * 32, b""], [size, digest, b""]]


class Slots:
    """data: what lies in the partition."""

    names = ("app", "firmware")
    firmware = "firmware"

    def __init__(self, data):
        self.data = data
        self.at = self.closed = self.fed = 0
        self.reads = []

    def read(self, number, part):
        equal((number, part), (1, "firmware"))
        return self

    def readinto(self, view):
        part = self.data[self.at : self.at + len(view)]
        view[: len(part)] = part
        self.at += len(part)
        self.reads.append(len(view))
        return len(part)

    def feed(self):
        self.fed += 1

    def close(self):
        self.closed += 1


def looked_at(data, size, digest):
    slots = Slots(data)
    try:
        firmware_verify.check_firmware(slots, 1, Slot(size, digest), slots.feed)
    finally:
        equal(slots.closed, 1)
    return slots


def test_all_of_it():
    for size in (1, 4095, 4096, 4097, 10000):
        data = bytes([at * 7 & 255 for at in range(size)])
        digest = hashlib.sha256(data).digest()
        # What stands behind it in the partition is no part of it.
        slots = looked_at(data + b"\xff" * 5000, size, digest)
        equal(sum(slots.reads), size)
        # One buffer of a block, however large it is; the watchdog is fed after each.
        check(max(slots.reads) <= 4096)
        equal(slots.fed, len(slots.reads))
        for at in (0, size // 2, size - 1):
            changed = bytearray(data)
            changed[at] ^= 1
            raises("slot-damaged", looked_at, changed, size, digest)


def test_shorter_than_it_was():
    """With equal blocks, the bytes in the buffer don't stand in for missing ones."""
    size = 3 * 4096
    data = b"\x5a" * size
    digest = hashlib.sha256(data).digest()
    looked_at(data, size, digest)
    for left in (0, 4096, 8192, 8193, size - 1):
        raises("slot-damaged", looked_at, data[:left], size, digest)
