"""CBOR: one encoding a value, and a refusal with the right code for everything else."""

import struct
from array import array

from harness import Skipped, check, equal, need, raises
from warden.wire import cbor, cbor_reader, exact
from warden.wire.cbor_reader import Reader

PURE = BUILT = True
unhex = bytes.fromhex

# Boards have floats of 32 bits.
WIDE = 1 + 2.0**-40 != 1

# RFC 8949 appendix A, as far as our types go; powers of 2 are written so because a board's parser
# rounds.
SAME = (
    (0, "00"),
    (1, "01"),
    (10, "0a"),
    (23, "17"),
    (24, "1818"),
    (100, "1864"),
    (255, "18ff"),
    (256, "190100"),
    (1000, "1903e8"),
    (65535, "19ffff"),
    (65536, "1a00010000"),
    (1000000, "1a000f4240"),
    (4294967295, "1affffffff"),
    (4294967296, "1b0000000100000000"),
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
    (-18446744073709551616, "3bffffffffffffffff"),
    (-1, "20"),
    (-10, "29"),
    (-24, "37"),
    (-25, "3818"),
    (-100, "3863"),
    (-1000, "3903e7"),
    (0.0, "f90000"),
    (1.0, "f93c00"),
    (1.1, "fb3ff199999999999a"),
    (1.5, "f93e00"),
    (65504.0, "f97bff"),
    (100000.0, "fa47c35000"),
    ((2 - 2.0**-23) * 2.0**127, "fa7f7fffff"),
    (1.0e300, "fb7e37e43c8800759c"),
    (2.0**-24, "f90001"),
    (2.0**-14, "f90400"),
    (-4.0, "f9c400"),
    (-4.1, "fbc010666666666666"),
    (False, "f4"),
    (True, "f5"),
    (None, "f6"),
    (b"", "40"),
    (b"\1\2\3\4", "4401020304"),
    ("", "60"),
    ("a", "6161"),
    ("IETF", "6449455446"),
    ('"\\', "62225c"),
    ("\u00fc", "62c3bc"),
    ("\u6c34", "63e6b0b4"),
    ("\U00010151", "64f0908591"),
    ([], "80"),
    ([1, 2, 3], "83010203"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"),
    ({1: 2, 3: 4}, "a201020304"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
)


def test_rfc8949_examples():
    for value, wanted in SAME:
        if wanted[:2] == "fb" and not WIDE:
            continue
        if value == 0.0:
            continue  # an RP2040's floats have no subnormals: this one never reaches the encoder
        equal(cbor.encode(value), unhex(wanted), repr(value))
        got = cbor.decode(unhex(wanted))
        equal(got, value)
        # True == 1 and 1.0 == 1: the type counts as well.
        check(type(got) is type(value), "type of %r" % (value,))
        equal(cbor.encode(got), unhex(wanted))
        equal(bytes(Reader(unhex(wanted)).skip()), unhex(wanted))


def test_buffers_and_tuples():
    equal(cbor.encode(bytearray(b"ab")), b"\x42ab")
    equal(cbor.encode(memoryview(b"xaby")[1:3]), b"\x42ab")
    equal(cbor.encode((1, (2,))), unhex("82018102"))
    equal(cbor.decode(bytearray(unhex("8241ff6161"))), [b"\xff", "a"])
    equal(cbor.decode(memoryview(unhex("8241ff6161"))), [b"\xff", "a"])


def test_a_view_of_wider_items_is_refused():
    """It would have the length of its items and the bytes of all: the rest is read as items."""
    for kind in "HhIf":
        samples = memoryview(array(kind, [1, 2, 3]))
        for value in (samples, [samples], {"v": samples}, {"v": samples, "w": 1}):
            raises("bad-argument", cbor.encode, value)
    equal(cbor.encode(memoryview(array("B", [1, 2, 3]))), b"\x43\x01\x02\x03")
    equal(cbor.encode(bytes(array("H", [1]))), b"\x42\x01\x00")


def test_negative_zero_keeps_its_sign():
    equal(cbor.encode(-0.0), unhex("f98000"))
    equal(struct.pack(">d", cbor.decode(unhex("f98000"))), unhex("8000000000000000"))


def test_floats_at_the_borders_of_each_width():
    cases = (
        ("f903ff", 2.0**-24 * 1023),  # the largest subnormal of 16 bits
        ("f90200", 2.0**-15),
        ("fa33000000", 2.0**-25),  # half of the least of 16 bits
        ("fa33c00000", 2.0**-24 * 1.5),
        ("fa47800000", 65536.0),
        ("fa477fe100", 65505.0),  # one bit too many for 16
        ("fa00000001", 2.0**-149),  # the least of 32 bits
        ("fa00800000", 2.0**-126),
        ("fa007fffff", 2.0**-149 * 8388607),
        ("fb3690000000000000", 2.0**-150),
        ("fb36a8000000000000", 2.0**-149 * 1.5),
        ("fb47f0000000000000", 2.0**128),
        ("fb3ff0000010000000", 1 + 2.0**-24),
        ("fa3f800001", 1 + 2.0**-23),
        ("fb3ff0000000000001", 1 + 2.0**-52),
        ("fb0000000000000001", 5e-324),
        ("fb000fffffffffffff", 2.225073858507201e-308),
    )
    for wanted, value in cases:
        if wanted[:2] == "fb" and not WIDE:
            continue
        if value == 0.0:
            continue  # an RP2040's floats have no subnormals: this one never reaches the encoder
        equal(cbor.encode(value), unhex(wanted))
        equal(cbor.decode(unhex(wanted)), value)
        equal(cbor.encode(-value)[1] & 0x80, 0x80)


def test_floats_that_a_board_cannot_hold():
    for data, value in (
        ("fb7e37e43c8800759c", 1.0e300),
        ("fbffefffffffffffff", -1.7976931348623157e308),
    ):
        if WIDE:
            equal(cbor.decode(unhex(data)), value)
        else:
            raises("cbor-limit", cbor.decode, unhex(data))
            raises("cbor-limit", Reader(unhex(data)).skip)
    # One that is between two of 32 bits is rounded.
    equal(cbor.decode(unhex("fb3ff199999999999a")), 1.1)


def test_every_half_float_survives():
    count = 0
    for bits in range(0, 1 << 16, 7):
        data = b"\xf9" + bits.to_bytes(2, "big")
        if bits & 0x7C00 == 0x7C00:
            raises("cbor-malformed", cbor.decode, data)
        else:
            if cbor.encode(cbor.decode(data)) != data:
                equal(cbor.encode(cbor.decode(data)), data)
            count += 1
    check(count > 9000)


def test_not_canonical():
    for data in (
        "1817",
        "190018",
        "1900ff",
        "1a0000ffff",
        "1b00000000ffffffff",
        "3817",
        "580100",
        "780161",
        "980100",
        "b8010000",
        "fa3fc00000",  # 1.5 fits 16 bits
        "fa00000000",
        "fa80000000",
        "fa33800000",  # the least subnormal of 16 bits
        "fb3ff8000000000000",
        "fb3fb9999980000000",
        "fb36a0000000000000",  # the least subnormal of 32 bits
        "fb0000000000000000",
        "5f4101ff",
        "7f6161ff",
        "9f01ff",
        "bf0101ff",
        "a202010101",  # keys out of order
        "a201010101",  # a key twice
        "a2616201616101",
        "a2200001 00".replace(" ", ""),  # -1 before 1
        "a2626161006162 00".replace(" ", ""),  # the longer key first
    ):
        raises("cbor-not-canonical", cbor.decode, unhex(data))
        raises("cbor-not-canonical", Reader(unhex(data)).skip)


def test_malformed():
    for data in (
        "",
        "18",
        "1900",
        "1a000000",
        "1b00000000000000",
        "41",
        "5903e8" + "00" * 999,
        "62c3",
        "81",
        "8201",
        "a1",
        "a101",
        "a2010102",
        "1c",
        "1c" + "00" * 16,
        "1d" + "01" * 32,
        "5e" + "00" * 64,
        "9c" + "00" * 64,
        "fd" + "00" * 64,
        "3d",
        "5e",
        "7c",
        "9d",
        "be",
        "1f",
        "3f",
        "ff",
        "c074323031332d30332d32315432303a30343a30305a",  # a tag
        "d9d9f7a0",
        "c249010000000000000000",  # a big number
        "f7",  # undefined
        "e0",
        "f0",
        "f818",
        "f8ff",
        "f8",
        "fc",
        "f97c00",
        "f9fc00",
        "f97e00",
        "fa7f800000",
        "faff800000",
        "fa7fc00000",
        "fb7ff0000000000000",
        "fb7ff8000000000000",
        "a1f400",  # keys that are no integer and no string
        "a1f600",
        "a18000",
        "a1a000",
        "a1f93c0000",
    ):
        raises("cbor-malformed", cbor.decode, unhex(data))
        raises("cbor-malformed", Reader(unhex(data)).skip)
    raises("cbor-malformed", cbor.decode, unhex("0000"))


def test_every_prefix_of_a_message_is_malformed():
    data = cbor.encode([1, -500, b"bytes", "t\u00e9xt", {"k": [1.5, 1.1], 300: None}, True])
    for n in range(len(data)):
        raises("cbor-malformed", cbor.decode, data[:n])
        raises("cbor-malformed", Reader(data[:n]).skip)


def test_text_must_be_utf8():
    for data in (
        "80",
        "bf",
        "c3",
        "c328",
        "c080",  # overlong
        "c1bf",
        "e08080",
        "e09fbf",
        "f0808080",
        "f08fbfbf",
        "eda080",  # surrogates
        "edbfbf",
        "f4908080",  # above U+10FFFF
        "f5808080",
        "f8888080 80".replace(" ", ""),
        "ff",
        "fe",
        "e282",
        "e28261",
        "f09f98",
        "f09f9861",
        "61e28261",
    ):
        for more in (b"", b"a"):
            text = unhex(data) + more
            raises("cbor-malformed", cbor.decode, bytes((0x60 | len(text),)) + text)
            raises("cbor-malformed", cbor.decode, b"\x81" + bytes((0x60 | len(text),)) + text)
            raises("cbor-malformed", Reader(bytes((0x60 | len(text),)) + text).skip)
    for text in (
        "\x7f",
        "\x80",
        "\u07ff",
        "\u0800",
        "\ud7ff",
        "\ue000",
        "\uffff",
        "\U00010000",
        "\U0010ffff",
    ):
        equal(cbor.decode(cbor.encode(text)), text)
    equal(cbor.decode(cbor.encode("\x00a\x00")), "\x00a\x00")


def test_nothing_is_allocated_for_what_is_not_there():
    for data in (
        "9a" + "ffffffff" + "00" * 5,
        "9b" + "ffffffffffffffff" + "00",
        "ba" + "ffffffff" + "00" * 5,
        "bb" + "8000000000000000" + "00",
        "5a" + "ffffffff" + "00" * 5,
        "5b" + "ffffffffffffffff",
        "7b" + "ffffffffffffffff",
    ):
        raises("cbor-malformed", cbor.decode, unhex(data))
        # Whoever reads a head may allocate by it.
        raises("cbor-malformed", Reader(unhex(data)).head)
    # Exactly as many elements as bytes is the most that can be.
    equal(cbor.decode(unhex("83000000")), [0, 0, 0])
    equal(Reader(unhex("830000")).peek(), cbor_reader.ARRAY)
    raises("cbor-malformed", Reader(unhex("830000")).array)
    raises("cbor-malformed", Reader(unhex("a2000000")).mapping)


def test_depth():
    for depth in range(1, 17):
        equal(cbor.encode(cbor.decode(b"\x81" * depth + b"\0", depth)), b"\x81" * depth + b"\0")
        raises("cbor-limit", cbor.decode, b"\x81" * depth + b"\0", depth - 1)
        equal(len(Reader(b"\x81" * depth + b"\0").skip(depth)), depth + 1)
        raises("cbor-limit", Reader(b"\xa1\0" * depth + b"\0").skip, depth - 1)
    raises("cbor-limit", cbor.decode, b"\x81" * 9 + b"\0")
    raises("cbor-limit", cbor.decode, b"\x81" * 5000 + b"\0")
    raises("cbor-limit", cbor.decode, b"\xa1\0" * 5000 + b"\0")
    raises("bad-argument", cbor.decode, b"\0", 17)
    raises("bad-argument", cbor.decode, b"\0", -1)
    raises("bad-argument", Reader(b"\0").skip, 17)
    raises("bad-argument", Reader(b"\0").skip, -1)
    # Eight, where nobody said how many.
    for read in (cbor.decode, lambda data: Reader(data).item(), lambda data: Reader(data).skip()):
        read(b"\x81" * 8 + b"\0")
        raises("cbor-limit", read, b"\x81" * 9 + b"\0")


def test_exhaustion_becomes_a_refusal():
    for error in (MemoryError(), RuntimeError("maximum recursion depth exceeded")):

        class Exhausted(Reader):
            def read(self, n, error=error):
                raise error

        raises("cbor-limit", Exhausted(b"\x41a").item)
        raises("cbor-limit", Exhausted(b"\x41a").skip)


def test_no_depth_costs_stack():
    """A board has 8 KB of it: 16 levels take no more than one."""
    need("micropython.stack_use")
    from micropython import stack_use

    if stack_use() <= 0:  # negative on WebAssembly in 1.23
        raise Skipped("this interpreter does not measure its stack")
    most = [0]

    class Measured(Reader):
        def read(self, n):
            most[0] = max(most[0], stack_use())
            return super().read(n)

    def measured(work, *args):
        most[0] = 0
        work(*args)
        return most[0]

    head = cbor.head

    def measured_head(major, value):
        most[0] = max(most[0], stack_use())
        return head(major, value)

    for level in (b"\x81", b"\xa1\0"):
        one, deep = level + b"\x41a", level * 16 + b"\x41a"
        for method in (Measured.item, Measured.skip):
            used = measured(method, Measured(one), 16)
            equal(measured(method, Measured(deep), 16), used)
        one, deep = (cbor.decode(data[:-2] + b"\x18\x18", 16) for data in (one, deep))
        cbor.head = measured_head
        try:
            equal(measured(cbor.encode, deep), measured(cbor.encode, one))
        finally:
            cbor.head = head
    check(used > 0)


def test_encode_refuses():
    nested = 0
    for _ in range(17):
        nested = [nested]
    loop = []
    loop.append(loop)
    for value in (
        1 << 64,
        -(1 << 64) - 1,
        float("nan"),
        float("inf"),
        -float("inf"),
        {None: 1},
        {True: 1},
        {1.0: 1},
        {(1,): 1},
        {1, 2},
        object(),
        1j,
        nested,
        loop,
        [[object()]],
    ):
        raises("bad-argument", cbor.encode, value)
    raises("bad-argument", cbor.encode, chr(0xD800))


def test_borders_of_each_length():
    """Where a head grows by a byte: texts, strings, lists, maps."""
    for size, head in ((23, ""), (24, "18"), (25, "19"), (255, "ff"), (256, "0100")):
        raw = unhex(head)
        for major, value in (
            (2, b"x" * size),
            (3, "x" * size),
            (4, [1] * size),
            (5, {number: 1 for number in range(size)}),
        ):
            info = size if size < 24 else 23 + len(raw)
            data = cbor.encode(value)
            equal(data[: 1 + len(raw)], bytes((major << 5 | info,)) + raw)
            equal(cbor.decode(data), value)
            equal(cbor.encode(value, 1), data)
    equal(cbor.encode("\u00fc" * 12), b"\x78\x18" + "\u00fc".encode() * 12)


def test_maps_are_containers_as_well():
    for depth in range(1, 17):
        data = b"\xa1\0" * depth + b"\0"
        value = cbor.decode(data, depth)
        equal(cbor.encode(value, depth), data)
        raises("cbor-limit", cbor.decode, data, depth - 1)
        raises("bad-argument", cbor.encode, value, depth - 1)
        raises("bad-argument", cbor.encode, [value], depth)
    # Two pairs go another way than one.
    raises("bad-argument", cbor.encode, {1: 1, 2: {1: 1}}, 1)
    equal(cbor.encode({1: 1, 2: {1: 1}}, 2), unhex("a2010102a10101"))


def test_types_made_of_others():
    from collections import OrderedDict, namedtuple

    pair = namedtuple("pair", ("a", "b"))
    equal(cbor.encode(pair(1, "x")), unhex("82016178"))
    equal(cbor.encode(OrderedDict(((2, 1), (1, 2)))), unhex("a201020201"))
    raises("bad-argument", cbor.encode, [pair(1, [2])], 2)
    raises("bad-argument", cbor.encode, OrderedDict(((1, [2]),)), 1)
    # Keys of bytes, beside another and alone.
    equal(cbor.encode({b"q": 1, 5: 3}), unhex("a20503417101"))
    equal(cbor.encode({b"k": 1}), unhex("a1416b01"))
    equal(cbor.decode(unhex("a1416b01")), {b"k": 1})


def test_utf8_alone():
    """Without the interpreter's own check in front of it."""
    for bad in ("80", "bf", "c0", "c3", "e282", "f09f98", "61c3", "c3c3", "ff"):
        check(not exact.is_utf8(unhex(bad)), bad)
    good = "\u00fc\u20ac\U0001f600".encode()
    check(exact.is_utf8(good))
    for at in (1, 3, 4, 6, 7, 8):  # the bytes that go on with a character
        for byte in (0x00, 0x7F, 0xC0, 0xFF):
            check(not exact.is_utf8(good[:at] + bytes((byte,)) + good[at + 1 :]), str(at))
        for byte in (0xA0, 0xAF):
            check(exact.is_utf8(good[:at] + bytes((byte,)) + good[at + 1 :]), str(at))
    for text in ("\x7f\u00fc", "\x00\u00fc\x7f", "\u00fc\x7f\U0001f600"):
        equal(cbor.decode(cbor.encode(text)), text)


def test_map_keys_sort_by_their_bytes():
    value = {"aa": 1, "b": 2, -1: 3, 100: 4, 10: 5, 256: 6, "": 7}
    data = cbor.encode(value)
    equal(data, unhex("a70a05186404190100062003600761620262616101"))
    equal(cbor.decode(data), value)


def test_keys_that_come_again():
    """Encoded keys are kept; no other key is taken for one of them."""
    names = ["k%d" % i for i in range(40)] + ["1", "n" * 31, "n" * 32, "n" * 40, chr(252) * 15]
    for _ in range(3):
        for name in names + [1, b"1", b"k1", 0]:
            text = isinstance(name, str)
            raw = name.encode() if text else name
            head = name if isinstance(name, int) else cbor.head(3 if text else 2, len(raw))
            wanted = bytes((0xA1, head)) if raw is head else b"\xa1" + head + raw
            equal(cbor.encode({name: 7}), wanted + b"\x07")
    for bad in (True, 1.0, None):
        raises("bad-argument", cbor.encode, {bad: 1})
    check(len(cbor._names) <= 16 and max([len(one) for one in cbor._names.values()]) <= 32)


def test_write_appends():
    out = bytearray(b"before")
    for value in ({"a": [1, {"b": b"c"}]}, 5, [], {}):
        cbor.write(out, value)
    equal(bytes(out), b"before" + unhex("a1616182" + "01a161624163" + "05" + "80" + "a0"))
    raises("bad-argument", cbor.write, bytearray(), [[1]], 1)
    raises("bad-argument", cbor.write, bytearray(), [], 0)


def test_reader_streams():
    data = cbor.encode([1, -7, b"abc", "d\u00e9", {1: b"x", 2: None}, True, None, [9]])
    buf = bytearray(data)
    reader = Reader(buf)
    equal(reader.array(), 8)
    equal(reader.uint(), 1)
    equal(reader.integer(), -7)
    view = reader.byte_string()
    equal(bytes(view), b"abc")
    # A view, not a copy.
    buf[reader.at - 1] = ord("z")
    equal(bytes(view), b"abz")
    equal(reader.text(), "d\u00e9")
    equal(reader.mapping(), 2)
    previous = None
    for _ in range(2):
        previous = cbor.key_order(previous, reader.skip())
        reader.skip()
    check(reader.boolean() is True)
    check(Reader(b"\xf4").boolean() is False)
    check(reader.is_null())
    reader.null()
    check(not reader.is_null())
    raises("cbor-malformed", reader.end)
    equal(bytes(reader.skip()), b"\x81\x09")
    reader.end()
    equal(reader.peek(), -1)
    check(not reader.is_null())
    raises("cbor-malformed", reader.head)
    raises("cbor-not-canonical", cbor.key_order, b"\x01", b"\x01")
    raises("cbor-not-canonical", cbor.key_order, b"\x18\x18", memoryview(b"\x01"))


def test_reader_wants_types():
    for data, kinds in (
        ("00", "uint integer"),
        ("20", "integer"),
        ("40", "byte_string"),
        ("60", "text"),
        ("80", "array"),
        ("a0", "mapping"),
        ("f4", "boolean"),
        ("f5", "boolean"),
        ("f6", "null"),
        ("f90000", ""),
    ):
        for kind in "uint integer byte_string text array mapping boolean null".split():
            method = getattr(Reader(unhex(data)), kind)
            if kind in kinds.split():
                method()
                check(True)
            else:
                raises("cbor-malformed", method)


def test_heads_are_shortest():
    for major in (0, 2, 5):
        for value, wanted in (
            (0, "00"),
            (23, "17"),
            (24, "1818"),
            (256, "190100"),
            (1 << 32, "1b0000000100000000"),
        ):
            got = cbor.head(major, value)
            equal(got, bytes((major << 5 | unhex(wanted)[0],)) + unhex(wanted)[1:])


def test_containers_are_counted():
    """One byte each on the wire, and 64 in memory."""
    equal(cbor.decode(b"\x98\x7f" + b"\x80" * 127), [[]] * 127)
    raises("cbor-limit", cbor.decode, b"\x98\x80" + b"\x80" * 128)
    raises("cbor-limit", cbor.decode, b"\x98\xff" + b"\xa0" * 255)
    equal(len(cbor.decode(b"\x99\x03\xe8" + b"\x00" * 1000)), 1000)
