"""Records as files, on littlefs in memory; FAT is refused."""

import errno
import os

import vfs
from board_model import RootKey
from harness import check, equal, raises
from ramdisk_model import BLOCK, RamDisk
from warden.errors import StoreError
from warden.hal import store_file
from warden.hal.store_file import FileStore
from warden.vault import Vault
from warden.vault.secrets import Secrets

SLOW = True

MOUNT = "/ram"


def on_littlefs(function):
    disk = RamDisk(48)
    vfs.VfsLfs2.mkfs(disk)
    vfs.mount(vfs.VfsLfs2(disk), MOUNT)
    try:
        function(MOUNT + "/vault")
    finally:
        vfs.umount(MOUNT)
    equal(disk.violations, 0)


def put(path, data=b""):
    with open(path, "wb") as file:
        file.write(data)


def test_the_flash_model_is_nor():
    disk = RamDisk(2)
    block = bytearray(BLOCK)
    disk.writeblocks(0, b"\x0f" * 32, 32)
    disk.writeblocks(0, b"\x07" * 32, 32)
    equal((disk.violations, disk.operations), (0, 2))
    disk.writeblocks(0, b"\x0f" * 32, 32)
    equal(disk.violations, 1)
    disk.readblocks(0, block)
    equal(bytes(block), b"\xff" * 32 + b"\x07" * 32 + b"\xff" * (BLOCK - 64))
    disk.ioctl(6, 0)
    disk.budget, disk.torn = 0, 4
    equal(disk.writeblocks(0, bytes(BLOCK)), -errno.EIO)
    equal(disk.readblocks(0, block), -errno.EIO)
    disk.power_up()
    equal(disk.readblocks(0, block), 0)
    equal(bytes(block), bytes(BLOCK // 2) + b"\xff" * (BLOCK // 2))


def test_write_read_remove():
    def run(path):
        store = FileStore(path)
        equal((store.names(), store.read("a", 10)), ([], None))
        store.write("a", b"one")
        store.write("b", b"")
        store.write("a", b"three")
        equal(
            (store.read("a", 10), store.read("b", 10), sorted(store.names())),
            (b"three", b"", ["a", "b"]),
        )
        store.remove("a")
        store.remove("a")  # it need not exist
        equal((store.names(), store.read("a", 10)), (["b"], None))
        equal(FileStore(path + "/").names(), ["b"])

    on_littlefs(run)


def test_a_cut_write_is_no_record():
    def run(path):
        store = FileStore(path)
        put(path + "/~staged", b"half")
        equal(store.names(), [])
        FileStore(path)
        raised = False
        try:
            os.stat(path + "/~staged")
        except OSError:
            raised = True
        check(raised)

    on_littlefs(run)


def test_an_oversized_file_is_refused_before_it_is_read():
    def run(path):
        store = FileStore(path)
        store.write("a", bytes(4097))
        equal(len(store.read("a", 4097)), 4097)
        sizes = []

        class Watched:
            def __init__(self, name, mode):
                self.file = open(name, mode)
                self.seek = self.file.seek

            def __enter__(self):
                return self

            def __exit__(self, *error):
                self.file.close()

            def read(self, size):
                sizes.append(size)
                return self.file.read(size)

        store_file.open = Watched
        try:
            check(isinstance(raises("vault-damaged", store.read, "a", 4096), StoreError))
            equal(sizes, [])
            store.read("a", 4097)
            equal(sizes, [4097])
        finally:
            del store_file.open

    on_littlefs(run)


def test_a_file_of_the_vault_that_grew():
    def run(path):
        vault = Vault(FileStore(path), RootKey())
        vault.create()
        vault.put("a", b"x")
        for name in ("key", "commit", "a.00000001"):
            with open(path + "/" + name, "rb") as file:
                good = file.read()
            put(path + "/" + name, good + bytes(5000))
            raises("vault-damaged", Vault(FileStore(path), RootKey()).open)
            put(path + "/" + name, good)
        vault.open()
        equal(vault.get("a"), b"x")

    on_littlefs(run)


def test_folders_where_files_should_be():
    def run(path):
        store = FileStore(path)
        os.mkdir(path + "/a")
        try:
            store.read("a", 10000)
            check(False, "a folder was read")
        except StoreError:
            check(True)  # its size is whatever the filesystem says, so either code may come
        raises("filesystem", store.write, "a", b"x")
        put(path + "/a/inside")
        raises("filesystem", store.remove, "a")

    on_littlefs(run)


def test_names_that_are_no_text():
    def run(path):
        store = FileStore(path)

        def listdir(path):
            raise UnicodeError()

        saved = store_file.os
        store_file.os = FakeOs(listdir)
        try:
            check(isinstance(raises("vault-damaged", store.names), StoreError))
        finally:
            store_file.os = saved

    on_littlefs(run)


class FakeOs:
    def __init__(self, listdir):
        self.listdir = listdir


def test_a_folder_that_is_gone():
    def run(path):
        store = FileStore(path)
        os.rmdir(path)
        raises("filesystem", store.names)
        raises("filesystem", store.write, "a", b"x")
        equal(store.read("a", 10), None)
        os.mkdir(path)

    on_littlefs(run)


def test_a_parent_that_is_missing():
    def run(path):
        check(isinstance(raises("filesystem", FileStore, path + "/no/such"), StoreError))

    on_littlefs(run)


def test_a_full_flash():
    def run(path):
        vault = Vault(FileStore(path), RootKey())
        vault.create()
        vault.put("a", b"x")
        try:
            for i in range(100):
                put(path + "/../fill%d" % i, bytes(BLOCK))
        except OSError:
            pass
        raises("vault-limit", vault.put, "b", bytes(4000))
        equal((vault.get("a"), vault.get("b")), (b"x", None))
        vault = Vault(FileStore(path), RootKey())
        vault.open()
        equal((vault.get("a"), vault.get("b")), (b"x", None))

    on_littlefs(run)


def append(path, data):
    """Append to a file until there is no room for that much."""
    try:
        with open(path, "ab") as file:
            while True:
                file.write(data)
                file.flush()
    except OSError:
        pass


def fill(path):
    """What an application's log does to a filesystem, and files of every size: not a byte is
    left, in no block and in no folder.
    """
    number = len(os.listdir(path + "/.."))
    for size in (8 * BLOCK, BLOCK, BLOCK // 2, 100, 60, 40, 20, 8, 1, 0):
        try:
            while True:
                number += 1
                put(path + "/../%d" % number, bytes(size))
        except OSError:
            pass
        try:
            os.remove(path + "/../%d" % number)
        except OSError:
            pass
        # The last byte alone: with each flush littlefs copies what its block holds already.
        append(path + "/../log", b"x" * 64)
        append(path + "/../log", b"x")


def booted(path):
    """A start: the vault opens, and its counter rises."""
    vault = Vault(store_file.make((path,)), RootKey())
    vault.open()
    return vault, vault.advance("boot")


def on_a_full_one(path):
    vault = Vault(store_file.make((path,)), RootKey())
    vault.create()
    vault.commit({"a": b"x" * 100})
    equal(vault.advance("boot"), 1)
    fill(path)


def test_a_full_flash_keeps_no_board_from_starting():
    def run(path):
        on_a_full_one(path)
        for number in range(2, 12):
            equal(booted(path)[1], number)
            fill(path)
        # Without the reserve the flash is full indeed.
        vault = Vault(FileStore(path), RootKey())
        vault.open()
        raises("vault-limit", vault.advance, "boot")
        # What is not in use is no part of the vault.
        equal(
            sorted(name.split(".")[0] for name in FileStore(path).names()), ["a", "commit", "key"]
        )

    on_littlefs(run)


def test_a_filesystem_without_room_for_a_vault():
    """It is refused at the start of a board that has none yet, with the reason."""

    def without_folder(path):
        fill(path)
        raises("vault-limit", store_file.make, (path,))

    def run(path):
        os.mkdir(path)
        fill(path)
        check(isinstance(raises("vault-limit", store_file.make, (path,)), StoreError))
        for name in os.listdir(path + "/.."):
            if name != "vault":
                os.remove(path + "/../" + name)
        equal(store_file.make((path,)).names(), [])

    on_littlefs(without_folder)
    on_littlefs(run)


def test_a_secret_of_the_application_takes_nothing_of_the_reserve():
    """One that it set on a full flash would take the room of the next start's counter."""

    def run(path):
        on_a_full_one(path)
        for number in range(2, 5):
            vault, risen = booted(path)
            equal(risen, number)
            fill(path)
            raises("vault-limit", Secrets(vault).set, "web", bytes(1024))
            equal((Secrets(vault).names(), vault.get("a")), ([], b"x" * 100))
            fill(path)
        equal(Secrets(booted(path)[0]).names(), [])

    on_littlefs(run)


def test_a_record_that_grows_takes_nothing_of_the_reserve():
    """It would keep its room for good; one of the same size gives its own back."""

    def run(path):
        on_a_full_one(path)
        for number in range(2, 8):
            vault, risen = booted(path)
            equal(risen, number)
            fill(path)
            raises("vault-limit", vault.put, "a", b"y" * 900)
            vault.put("a", b"x" * 100)
            fill(path)
        equal(booted(path)[0].get("a"), b"x" * 100)

    on_littlefs(run)


def test_a_full_flash_and_the_power_cut_at_every_operation():
    """The counter is the old or the next one, and each later start counts.

    The application fills the flash with each cut.
    """
    cuts = budget = 0
    done = False
    while not done:
        disk = RamDisk(48)
        vfs.VfsLfs2.mkfs(disk)
        vfs.mount(vfs.VfsLfs2(disk), MOUNT)
        path = MOUNT + "/vault"
        on_a_full_one(path)
        vault = Vault(store_file.make((path,)), RootKey())
        vault.open()
        disk.operations, disk.budget, disk.torn = 0, budget, 4
        try:
            vault.advance("boot")
            done = True
        except (StoreError, OSError):
            check(disk.dead)
            cuts += 1
        vfs.umount(MOUNT)
        disk = disk.renewed()
        vfs.mount(vfs.VfsLfs2(disk), MOUNT)
        try:
            vault, number = booted(path)
            check(number == 3 if done else number in (2, 3), number)
            equal(vault.get("a"), b"x" * 100)
            fill(path)
            for more in (1, 2):
                equal(booted(path)[1], number + more)
                fill(path)
        finally:
            vfs.umount(MOUNT)
        budget += 1
    check(cuts > 20, "%d cuts" % cuts)


def with_fat(function):
    if not hasattr(vfs, "VfsFat"):
        check(True)  # firmware that has no FAT can't have mounted one
        return
    disk = RamDisk(128, nor=False)
    vfs.VfsFat.mkfs(disk)
    vfs.mount(vfs.VfsFat(disk), MOUNT)
    try:
        function()
    finally:
        vfs.umount(MOUNT)


def test_fat_is_refused():
    def run():
        check(isinstance(raises("filesystem", FileStore, MOUNT + "/vault"), StoreError))
        os.mkdir(MOUNT + "/deep")
        raises("filesystem", FileStore, MOUNT + "/deep/vault")

    with_fat(run)


class FakeVfs:
    """A firmware that can't list its mounts."""

    def mount(self):
        raise TypeError("function missing 2 required positional arguments")


def without_the_list(function):
    import sys

    sys.modules["vfs"] = FakeVfs()
    try:
        function()
    finally:
        del sys.modules["vfs"]


def test_fat_is_refused_where_mounts_can_not_be_listed():
    with_fat(lambda: without_the_list(lambda: raises("filesystem", FileStore, MOUNT + "/vault")))


def test_littlefs_is_taken_where_mounts_can_not_be_listed():
    def run(path):
        def inner():
            store = FileStore(path)
            equal(store.names(), [])

        without_the_list(inner)

    on_littlefs(run)


def test_a_start_opens_each_record_once():
    """Each record is opened once, by one walk: on littlefs the walk takes most of the time."""
    done = []

    class Os:
        """The module, with each call noted."""

        def __getattr__(self, name):
            def noted(*args):
                done.append(name)
                return getattr(os, name)(*args)

            return noted

    def noted_open(name, mode):
        done.append("open " + name.rsplit("/", 1)[-1])
        return open(name, mode)

    def run(path):
        vault = Vault(FileStore(path), RootKey())
        vault.create()
        names = [
            "identity",
            "broker",
            "trust",
            "policy",
            "network",
            "nonce",
            "app_home",
            "app_one",
        ]
        vault.commit({name: name.encode() * 8 for name in names})
        store_file.os, store_file.open = Os(), noted_open
        try:
            vault = Vault(FileStore(path), RootKey())
            vault.open(True)
            equal(sorted(done[:3]), ["listdir", "mkdir", "open key"])
            opened = ["open %s.00000001" % name for name in names]
            equal(sorted(done[3:]), sorted(["listdir", "open commit"] + opened))
            del done[:]
            for name in names:
                equal(vault.get(name), name.encode() * 8)
            equal(done, [])
            vault.advance("boot")
            equal(done, ["open ~staged", "rename", "open commit", "open commit"])
            # Each record was handed out once, and after a commit none is: they cost memory.
            del done[:]
            equal(vault.get("trust"), b"trust" * 8)
            equal(done, ["open trust.00000001"])
        finally:
            store_file.os = os
            del store_file.open

    on_littlefs(run)
