"""Comparison and wiping."""

from harness import check, equal
from warden.crypto import ct

PURE = True


def test_equal_looks_at_every_byte():
    data = bytes(range(33))
    check(ct.equal(data, bytearray(data)))
    check(ct.equal(b"", b""))
    for i in range(33):
        other = bytearray(data)
        other[i] ^= 0x80
        check(not ct.equal(data, other), "byte %d" % i)


def test_equal_refuses_another_length():
    check(not ct.equal(b"abc", b"abcd"))
    check(not ct.equal(b"abcd", b"abc"))
    check(not ct.equal(b"", b"\0"))


def test_wipe_reaches_the_ends_and_no_further():
    for n in (0, 1, 63, 64, 65, 130):
        buf = bytearray(b"\xff" * (n + 8))
        ct.wipe(memoryview(buf)[4 : n + 4])
        equal(bytes(buf), b"\xff" * 4 + bytes(n) + b"\xff" * 4)
