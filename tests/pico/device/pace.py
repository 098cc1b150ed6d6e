"""What a chunk of an update takes on this chip, beside a bare loop. Runs as /app/pace.py.

Both hash the same pieces and write them to a file of the board's own littlefs. The emulated flash
programs and erases in no time.
"""

import gc
import hashlib
import time

from warden.hal.slots_file import FileSlots
from warden.ota.download import Download

PIECE = 1024
FOLDER = "/pace"


class Image:
    component = 0
    encryption = None
    uri = ""

    def __init__(self, size, digest):
        self.size = size
        self.digest = digest


class Plan:
    slot = 0
    digest = b""

    def __init__(self, image):
        self.images = [image]


class Record:
    """The slot record, which names no download yet."""

    slots = ()

    def resumes(self, slot, digest):
        return False

    def clear(self, slot, digest):
        pass


class Update:
    state = "Downloading"
    key = None

    def __init__(self, plan):
        self.plan = plan


def print_paces(count):
    """Print the microseconds of `count` pieces: by the bare loop, and as chunks."""
    data = bytearray(bytes(range(256)) * (PIECE // 256))
    slots = FileSlots(FOLDER, ("app",))
    sha = hashlib.sha256()
    gc.collect()
    began = time.ticks_us()
    with open(FOLDER + "/bare", "wb") as file:
        for _ in range(count):
            sha.update(data)
            file.write(data)
    print("bare", time.ticks_diff(time.ticks_us(), began))
    update = Update(Plan(Image(count * PIECE, sha.digest())))
    download = Download(update, Record(), slots, PIECE, 0)
    work = download.run(None)
    next(work)
    gc.collect()
    began = time.ticks_us()
    for number in range(count):
        download.chunk(number, data, 0)
    for _ in work:
        pass
    print("chunks", time.ticks_diff(time.ticks_us(), began))
    print("state", update.state)
