"""What the store in NVS refuses, one by one: each blob bent as NVS itself would let it pass."""

from binascii import crc32

from board_model import PowerCut
from harness import check, equal, has_text, raises
from nor_model import Dice
from nvs_model import Nvs
from warden.errors import StoreError, UsageError
from warden.hal.store_nvs import NvsStore

PURE = True

LONG = Dice(4).bytes(4000)


def store_on(part):
    return NvsStore("warden", part)


def damaged(function, *arguments):
    check(isinstance(raises("vault-damaged", function, *arguments), StoreError))


def head(name=b"a", size=3, sequence=1, version=1, length=None, rest=b"one", crc=None):
    """A first chunk."""
    fields = bytes((version, len(name) if length is None else length)) + size.to_bytes(2, "big")
    fields += sequence.to_bytes(4, "big")
    made = crc32(name, crc32(fields)) if crc is None else crc
    return fields + made.to_bytes(4, "big") + name + rest


def over(**blobs):
    return store_on(Nvs(blobs))


def test_the_form_of_a_first_chunk():
    equal(over(w000=head()).read("a", 3), b"one")
    for bad in (
        head(version=2),
        head(version=0),
        head(crc=0),
        head(rest=b"on"),
        head(rest=b"ones"),
        head(size=2),
        head(size=4),
        head(length=2),
        head()[:11],
        head()[:12],
        b"",
        head(name=b"\xff"),  # authentic as far as NVS goes, and no text
    ):
        damaged(over(w000=bad).names)
        damaged(over(w000=head(name=b"good"), w8f0=bad).read, "good", 3)
        damaged(over(w000=bad).write, "b", b"x")
    # One that no store of ours could have written: NVS gives it into no buffer.
    raises("filesystem", over(w000=head(rest=bytes(2000))).names)


def test_a_first_chunk_that_changed_since_the_start():
    for bad in (
        head(crc=0),
        head(name=b"b"),
        head(size=2, rest=b"on"),
        head(size=4, rest=b"four"),
        None,
    ):
        part = Nvs({"w000": head()})
        store = store_on(part)
        equal(store.names(), ["a"])
        if bad is None:
            del part.blobs["w000"]
        else:
            part.blobs["w000"] = bad
        damaged(store.read, "a", 9)


def test_a_size_that_changed_since_the_start():
    """In the first chunk alone: what follows it would fit both."""
    part = Nvs()
    store = store_on(part)
    store.write("a", LONG)
    part.blobs["w000"] = head(size=4608, rest=LONG[:1536])
    damaged(store.read, "a", 5000)


def test_the_other_chunks():
    part = Nvs()
    store_on(part).write("long", LONG)
    good = dict(part.blobs)
    equal(sorted(good), ["w000", "w001", "w002"])
    equal(store_on(Nvs(good)).read("long", 4000), LONG)
    first, second = good["w001"], good["w002"]
    for changes in (
        {"w001": None},
        {"w002": None},
        {"w001": b""},
        {"w002": second[:4]},
        {"w001": b"\0\0\0\2" + first[4:]},  # of another record
        {"w002": b"\0\0\0\0" + second[4:]},
        {"w001": first[:-1]},
        {"w001": first + b"x"},
        {"w002": second + b"x"},
        {"w001": second, "w002": first + first[4:]},
    ):
        blobs = dict(good)
        for key, blob in changes.items():
            if blob is None:
                del blobs[key]
            else:
                blobs[key] = blob
        try:
            got = store_on(Nvs(blobs)).read("long", 4000)
            check(False, "%r gave %d bytes" % (sorted(changes), len(got)))
        except StoreError as error:
            check(error.code in ("vault-damaged", "filesystem"), error.code)


def test_the_later_of_two():
    """Of two slots with one name, whichever lies first."""
    for older, newer in (("w000", "w010"), ("w010", "w000"), ("w8f0", "w000"), ("w000", "w8f0")):
        part = Nvs({older: head(sequence=7), newer: head(sequence=8, rest=b"two")})
        store = store_on(part)
        equal((store.names(), store.read("a", 3)), (["a"], b"two"))
        equal(list(part.blobs), [newer])
        # What comes next is later still.
        store.write("a", b"new")
        (blob,) = part.blobs.values()
        equal(int.from_bytes(blob[4:8], "big"), 9)
        equal(store_on(Nvs(part.blobs)).read("a", 3), b"new")


def test_limits():
    store = store_on(Nvs())
    store.write("n" * 64, bytes(4608))
    equal(len(store.read("n" * 64, 4608)), 4608)
    damaged(store.read, "n" * 64, 4607)
    for name in ("", "n" * 65):
        check(isinstance(raises("bad-name", store.write, name, b""), UsageError))
    check(isinstance(raises("bad-argument", store.write, "a", bytes(4609)), UsageError))
    equal(store.names(), ["n" * 64])


def test_no_slot_left():
    store = store_on(Nvs())
    for number in range(144):
        store.write("r%d" % number, b"")
    check(isinstance(raises("vault-limit", store.write, "more", b""), StoreError))
    raises("vault-limit", store.write, "r0", b"a record is replaced in another slot")
    equal(store.read("r0", 9), b"")
    store.remove("r1")
    store.remove("r1")
    store.write("more", b"")


def test_no_room_left():
    part = Nvs()
    store = store_on(part)
    store.write("a", b"old")
    part.space = 100
    check(isinstance(raises("vault-limit", store.write, "a", bytes(200)), StoreError))
    part.space = 65536
    equal((store.read("a", 9), store_on(part).read("a", 9)), (b"old", b"old"))


def test_errors_of_nvs():
    """Each error of NVS becomes one with a code and NVS's number."""

    class Fails(Nvs):
        error = OSError(-4355, "ESP_ERR_NVS_TYPE_MISMATCH")

        def get_blob(self, key, buffer):
            raise self.error

        set_blob = erase_key = get_blob

    for error, text in (
        (OSError(-4355, "TYPE"), "-4355"),
        (OSError(), "0"),
    ):
        part = Fails()
        part.error = error
        for call in (store_on(part).names, store_on(part).erase_all):
            has_text(raises("filesystem", call), text)


def test_a_store_that_failed_looks_again():
    part = Nvs()
    store = store_on(part)
    store.write("a", b"old")
    for budget in range(9):
        part.operations, part.budget = 0, budget
        try:
            store.write("a", b"new")
            store.remove("a")
        except PowerCut:
            pass
        part.power_up()
        found = store.read("a", 9)
        check(found in (b"old", b"new", None))
        equal(store_on(part).read("a", 9), found)
        store.write("a", b"old")


def test_the_mark_of_a_wipe_goes_last():
    part = Nvs()
    store = store_on(part)
    for name in ("key", "a", "b"):
        store.write(name, LONG)
    seen = []

    class Watched(Nvs):
        def erase_key(self, key):
            super().erase_key(key)
            seen.append(key)

    watched = Watched(part.blobs)
    slot = [key[:3] for key in part.blobs if b"key" in part.blobs[key][:16]][0]
    store_on(watched).erase_all()
    equal(watched.blobs, {})
    equal(seen[-3:], [slot + "0", slot + "1", slot + "2"])
    # Not before the pages were filled.
    check(seen.index("wf0") < seen.index(slot + "0"))
    # What a wipe that was cut left of that goes as well.
    left = Nvs({"wf%d" % number: bytes(4) for number in range(4)})
    store_on(left).erase_all()
    equal(left.blobs, {})


def test_a_namespace():
    import sys

    class Esp32:
        @staticmethod
        def NVS(namespace):  # noqa: N802  (MicroPython's name)
            equal(namespace, "warden")
            return Nvs({"w000": head()})

    sys.modules["esp32"] = Esp32
    try:
        equal(NvsStore("warden").read("a", 3), b"one")
    finally:
        del sys.modules["esp32"]
