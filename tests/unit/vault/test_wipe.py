"""Wipe a vault: cut at every change of the store, on littlefs' raw image.

The attacker may have the root key.
"""

import os

import vfs
from board_model import DictStore, PowerCut, RootKey
from harness import check, equal, raises
from ramdisk_model import RamDisk
from vault_kit import spread
from warden.errors import StoreError
from warden.hal import erase_files
from warden.hal.store_file import FileStore
from warden.vault import Vault
from warden.vault.opening import WIPED
from warden.vault.wipe import finish, wipe

SECRETS = {"s%02d" % number: bytes((number + 65,)) * 40 for number in range(12)}
MOUNT = "/ram"


def filled(store):
    vault = Vault(store, RootKey())
    vault.create()
    vault.commit(dict(SECRETS), {"boot": 5})
    vault.commit({"s00": b"another value of the first"})
    return vault


def refused(code, function, *arguments):
    check(isinstance(raises(code, function, *arguments), StoreError))


def test_nothing_is_left():
    store = DictStore()
    vault = filled(store)
    wipe(vault)
    equal(store.files, {})
    raises("closed", vault.names)
    refused("not-provisioned", Vault(store, RootKey()).open)


def test_a_vault_that_is_not_open():
    """A damaged one as well: whoever wipes need not be able to read."""
    store = DictStore()
    filled(store)
    store.files["commit"] = b"garbage"
    wipe(Vault(store, RootKey(b"x" * 32)))
    equal(store.files, {})


def test_the_key_goes_first():
    store = DictStore()
    vault = filled(store)
    store.log = []
    wipe(vault)
    equal(store.log[0], ("write", "key"))
    equal(store.log[-1], ("remove", "key"))


def test_cut_before_every_change():
    whole = DictStore()
    filled(whole)
    clean = DictStore(whole.files)
    wipe(Vault(clean, RootKey()))
    total = len(clean.log)
    check(total > len(SECRETS))
    for budget in range(total):
        store = DictStore(whole.files)
        vault = Vault(store, RootKey())
        vault.open()
        store.budget = budget
        try:
            wipe(vault)
            check(False, "it was not cut")
        except PowerCut:
            pass
        store.budget = None
        again = Vault(store, RootKey())
        if not budget:
            again.open()
            equal(again.get("s01"), SECRETS["s01"])
            continue
        equal(store.files["key"], WIPED)
        refused("wiped", again.open)
        refused("wiped", Vault(store, RootKey()).create)
        # Cut again while it is finished.
        for second in range(total - budget):
            other = DictStore(store.files)
            other.budget = second
            try:
                finish(other)
            except PowerCut:
                refused("wiped", Vault(other, RootKey()).open)
        finish(store)
        equal(store.files, {})


def test_with_a_new_root_key_under_way():
    """Two wrapped keys exist while a new vault key replaces the old one."""
    store = DictStore()
    filled(store)
    store.files["rekey"] = store.files["key"]
    wipe(Vault(store, RootKey()))
    equal(store.files, {})
    for budget in range(4):
        store = DictStore()
        filled(store)
        wrapped = store.files["rekey"] = store.files["key"]
        store.budget = budget
        try:
            wipe(Vault(store, RootKey()))
        except PowerCut:
            pass
        store.budget = None
        if budget:
            check(store.files["key"] != wrapped)
            refused("wiped", Vault(store, RootKey()).open)
        if budget > 1:
            check("rekey" not in store.files)


def test_a_store_that_keeps_something():
    class Keeps(DictStore):
        def erase_all(self):
            pass

    store = Keeps()
    refused("vault-unwritten", wipe, filled(store))


def test_a_mark_that_could_not_be_written():
    """Nothing is removed: the sender gets an error, and the vault is whole."""

    class Fails(DictStore):
        def write(self, name, data):
            raise StoreError("filesystem", "no")

    store = DictStore()
    filled(store)
    before = dict(store.files)
    broken = Fails(before)
    refused("filesystem", wipe, Vault(broken, RootKey()))
    equal(broken.files, before)


class Flash:
    """A littlefs in memory with a vault in it, and other files beside."""

    def __init__(self, blocks=96):
        self.disk = RamDisk(blocks)
        vfs.VfsLfs2.mkfs(self.disk)
        vfs.mount(vfs.VfsLfs2(self.disk), MOUNT)
        with open(MOUNT + "/main.py", "wb") as file:
            file.write(b"print(1)\n" * 100)
        self.store = FileStore(MOUNT + "/vault")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        vfs.umount(MOUNT)

    def restart(self):
        vfs.umount(MOUNT)
        self.disk.power_up()
        vfs.mount(vfs.VfsLfs2(self.disk), MOUNT)
        self.store = FileStore(MOUNT + "/vault")

    def holds(self, needles):
        image = bytes(self.disk.data)
        return sum(needle in image for needle in needles)


def blobs(store):
    """What the store holds, as it lies in the flash: pieces of each record."""
    return [store.read(name, 5000)[-24:] for name in store.names()]


def used():
    """A vault that was worked with for a while, and every record that it ever wrote."""
    flash = Flash()
    vault = filled(flash.store)
    seen = set(blobs(flash.store))
    for turn in range(12):
        vault.advance("boot")
        vault.put("s03", bytes((turn,)) * 50)
        seen.update(blobs(flash.store))
    return flash, vault, seen


def test_no_secret_in_the_raw_image():
    """After use neither a value nor a key lies in the flash, in no block."""
    flash, vault, _ = used()
    with flash:
        secrets = list(SECRETS.values()) + [bytes(vault._keys.key), b"r" * 32]
        secrets += [bytes((turn,)) * 50 for turn in range(12)]
        equal(flash.holds([secret[:16] for secret in secrets]), 0)


def test_no_record_in_the_wiped_image():
    """Sealed records are gone too: the root key makes nothing of the wiped image."""
    flash, vault, seen = used()
    with flash:
        wrapped = flash.store.read("key", 100)
        check(
            flash.holds(seen) > 30, "removing alone leaves them behind, or this test shows nothing"
        )
        wipe(vault)
        equal(flash.holds(seen), 0)
        equal(flash.holds([wrapped, wrapped[1:14]]), 0)
        flash.restart()
        equal(flash.store.names(), [])
        refused("not-provisioned", Vault(flash.store, RootKey()).open)
        with open(MOUNT + "/main.py", "rb") as file:
            equal(file.read(), b"print(1)\n" * 100)
        equal(sorted(os.listdir(MOUNT)), ["main.py", "vault"])
        filled(flash.store)


def test_removing_alone_would_not_do():
    """What the test above would say if the flash was not erased."""
    flash, vault, seen = used()
    with flash:
        before = erase_files._is_littlefs
        erase_files._is_littlefs = lambda path: False
        try:
            wipe(vault)
        finally:
            erase_files._is_littlefs = before
        check(flash.holds(seen) > 5)


def test_cut_at_every_operation_of_the_flash():
    """The vault is whole before the mark, and never opens after it.

    The next start erases what is left.
    """
    flash, vault, seen = used()
    with flash:
        image = bytes(flash.disk.data)
        vault.close()
        flash.disk.operations = 0
        wipe(Vault(flash.store, RootKey()))
        total = flash.disk.operations
        cuts = spread(total, 60, 7)
        found = {"whole": 0, "wiped": 0, "gone": 0}
        for number, budget in enumerate(cuts):
            flash.disk.data[:] = image
            flash.restart()
            flash.disk.operations = 0
            flash.disk.budget, flash.disk.torn = budget, (0, 3, 8)[number % 3]
            try:
                wipe(Vault(flash.store, RootKey()))
            except (StoreError, OSError):
                pass
            flash.restart()
            again = Vault(flash.store, RootKey())
            try:
                again.open()
                found["whole"] += 1
                equal(again.get("s01"), SECRETS["s01"])
                continue
            except StoreError as error:
                check(error.code in ("wiped", "not-provisioned"), error.code)
                if error.code == "wiped":
                    found["wiped"] += 1
                    finish(flash.store)
                else:
                    found["gone"] += 1
            equal(flash.holds(seen), 0, "cut at %d" % budget)
        print("wipe on littlefs: %d operations, %d cuts: %s" % (total, len(cuts), found))
        check(found["whole"] > 0 and found["wiped"] > 20)
        equal(flash.disk.violations, 0)
