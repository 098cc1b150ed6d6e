"""Runs on MicroPython: what of the heap an update holds, after a collection, in each of its phases.

    micropython tests/bench/update_heap.py LIB UNIT FOLDER SIZE        LIB: the package as boards run it

Prints a JSON object: bytes more than the vault and the slots take while nothing is under way.
"""

import sys

sys.path[:] = [sys.argv[1], sys.argv[2], ".frozen"]

import gc  # noqa: E402  (the path must be set first)
import hashlib  # noqa: E402
import json  # noqa: E402

from models import DictStore, RootKey  # noqa: E402
from update_kit import CLASS, VENDOR, envelope, sha256  # noqa: E402
from warden.hal.slots_file import FileSlots  # noqa: E402
from warden.slots import SlotRecord  # noqa: E402
from warden.vault import Vault  # noqa: E402

PIECE = 1024


class Judge:
    """A key that is loaded and asked as a real one is, and then believes what the test's envelope says."""

    algorithms = (-7,)

    def __init__(self):
        from warden.crypto import p256

        self.key = p256.PublicKey(GENERATOR)

    def verify(self, digest, signature):
        self.key.verify(digest, signature)
        return bytes(signature) == digest + digest


# A point of the curve: its generator.
GENERATOR = bytes.fromhex(
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)


def live():
    gc.collect()
    return gc.mem_alloc()


def main(folder, size):
    vault = Vault(DictStore(), RootKey())
    vault.create()
    vault.commit({"identity": b"x"})
    slots = FileSlots(folder + "/slots", ("app",))
    SlotRecord(vault)
    piece = bytearray(PIECE)
    sha = hashlib.sha256()
    for _ in range(size // PIECE):
        sha.update(piece)
    made = envelope(2, [(size, sha.digest())])
    found = {}
    idle = live()

    from warden.judges import forget
    from warden.update import Updater

    update = Updater(vault, slots, None, (Judge(),), VENDOR, CLASS)
    update.start(made, 0)
    found["the manifest judged"] = live() - idle
    update.forget_keys()
    forget()
    while update.step():
        pass
    number = most = 0
    while update.want() is not None:
        update.chunk(number, piece, 0)
        number += 1
        if number % 64 == 0:
            most = max(most, live() - idle)
        while update.state == "Downloading" and update.step():
            pass
    found["the image coming"] = most
    most = 0
    steps = 0
    while update.step():
        steps += 1
        if steps % 16 == 1:
            most = max(most, live() - idle)
    found["reading it back"] = most
    if update.state != "Testing":
        raise RuntimeError(update.reason)
    print(json.dumps(found))


sha256(b"")
main(sys.argv[3], int(sys.argv[4]))
