"""Damage or replace the medium of a store.

The vault is as it was last, or an error with a code says otherwise; no older value returns.
"""

import errno

from board_model import PowerCut, RootKey
from harness import check, equal, raises
from nor_model import Dice, Nor
from nvs_model import Nvs
from warden.errors import StoreError, UsageError
from warden.hal import store_flash
from warden.hal.block_device import block_device
from warden.hal.store_flash import FlashStore
from warden.hal.store_nvs import NvsStore
from warden.vault import Vault

PURE = True
SLOW = True

UNIT = 16
NOW = {"a": b"second a", "b": b"only b"}


def flash(image=None, sectors=4, sector=512):
    part = Nor(sectors, sector, UNIT)
    if image is not None:
        part.data[:] = image
    return part


def on_flash(part):
    return FlashStore(part, UNIT)


def on_nvs(part):
    return NvsStore("warden", part)


def history(make):
    """A vault with a past: what it held before still lies in the log."""
    vault = Vault(make, RootKey())
    vault.create()
    vault.commit({"a": b"first a", "b": b"only b"}, {"boot": 1})
    vault.commit({"a": NOW["a"]}, {"boot": 2})


def found(store, root=None):
    """What a vault over this store gives, or the code of its error."""
    vault = Vault(store, root or RootKey())
    try:
        vault.open()
        records = {name: vault.get(name) for name in vault.names()}
        return records, vault.counter("boot")
    except StoreError as error:
        return error.code


def flash_image():
    part = flash()
    history(on_flash(part))
    return bytes(part.data)


def test_a_flipped_bit_in_any_byte_of_the_flash():
    image = flash_image()
    tally = {}
    for at in range(len(image)):
        part = flash(image)
        part.data[at] ^= 1 << at % 8
        result = found(on_flash(part))
        if result != (NOW, 2):
            check(result in ("vault-damaged", "root-key"), "%d: %r" % (at, result))
        key = result if isinstance(result, str) else "unharmed"
        tally[key] = tally.get(key, 0) + 1
        if key == "unharmed" and at % 7 == 0:
            # What was read once stays readable, also after the bit was copied away or left.
            equal(found(on_flash(part)), (NOW, 2))
    print("a flipped bit in each of", len(image), "bytes:", tally)
    equal(sorted(tally), ["root-key", "unharmed", "vault-damaged"])


def test_a_flipped_bit_where_sectors_are_long():
    """All of the vault is in one sector: behind a damaged head the next sector is blank."""
    part = flash(None, 4, 2048)
    history(on_flash(part))
    image = bytes(part.data)
    end = len(image)
    while image[end - 1] == 255:
        end -= 1
    check(UNIT * 10 < end < 2048)
    harmed = 0
    for at in range(end + 40):
        bad = flash(image, 4, 2048)
        bad.data[at] ^= 1 << at % 8
        result = found(on_flash(bad))
        harmed += result in ("vault-damaged", "root-key")
        check(result in ("vault-damaged", "root-key", (NOW, 2)), "%d: %r" % (at, result))
    check(harmed > 100)


def test_stray_bits_on_a_flash_without_a_vault():
    for places, result in (
        ((), "not-provisioned"),
        ((700,), "not-provisioned"),
        ((0, 15, 47), "not-provisioned"),  # within three units: a beginning that was cut
        ((700, 900), "not-provisioned"),
        (tuple(range(48)), "not-provisioned"),
        ((48, 700, 900), "vault-damaged"),
    ):
        part = flash()
        for at in places:
            part.data[at] = 0x7F
        equal(found(on_flash(part)), result)
        if result == "not-provisioned":
            history(on_flash(part))
            equal(found(on_flash(part)), (NOW, 2))


def test_a_sector_of_random_data():
    image = flash_image()
    for seed in range(1, 25):
        for sector in range(4):
            part = flash(image)
            part.data[sector * 512 : sector * 512 + 512] = Dice(seed).bytes(512)
            result = found(on_flash(part))
            # What holds nothing of the vault is erased anew; what held some of it is missed.
            equal(result, "vault-damaged" if any_data(image, sector) else (NOW, 2))


def any_data(image, sector):
    """Return whether the sector belongs to the bank that holds the vault.

    The other bank is erased.
    """
    bank = sector // 2
    part = image[bank * 1024 + UNIT : bank * 1024 + 1024]
    return part != b"\xff" * len(part)


def test_a_sector_zeroed():
    image = flash_image()
    for sector in range(4):
        part = flash(image)
        part.data[sector * 512 : sector * 512 + 512] = bytes(512)
        equal(found(on_flash(part)), "vault-damaged" if any_data(image, sector) else (NOW, 2))


def test_damage_to_the_last_change_brings_no_older_one_back():
    """Damage every byte of the last change.

    Each byte is replaced by its erased state, zeros and noise, alone and with all that follow.
    """
    part = flash()
    store = on_flash(part)
    vault = Vault(store, RootKey())
    vault.create()
    vault.commit({"a": b"first a", "b": b"only b"}, {"boot": 1})
    begin = store._end
    vault.commit({"a": NOW["a"]}, {"boot": 2})
    end = store._end
    image = bytes(part.data)
    noise = Dice(9).bytes(len(image))
    older = 0
    for at in range(begin, end):
        for filler in (b"\xff" * len(image), bytes(len(image)), noise):
            for until in (at + 1, at + 40, end):
                bad = flash(image)
                bad.data[at:until] = filler[at:until]
                result = found(on_flash(bad))
                if result == ({"a": b"first a", "b": b"only b"}, 1):
                    # Damage that erases half of the mark or more looks like a cut: no fault of one
                    # bit does that, and a writer who can may replay the whole flash. The vault's
                    # generation shows that to the authority.
                    erased = bad.data[end - UNIT : end - UNIT + 4].count(b"\xff")
                    check(filler[0] == 255 and erased >= 2, "%d %d %d" % (at, until, filler[0]))
                    older += 1
                else:
                    check(result in ((NOW, 2), "vault-damaged"), repr(result))
    check(older > 0)


def test_a_change_that_is_missing_between_two():
    part = flash()
    store = on_flash(part)
    store.write("a", b"1")
    store._sequence += 1
    store.write("a", b"3")
    raises("vault-damaged", on_flash(part).names)


def test_a_stray_bit_in_padding():
    """A stray bit before a sector's border refuses nothing, and has the log copied."""
    part = flash()
    store = on_flash(part)
    store.write("a", b"first")
    while store._end % 512 < 400:
        store.change((), ())
    blank = store._end
    store.write("b", bytes(200))
    check(blank < 512 < store._end and part.data[blank:512] == b"\xff" * (512 - blank))
    part.data[blank + 20] = 0x7F
    again = on_flash(part)
    equal((again.read("a", 9), again.read("b", 200)), (b"first", bytes(200)))
    check(sum(part.erases) > 1)


def with_history():
    """Return (store, its flash) with three changes; the last is 5 units before store._end."""
    part = flash()
    store = on_flash(part)
    history(store)
    for _ in range(2):
        store.change((), ())
    store.write(
        "z", b"z" * 20
    )  # 25 bytes with its name and its lengths: 2 units, the head and the mark
    return store, part


def after(part, at, data):
    """What the store says when these bytes stand there."""
    bad = flash(part.data)
    bad.data[at : at + len(data)] = data
    try:
        return on_flash(bad).read("z", 30)
    except StoreError as error:
        return error.code


def head(units, sequence, magic=b"Wd"):
    fields = magic + units.to_bytes(2, "big") + sequence.to_bytes(4, "big") + bytes(4)
    return store_flash.sealed(UNIT, fields)


def test_heads_that_lie():
    store, part = with_history()
    end, sequence = store._end, store._sequence
    equal(after(part, end, b""), b"z" * 20)
    # A head that promises more than its bank has room for, and an invalid one that looks like a
    # cut.
    equal(after(part, end, head(65535, sequence + 1)), "vault-damaged")
    equal(after(part, end, head(1, sequence + 1)), b"z" * 20)
    equal(after(part, end, head(65535, sequence + 1, b"Wx")), b"z" * 20)


def test_a_lost_mark_before_another_change():
    store, part = with_history()
    mark = store._end - 4 * UNIT - UNIT  # of the change before
    equal(bytes(part.data[mark : mark + 4]), bytes(4))
    equal(after(part, mark, b"\xff" * 4), "vault-damaged")
    # Of the last change: alone it says what a cut says; with noise beside it, it doesn't.
    mark = store._end - UNIT
    equal(after(part, mark, b"\xff" * 4), None)
    equal(after(part, mark, b"\xff" * 8 + b"noise" + b"\xff" * 3), "vault-damaged")
    equal(after(part, store._end, b"noise"), b"z" * 20)
    equal(after(part, store._end + UNIT, b"noise"), "vault-damaged")


def test_lengths_that_lie():
    store, part = with_history()
    entry = store._end - 3 * UNIT
    equal(bytes(part.data[entry : entry + 5]), b"\x01\x01\x00\x14z")
    for length in (21, 255, 256, 1000, 4096, 8000, 32788):
        equal(after(part, entry + 2, length.to_bytes(2, "big")), "vault-damaged")
    for length in (0, 2, 27, 29, 255):
        equal(after(part, entry + 1, bytes((length,))), "vault-damaged")


def test_the_mark_is_a_majority():
    part = flash()
    store = on_flash(part)
    history(store)
    mark = store._end - UNIT
    image = bytes(part.data)
    for bit in range(32):
        bad = flash(image)
        for other in range(bit):
            bad.data[mark + other // 8] |= 1 << other % 8
        equal(found(on_flash(bad)) == (NOW, 2), bit < 16)
        check(
            bad.data[mark : mark + 4] == image[mark : mark + 4] or sum(bad.erases) > 0 or bit == 0
        )


def test_a_record_of_the_right_form_under_another_key():
    for make, part in ((on_flash, flash), (on_nvs, Nvs)):
        ours, theirs = part(), part()
        history(make(ours))
        store = make(theirs)
        vault = Vault(store, RootKey(b"o" * 32))
        vault.create()
        vault.commit({"a": b"first a", "b": b"only b"}, {"boot": 1})
        vault.commit({"a": b"forged a"}, {"boot": 2})
        equal(found(make(theirs)), "root-key")
        for name, code in (
            ("a.00000002", "vault-damaged"),
            ("b.00000001", "vault-damaged"),
            ("commit", "root-key"),
            ("key", "root-key"),
        ):
            mixed = part()
            if isinstance(ours, Nvs):
                mixed.blobs = dict(ours.blobs)
            else:
                mixed.data[:] = ours.data
            make(mixed).write(name, store.read(name, 5000))
            result = found(make(mixed))
            check(result in ("vault-damaged", "root-key"), "%s: %r" % (name, result))
            check(code == result or name == "commit", "%s: %r" % (name, result))


def test_an_older_commit_or_record_written_again():
    for make, part in ((on_flash, flash()), (on_nvs, Nvs())):
        store = make(part)
        vault = Vault(store, RootKey())
        vault.create()
        vault.commit({"a": b"first a"}, {"boot": 1})
        old = {name: store.read(name, 5000) for name in store.names()}
        vault.commit({"a": NOW["a"], "b": NOW["b"]}, {"boot": 2})
        store.write("commit", old["commit"])
        equal(found(make(part)), "vault-damaged")


def test_two_banks_that_hold_a_vault():
    """After a cut right behind the copy's mark the newer bank counts.

    The older one is erased before the store answers.
    """
    for moves in (1, 2):
        part = flash()
        store = on_flash(part)
        history(store)
        for _ in range(moves):
            older, bank = bytes(part.data), store._bank
            while store._bank == bank:
                store.change((), ())
        # A record that only the newer one has, so that they are told apart.
        vault = Vault(store, RootKey())
        vault.open()
        vault.put("a", b"third a")
        part.data[bank * 1024 : bank * 1024 + 1024] = older[bank * 1024 : bank * 1024 + 1024]
        equal(found(on_flash(part)), (dict(NOW, a=b"third a"), 2))
        rest = part.data[bank * 1024 + UNIT : bank * 1024 + 1024]
        equal(rest, b"\xff" * len(rest))


def test_a_flash_divided_otherwise():
    image = flash_image()
    for unit, banks in ((32, 2), (16, 4)):
        part = flash(image)
        store = FlashStore(part, unit, banks)
        raises("vault-damaged", store.names)
        raises("vault-damaged", store.write, "a", b"x")
        equal(bytes(part.data), image)
    header = bytearray(image)
    header[4] = 2  # a later version's, with a CRC that holds
    header[12:16] = store_flash.sealed(UNIT, bytes(header[:12]))[12:16]
    raises("vault-damaged", on_flash(flash(header)).names)


def test_arguments():
    part = flash()
    for unit, banks in ((8, 2), (24, 2), (512, 2), (0, 2), (16, 1), (16, 0), (16, 5)):
        check(isinstance(raises("bad-argument", FlashStore, part, unit, banks), UsageError))
    raises("bad-argument", FlashStore, Nor(4, 120, 8), 16)
    raises("bad-argument", FlashStore, Nor(4, 512, 256), 256)  # two units a sector
    for sectors, good in ((15, True), (16, False)):
        large = Nor(1, 16, 16)
        large.sectors, large.sector = 2, 65536 * sectors
        if good:
            FlashStore(large, 16)
        else:
            raises("bad-argument", FlashStore, large, 16)
    raises("no-board", block_device, "tea")


def test_worn_sectors_are_skipped():
    part = Nor(8, 512, UNIT)
    store = FlashStore(part, UNIT, 4)
    history(store)
    for bank in range(3):
        part.stuck |= {2 * bank, 2 * bank + 1}
    vault = Vault(store, RootKey())
    vault.open()
    vault.put("a", b"on the last good bank")
    equal(found(FlashStore(part, UNIT, 4)), (dict(NOW, a=b"on the last good bank"), 2))
    part.stuck |= {6, 7}
    raises("vault-unwritten", vault.put, "a", b"nowhere")
    equal(found(FlashStore(part, UNIT, 4)), (dict(NOW, a=b"on the last good bank"), 2))


class Lossy(Nor):
    """Drop program number `lost` silently; sectors in `unerased` keep their content."""

    lost = -1
    unerased = ()

    def writeblocks(self, block, buf, offset=0):
        self.lost -= 1
        return 0 if self.lost == -1 else super().writeblocks(block, buf, offset)

    def ioctl(self, operation, argument):
        if operation == 6 and argument in self.unerased:
            return 0
        return super().ioctl(operation, argument)


def test_a_wipe_of_a_flash_that_holds_no_vault():
    """What a beginning that was cut left goes as well."""
    part = flash()
    part.data[:40] = bytes(40)
    on_flash(part).erase_all()
    equal(bytes(part.data), b"\xff" * len(part.data))


def test_a_wipe_where_nothing_takes_the_vaults_place():
    """The other bank is worn out: what can't be moved is erased where it lies."""
    part = Nor(4, 512, UNIT)
    store = on_flash(part)
    history(store)
    equal(store._bank, 0)
    part.stuck = {2, 3}
    store.erase_all()
    equal(bytes(part.data), b"\xff" * len(part.data))
    equal(on_flash(part).names(), [])


def test_a_program_that_is_lost_is_made_elsewhere():
    for lost in range(3):
        part = Lossy(4, 512, UNIT)
        store = on_flash(part)
        history(store)
        bank = store._bank
        vault = Vault(store, RootKey())
        vault.open()
        part.lost = lost
        vault.put("a", b"third a")
        equal(store._bank, 1 - bank)
        equal(found(on_flash(part)), (dict(NOW, a=b"third a"), 2))


def test_a_program_of_a_long_record_that_is_lost():
    """It takes several: whichever is lost, those behind it don't make up for it."""
    data = bytes([number & 127 for number in range(3000)])
    programs = 0
    for lost in range(6):
        part = Lossy(4, 8192, UNIT)
        store = on_flash(part)
        store.write("a", b"first")
        before = part.programs
        part.lost = lost
        store.write("a", data)
        programs = max(programs, part.programs - before)
        equal(on_flash(part).read("a", 3000), data)
    check(programs > 5)


def test_a_driver_that_returns_false():
    """False is as good as an error number: what was asked for was not done."""

    class Refuses(Nor):
        refused = ()

        def readblocks(self, block, buf, offset=0):
            return False if "read" in self.refused else super().readblocks(block, buf, offset)

        def writeblocks(self, block, buf, offset=0):
            return False if "write" in self.refused else super().writeblocks(block, buf, offset)

        def ioctl(self, operation, argument):
            if operation == 6 and "erase" in self.refused:
                return False
            return super().ioctl(operation, argument)

    for refused in ("read", "write", "erase"):
        part = Refuses(4, 512, UNIT)
        store = on_flash(part)
        history(store)
        part.refused = (refused,)
        call = (store.erase_all,) if refused == "erase" else (store.write, "a", b"x")
        raises("filesystem", *call)


def test_a_bank_that_does_not_erase_is_left_out():
    part = Lossy(6, 512, UNIT)
    store = FlashStore(part, UNIT, 3)
    history(store)
    bank = store._bank
    # The next bank holds what its sector does not let go of, and the store does not know it.
    part.data[(2 * bank + 3) * 512 + 100] = 0
    part.unerased = (2 * bank + 3,)
    store._ready[bank + 1] = False
    while store._bank == bank:
        store.change((), ())
    equal((bank, store._bank), (0, 2))
    equal(found(FlashStore(part, UNIT, 3)), (NOW, 2))


def test_a_change_drops_the_start_s_memory():
    part = flash()
    on_flash(part).change((("a", b"first"), ("b", b"B")), ())
    store = on_flash(part)
    store.names()
    store.write("a", b"second")
    equal(store.read("a", 9), b"second")


def test_a_flash_that_is_not_blank_when_erased():
    """An encrypted partition: what reads as noise can't be told from what was lost."""

    class Encrypted(Nor):
        def readblocks(self, block, buf, offset=0):
            super().readblocks(block, buf, offset)
            for i in range(len(buf)):
                buf[i] ^= 0x5A

    store = on_flash(Encrypted(4, 512, UNIT))
    raises("vault-damaged", store.names)
    store.erase_all()
    raises("vault-damaged", store.write, "a", b"x")


def test_a_flash_that_fails():
    class Failing(Nor):
        way = 0

        def readblocks(self, block, buf, offset=0):
            return self.fails() or super().readblocks(block, buf, offset)

        def writeblocks(self, block, buf, offset=0):
            return self.fails() or super().writeblocks(block, buf, offset)

        def ioctl(self, operation, argument):
            return (operation == 6 and self.fails()) or super().ioctl(operation, argument)

        def fails(self):
            if self.way == 1:
                raise OSError(errno.EIO)
            return -5 if self.way == 2 else 0

    for way in (1, 2):
        part = Failing(4, 512, UNIT)
        store = on_flash(part)
        history(store)
        part.way = way
        raises("filesystem", store.read, "commit", 4096) if not store._cache else None
        raises("filesystem", store.write, "z", b"z")
        raises("filesystem", on_flash(part).names)
        part.way = 0
        equal(found(store), (NOW, 2))


def test_a_flipped_bit_in_any_byte_of_the_nvs():
    """NVS finds most of them itself: then the blob is gone. Here what it would let pass."""
    part = Nvs()
    history(on_nvs(part))
    tally = {}
    for key in sorted(part.blobs):
        blob = part.blobs[key]
        for at in range(len(blob)):
            bad = Nvs(part.blobs)
            bad.blobs[key] = blob[:at] + bytes((blob[at] ^ 1 << at % 8,)) + blob[at + 1 :]
            result = found(on_nvs(bad))
            check(result in ("vault-damaged", "root-key"), "%s %d: %r" % (key, at, result))
            tally[result] = tally.get(result, 0) + 1
        for cut in (0, 1, 11, 12, len(blob) - 1):
            check(found(on_nvs(Nvs(dict(part.blobs, **{key: blob[:cut]})))) == "vault-damaged")
    equal(sorted(tally), ["root-key", "vault-damaged"])


def test_a_blob_that_is_gone():
    part = Nvs()
    history(on_nvs(part))
    for key in part.blobs:
        rest = dict(part.blobs)
        del rest[key]
        check(found(on_nvs(Nvs(rest))) in ("vault-damaged", "not-provisioned"))


def test_chunks_of_a_long_record():
    part = Nvs()
    store = on_nvs(part)
    data = Dice(4).bytes(4126)
    store.write("long", data)
    equal(sorted([len(blob) for blob in part.blobs.values()]), [1058, 1540, 1552])
    for key in sorted(part.blobs)[1:]:
        for bad in (b"", b"\0\0\0\2" + part.blobs[key][4:], part.blobs[key][:-1]):
            raises("vault-damaged", on_nvs(Nvs(dict(part.blobs, **{key: bad}))).read, "long", 5000)
        rest = dict(part.blobs)
        del rest[key]
        raises("vault-damaged", on_nvs(Nvs(rest)).read, "long", 5000)


def test_a_cut_slot_is_no_part_of_a_record():
    part = Nvs()
    store = on_nvs(part)
    part.budget, part.operations = 3, 0
    try:
        store.write("long", Dice(4).bytes(4126))
        check(False, "no cut")
    except PowerCut:
        part.power_up()
    equal(sorted(part.blobs), ["w001", "w002"])
    store = on_nvs(part)
    equal(store.names(), [])
    store.write("short", b"x")
    equal(sorted(part.blobs), ["w000"])


def test_two_slots_of_one_name():
    part = Nvs()
    store = on_nvs(part)
    store.write("a", b"old")
    older = dict(part.blobs)
    store.write("a", b"new")
    both = Nvs(dict(part.blobs, **older))
    equal(len(both.blobs), 2)
    equal(on_nvs(both).read("a", 9), b"new")
    equal(len(both.blobs), 1)


def test_a_nvs_that_fails():
    class Failing(Nvs):
        def set_blob(self, key, value):
            raise OSError(-4355, "ESP_ERR_NVS_TYPE_MISMATCH")

    raises("filesystem", on_nvs(Failing()).write, "a", b"x")
