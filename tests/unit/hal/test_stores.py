"""One suite for every store: raw flash, NVS, files on littlefs, and the tests' own in memory.

Files need MicroPython, which has littlefs.
"""

from board_model import PowerCut, RootKey
from harness import check, equal, raises
from media_kit import Flash, NvsPlace, contents, everywhere, holds, many_banks
from nor_model import Dice
from nvs_model import Nvs
from vault_kit import LONG, SCENARIOS, begin, change, check_after_cut
from warden.errors import StoreError
from warden.hal.store_nvs import NvsStore
from warden.vault import MAX_VALUE, Vault

PURE = True
SLOW = True
HEAP = "6m"  # words of 32 bits need more: the collector keeps what looks like an address


def test_what_was_written_is_read():
    def run(place):
        store = place.store()
        equal((store.names(), store.read("a", 10)), ([], None))
        store.write("a", b"one")
        store.write("b", b"")
        store.write("a", b"three")
        wanted = {"a": b"three", "b": b""}
        for each in (store, place.store()):
            equal(contents(each), wanted)
        store.remove("a")
        store.remove("a")  # it need not exist
        for each in (store, place.store()):
            equal((contents(each), each.read("a", 10)), ({"b": b""}, None))

    everywhere(run)


def test_a_change_is_all_of_it():
    def run(place):
        store = place.store()
        store.change([("a", b"1"), ("b", b"2"), ("c", b"3")], ())
        store.change([("b", b"22"), ("d", b"4")], ["a", "c", "never"])
        for each in (store, place.store()):
            equal(contents(each), {"b": b"22", "d": b"4"})
        store.change([], [])
        equal(contents(place.store()), {"b": b"22", "d": b"4"})

    everywhere(run)


def test_buffers_are_copied():
    def run(place):
        store = place.store()
        buffer = bytearray(b"before")
        store.change([("a", buffer)], ())
        buffer[:] = b"behind"
        equal(store.read("a", 6), b"before")

    everywhere(run)


def test_sizes_around_every_border():
    def run(place):
        store = place.store()
        dice = Dice(5)
        for size in (1, 15, 16, 17, 255, 256, 1023, 1024, 1536, 1537, 3072, 3073, 4126):
            data = dice.bytes(size)
            store.write("a", data)
            store.write("n" * 49, data[: size // 2])
            for each in (store, place.store()):
                equal(each.read("a", 4126), data, "%d" % size)
                equal(each.read("n" * 49, 4126), data[: size // 2])

    everywhere(run)


def test_one_above_the_limit_is_damage():
    def run(place):
        store = place.store()
        store.write("a", bytes(101))
        for each in (store, place.store()):
            equal(len(each.read("a", 101)), 101)
            check(isinstance(raises("vault-damaged", each.read, "a", 100), StoreError))

    everywhere(run)


def test_names_and_values_over_their_limits():
    for kind, most in ((Flash, 65535), (NvsPlace, 4608)):
        place = kind()
        store = place.store()
        store.write("n" * 64, b"x")
        for name in ("", "n" * 65, "ä" * 33):
            raises("bad-name", store.write, name, b"x")
        raises("bad-argument", store.write, "a", bytes(most + 1))
        equal(contents(place.store()), {"n" * 64: b"x"})
        store.write("a", b"still works")


def test_full():
    def run(place):
        if place.part is None:
            return check(True)
        if isinstance(place.part, Nvs):
            place.part.space = 4000
        store = place.store()
        written = {}
        try:
            for i in range(1000):
                store.write("r%d" % i, bytes((i & 255,)) * 200)
                written["r%d" % i] = bytes((i & 255,)) * 200
            check(False, "never full")
        except StoreError as error:
            equal(error.code, "vault-limit")
        check(len(written) > 3)
        for each in (store, place.store()):
            equal(contents(each), written)
        store.remove("r0")
        store.write("r1", bytes(200))
        del written["r0"]
        written["r1"] = bytes(200)
        equal(contents(place.store()), written)

    everywhere(run)


def test_a_full_nvs_has_no_slot_left():
    store = NvsStore("warden", Nvs())
    for i in range(144):
        store.write("r%d" % i, b"")
    raises("vault-limit", store.write, "one more", b"")
    store.remove("r7")
    store.write("one more", b"")
    equal(len(store.names()), 144)


SECRET = b"planted: this is not to be found"


def test_erase_all():
    def run(place):
        if not isinstance(place, (Flash, NvsPlace)):
            return check(True)
        store = place.store()
        for i in range(20):
            store.write("r%d" % (i % 7), SECRET * 2)
        check(holds(place.raw(), [SECRET]))
        store.erase_all()
        store.erase_all()
        equal((store.names(), place.store().names()), ([], []))
        check(not holds(place.raw(), [SECRET]))
        store.write("a", b"again")
        equal(contents(place.store()), {"a": b"again"})

    everywhere(run)


def test_erase_all_without_a_vault():
    place = Flash()
    place.load(Dice(3).bytes(len(place.part.data)))
    store = place.store()
    raises("vault-damaged", store.names)
    raises("vault-damaged", store.write, "a", b"x")
    store.erase_all()
    equal((store.names(), place.image()), ([], b"\xff" * len(place.part.data)))


def test_a_cut_while_everything_is_erased():
    for kind in (Flash, many_banks, NvsPlace):
        place = kind()
        store = place.store()
        for i in range(12):
            store.write("r%d" % i, SECRET)
        image = place.image()
        part = place.part
        budget = gone = 0
        while True:
            for torn in (0, 4, -4):
                place.load(image)
                store = place.store()
                store.names()
                part.operations, part.budget, part.torn = 0, budget, torn
                try:
                    store.erase_all()
                    finished = True
                except PowerCut:
                    finished = False
                left = place.store().names()
                check(kind is NvsPlace or len(left) in (0, 12))
                check(not (finished and left))
                if not left:
                    gone += 1
                    check(kind is NvsPlace or not holds(place.raw(), [SECRET]))
            if finished:
                break
            budget += 1
        check(budget > 3 and gone > 0)


# -- the vault over each ------------------------------------------------------------------------


def opened(store):
    vault = Vault(store, RootKey())
    vault.open()
    return vault


def test_the_vault_on_every_store():
    def run(place):
        vault = Vault(place.store(), RootKey())
        vault.create()
        vault.commit({"a": b"A", "big": bytes(MAX_VALUE // 2)}, {"boot": 3})
        for i in range(40):
            vault.put("a", b"%d" % i)
            vault.advance("boot")
        vault.delete("big")
        for each in (vault, opened(place.store())):
            equal((each.names(), each.get("a"), each.counter("boot")), (["a"], b"39", 43))
        equal(len(place.store().names()), 3)

    everywhere(run)


def test_a_reformatted_store_is_not_provisioned():
    for kind in (Flash, NvsPlace):
        place = kind()
        vault = Vault(place.store(), RootKey())
        vault.create()
        vault.put("a", b"A")
        empty = place.image()
        place.load(b"\xff" * len(empty) if isinstance(empty, bytes) else {})
        raises("not-provisioned", opened, place.store())


def attempt(place, image, name, budget, torn):
    place.load(image)
    vault = begin(name, place.store())
    part = place.part
    part.operations, part.budget, part.torn = 0, budget, torn
    try:
        change(name, vault)
        return True
    except PowerCut:
        return False


def cut_everywhere(place, empty, full, name):
    """(operations, cuts, old, new)."""
    image = empty if name == "provision" else full
    attempt(place, image, name, None, 0)
    operations = place.part.operations
    found = {"old": 0, "new": 0}
    cuts = 0
    for budget in range(operations):
        for torn in (0, 5, 8, -4):
            finished = attempt(place, image, name, budget, torn)
            check(not finished)
            found[check_after_cut(name, place.store, False)] += 1
            cuts += 1
    return operations, cuts, found["old"], found["new"]


def test_the_power_cut_at_every_operation():
    for kind in (Flash, NvsPlace):
        place = kind()
        empty = place.image()
        change("provision", begin("provision", place.store()))
        full = place.image()
        for name in sorted(set(SCENARIOS) - set(LONG)):  # those are for tests/faults/
            operations, cuts, old, new = cut_everywhere(place, empty, full, name)
            print(
                kind.__name__, name, operations, "operations", cuts, "cuts", old, "old", new, "new"
            )
            check(cuts == 4 * operations == old + new and old > 0 and new > 0, name)


def test_a_store_reads_again_after_an_error():
    """After an error the same object answers as a new one would."""
    for kind in (Flash, NvsPlace):
        for budget in range(4):
            for torn in (0, 5, 8, -4):
                place = kind()
                store = place.store()
                store.write("a", b"old")
                part = place.part
                part.operations, part.budget, part.torn = 0, budget, torn
                try:
                    store.change([("a", b"new")], ())
                except PowerCut:
                    pass
                part.power_up()
                found = store.read("a", 9)
                check(found in (b"old", b"new"))
                equal(contents(place.store()), {"a": found})
                store.write("a", b"newer")
                equal((contents(store), contents(place.store())), ({"a": b"newer"},) * 2)


def test_a_beginning_that_was_cut_twice():
    place = Flash()
    for first in range(9):
        for second in range(9):
            place.load(b"\xff" * len(place.part.data))
            for budget in (first, second):
                store = place.store()
                part = place.part
                part.operations, part.budget, part.torn = 0, budget, -4
                try:
                    store.write("a", b"A")
                except PowerCut:
                    pass
            check(contents(place.store()) in ({}, {"a": b"A"}))
