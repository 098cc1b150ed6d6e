"""Give a vault a new root key, with a cut before every change of the store.

Either root key opens all of the vault, and never half of it.
"""

import sys

from board_model import DictStore, PowerCut, RootKey
from harness import check, equal, raises
from warden.board import load
from warden.errors import StoreError
from warden.vault import MAX_RECORDS, Vault
from warden.vault.rekey import reseal

OLD, NEW = b"r" * 32, b"n" * 32
RECORDS = {"a": b"first", "b": b"second " * 40, "empty": b"", "c": bytes(4096)}


def made(store=None, records=RECORDS):
    vault = Vault(DictStore() if store is None else store, RootKey(OLD))
    vault.create()
    vault.commit(dict(records), {"boot": 7, "time": 99})
    vault.put("a", b"changed")
    return vault


def opened(store, key):
    vault = Vault(store, RootKey(key))
    vault.open()
    return vault


def content(vault):
    records = {name: vault.get(name) for name in vault.names()}
    return records, vault.counter("boot"), vault.counter("time")


def refused(code, function, *arguments):
    check(isinstance(raises(code, function, *arguments), StoreError))


def test_everything_is_there_afterwards():
    vault = made()
    store, before, generation = vault.store, content(vault), vault.generation
    old_files, old_key = dict(store.files), bytes(vault._keys.key)
    old_root, root = vault._root, RootKey(NEW)
    vault = reseal(vault, root)
    # The open vault goes on under the new key.
    equal((content(vault), vault.generation), (before, generation + 1))
    equal((old_root.closed, root.created, root.closed), (1, 1, 0))
    check(bytes(vault._keys.key) != old_key)
    vault.put("later", b"x")
    equal(content(opened(store, NEW))[0]["later"], b"x")
    refused("root-key", opened, store, OLD)
    equal(len(store.files), 2 + len(RECORDS) + 1)
    for name, data in store.files.items():
        check(old_files.get(name) != data, name)


def test_the_old_vault_key_opens_nothing():
    """Whoever had the old root key and a copy of the old flash."""
    vault = made()
    store = vault.store
    old_key, old_root = store.files["key"], RootKey(OLD)
    vault = reseal(vault, RootKey(NEW))
    store.files["key"] = old_key
    try:
        Vault(store, old_root).open()
        check(False, "opened")
    except StoreError as error:
        equal(error.code, "vault-damaged")


def test_under_the_same_root_key():
    vault = made()
    before = content(vault)
    vault = reseal(vault, RootKey(OLD))
    equal(content(opened(vault.store, OLD)), before)


def test_closed():
    vault = made()
    vault.close()
    raises("closed", reseal, vault, RootKey(NEW))


def test_the_last_generation():
    vault = made()
    store = vault.store
    vault.generation = (1 << 32) - 1
    refused("vault-limit", reseal, vault, RootKey(NEW))
    raises("closed", vault.names)
    check("rekey" not in store.files)


def test_the_last_but_one():
    vault = made()
    vault.generation = (1 << 32) - 2
    before = content(vault)
    vault = reseal(vault, RootKey(NEW))
    equal((vault.generation, content(opened(vault.store, NEW))), ((1 << 32) - 1, before))


def test_the_old_key_is_wiped():
    """The new one is drawn into the new vault's own buffer: there is no copy to wipe."""
    old = made()
    old_key = old._keys.key
    vault = reseal(old, RootKey(NEW))
    equal(bytes(old_key), bytes(32))
    check(bytes(vault._keys.key) != bytes(32))
    raises("closed", old.names)


def test_a_root_key_that_refuses():
    class Refuses(RootKey):
        def create(self):
            raise StoreError("root-key", "no fuse")

    vault = made()
    before, store = content(vault), vault.store
    root = Refuses(NEW)
    refused("root-key", reseal, vault, root)
    equal(root.closed, 1)
    equal(content(opened(store, OLD)), before)


def test_a_store_that_lies():
    """What was written is read back, whatever the store says of it."""

    class Lies(DictStore):
        lost = ""

        def change(self, puts, removes):
            for name, data in puts:
                if name != self.lost:
                    self.write(name, data)
            for name in removes:
                self.remove(name)

    for lost in ("commit", "key"):
        store = Lies()
        vault = made(store)
        before = content(vault)
        store.lost = lost
        waiting = store.remove
        # The lost one is missed before anything else is given up.
        store.remove = lambda name, remove=waiting: None if name == "rekey" else remove(name)
        try:
            vault = reseal(vault, RootKey(NEW))
            check(False, "it believed the store")
        except StoreError as error:
            # What stands there instead may be larger than what was written.
            check(error.code in ("vault-unwritten", "vault-damaged"), error.code)
        raises("closed", vault.names)
        store.lost = ""
        store.remove = waiting
        equal(content(opened(store, OLD if lost == "commit" else NEW)), before)


def test_a_full_vault():
    """With the most records, and the longest names, the commit still fits."""
    records = {"%040d" % number: b"v" for number in range(MAX_RECORDS - 1)}
    vault = made(records=records)
    before = content(vault)
    vault = reseal(vault, RootKey(NEW))
    equal(content(opened(vault.store, NEW)), before)


def cut_everywhere(before, files, total, key=NEW):
    """For each budget: the store after the cut."""
    for budget in range(total):
        store = DictStore(files)
        vault = opened(store, OLD)
        store.budget = budget
        try:
            vault = reseal(vault, RootKey(key))
            check(False, "it was not cut")
        except PowerCut:
            pass
        store.budget = None
        raises("closed", vault.names)
        yield budget, store


def test_cut_before_every_change():
    vault = made()
    before, files = content(vault), dict(vault.store.files)
    clean = DictStore(files)
    reseal(opened(clean, OLD), RootKey(NEW))
    total = len(clean.log)
    found = []
    for _, store in cut_everywhere(before, files, total):
        after = dict(store.files)
        try:
            again = opened(store, OLD)
            found.append("old")
            other = NEW
        except StoreError as error:
            equal(error.code, "root-key")
            again = opened(store, NEW)
            found.append("new")
            other = OLD
        equal(content(again), before)
        equal(sorted(store.files), sorted(set(store.files) - {"rekey"}))
        equal(len(store.files), 2 + len(RECORDS))
        refused("root-key", opened, store, other)
        again.put("later", b"x")
        # Cut again while the start puts it in order.
        key = OLD if found[-1] == "old" else NEW
        for second in range(len(RECORDS) + 4):
            healing = DictStore(after)
            healing.budget = second
            try:
                opened(healing, key)
            except PowerCut:
                pass
            healing.budget = None
            equal(content(opened(healing, key)), before)
    equal(found, sorted(found, reverse=True))
    check("old" in found and "new" in found)
    print(
        "reseal: %d changes of the store, %d old, %d new"
        % (total, found.count("old"), found.count("new"))
    )


def test_cut_under_the_same_root_key():
    """With both keys wrapped under one root key, the commit alone tells which counts."""
    vault = made()
    before, files = content(vault), dict(vault.store.files)
    clean = DictStore(files)
    reseal(opened(clean, OLD), RootKey(OLD))
    for _, store in cut_everywhere(before, files, len(clean.log), OLD):
        equal(content(opened(store, OLD)), before)


def test_a_bent_key_that_waits():
    vault = made()
    before, files = content(vault), dict(vault.store.files)
    clean = DictStore(files)
    reseal(opened(clean, OLD), RootKey(NEW))
    stands = 0
    for _, store in cut_everywhere(before, files, len(clean.log)):
        if "rekey" not in store.files:
            continue
        waiting = store.files["rekey"]
        store.files["rekey"] = waiting[:20] + bytes((waiting[20] ^ 1,)) + waiting[21:]
        for key in (OLD, NEW):
            try:
                equal(content(opened(store, key)), before)
                stands += 1
                break
            except StoreError as error:
                check(error.code in ("root-key", "vault-damaged"), error.code)
    check(stands)


def test_a_key_from_elsewhere():
    """The wrapped key of an older copy in the next one's place is ignored."""
    vault = made()
    store = vault.store
    older = DictStore()
    made(older)
    store.files["rekey"] = older.files["key"]
    equal(content(opened(store, OLD))[0]["a"], b"changed")
    check("rekey" not in store.files)
    commit = store.files["commit"]
    store.files["rekey"] = older.files["key"]
    store.files["commit"] = commit[:-1] + bytes((commit[-1] ^ 1,))
    refused("vault-damaged", opened, store, OLD)


# -- the board's own change ---------------------------------------------------------------------


class Board:
    STORE = ("dict",)
    ROOT_KEY = ("test", NEW)


def on_board(store, before):
    """hardware.open_board() on a board of these parts."""

    class Parts(Board):
        pass

    if before is not None:
        Parts.ROOT_KEY_BEFORE = before
    kept = load.store, load.root_key
    load.store = lambda args: store
    load.root_key = lambda args, ask=None: RootKey(args[1])
    sys.modules["board"] = Parts
    try:
        return load.open_board()[1]
    finally:
        load.store, load.root_key = kept
        del sys.modules["board"]


def test_a_board_whose_root_key_changed():
    vault = made()
    before, store = content(vault), vault.store
    refused("root-key", on_board, store, None)
    equal(content(on_board(store, ("test", OLD))), before)
    # From the next start on the former one is not needed, and does no harm.
    equal(content(on_board(store, ("test", OLD))), before)
    equal(content(on_board(store, None)), before)
    refused("root-key", opened, store, OLD)


def test_a_board_with_neither():
    store = made().store
    refused("root-key", on_board, store, ("test", b"x" * 32))


def test_a_board_that_was_cut():
    vault = made()
    before, files = content(vault), dict(vault.store.files)
    for budget in range(12):
        store = DictStore(files)
        store.budget = budget
        try:
            on_board(store, ("test", OLD))
        except PowerCut:
            pass
        store.budget = None
        equal(content(on_board(store, ("test", OLD))), before)


def test_a_board_that_was_wiped():
    from warden.vault.opening import WIPED

    store = made().store
    store.files["key"] = WIPED
    refused("not-provisioned", on_board, store, None)
    equal(store.files, {})
