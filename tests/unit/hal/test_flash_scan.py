"""Scan logs on raw flash, made by hand, at a start.

Each form is either refused as damage or accepted as the trace of a power cut.
"""

from binascii import crc32

from board_model import PowerCut
from harness import check, equal, has_text, raises
from nor_model import Nor
from warden.errors import StoreError
from warden.hal.flash_scan import BANK, HEAD, PUT, REMOVED
from warden.hal.store_flash import FlashStore

PURE = True

UNIT, SECTOR, SECTORS = 16, 512, 4
SIZE = SECTOR * SECTORS // 2  # of a bank


def sealed(fields):
    return fields + crc32(fields).to_bytes(4, "big")


HEADER = sealed(BANK + bytes((1, 0, 2, 0)) + bytes((0, UNIT)) + (SIZE // UNIT).to_bytes(2, "big"))


def entry(name, data=b"", kind=PUT, length=None, size=None):
    lead = bytes((kind, len(name) if length is None else length))
    lead += (len(data) if size is None else size).to_bytes(2, "big") + name
    return lead, data


def change(sequence, *entries, mark=b"\0\0\0\0", units=None, check_of=None, magic=HEAD):
    """A head, its entries, its mark."""
    body, crc = b"", 0
    for lead, data in entries:
        crc = crc32(lead, crc)
        body += lead + data
    body += b"\xff" * (-len(body) % UNIT)
    count = len(body) // UNIT if units is None else units
    crc = crc if check_of is None else check_of
    head = sealed(
        magic + count.to_bytes(2, "big") + sequence.to_bytes(4, "big") + crc.to_bytes(4, "big")
    )
    return head + body + mark + b"\xff" * (UNIT - len(mark))


def flash(*parts, second=b""):
    """A bank of these, one behind the other; the second bank."""
    part = Nor(SECTORS, SECTOR, UNIT)
    image = b"".join(parts)
    part.data[: len(image)] = image
    part.data[SIZE : SIZE + len(second)] = second
    return part


def store_on(part):
    return FlashStore(part, UNIT)


def holds(part, wanted):
    store = store_on(part)
    equal({name: store.read(name, 500) for name in store.names()}, wanted)
    # Whatever a start put in order, the next one finds the same.
    again = store_on(part)
    equal({name: again.read(name, 500) for name in again.names()}, wanted)
    return store


def damaged(part):
    before = bytes(part.data)
    check(isinstance(raises("vault-damaged", store_on(part).names), StoreError))
    equal(bytes(part.data), before)


A, B = entry(b"a", b"one"), entry(b"b", b"two")
FIRST = change(1, A)


def test_whole_changes():
    holds(flash(HEADER, FIRST), {"a": b"one"})
    holds(flash(HEADER, FIRST, change(2, B)), {"a": b"one", "b": b"two"})
    gone = change(3, entry(b"a", kind=REMOVED))
    holds(flash(HEADER, FIRST, change(2, B), gone), {"b": b"two"})
    holds(flash(HEADER, FIRST, change(2, A, B), change(3)), {"a": b"one", "b": b"two"})


def test_a_bank_without_its_header():
    """What a cut leaves of its first units counts for nothing; more of it was something."""
    torn = HEADER[:10] + b"\xff" * 6
    other = sealed(b"What is this"[:12])
    for begin in (torn, other, b"\0" * 3 * UNIT, HEADER[:15] + b"\0"):
        holds(flash(begin), {})
        damaged(flash(begin[:UNIT], b"\xff" * 2 * UNIT, b"\0\0\0"))
        holds(flash(begin[:UNIT], b"\xff" * 2 * UNIT, b"\0\0"), {})
        # Beside one that stands it is what an erasure left.
        other_bank = HEADER[:5] + b"\1" + HEADER[6:12]
        holds(flash(begin, b"\0" * 200, second=sealed(other_bank) + FIRST), {"a": b"one"})


def test_a_header_of_another_division():
    for at, byte in ((4, 2), (5, 1), (6, 3), (7, 1), (9, 32), (11, 5)):
        fields = bytearray(HEADER[:12])
        fields[at] = byte
        damaged(flash(sealed(bytes(fields)), FIRST))


def test_a_head_that_was_cut():
    for size in (1, 2, 4, 11, 15):
        for filler in (b"\xff", b"\0"):
            torn = change(2, B)[:size] + filler * (UNIT - size)
            holds(flash(HEADER, FIRST, torn), {"a": b"one"})
            # Nothing follows a head that was cut.
            damaged(flash(HEADER, FIRST, torn, b"\0\0\0"))


def test_entries_that_were_cut():
    whole = change(2, B)
    for size in range(UNIT, 2 * UNIT):
        holds(flash(HEADER, FIRST, whole[:size]), {"a": b"one"})
    noise = whole[:UNIT] + bytes(range(UNIT))
    holds(flash(HEADER, FIRST, noise), {"a": b"one"})
    damaged(flash(HEADER, FIRST, noise, b"\xff" * UNIT, b"\0\0\0"))


def test_the_mark():
    """More than half of its bits count."""
    for mark, counts in (
        (b"\0\0\0\0", True),
        (b"\0\0\0\xff", True),
        (b"\0\0\x7f\xff", True),
        (b"\0\0\xff\xff", False),
        (b"\xff\xff\xff\xff", False),
    ):
        wanted = {"a": b"one", "b": b"two"} if counts else {"a": b"one"}
        store = holds(flash(HEADER, FIRST, change(2, B, mark=mark)), wanted)
        equal(store.names().count("a"), 1)
        # One that was not whole is copied away: what reads so today may not tomorrow.
        part = flash(HEADER, FIRST, change(2, B, mark=mark))
        store_on(part).names()
        moved = bytes(part.data[SIZE : SIZE + 4]) == BANK
        equal(moved, mark not in (b"\0\0\0\0",))
    # Behind it its unit is erased, but for a stray bit or two.
    mark = b"\0\0\0\0"
    holds(flash(HEADER, FIRST, change(2, B, mark=mark + b"\x7f\x7f")), {"a": b"one", "b": b"two"})
    damaged(flash(HEADER, FIRST, change(2, B, mark=mark + b"\x7f\x7f\x7f")))


def test_sequences():
    damaged(flash(HEADER, FIRST, change(3, B)))
    damaged(flash(HEADER, FIRST, change(1, B)))
    damaged(flash(HEADER, change(7, A), change(7, B)))
    holds(flash(HEADER, change(7, A), change(8, B)), {"a": b"one", "b": b"two"})


def test_a_change_that_counts_and_does_not_fit():
    for bad in (
        change(2, B, check_of=0),
        change(2, entry(b"b", b"two", size=400)),  # reaches behind its own end
        change(2, entry(b"b", b"two", length=200)),
        change(2, entry(b"\xff\xfe", b"two")),  # no text
        change(2, entry(b"b", b"two", kind=2)),
        change(2, B, units=400),  # behind the bank
        change(2, B, units=SIZE // UNIT - 4),
    ):
        damaged(flash(HEADER, FIRST, bad))


def test_behind_the_last_change():
    whole = (HEADER, FIRST)
    free = b"\xff" * UNIT
    holds(flash(*whole, free, b"\x7f\x7f"), {"a": b"one"})
    damaged(flash(*whole, free, b"\x7f\x7f\x7f"))
    # In the place of the next head so many bytes may be anything, and with them none elsewhere.
    holds(flash(*whole, b"\0\0", b"\xff" * 14), {"a": b"one"})
    damaged(flash(*whole, b"\0\0", b"\xff" * 14, b"\0"))
    damaged(flash(*whole, b"\0", b"\xff" * 15, b"\0\0"))


def padded(border=SECTOR, header=HEADER):
    """Changes up to just before a sector's border, and what is left to it."""
    parts, at, sequence = [header], UNIT, 0
    while at + 3 * UNIT <= border - 2 * UNIT:
        sequence += 1
        parts.append(change(sequence, A))
        at += 3 * UNIT
    return parts, border - at, sequence


def test_padding_before_a_sectors_border():
    parts, left, sequence = padded()
    check(0 < left < 6 * UNIT)
    long = change(sequence + 1, entry(b"b", bytes(100)))
    wanted = {"a": b"one", "b": bytes(100)}
    holds(flash(*parts, b"\xff" * left, long), wanted)
    # A stray bit or two in there is no reason to refuse, and one to copy it all away.
    for stray in (1, 2):
        gap = b"\x7f" * stray + b"\xff" * (left - stray)
        part = flash(*parts, gap, long)
        holds(part, wanted)
        equal(bytes(part.data[SIZE : SIZE + 4]), BANK)
    # With more of them nothing behind is believed.
    damaged(flash(*parts, b"\x7f" * 3 + b"\xff" * (left - 3), long))
    # Nothing follows at all: the border is just free flash.
    holds(flash(*parts, b"\xff" * left), {"a": b"one"})


SECOND = sealed(HEADER[:5] + b"\1" + HEADER[6:12])


def test_the_last_units_of_a_bank():
    """Where no change fits any more, none is looked for; one that just fits is found."""
    for second in (False, True):
        parts, left, sequence = padded(SIZE, SECOND if second else HEADER)
        check(left in range(2 * UNIT, 5 * UNIT + 1))
        while left > 3 * UNIT:
            sequence += 1
            parts.append(change(sequence))
            left -= 2 * UNIT
        equal(left, 3 * UNIT)

        def made(tail, parts=parts, second=second):
            image = b"".join(parts) + tail
            return flash(second=image) if second else flash(image)

        holds(made(b""), {"a": b"one"})
        holds(made(b"\x7f\x7f"), {"a": b"one"})
        holds(made(change(sequence + 1, B)), {"a": b"one", "b": b"two"})
        empty = change(sequence + 1)
        holds(made(empty), {"a": b"one"})
        holds(made(empty + b"\x7f\x7f"), {"a": b"one"})
        # Two units are enough for a change without entries.
        parts[1] = change(1, entry(b"a", b"one" + bytes(16)))
        holds(
            made(change(sequence + 1)),
            {"a": b"one" + bytes(16)} if sequence < 2 else {"a": b"one"},
        )
        parts[1] = change(1, A)
        # What would reach behind the end never stood.
        damaged(made(change(sequence + 1, entry(b"b", bytes(20)))[: 3 * UNIT]))


def test_more_than_a_start_keeps_in_memory():
    part = Nor(4, 16384, UNIT)
    store = FlashStore(part, UNIT)
    wanted = {"r%d" % number: bytes((number,)) * 3000 for number in range(4)}
    for number in range(4):  # in this order, which a dictionary does not keep
        store.write("r%d" % number, wanted["r%d" % number])
    again = FlashStore(part, UNIT)
    equal(len(again.names()), 4)
    equal(sorted([len(data) for data in again._cache.values()]), [3000, 3000])
    equal({name: again.read(name, 3000) for name in again.names()}, wanted)
    # One that was replaced makes room for another.
    store.write("r0", b"small")
    store.write("r3", bytes(3000))
    third = FlashStore(part, UNIT)
    third.names()
    equal(sorted([len(data) for data in third._cache.values()]), [5, 3000, 3000])


def test_stray_bits_in_the_sectors_behind():
    """Two erased bytes that lost a bit are no lost change; three are."""
    rest = b"\xff" * (SECTOR - UNIT - len(FIRST))
    next_head = b"\xff" * UNIT
    wanted = {"a": b"one"}
    holds(flash(HEADER, FIRST, rest, next_head, b"\x7f\x7f"), wanted)
    damaged(flash(HEADER, FIRST, rest, next_head, b"\x7f\x7f\x7f"))
    holds(flash(HEADER, FIRST, rest, b"\x7f" + next_head[1:], b"\x7f"), wanted)
    damaged(flash(HEADER, FIRST, rest, b"\x7f\x7f" + next_head[2:], b"\x7f"))
    # Behind a change that never happened, too.
    cut = change(2, B)[:UNIT]
    behind = b"\xff" * 2 * UNIT
    holds(flash(HEADER, FIRST, cut, behind, b"\x7f\x7f"), wanted)
    damaged(flash(HEADER, FIRST, cut, behind, b"\x7f\x7f\x7f"))


def test_two_banks():
    second = SECOND
    newer = change(9, entry(b"a", b"new"))
    part = flash(HEADER, FIRST, second=second + newer)
    holds(part, {"a": b"new"})
    # The older one was erased before anything was answered.
    equal(bytes(part.data[UNIT:SIZE]), b"\xff" * (SIZE - UNIT))
    part = flash(HEADER, newer, second=second + FIRST)
    holds(part, {"a": b"new"})
    equal(bytes(part.data[SIZE + UNIT :]), b"\xff" * (SIZE - UNIT))
    # What happened in one of them and is damaged is not passed over for the other.
    damaged(flash(HEADER, FIRST, second=second + change(9, B, check_of=0)))


def test_what_an_erasure_left_is_erased():
    """One programmed byte in the first units of the other bank has it erased whole.

    That happens before the store answers.
    """
    for at in (0, UNIT - 1, 3 * UNIT - 1, 3 * UNIT, SIZE - 1):
        left = bytearray(b"\xff" * SIZE)
        left[at] = 0x7F
        part = flash(bytes(left), second=SECOND + FIRST)
        holds(part, {"a": b"one"})
        equal(bytes(part.data[:SIZE]), HEADER + b"\xff" * (SIZE - UNIT), str(at))
    # Behind its header, too: a change that was cut.
    part = flash(HEADER, b"W", second=SECOND + FIRST)
    holds(part, {"a": b"one"})
    equal(bytes(part.data[:SIZE]), HEADER + b"\xff" * (SIZE - UNIT))
    # Where there is nothing, nothing is erased; and a bank that was is ready.
    for begin, ready in ((b"", False), (HEADER, True)):
        part = flash(begin, second=SECOND + FIRST)
        store = holds(part, {"a": b"one"})
        equal((sum(part.erases), part.programs, store._ready), (0, 0, [ready, False]))


def test_how_a_flash_may_be_divided():
    """Four units a sector at least, each of the sizes that a program may have."""
    for unit in (16, 32, 64, 128, 256):
        part = Nor(4, 4 * unit, unit)
        FlashStore(part, unit).write("a", b"one")
        equal(FlashStore(part, unit).read("a", 3), b"one")
        raises("bad-argument", FlashStore, Nor(4, 3 * unit, unit), unit)
        raises("bad-argument", FlashStore, Nor(4, 4 * unit + 8, 8), unit)


def test_a_change_that_just_fits():
    """To the last unit of its bank, and one byte more goes to the next bank."""
    for more, bank in ((0, 0), (1, 1)):
        part = flash(HEADER, FIRST, second=SECOND)
        store = store_on(part)
        store.names()
        # In its own sector, behind the last change: head and mark take a unit each, a record's
        # lead four bytes and its name.
        left = SIZE - store._end
        room = left - 2 * UNIT - 5
        check(left > SECTOR)
        store.write("b", bytes(room + more))
        equal(store._bank, bank, str(more))
        equal(store_on(part).read("b", SIZE), bytes(room + more))


def test_the_longest_record():
    part = Nor(40, 4096, 256)
    store = FlashStore(part, 256)
    store.write("a", bytes(65535))
    raises("bad-argument", store.write, "a", bytes(65536))
    check(FlashStore(part, 256).read("a", 65535) == bytes(65535))


def test_a_long_beginning_that_was_cut_twice():
    """The second start erases what the first cut left, and is cut too.

    The vault is still absent, and nothing is lost.
    """
    for first in range(12):
        for second in range(12):
            part = Nor(SECTORS, SECTOR, UNIT)
            for budget in (first, second):
                part.operations, part.budget, part.torn = 0, budget, 4
                try:
                    store_on(part).write("a", bytes(300))
                except PowerCut:
                    pass
                part.power_up()
            check(store_on(part).read("a", 300) in (None, bytes(300)))


def test_a_failed_first_scan_is_repeated():
    """After an error the same object answers as a new one would.

    It trusts nothing that it had in memory.
    """
    looks = 0
    for budget in range(16):
        part = Nor(SECTORS, SECTOR, UNIT)
        store = store_on(part)
        part.budget, part.torn = budget, 4
        try:
            store.write("a", bytes(100))
        except PowerCut:
            part.power_up()
            part.reads = [0] * SECTORS
            store.names()
            looks += sum(part.reads) > 0
            continue
        break
    equal(looks, budget)


def test_as_much_as_a_bank_holds():
    """Its header, and one change of everything: to the last byte."""
    most = SIZE - UNIT - 2 * UNIT - 5
    for begin in ((), (HEADER, FIRST)):
        store = store_on(flash(*begin))
        store.write("b", b"old")
        store.remove("a")
        raises("vault-limit", store.write, "b", bytes(most + 1))
        equal(store.read("b", 9), b"old")
        store.write("b", bytes(most))
        check(store.read("b", most) == bytes(most))


def test_a_removal_of_nothing():
    part = flash(HEADER, FIRST)
    store = store_on(part)
    store.remove("b")
    equal((part.programs, sum(part.erases), store.names()), (0, 0, ["a"]))
    store.change([("b", b"two")], ["never"])
    at = UNIT + len(FIRST)
    equal(bytes(part.data[at : at + 4 * UNIT]), change(2, B) + b"\xff" * UNIT)


def test_an_erasure_of_nothing():
    """Banks that are erased already are left alone.

    A vault's records go from memory as well.
    """
    part = flash(HEADER, second=SECOND)
    store_on(part).erase_all()
    equal((sum(part.erases), part.programs), (0, 0))
    part = flash(HEADER, FIRST)
    store = store_on(part)
    store.names()
    equal(store._cache, {"a": b"one"})
    store.erase_all()
    equal((store._cache, store.read("a", 3)), ({}, None))
    # What takes its place is an empty one, which needs no other erasure.
    equal((bytes(part.data[SIZE : SIZE + 4]), part.erases), (BANK, [1, 1, 1, 1]))
    part = flash(HEADER, second=SECOND + FIRST)
    store_on(part).erase_all()
    equal((bytes(part.data[:4]), part.erases), (BANK, [0, 0, 1, 1]))


def test_a_move_leaves_nothing_behind():
    """The full bank is erased right after the move, not at the next start.

    The next bank was ready, and is not erased again.
    """
    for begin, second, old in ((HEADER + FIRST, SECOND, 0), (HEADER, SECOND + FIRST, 1)):
        part = flash(begin, second=second)
        store = store_on(part)
        turn = 0
        while not turn or store._bank == old:
            turn += 1
            store.write("a", b"planted %d" % turn)
            check(turn < 99)
        at = old * SIZE
        header = (HEADER, SECOND)[old]
        equal(bytes(part.data[at : at + SIZE]), header + b"\xff" * (SIZE - UNIT))
        wanted = [1, 1, 0, 0] if old == 0 else [0, 0, 1, 1]
        equal((part.erases, store._ready), (wanted, [old == 0, old == 1]))
        equal(store_on(part).read("a", 99), b"planted %d" % turn)


def test_the_form_of_a_removal():
    """As in docs/formats.md: kind 0, the name's length, no bytes, the name."""
    part = flash(HEADER, FIRST)
    store = store_on(part)
    store.remove("a")
    at = UNIT + len(FIRST)
    equal(bytes(part.data[at : at + 4 * UNIT])[UNIT : UNIT + 5], b"\0\1\0\0a")
    equal(bytes(part.data[at : at + 3 * UNIT]), change(2, entry(b"a", kind=REMOVED)))


class Backwards(Nor):
    """Whose erase, where it is cut, has erased the end of a sector and not yet its beginning."""

    def ioctl(self, operation, argument):
        if operation != 6:
            return super().ioctl(operation, argument)
        begin = argument * self.sector
        before = bytes(self.data[begin : begin + self.sector])
        try:
            return super().ioctl(operation, argument)
        except PowerCut:
            left = self.sector - self.sector * self.torn // 8
            after = before[:left] + b"\xff" * (self.sector - left)
            self.data[begin : begin + self.sector] = after
            raise


def test_an_erasure_that_begins_at_a_sectors_end():
    """An older bank with a header and half of its changes is no damage.

    Otherwise the vault would never open again.
    """
    parts, _, sequence = padded(SIZE)
    newer = change(sequence + 5, entry(b"a", b"new"))
    cuts = 0
    for budget in range(6):
        for torn in (0, 1, 3, 4, 7, 8):
            part = Backwards(SECTORS, SECTOR, UNIT)
            image = b"".join(parts)
            part.data[: len(image)] = image
            part.data[SIZE : SIZE + UNIT + len(newer)] = SECOND + newer
            part.operations, part.budget, part.torn = 0, budget, torn
            try:
                store_on(part).names()
            except PowerCut:
                cuts += 1
            part.power_up()
            holds(part, {"a": b"new"})
    check(cuts >= 18)


def test_a_change_larger_than_any_bank():
    """An error, and not a change that never was; in programs of a kilobyte at most."""

    class Measured(Nor):
        longest = read = 0

        def readblocks(self, block, buf, offset=0):
            self.read = max(self.read, len(buf))
            super().readblocks(block, buf, offset)

        def writeblocks(self, block, buf, offset=0):
            self.longest = max(self.longest, len(buf))
            return super().writeblocks(block, buf, offset)

    part = Measured(4, 8192, UNIT)
    store = store_on(part)
    store.write("a", bytes(5000))
    # Read back, and copied into the other bank, by pieces of a quarter.
    part.read = 0
    store.write("b", bytes(5000))
    store.write("b", bytes(5000))
    equal((store._bank, part.longest, part.read), (1, 1024, 256))
    part.stuck = {0, 1, 2, 3}
    raises("vault-unwritten", store.write, "a", b"x")
    equal(store_on(part).read("a", 5000), bytes(5000))
    equal(store_on(part).read("b", 5000), bytes(5000))


def test_every_byte_is_read_back():
    """Any byte of a change that fails to program moves the change to the other bank."""

    class Weak(Nor):
        weak = -1

        def _write(self, at, new):
            super()._write(at, new)
            if at <= self.weak < at + len(new):
                self.data[self.weak] = 0xFF

    made = change(2, entry(b"b", bytes(600)))
    begin = UNIT + len(FIRST)
    for at in range(begin, begin + len(made)):
        part = Weak(8, SECTOR, UNIT)
        header = HEADER[:10] + (2 * SIZE // UNIT).to_bytes(2, "big")
        image = sealed(header) + FIRST
        part.data[: len(image)] = image
        store = store_on(part)
        store.names()
        part.weak = at
        lost = made[at - begin] != 0xFF
        store.write("b", bytes(600))
        equal(store._bank, 1 if lost else 0, str(at))
        check(store.read("b", 600) == store_on(part).read("b", 600) == bytes(600), str(at))


def test_an_error_has_its_number():
    class Failing(Nor):
        error = OSError(5, "EIO")

        def readblocks(self, block, buf, offset=0):
            raise self.error

    part = Failing(SECTORS, SECTOR, UNIT)
    for number in (5, 0):
        has_text(raises("filesystem", store_on(part).names), "errno %d)" % number)
        part.error = OSError()


def moved(part):
    """Whether a start copies all of it into the other bank."""
    store_on(part).names()
    return bytes(part.data[SIZE : SIZE + 4]) == BANK


def test_a_log_that_may_read_differently_later_is_copied():
    """A stray bit or a partial mark makes the start copy the log.

    The bit is behind the last change; the mark is followed by whole changes.
    """
    rest = b"\xff" * (SECTOR - UNIT - len(FIRST))
    check(not moved(flash(HEADER, FIRST)))
    check(moved(flash(HEADER, FIRST, rest, b"\xff" * UNIT, b"\x7f")))
    weak = change(2, B, mark=b"\0\0\0\x01")
    third = change(3, entry(b"c", b"three"))
    check(moved(flash(HEADER, FIRST, weak, third)))
    part = flash(HEADER, FIRST, weak, third)
    holds(part, {"a": b"one", "b": b"two", "c": b"three"})


def test_a_copy_into_a_bank_that_held_something_older():
    """It is erased before, and not after: each sector once."""
    weak = change(8, B, mark=b"\0\0\0\x01")
    part = flash(HEADER, change(7, A), weak, second=SECOND + change(1, entry(b"a", b"old")))
    store = store_on(part)
    equal((store.read("a", 9), store.read("b", 9)), (b"one", b"two"))
    equal((store._bank, part.erases), (1, [1, 1, 1, 1]))
    holds(part, {"a": b"one", "b": b"two"})


def test_large_numbers():
    """Sequences above 24 bits, and a change of more than 255 units."""
    holds(flash(HEADER, change(1 << 24, A), change((1 << 24) + 1, B)), {"a": b"one", "b": b"two"})
    holds(flash(HEADER, change((1 << 24) - 1, A), change(1 << 24, B)), {"a": b"one", "b": b"two"})
    part = Nor(4, 16384, UNIT)
    data = bytes([number * 7 & 255 for number in range(5000)])
    FlashStore(part, UNIT).write("long", data)
    FlashStore(part, UNIT).write("a", b"one")
    store = FlashStore(part, UNIT)
    equal((store.read("long", 5000), store.read("a", 3)), (data, b"one"))


def kept(*changes):
    """Return the sizes of the records that a start keeps in memory.

    Beside them: how often it read each sector of the first bank.
    """
    part = Nor(4, 32768, UNIT)
    store = FlashStore(part, UNIT)
    for puts in changes:
        store.change(puts, ())
    again = FlashStore(part, UNIT)
    part.reads = [0] * 4
    again.names()
    return sorted([len(data) for data in again._cache.values()]), part.reads


def test_a_start_keeps_eight_kilobytes():
    """Over all changes, and within one: a move writes everything that stands as one."""
    one, two, three = [("r%d" % number, bytes(3000)) for number in range(3)]
    equal(kept([one, two, three])[0], [3000, 3000])
    equal(kept([one], [two], [three])[0], [3000, 3000])
    for second, wanted in ((4095, 2), (4096, 2), (4097, 1)):
        for changes in (
            ([("a", bytes(4096)), ("b", bytes(second))],),
            ([("a", bytes(4096))], [("b", bytes(second))]),
        ):
            equal(len(kept(*changes)[0]), wanted, str(second))
    # However much there is, each sector is read once.
    check(max(kept([one], [two], [three])[1]) == 1)


def test_names_and_the_memory_of_a_start():
    """Small records are served once from the start's memory; large ones are not kept."""
    large = entry(b"l", bytes(300))
    part = flash(HEADER, FIRST, change(2, B), change(3, large))
    store = store_on(part)
    store.names()
    part.reads = [0] * SECTORS
    equal((store.read("a", 9), store.read("b", 9)), (b"one", b"two"))
    equal(sum(part.reads), 0)
    equal(store.read("a", 9), b"one")
    check(sum(part.reads) > 0)
    equal(store.read("l", 300), bytes(300))
