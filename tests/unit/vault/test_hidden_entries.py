"""Entries that littlefs 2.11 hides after a power cut inside a rename between folders.

The entry beside the moved file is missing until the next write (MicroPython 1.26 to 1.29). Each
test cuts an application's rename at every operation, starts again, and expects every entry.
"""

import os
import sys

import vfs
from harness import check, equal
from ramdisk_model import RamDisk
from warden.crypto.kdf import hmac_sha256
from warden.crypto.rand import random_bytes
from warden.hal.rootkey_chip import ChipRootKey
from warden.hal.rootkey_software import SoftwareRootKey
from warden.hal.slots_file import FileSlots
from warden.hal.store_file import FileStore

HEAP = "4m"
MOUNT = "/ram"
KEY = MOUNT + "/salt"
# A folder is in the order of its names: the one after "a" is what the test is about.
MOVED = ("a", "z/a")


def software():
    return SoftwareRootKey(KEY, hmac_sha256, random_bytes)


def chip():
    return ChipRootKey(KEY, hmac_sha256, random_bytes, lambda: b"12345678")


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def is_there(path):
    try:
        os.stat(path)
        return True
    except OSError:
        return False


def prepared(fill):
    """The contents of a flash with the file that will be moved, and what fill() puts beside it."""
    disk = RamDisk(48)
    vfs.VfsLfs2.mkfs(disk)
    vfs.mount(vfs.VfsLfs2(disk), MOUNT)
    os.mkdir(MOUNT + "/z")
    write(MOUNT + "/a", b"an application's")
    fill()
    vfs.umount(MOUNT)
    return bytes(disk.data)


def each_cut(image):
    """Yield the flash after a cut at each operation of the rename.

    The operation cut is not done, half done, or done but not reported.
    """
    for torn in (0, 2, 4, 6, 8):
        budget, cut = 0, True
        while cut:
            disk = RamDisk(0)
            disk.data = bytearray(image)
            disk._view = memoryview(disk.data)
            vfs.mount(vfs.VfsLfs2(disk), MOUNT)
            disk.budget, disk.torn = budget, torn
            try:
                os.rename(MOUNT + "/" + MOVED[0], MOUNT + "/" + MOVED[1])
            except OSError:
                pass
            cut = disk.dead
            vfs.umount(MOUNT)
            yield disk.renewed()
            budget += 1


def everywhere(fill, name, verify):
    """Call verify() on the flash after each cut.

    The cuts prove something only if some of them hid `name`.
    """
    hidden = cuts = 0
    for disk in each_cut(prepared(fill)):
        vfs.mount(vfs.VfsLfs2(disk), MOUNT)
        cuts += 1
        hidden += not is_there(MOUNT + "/" + name)
        verify()
        vfs.umount(MOUNT)
    print("beside a cut rename: %s hidden after %d of %d cuts" % (name, hidden, cuts))
    check(cuts >= 10)
    check(hidden > 0 or not (1, 26) <= tuple(sys.implementation[1][:2]) <= (1, 29))


def test_a_root_key():
    """The key is read, and none is created over it."""
    for make in (software, chip):
        kept = []

        def fill(make=make, kept=kept):
            make().create()
            kept.extend((read(KEY), make().mac(b"message")))

        def used(make=make, kept=kept):
            equal(make().mac(b"message"), kept[1])
            equal(read(KEY), kept[0])

        def created(make=make, kept=kept):
            make().create()
            equal(read(KEY), kept[0])

        def looked_for(make=make):
            check(make().exists())

        for verify in (used, created, looked_for):
            del kept[:]
            everywhere(fill, "salt", verify)


def test_the_vaults_folder():
    def fill():
        FileStore(MOUNT + "/vault").write("commit", b"what stands")

    def verify():
        store = FileStore(MOUNT + "/vault")
        equal((store.names(), store.read("commit", 99)), (["commit"], b"what stands"))

    everywhere(fill, "vault", verify)


def test_the_slots_folder():
    def fill():
        with FileSlots(MOUNT + "/slots", ("app",)).write(0, "app") as file:
            file.write(b"image")

    def verify():
        equal(FileSlots(MOUNT + "/slots", ("app",)).size(0, "app"), 5)

    everywhere(fill, "slots", verify)


def run_on_a_board(program):
    """Run a program's source with the littlefs as the root, as on a board.

    Returns: what was there afterwards: /lib/board.py, /main.py, board
    """
    paths, here = sys.path[:], os.getcwd()
    mounted = vfs.mount()
    vfs.umount(MOUNT)
    own, root = [[one for one, path in mounted if path == place][0] for place in (MOUNT, "/")]
    vfs.umount("/")
    vfs.mount(own, "/")
    try:
        exec(program, {})
        return is_there("/lib/board.py"), is_there("/main.py"), "board" in sys.modules
    finally:
        vfs.umount("/")
        vfs.mount(root, "/")
        vfs.mount(own, MOUNT)
        os.chdir(here)
        sys.path[:] = paths
        sys.modules.pop("board", None)


def test_the_files_that_a_start_needs():
    """After boot.py ran, /lib/board.py and /main.py are visible."""
    with open("firmware/boot.py") as file:
        boot = file.read()
    source = b"NAME = 'a board without slots'\n"

    def fill_lib():
        os.mkdir(MOUNT + "/lib")
        write(MOUNT + "/lib/board.py", source)

    def fill_main():
        write(MOUNT + "/main.py", b"")

    for fill, name, wanted in (
        (fill_lib, "lib", (True, False, True)),
        (fill_main, "main.py", (False, True, False)),
    ):
        everywhere(fill, name, lambda wanted=wanted: equal(run_on_a_board(boot), wanted))


class Reset(BaseException):
    """The board starts anew."""


def test_boot_py_itself():
    """Without boot.py, main.py runs alone and resets the board; the second start is whole.

    A board that has no boot.py at all is not reset over and over.
    """
    from warden.board import load  # noqa: F401  (main.py finds no /lib here)
    from warden.hal import system

    with open("firmware/main.py") as file:
        main = file.read()
    events = []

    def reset():
        events.append("reset")
        raise Reset

    class Recovery:
        def main(self):
            events.append("agent")

    def start():
        del events[:]
        try:
            run_on_a_board(main)
            check(False, "main.py came to an end")
        except Reset:
            pass
        return events[0]

    def verify():
        hidden = not is_there(MOUNT + "/boot.py")
        equal(start(), "reset" if hidden else "agent")
        equal(start(), "agent")

    import warden

    real = (
        system.reset,
        system.PAUSE_S,
        sys.modules.get("warden.agent.recovery"),
        getattr(warden, "recovery", None),
    )
    system.reset = reset
    system.PAUSE_S = 0
    sys.modules["warden.agent.recovery"] = warden.agent.recovery = Recovery()
    try:
        everywhere(lambda: write(MOUNT + "/boot.py", b""), "boot.py", verify)
        vfs.mount(vfs.VfsLfs2(bare()), MOUNT)
        equal(start(), "agent")
        vfs.umount(MOUNT)
    finally:
        system.reset, system.PAUSE_S = real[:2]
        sys.modules["warden.agent.recovery"], warden.agent.recovery = real[2:]


def bare():
    disk = RamDisk(48)
    vfs.VfsLfs2.mkfs(disk)
    return disk
