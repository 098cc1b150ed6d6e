"""An attacker who writes the flash may break the vault, and never change or age a value.

No nonce is used twice.
"""

from board_model import DictStore, RootKey, counted_random
from harness import check, equal, raises
from warden import vault as module
from warden.crypto import rand
from warden.errors import StoreError
from warden.vault import Vault, opening, sealing
from warden.wire import cbor

PURE = True


def history():
    """The store after each change: [only a, a and b, a replaced, counter advanced]."""
    store = DictStore()
    vault = Vault(store, RootKey())
    vault.create()
    states = []
    for changes, counters in (
        ({"a": b"first a", "c": b"first c"}, {}),
        ({"b": b"first b"}, {}),
        ({"a": b"second a"}, {}),
        ({}, {"boot": 5}),
    ):
        vault.commit(changes, counters)
        states.append(dict(store.files))
    return states


def refused(code, files, root=None):
    """The vault over these files does not open, with this code, and stays shut."""
    vault = Vault(DictStore(files), root or RootKey())
    check(isinstance(raises(code, vault.open), StoreError))
    raises("closed", vault.get, "a")
    raises("closed", vault.counter, "boot")


def test_the_whole_store_opens():
    vault = Vault(DictStore(history()[-1]), RootKey())
    vault.open()
    equal((vault.get("a"), vault.get("b"), vault.counter("boot")), (b"second a", b"first b", 5))


def test_root_key_of_another_board():
    refused("root-key", history()[-1], RootKey(b"s" * 32))


def test_root_key_that_can_not_be_had():
    class Broken(RootKey):
        def mac(self, message):
            raise StoreError("root-key", "no fuses")

    refused("root-key", history()[-1], Broken())


def test_a_record_put_back_to_its_older_version():
    states = history()
    files = dict(states[-1])
    older = states[0]["a.00000001"]
    # Under its own name instead of the new one, beside the new one, and under the new one's name.
    del files["a.00000003"]
    refused("vault-damaged", dict(files, **{"a.00000001": older}))
    refused("vault-damaged", dict(files, **{"a.00000003": older}))
    refused("vault-damaged", dict(states[-1], **{"a.00000001": older}))


def test_a_record_deleted():
    for name in ("a.00000003", "b.00000002"):
        files = dict(history()[-1])
        del files[name]
        refused("vault-damaged", files)


def test_a_record_added():
    states = history()
    store = DictStore(states[0])
    vault = Vault(store, RootKey())
    vault.open()
    vault.put("d", b"another history")
    refused("vault-damaged", dict(states[-1], **{"d.00000002": store.files["d.00000002"]}))
    # An empty one, and one that is later than the commit, which never happened and goes.
    refused("vault-damaged", dict(states[-1], **{"d.00000002": b""}))
    later = DictStore(dict(states[-1], **{"d.00000009": store.files["d.00000002"]}))
    vault = Vault(later, RootKey())
    vault.open()
    equal(vault.get("d"), None)
    equal(later.files, states[-1])


def test_a_record_of_another_history_under_the_same_name_and_generation():
    states = history()
    store = DictStore(states[1])
    vault = Vault(store, RootKey())
    vault.open()
    vault.put("a", b"forked a")
    refused("vault-damaged", dict(states[-1], **{"a.00000003": store.files["a.00000003"]}))


def test_a_record_renamed():
    files = dict(history()[-1])
    files["d.00000002"] = files.pop("b.00000002")
    refused("vault-damaged", files)


def test_records_swapped():
    files = dict(history()[0])
    files["a.00000001"], files["c.00000001"] = files["c.00000001"], files["a.00000001"]
    refused("vault-damaged", files)


def test_a_record_swapped_behind_an_open_vault():
    files = history()[0]
    store = DictStore(files)
    vault = Vault(store, RootKey())
    vault.open()
    store.files["a.00000001"], store.files["c.00000001"] = files["c.00000001"], files["a.00000001"]
    raises("vault-damaged", vault.get, "a")
    store.files.pop("a.00000001")
    raises("vault-damaged", vault.get, "a")


def test_a_record_of_another_vault():
    files = dict(history()[-1])
    other = history()[-1]
    for name in sorted(files):
        mixed = dict(files)
        mixed[name] = other[name]
        refused("vault-damaged", mixed)


def test_an_older_commit_over_newer_records():
    states = history()
    # The obsolete file is gone, so the old commit misses it ...
    refused("vault-damaged", dict(states[-1], commit=states[1]["commit"]))
    refused("vault-damaged", dict(states[-1], commit=states[0]["commit"]))
    # ... and where nothing became obsolete, the record behind it is swept and the counter falls
    # back: that is the whole older store, which the store alone can't tell. The generation can,
    # and each hello carries it to the authority.
    store = DictStore(dict(states[1], commit=states[0]["commit"]))
    vault = Vault(store, RootKey())
    vault.open()
    equal(vault.generation, 1)
    equal(store.files, states[0])


def test_a_newer_commit_over_older_records():
    states = history()
    refused("vault-damaged", dict(states[0], commit=states[1]["commit"]))
    refused("vault-damaged", dict(states[1], commit=states[2]["commit"]))


def test_the_whole_store_played_back_shows_in_its_generation():
    states = history()
    generations = []
    for files in states:
        vault = Vault(DictStore(files), RootKey())
        vault.open()
        generations.append(vault.generation)
    equal(generations, [1, 2, 3, 4])


def test_commit_missing_or_empty():
    files = dict(history()[-1])
    files["commit"] = b""
    refused("vault-damaged", files)
    del files["commit"]
    refused("not-provisioned", files)


def test_key_file_damaged():
    files = dict(history()[-1])
    key = files["key"]
    for damaged in (b"", key[:-1], key + b"\0", bytes(len(key)), b"\xff" * len(key)):
        refused(
            "vault-damaged" if len(damaged) > len(key) else "root-key", dict(files, key=damaged)
        )
    del files["key"]
    refused("vault-damaged", files)


def test_a_record_for_the_key_or_the_commit():
    files = history()[-1]
    for name in ("a.00000003", "b.00000002", "commit"):
        refused("root-key", dict(files, key=files[name][: len(files["key"])]))
    for name in ("a.00000003", "b.00000002", "key"):
        refused("vault-damaged", dict(files, commit=files[name]))


def test_every_byte_flipped():
    files = history()[-1]
    for name in sorted(files):
        data = files[name]
        for i in range(len(data)):
            for bit in (i % 8, (i + 3) % 8):
                bent = data[:i] + bytes((data[i] ^ 1 << bit,)) + data[i + 1 :]
                refused(
                    "root-key" if name == "key" else "vault-damaged", dict(files, **{name: bent})
                )
            refused(
                "root-key" if name == "key" else "vault-damaged", dict(files, **{name: data[:i]})
            )


def test_garbage_names():
    files = history()[-1]
    for name in (
        "x",
        "",
        ".",
        "a.",
        ".00000001",
        "a.1",
        "a.000000001",
        "a.0000000g",
        "a.0x000001",
        "a.+0000001",
        "a.-0000001",
        "a. 0000001",
        "a.0000_001",
        "a.0000000A",
        "d..00000001",
        "a/b.00000001",
        "a b.00000001",
        "ä.00000001",
        "n" * 41 + ".00000001",
        "Commit",
        "key.",
        "~Probe",
    ):
        refused("vault-damaged", dict(files, **{name: b""}))


def test_two_generations_of_one_record_in_either_order():
    class Ordered(DictStore):
        def names(self):
            return sorted(self.files, reverse=self.reverse)

    states = history()
    for reverse in (False, True):
        store = Ordered(dict(states[-1], **{"a.00000001": states[0]["a.00000001"]}))
        store.reverse = reverse
        raises("vault-damaged", Vault(store, RootKey()).open)


def test_more_records_than_a_vault_holds_are_not_even_read():
    class Counting(DictStore):
        def read(self, name, limit):
            check(name in ("key", "commit"), name)
            return super().read(name, limit)

    files = dict(history()[-1])
    for i in range(opening.MAX_RECORDS):
        files["x%d.00000001" % i] = b""
    raises("vault-damaged", Vault(Counting(files), RootKey()).open)


def test_sizes_are_given_to_the_store_before_it_reads():
    class Limits(DictStore):
        def read(self, name, limit):
            check(limit <= 4096 + 64, "a limit of %d" % limit)
            return super().read(name, limit)

    for name, code in (
        ("key", "vault-damaged"),
        ("commit", "vault-damaged"),
        ("a.00000003", "vault-damaged"),
    ):
        files = dict(history()[-1])
        files[name] = bytes(5000)
        raises(code, Vault(Limits(files), RootKey()).open)


def test_another_format():
    files = history()[-1]
    for name in ("a.00000003", "commit"):
        refused("vault-damaged", dict(files, **{name: b"\x02" + files[name][1:]}))


class Recorder:
    """Every (key, nonce) that a CCM sealed under, with the message."""

    def __init__(self):
        self.seen = {}
        self.repeats = 0
        recorder = self

        class Recording(sealing.CCM):
            def __init__(self, key, *more):
                super().__init__(key, *more)
                self.noted = bytes(key)

            def seal(self, nonce, buf, n, aad):
                message = (bytes(buf[:n]), bytes(aad))
                pair = (self.noted, bytes(nonce))
                if pair in recorder.seen:
                    recorder.repeats += 1
                    equal(recorder.seen[pair], message, "two messages under one nonce")
                recorder.seen[pair] = message
                return super().seal(nonce, buf, n, aad)

        self.ccm = Recording


def recorded(function, source=None):
    """Run the function with every nonce recorded, and a generator in place of the chip's."""
    recorder = Recorder()
    saved = sealing.CCM, rand._source
    sealing.CCM = opening.CCM = recorder.ccm
    if source is not None:
        rand._source = source
    try:
        function(recorder)
    finally:
        sealing.CCM, rand._source = saved
        opening.CCM = sealing.CCM
    return recorder


def test_nonces_never_repeat():
    def run(recorder):
        vault = Vault(DictStore(), RootKey())
        vault.create()
        for _ in range(60):
            vault.put("a", b"the same value")  # equal values must not show as equal records
            vault.advance("boot")

    recorder = recorded(run)
    equal((recorder.repeats, len(recorder.seen)), (0, 1 + 60 * 3))


def test_nonces_survive_a_played_back_store_and_a_generator_that_repeats():
    def run(recorder):
        store = DictStore()
        vault = Vault(store, RootKey())
        vault.create()
        vault.commit({"a": b"0"})
        saved = dict(store.files)
        for round in range(20):
            # The same flash and the same randomness again with another value: only the value
            # separates the nonces.
            rand._source = counted_random()
            vault = Vault(DictStore(saved), RootKey())
            vault.open()
            vault.commit({"a": b"value %d" % round}, {"boot": round + 1})

    recorder = recorded(run, counted_random())
    equal((recorder.repeats, len(recorder.seen)), (0, 3 + 20 * 2))


def test_a_stuck_generator_seals_nothing():
    store = DictStore(history()[-1])
    before = dict(store.files)

    def run(recorder):
        vault = Vault(store, RootKey())
        vault.open()
        raises("randomness", vault.put, "a", b"x")
        raises("closed", vault.get, "a")

    recorder = recorded(run, lambda n: bytes(n))
    equal((len(recorder.seen), store.files), (0, before))


def test_a_commit_of_another_form():
    """It authenticates, so another version wrote it: nothing of it is guessed at."""
    files = history()[-1]
    vault = Vault(DictStore(files), RootKey())
    vault.open()
    cipher = vault._keys.cipher()
    good = cbor.decode(sealing.opened(cipher, files["commit"], b"warden commit 1"))
    for body in (
        cbor.encode(good[:4]),
        cbor.encode(good + [0]),
        cbor.encode([2] + good[1:]),
        cbor.encode({"1": 1, "2": 2, "3": 3, "4": 4, "5": 5}),
        cbor.encode(5),
        b"\xff",
        b"",
    ):
        bent = dict(files)
        bent["commit"] = sealing.sealed(cipher, bytes(13), body, b"warden commit 1")
        refused("vault-damaged", bent)
    bent["commit"] = sealing.sealed(cipher, bytes(13), cbor.encode(good), b"warden commit 1")
    Vault(DictStore(bent), RootKey()).open()


def test_files_that_are_no_records():
    files = history()[-1]
    for name in (
        "a b.00000001",
        "a/b.00000001",
        ".00000001",
        "a.-0000001",
        "a.1",
        "n" * 41 + ".00000001",
    ):
        bent = dict(files)
        bent[name] = files["a.00000003"]
        refused("vault-damaged", bent)


def test_more_records_than_a_vault_can_hold():
    """An authentic commit with too many records is refused before it takes memory.

    No version of ours wrote that many.
    """
    limit = sealing.MAX_RECORDS
    store = DictStore()
    vault = Vault(store, RootKey())
    vault.create()
    vault.commit({"r%d" % number: b"" for number in range(limit)})
    Vault(store, RootKey()).open()
    module.MAX_RECORDS = limit + 1
    try:
        vault.put("one_more", b"")
    finally:
        module.MAX_RECORDS = limit
    refused("vault-damaged", store.files)
