"""The vault: what it keeps, what it refuses to take, and that a failed write closes it."""

from board_model import DictStore, RootKey
from harness import check, equal, raises
from warden.errors import StoreError
from warden.vault import COUNTER_MAX, MAX_RECORDS, MAX_VALUE, Vault, opening
from warden.vault.sealing import MAX_NAME

PURE = BUILT = True


def made(store=None, changes=None, counters=None):
    """A vault with one commit, and its store."""
    store = store or DictStore()
    vault = Vault(store, RootKey())
    vault.create()
    vault.commit({"a": b"first"} if changes is None else changes, counters)
    return vault, store


def opened(store, root=None):
    vault = Vault(store, root or RootKey())
    vault.open()
    return vault


def is_closed(vault):
    """Every way in is shut."""
    for function, arguments in (
        (vault.get, ("a",)),
        (vault.counter, ("boot",)),
        (vault.names, ()),
        (vault.put, ("a", b"x")),
        (vault.delete, ("a",)),
        (vault.delete, ("unknown",)),
        (vault.advance, ("boot",)),
        (vault.commit, ({"a": b"x"},)),
    ):
        raises("closed", function, *arguments)


def test_put_get_delete():
    vault, store = made()
    equal(vault.get("a"), b"first")
    equal(vault.get("b"), None)
    vault.put("b", b"second")
    vault.put("a", b"third")
    equal((vault.get("a"), vault.get("b")), (b"third", b"second"))
    equal(sorted(vault.names()), ["a", "b"])
    vault.delete("a")
    vault.delete("a")  # it need not exist
    equal((vault.get("a"), vault.names()), (None, ["b"]))
    again = opened(store)
    equal((again.get("a"), again.get("b"), again.names()), (None, b"second", ["b"]))
    equal(again.generation, vault.generation)


def test_the_generation_rises_with_each_change():
    vault, store = made()
    equal(vault.generation, 1)
    vault.put("a", b"x")
    vault.advance("boot")
    vault.delete("a")
    equal(vault.generation, 4)
    equal(opened(store).generation, 4)


def test_a_commit_changes_all_at_once():
    vault, store = made()
    vault.commit({"a": None, "b": b"B", "c": b"C"}, {"boot": 7, "time": 9})
    for each in (vault, opened(store)):
        equal(sorted(each.names()), ["b", "c"])
        equal((each.get("b"), each.get("c")), (b"B", b"C"))
        equal((each.counter("boot"), each.counter("time"), each.counter("x")), (7, 9, 0))
    equal(vault.generation, 2)


def test_nothing_obsolete_is_left():
    vault, store = made()
    for i in range(5):
        vault.put("a", bytes((i,)))
    vault.delete("a")
    equal(sorted(store.files), ["commit", "key"])


def test_values_at_their_limits():
    vault, store = made()
    for size in (0, 1, MAX_VALUE):
        vault.put("v", bytes(size))
        equal(opened(store).get("v"), bytes(size))
    before = dict(store.files)
    raises("bad-argument", vault.put, "v", bytes(MAX_VALUE + 1))
    equal(store.files, before)
    equal(vault.get("v"), bytes(MAX_VALUE))  # a refusal of the caller's bug leaves the vault open


def test_names_at_their_limits():
    vault, store = made()
    longest = "aZ09_-" + "n" * (MAX_NAME - 6)
    vault.put(longest, b"x")
    equal(opened(store).get(longest), b"x")
    before = dict(store.files)
    for name in (longest + "n", "", ".", "..", "a.b", "a/b", "a b", "ä", "a\0", "~staged", "a\n"):
        raises("bad-name", vault.put, name, b"x")
        raises("bad-name", vault.commit, {name: None})
        raises("bad-name", vault.advance, name)
    equal(store.files, before)
    equal(vault.get("a"), b"first")


def test_names_of_the_vault_itself_are_free():
    vault, store = made(changes={"key": b"k", "commit": b"c"})
    vault = opened(store)
    equal((vault.get("key"), vault.get("commit")), (b"k", b"c"))


def test_records_at_their_limit():
    changes = {}
    for i in range(MAX_RECORDS):
        changes["n%02d" % i + "x" * (MAX_NAME - 3)] = b"v"
    vault, store = made(changes=changes)
    before = dict(store.files)
    error = raises("vault-limit", vault.put, "one-more", b"x")
    check(isinstance(error, StoreError))
    equal(store.files, before)
    # The longest commit record there is: all of them obsolete at once, under the longest names.
    vault.commit(changes, {"boot": COUNTER_MAX, "time": COUNTER_MAX})
    equal(len(opened(store).names()), MAX_RECORDS)
    vault.delete("n00" + "x" * (MAX_NAME - 3))
    vault.put("one-more", b"x")
    equal(opened(store).get("one-more"), b"x")


def test_too_many_changes_at_once_change_nothing():
    vault, store = made()
    counters = {}
    for i in range(200):
        counters["c%03d" % i + "x" * (MAX_NAME - 4)] = 1
    raises("vault-limit", vault.commit, {"a": b"new"}, counters)
    again = opened(store)
    equal((again.get("a"), again.generation, again.counter("c000")), (b"first", 1, 0))


def test_counters_only_rise():
    vault, store = made()
    equal(vault.counter("boot"), 0)
    equal([vault.advance("boot") for _ in range(3)], [1, 2, 3])
    equal(vault.advance("boot", 10), 10)
    before = dict(store.files)
    for to in (10, 9, 0, -1):
        raises("bad-argument", vault.advance, "boot", to)
    raises("bad-argument", vault.advance, "other", 0)
    # Nothing of a commit happens when one of its counters is refused.
    raises("bad-argument", vault.commit, {"a": b"new"}, {"time": 5, "boot": 10})
    equal(store.files, before)
    equal((vault.counter("boot"), vault.counter("time"), vault.get("a")), (10, 0, b"first"))
    equal(opened(store).counter("boot"), 10)


def test_counters_at_their_limit():
    vault, store = made()
    equal(vault.advance("boot", COUNTER_MAX), COUNTER_MAX)
    before = dict(store.files)
    check(isinstance(raises("counter-limit", vault.advance, "boot"), StoreError))
    raises("counter-limit", vault.advance, "time", COUNTER_MAX + 1)
    equal(store.files, before)
    equal(opened(store).counter("boot"), COUNTER_MAX)


def test_the_last_generation():
    vault, store = made()
    vault.generation = COUNTER_MAX
    raises("vault-limit", vault.put, "a", b"x")
    equal(opened(store).get("a"), b"first")


class Forgetful(DictStore):
    """Drops writes of `lost`, as a worn flash may; nobody hears of it."""

    lost = ""

    def write(self, name, data):
        if name != self.lost:
            super().write(name, data)


def test_a_lost_commit_is_noticed():
    store = Forgetful()
    vault, _ = made(store)
    vault.advance("boot")
    store.lost = "commit"
    check(isinstance(raises("vault-unwritten", vault.advance, "boot"), StoreError))
    is_closed(vault)
    store.lost = ""
    vault.open()
    equal((vault.counter("boot"), vault.advance("boot")), (1, 2))


def test_a_commit_that_comes_back_changed_is_noticed():
    class Bent(DictStore):
        def read(self, name, limit):
            data = super().read(name, limit)
            return data[:-1] + bytes((data[-1] ^ 1,)) if name == "commit" and data else data

    store = Bent()
    vault = Vault(store, RootKey())
    vault.create()
    raises("vault-unwritten", vault.put, "a", b"x")
    is_closed(vault)


def test_a_lost_record_is_noticed_while_the_old_one_exists():
    store = Forgetful()
    vault, _ = made(store)
    store.lost = "a.00000002"
    raises("vault-unwritten", vault.commit, {"a": b"new"}, {"boot": 1})
    is_closed(vault)
    vault.open()
    equal((vault.get("a"), vault.counter("boot")), (b"first", 0))


def test_a_lost_key_is_noticed_before_anything_is_sealed_under_it():
    store = Forgetful()
    store.lost = "key"
    raises("vault-unwritten", Vault(store, RootKey()).create)
    equal(store.files, {})


def test_a_vault_that_does_not_open_is_closed():
    def garbled(name):
        data = store.files[name]
        store.files[name] = data[:-1] + bytes((data[-1] ^ 1,))

    def gone(name):
        del store.files[name]

    for damage in (garbled, gone):
        for name in ("commit", "key", "a.00000002"):
            # A second open() of an open vault is no better than the first.
            vault, store = made(changes={}, counters={"boot": 5})
            vault.put("a", b"x")
            damage(name)
            try:
                vault.open()
                check(False, "opened without " + name)
            except StoreError:
                is_closed(vault)


def test_a_store_that_fails_closes_the_vault():
    class Full(DictStore):
        room = None  # writes

        def write(self, name, data):
            if self.room is not None:
                if not self.room:
                    raise StoreError("vault-limit", "full")
                self.room -= 1
            super().write(name, data)

    for changes, room in (({"a": b"new"}, 0), ({"a": b"new", "b": b"b"}, 2), ({}, 0)):
        store = Full()
        vault, _ = made(store)
        before = dict(store.files)
        store.room = room
        raises("vault-limit", vault.commit, changes, {"boot": 1})
        store.room = None
        equal(store.files, before)
        for one in (vault, opened(store)):  # it is open still
            equal((one.get("a"), one.counter("boot"), one.generation), (b"first", 0, 1))
        vault.commit(changes, {"boot": 1})
        equal(opened(store).counter("boot"), 1)


def test_a_full_flash_that_took_the_change_all_the_same():
    class Wrong(DictStore):
        full = False

        def write(self, name, data):
            super().write(name, data)
            if self.full and name == "commit":
                raise StoreError("vault-limit", "full")

    store = Wrong()
    vault, _ = made(store)
    store.full = True
    raises("vault-limit", vault.advance, "boot")
    is_closed(vault)
    equal(opened(store).counter("boot"), 1)


def test_after_close_nothing_works():
    vault, store = made()
    before = dict(store.files)
    root = vault._root
    vault.close()
    is_closed(vault)
    equal(store.files, before)
    equal(root.closed, 1)
    vault.close()
    vault.open()  # the one way back
    equal(vault.get("a"), b"first")


def test_without_its_root_key_it_works_and_opens_no_second_time():
    vault, store = made()
    root = vault._root
    vault.drop_root_key()
    equal((root.closed, vault._root), (1, None))
    vault.put("a", b"second")
    equal((vault.get("a"), opened(store).get("a")), (b"second", b"second"))
    vault.drop_root_key()
    raises("closed", vault.open)
    is_closed(vault)
    raises("closed", vault.create)
    equal(opened(store).get("a"), b"second")


def test_close_wipes_the_keys():
    vault, _ = made()
    key = vault._keys.key
    check(bytes(key) != bytes(32))
    vault.close()
    equal(bytes(key), bytes(32))


def test_a_vault_that_does_not_open_leaves_no_key():
    """Wherever it fails behind the key: at the commit, at a record, at the set."""
    kept = []
    real = opening.VaultKeys

    def noted(key):
        kept.append(real(key))
        return kept[-1]

    opening.VaultKeys = noted
    try:
        for damage in ("commit", "a", None):
            vault, store = made()
            for file in list(store.names()):
                if damage is not None and file.split(".")[0] == damage:
                    data = store.read(file, 4096)
                    store.write(file, data[:-1] + bytes([data[-1] ^ 1]))
                elif damage is None and file.startswith("a."):
                    store.remove(file)
            del kept[:]
            raises("vault-damaged", opened, store)
            check(kept)
            for keys in kept:
                equal((bytes(keys.key), keys.nonce_key), (bytes(32), b""))
    finally:
        opening.VaultKeys = real


def test_nothing_works_before_open():
    _, store = made()
    is_closed(Vault(store, RootKey()))


def test_not_provisioned():
    check(isinstance(raises("not-provisioned", Vault(DictStore(), RootKey()).open), StoreError))


def test_an_uncommitted_vault_counts_as_not_provisioned():
    store = DictStore()
    Vault(store, RootKey()).create()
    raises("not-provisioned", Vault(store, RootKey()).open)
    made(store)
    equal(opened(store).get("a"), b"first")


def test_already_provisioned():
    _, store = made()
    before = dict(store.files)
    root = RootKey()
    check(isinstance(raises("already-provisioned", Vault(store, root).create), StoreError))
    equal((store.files, root.created), (before, 0))


def test_create_sweeps_an_interrupted_creation():
    store = DictStore({"old.00000001": b"x", "key": b"y"})
    made(store)
    equal(sorted(store.files), ["a.00000001", "commit", "key"])


def test_secrets_are_nowhere_in_clear():
    secrets = [b"first secret, 32 bytes long 12345", b"\x01\x02\x03\x04 another one"]
    vault, store = made(changes={"s0": secrets[0], "s1": secrets[1]})
    key = bytes(vault._keys.key)
    for data in store.files.values():
        for secret in secrets + [key, vault._keys.nonce_key, vault._keys._set_key, b"r" * 32]:
            for at in range(0, len(secret) - 7):
                check(secret[at : at + 8] not in data)


def test_a_value_is_a_copy():
    vault, _ = made()
    buffer = bytearray(b"before")
    vault.put("a", buffer)
    buffer[:] = b"behind"
    equal(vault.get("a"), b"before")


def test_a_store_that_says_it_kept_the_commit():
    """A counter that the flash lost would be given out twice: the vault looks for itself."""

    class Lies(DictStore):
        lies = False

        def change(self, puts, removes):
            if not self.lies:
                super().change(puts, removes)

    store = Lies()
    vault = Vault(store, RootKey())
    vault.create()
    vault.commit({"a": b"A"}, {"boot": 1})
    store.lies = True
    check(isinstance(raises("vault-unwritten", vault.advance, "boot"), StoreError))
    raises("closed", vault.counter, "boot")
    store.lies = False
    again = Vault(store, RootKey())
    again.open()
    equal(again.counter("boot"), 1)


def test_the_memory_of_open_is_bounded_and_used_once():
    vault, store = made()
    sizes = {"small": 100, "large": 4000, "other": 50}
    vault.commit({name: bytes(size) for name, size in sizes.items()})
    reads = []
    read = store.read
    store.read = lambda name, limit: reads.append(name.split(".")[0]) or read(name, limit)
    vault.open(True)
    del reads[:]
    for name, size in sizes.items():
        equal(vault.get(name), bytes(size))
    check(
        1 <= len(reads) < 3, repr(reads)
    )  # both small ones and the large one are above 4,096 bytes
    for name in sizes:
        del reads[:]
        vault.get(name)
        equal(reads, [name])
    for end in (vault.close, lambda: vault.advance("more")):
        vault.open(True)
        end()
        vault.open()
        del reads[:]
        vault.get("small")
        equal(reads, ["small"])
