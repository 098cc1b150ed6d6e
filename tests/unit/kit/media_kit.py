"""Media for each kind of store, and how a board comes back on them: in raw flash, in NVS, in files
on littlefs (MicroPython), in memory.

A place has `store()`, the store of a board that was just switched on; `image()` and `load()`, what
the medium keeps; `raw()`, all of it as bytes, for who searches it; `part`, what counts operations
and cuts the power.
"""

from board_model import DictStore
from nor_model import Nor
from nvs_model import Nvs
from warden.hal.store_flash import FlashStore
from warden.hal.store_nvs import NvsStore

try:
    import vfs
    from ramdisk_model import RamDisk
    from warden.hal.store_file import FileStore
except ImportError:  # CPython
    FileStore = None

MOUNT = "/stores"


class Flash:
    def __init__(self, unit=16, sectors=16, sector=1024, banks=2):
        self.unit, self.banks = unit, banks
        self.part = Nor(sectors, sector, unit)

    def store(self):
        self.part.power_up()
        return FlashStore(self.part, self.unit, self.banks)

    def image(self):
        return bytes(self.part.data)

    raw = image

    def load(self, image):
        self.part.data[:] = image

    def close(self):
        pass


def rp2_flash():
    return Flash(256, 16, 4096)


def many_banks():
    return Flash(32, 20, 4096, 5)


class NvsPlace:
    def __init__(self):
        self.part = Nvs()

    def store(self):
        self.part.power_up()
        return NvsStore("warden", self.part)

    def image(self):
        return dict(self.part.blobs)

    def raw(self):
        return b"".join([self.part.blobs[key] for key in sorted(self.part.blobs)])

    def load(self, image):
        self.part.blobs, self.part.pending = dict(image), {}

    def close(self):
        pass


class Memory:
    def __init__(self):
        self.part = None
        self.files = {}

    def store(self):
        store = DictStore()
        store.files = self.files
        return store

    def close(self):
        pass


class Files:
    """On littlefs; the cuts are those of tests/faults/."""

    def __init__(self):
        self.part = None
        self.disk = RamDisk(64)
        vfs.VfsLfs2.mkfs(self.disk)
        vfs.mount(vfs.VfsLfs2(self.disk), MOUNT)

    def store(self):
        return FileStore(MOUNT + "/vault")

    def close(self):
        vfs.umount(MOUNT)


PLACES = [Flash, rp2_flash, many_banks, NvsPlace, Memory] + ([Files] if FileStore else [])


def everywhere(function):
    for kind in PLACES:
        place = kind()
        try:
            function(place)
        finally:
            place.close()


def contents(store):
    return {name: store.read(name, 65535) for name in store.names()}


def holds(image, secrets):
    """Whether ten bytes in a row of one of these are in the image; a shorter secret is searched
    whole."""
    for secret in secrets:
        for at in range(0, max(1, len(secret) - 7), 3):
            if secret[at : at + 8] in image:
                return True
    return False
