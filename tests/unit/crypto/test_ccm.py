"""AES-CCM: RFC 3610's vectors, in place at every alignment, and every refusal."""

from harness import check, equal, raises
from warden.crypto import _xor_plain, ccm, ccm_long
from warden.crypto.ccm import CCM
from warden.crypto.ccm_long import crypt_long

PURE = True
unhex = bytes.fromhex
KEY = bytes(range(0xC0, 0xD0))
NONCE = unhex("00000003020100a0a1a2a3a4a5")
LENGTHS = (
    0,
    1,
    15,
    16,
    17,
    31,
    32,
    33,
    495,
    496,
    497,
    511,
    512,
    513,
    1007,
    1008,
    1009,
    1500,
    2048,
)


def pattern(n):
    return bytes((i * 7 + (i >> 8)) & 255 for i in range(n))


def seal(key, tag_len, nonce, aad, plaintext):
    buf = bytearray(plaintext) + bytearray(tag_len)
    CCM(key, tag_len).seal(nonce, buf, len(plaintext), aad)
    return bytes(buf)


def test_no_constant_is_read_by_words():
    """One of frozen code lies on any address; none is a bytearray."""
    given = []
    xor = ccm.xor

    def recorded(target, work, start, n):
        check(type(work) is bytearray)
        given.append(work)
        xor(target, work, start, n)

    ccm.xor = ccm_long.xor = recorded
    try:
        for key in (KEY, KEY + KEY):
            for n in (0, 5, 16, 600):
                check(seal(key, 16, NONCE, b"aad", bytes(n)))
    finally:
        ccm.xor = ccm_long.xor = xor
    check(len(given) > 20)


def test_rfc3610_vectors():
    # Packet vectors 1, 2, 3 and 7: tags of 8 and 10 bytes.
    cases = (
        (
            8,
            "00000003020100a0a1a2a3a4a5",
            8,
            31,
            "588c979a61c663d2f066d0c2c0f989806d5f6b61dac38417e8d12cfdf926e0",
        ),
        (
            8,
            "00000004030201a0a1a2a3a4a5",
            8,
            32,
            "72c91a36e135f8cf291ca894085c87e3cc15c439c9e43a3ba091d56e10400916",
        ),
        (
            8,
            "00000005040302a0a1a2a3a4a5",
            8,
            33,
            "51b1e5f44a197d1da46b0f8e2d282ae871e838bb64da8596574adaa76fbd9fb0c5",
        ),
        (
            10,
            "00000009080706a0a1a2a3a4a5",
            8,
            31,
            "0135d1b2c95f41d5d1d4fec185d166b8094e999dfed96c048c56602c97acbb7490",
        ),
    )
    for tag_len, nonce, aad_len, total, wanted in cases:
        packet = bytes(range(total))
        equal(seal(KEY, tag_len, unhex(nonce), packet[:aad_len], packet[aad_len:]), unhex(wanted))


def test_without_aad():
    # NIST CAVP, VADT128, Alen = 0, count 0.
    sealed = seal(
        unhex("d24a3d3dde8c84830280cb87abad0bb3"),
        16,
        unhex("f1100035bb24a8d26004e0e24b"),
        b"",
        unhex("7c86135ed9c2a515aaae0e9a208133897269220f30870006"),
    )
    wanted = "1faeb0ee2ca2cd52f0aa3966578344f24e69b742c4ab37ab1123301219c70599b7c373ad4b3ad67b"
    equal(sealed, unhex(wanted))


def test_round_trip_at_every_length_and_alignment():
    for key in (KEY, KEY + bytes(range(16))):
        one = CCM(key)
        for n in LENGTHS:
            plaintext = pattern(n)
            wanted = seal(key, 16, NONCE, b"aad", plaintext)
            for offset in range(4):
                room = bytearray(b"\xee" * (offset + n + 16 + 5))
                view = memoryview(room)[offset : offset + n + 16]
                view[:n] = plaintext
                one.seal(NONCE, view, n, b"aad")
                equal(bytes(view), wanted)
                one.open(NONCE, view, n, b"aad")
                equal(bytes(view[:n]), plaintext)
                # Nothing before or behind the message was touched.
                equal(
                    bytes(room[:offset]) + bytes(room[offset + n + 16 :]), b"\xee" * (offset + 5)
                )


def test_both_loops_give_the_same():
    work = bytearray(pattern(1024))
    _xor_plain.count(work, NONCE, 512)
    for start in (0, 16, 3, 4):
        for offset in range(4):
            for n in (0, 1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33, 100, 480, 512 - start):
                a = bytearray(pattern(offset + n + 4))
                b = bytearray(a)
                works = bytearray(work), bytearray(work)
                ccm.xor(memoryview(a)[offset : offset + n], works[0], start, n)
                _xor_plain.xor(memoryview(b)[offset : offset + n], works[1], start, n)
                equal(a, b, "start %d offset %d n %d" % (start, offset, n))
                equal(works[0], works[1])
                equal(works[0] == work, start + n != 512)
    a = bytearray(b"\xff" * 1024)
    b = bytearray(a)
    for loops, work in ((ccm, a), (_xor_plain, b)):
        loops.count(work, NONCE, 512)
        for _ in range(9):
            loops.xor(memoryview(bytearray(512)), work, 0, 512)
    equal(a, b)
    # 9 chunks of 32 blocks on: 288 to 319.
    equal(a[526:528] + a[542:544] + a[1022:1024], b"\x01\x20\x01\x21\x01\x3f")


def test_both_frames_are_the_same():
    for extra in (0, 1, 13, 14, 15, 16, 109, 255, 256, 300):
        for n in (0, 1, 15, 16, 17, 130):
            sizes = 12 << 20 | extra << 10 | n
            works = []
            for loops in (ccm, _xor_plain):
                work = bytearray(b"\xee" * 1024)
                at = loops.frame(work, NONCE, pattern(extra), sizes)
                equal(at, (extra + 33) & -16 if extra else 16)
                end = loops.append(work, memoryview(pattern(n + 3)), at, n)
                equal(end, (at + n + 15) & -16)
                check(end == at or bytes(work[at + n : end]) == bytes(end - at - n))
                works.append(work)
            equal(works[0], works[1], "AAD %d message %d" % (extra, n))


def test_short_and_long_messages_are_the_same():
    """The short way ends where AAD and message fill the workspace."""
    for extra, n in ((0, 0), (0, 5), (14, 16), (15, 17), (16, 33), (109, 64), (0, 481), (414, 64)):
        sealed = seal(KEY, 16, NONCE, pattern(extra), pattern(n))
        other = CCM(KEY)
        buf = bytearray(pattern(n)) + bytearray(16)
        chain = bytearray(16)
        ciphers = other._ecb, other._cbc, 16
        view = memoryview(buf)[:n]
        crypt_long(ciphers, ccm._work, ccm._tag, NONCE, view, pattern(extra), False, chain)
        ccm.xor(chain, ccm._tag, 0, 16)
        equal(bytes(buf[:n] + chain), sealed, "AAD %d message %d" % (extra, n))
        CCM(KEY).open(NONCE, bytearray(sealed), n, pattern(extra))


def test_unequal_looks_at_every_byte():
    for loops in (ccm, _xor_plain):
        check(not loops.unequal(bytearray(pattern(16)), memoryview(pattern(20)), 16))
        # What lies behind the length does not count.
        check(not loops.unequal(bytearray(pattern(16)), memoryview(pattern(7) + bytes(9)), 7))
        for i in range(16):
            other = bytearray(pattern(16))
            other[i] ^= 0x80
            check(loops.unequal(other, memoryview(pattern(16)), 16))


def test_aad_lengths():
    # Around the padding of the block that the AAD's length shares; each differs from the others.
    seen = set()
    for n in (0, 1, 13, 14, 15, 16, 30, 31, 300):
        sealed = seal(KEY, 16, NONCE, bytes(n), b"payload")
        check(sealed not in seen)
        seen.add(sealed)
        buf = bytearray(sealed)
        CCM(KEY).open(NONCE, buf, 7, memoryview(bytearray(n)))
        equal(buf[:7], b"payload")


def test_any_changed_bit_is_refused_and_leaves_zeros():
    sealed = seal(KEY, 16, NONCE, b"aad", pattern(20))
    one = CCM(KEY)
    for i in range(len(sealed)):
        buf = bytearray(sealed)
        buf[i] ^= 1
        raises("tampered", one.open, NONCE, buf, 20, b"aad")
        equal(buf[:20], bytes(20))
    for nonce, aad in ((bytes(13), b"aad"), (NONCE, b"abd"), (NONCE, b"")):
        raises("tampered", one.open, nonce, bytearray(sealed), 20, aad)
    raises("tampered", one.open, NONCE, bytearray(sealed), 19, b"aad")


def test_a_refused_message_does_not_spoil_the_next():
    one = CCM(KEY)
    sealed = seal(KEY, 16, NONCE, b"", b"first")
    bad = bytearray(sealed)
    bad[0] ^= 1
    raises("tampered", one.open, NONCE, bad, 5, b"")
    good = bytearray(sealed)
    one.open(NONCE, good, 5, b"")
    equal(good[:5], b"first")


def test_an_interrupted_message_does_not_spoil_the_next():
    one = CCM(KEY)
    real = one._ecb

    def fails(data, out):
        raise MemoryError

    one._ecb = fails
    try:
        one.seal(NONCE, bytearray(21), 5, b"")
        check(False, "the cipher did not fail")
    except MemoryError:
        pass
    one._ecb = real
    buf = bytearray(b"first") + bytearray(16)
    one.seal(NONCE, buf, 5, b"")
    equal(bytes(buf), seal(KEY, 16, NONCE, b"", b"first"))


def test_refused_arguments():
    raises("bad-argument", CCM, bytes(24))
    raises("bad-argument", CCM, b"")
    for tag_len in (0, 4, 7, 9, 18):
        raises("bad-argument", CCM, KEY, tag_len)
    one = CCM(KEY)
    for call in (one.seal, one.open):
        raises("bad-argument", call, NONCE[1:], bytearray(32), 16, b"")
        raises("bad-argument", call, NONCE + b"x", bytearray(32), 16, b"")
        raises("bad-argument", call, NONCE, bytearray(31), 16, b"")
        raises("bad-argument", call, NONCE, bytearray(32), -1, b"")
        raises("bad-argument", call, NONCE, bytes(32), 16, b"")
        raises("bad-argument", call, NONCE, memoryview(bytes(32)), 16, b"")
        raises("bad-argument", call, NONCE, bytearray(32), 16, bytes(65280))
        # One byte more, and the block counter would wrap and repeat key stream.
        raises("bad-argument", call, NONCE, bytearray(65536 + 16), 65536, b"")


def test_the_longest_message():
    buf = bytearray(65535 + 16)
    one = CCM(KEY)
    one.seal(NONCE, buf, 65535, b"")
    one.open(NONCE, buf, 65535, b"")
    check(not any(memoryview(buf)[:65535]))


def test_close_drops_the_key_and_the_key_stream():
    one = CCM(KEY)
    one.seal(NONCE, bytearray(16 + 40), 40, b"")
    check(any(ccm._stream))
    one.close()
    check(not any(ccm._stream) and not any(ccm._blocks))
    raises("closed", one.seal, NONCE, bytearray(17), 1, b"")
    raises("closed", one.open, NONCE, bytearray(17), 1, b"")
