"""ECDSA P-256: one verdict from both implementations, on good, bad and hostile input."""

from harness import check, equal, raises
from warden.crypto import _p256_plain, p256
from warden.crypto._p256_curve import N, P, R, inverse
from warden.crypto._p256_table import G

PURE = True
unhex = bytes.fromhex

GX = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
GY = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5

# RFC 6979 A.2.5: the key, and its SHA-256 signatures of "sample" and "test" (digest, r, s).
KEY = unhex(
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
)
SIGNATURES = (
    (
        "af2bdbe1aa9b6ec1e2ade1d694f41fc71a831d0268e9891562113d8a62add1bf",
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    ),
    (
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367",
        "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
    ),
)


def number(value):
    return value.to_bytes(32, "big")


def point(x, y):
    return number(x) + number(y)


def affine(jacobian):
    x, y, z = jacobian
    t = inverse(z, P)
    return x * t * t % P, y * t * t * t % P


def limbs(value):
    return b"".join((value >> 13 * i & 8191).to_bytes(2, "little") for i in range(20))


def table_of(x, y):
    """The comb table, made the slow way."""
    teeth = [(x, y, 1)]
    for _ in range(5):
        tooth = teeth[-1]
        for _ in range(43):
            tooth = _p256_plain.double(tooth)
        teeth.append(tooth)
    teeth = [affine(tooth) for tooth in teeth]
    out = b""
    for index in range(32):
        total = (teeth[5][0], teeth[5][1], 1)
        for j in range(5):
            total = _p256_plain.add(total, teeth[j], not index >> j & 1)
        x, y = affine(total)
        out += limbs(x * R % P) + limbs(2 * y * R % P)
    return out


def verdicts(key, digest, signature, table=None):
    """The verdict of both implementations, which must agree."""
    saved = p256._fast
    found = []
    for fast in (saved, _p256_plain):
        p256._fast = fast
        try:
            public = p256.PublicKey(key)
            public.load_table = lambda: table
            found.append(public.verify(digest, signature))
            equal(public.slow, found[-1] and table is None)
        finally:
            p256._fast = saved
    equal(found[0], found[1], "native and plain")
    return found[0]


def test_rfc6979():
    table = table_of(int.from_bytes(KEY[:32], "big"), int.from_bytes(KEY[32:], "big"))
    for digest, r, s in SIGNATURES:
        for used in (None, table):
            check(verdicts(KEY, unhex(digest), unhex(r + s), used))
            check(
                verdicts(b"\x04" + KEY, memoryview(unhex(digest)), bytearray(unhex(r + s)), used)
            )
            # The other s of the same signature is as valid: ECDSA has two.
            other = number(N - int.from_bytes(unhex(s), "big"))
            check(verdicts(KEY, unhex(digest), unhex(r) + other, used))
            check(not verdicts(KEY, unhex(digest)[:31] + b"\0", unhex(r + s), used))
    check(p256.verify(KEY, unhex(SIGNATURES[0][0]), unhex(SIGNATURES[0][1] + SIGNATURES[0][2])))


def test_every_bit_counts():
    digest, r, s = [unhex(part) for part in SIGNATURES[0]]
    key = p256.PublicKey(KEY)
    for i in range(0, 256, 11):
        for part in range(3):
            parts = [bytearray(digest), bytearray(r), bytearray(s)]
            parts[part][i >> 3] ^= 1 << (i & 7)
            check(not key.verify(parts[0], parts[1] + parts[2]))


def test_ranges():
    digest, r, s = [unhex(part) for part in SIGNATURES[0]]
    for bad in (0, N, N + 1, 2**256 - 1):
        check(not verdicts(KEY, digest, number(bad) + s))
        check(not verdicts(KEY, digest, r + number(bad)))
    for signature in (b"", r, r + s[:31], r + s + b"\0", b"\0" + r + s):
        check(not verdicts(KEY, digest, signature))
    # The same numbers with a zero before them.
    check(not verdicts(KEY, digest, r + b"\0" + s))
    check(not verdicts(KEY, b"\0" + digest, r + s))
    # s + N is the same as s in all that follows. A signature by d = 9 with s = 5.
    key = multiple(9)
    r_9 = multiple(77)[0] % N
    e = (5 * 77 - r_9 * 9) % N
    check(verdicts(point(key[0], key[1]), number(e), number(r_9) + number(5)))
    check(not verdicts(point(key[0], key[1]), number(e), number(r_9) + number(5 + N)))
    # A key that was found wanting never verifies.
    marked = p256.PublicKey(KEY)
    marked.valid = False
    check(not marked.verify(digest, r + s))
    for other in (b"", digest[:31], digest + b"\0"):
        check(not verdicts(KEY, other, r + s))


def test_keys_that_are_no_points():
    digest, r, s = [unhex(part) for part in SIGNATURES[0]]
    x = int.from_bytes(KEY[:32], "big")
    y = int.from_bytes(KEY[32:], "big")
    for key in (
        b"",
        KEY[:63],
        KEY + b"\0",
        b"\x02" + KEY[:32],
        b"\x03" + KEY,
        b"\x05" + KEY,
        b"\x04" + KEY + b"\0",
        b"\x04" + KEY[:63],
        bytes(64),
        b"\0",
        point(x, y ^ 1),
        point(x ^ 1, y),
        point(P, y),
        point(0, 0),
        point(2**256 - 1, 2**256 - 1),
        # The same point with a coordinate that is not reduced: another encoding of a key is no
        # key.
        point(0, P + 1),
    ):
        check(not verdicts(key, digest, r + s))
        check(not p256.PublicKey(key).valid)
    # On the curve, x = 0: a coordinate P larger would still fit 256 bits.
    y0 = 0x66485C780E2F83D72433BD5D84A06BB6541C2AF31DAE871728BF856A174F93F4
    check(p256.PublicKey(point(0, y0)).valid)
    check(not p256.PublicKey(point(P, y0)).valid)
    check(p256.PublicKey(point(GX, P - GY)).valid)
    # y = 5: the same.
    x5 = 0xD7325D7646CD60D80A92738CEB345F844CFFAF35841022CAB176F692DE8DE1D7
    check(p256.PublicKey(point(x5, 5)).valid)
    check(not p256.PublicKey(point(x5, 5 + P)).valid)
    # The same numbers, with a zero between them.
    check(not p256.PublicKey(KEY[:32] + b"\0" + KEY[32:]).valid)


def sign(d, k, e):
    """A signature by the private key d with the nonce k: (r, s)."""
    total = (1, 1, 0)
    for i in range(255, -1, -1):
        total = _p256_plain.double(total)
        if k >> i & 1:
            total = _p256_plain.add(total, (GX, GY))
    r = affine(total)[0] % N
    return r, inverse(k, N) * (e + r * d) % N


def test_degenerate_sums():
    # Keys that are small multiples of the base point, for which additions meet equal and opposite
    # points.
    for d, x, y in (
        (1, GX, GY),
        (N - 1, GX, P - GY),
        (
            2,
            0x7CF27B188D034F7E8A52380304B51AC3C08969E277F21B35A60B48FC47669978,
            0x07775510DB8ED040293D9AC69F7430DBBA7DADE63CE982299E04B79D227873D1,
        ),
    ):
        for k, e in ((5, 3), (7, 2**255 + 99), (12345, 0), (N - 5, N - 1), (1 << 200, 1 << 100)):
            r, s = sign(d, k, e)
            check(verdicts(point(x, y), number(e), number(r) + number(s)))
            check(not verdicts(point(x, y), number(e ^ 1), number(r) + number(s)))
            check(not verdicts(point(x, y), number(e), number(r) + number(s ^ 1)))


def multiple(k, x=GX, y=GY):
    total = (1, 1, 0)
    for i in range(255, -1, -1):
        total = _p256_plain.double(total)
        if k >> i & 1:
            total = _p256_plain.add(total, (x, y))
    return affine(total)


def test_where_the_machine_cannot_tell():
    # A signature can be made to any u1 and u2 where the private key is known: R = (u1 + u2·d)·G,
    # s = r / u2, e = u1·s. These make the first addition one of equal points.
    tooth = 1 + (1 << 43) + (1 << 86) + (1 << 129) + (1 << 172) + (1 << 215)
    for d, u1, u2, table in (
        (tooth, tooth, 1 << 42, None),
        (1, tooth, tooth, G),
        (1, 12345, 12345, G),
        (1, N - 12344, N - 12344, G),
    ):
        x, y = multiple(d)
        r = multiple((u1 + u2 * d) % N)[0] % N
        s = r * inverse(u2, N) % N
        e = u1 * s % N
        if p256._fast is not _p256_plain:
            check(p256._fast.matches(u1, u2, x, y, table, (r,)) is None)
        check(verdicts(point(x, y), number(e), number(r) + number(s), table))
        check(not verdicts(point(x, y), number(e ^ 1), number(r) + number(s), table))


def test_infinity_is_no_signature():
    # u1·G + u2·Q = 0 with Q = -G and u1 = u2, which is e = r: no x coordinate, whatever r is.
    for r in (1, 5, N - 1, 0x1234567890ABCDEF << 100):
        check(not verdicts(point(GX, P - GY), number(r), number(r) + number(7)))
        check(not verdicts(point(GX, GY), number(N - r), number(r) + number(7)))


def test_x_above_the_order():
    # A sum whose x lies between N and P: r is x - N. Made by choosing the sum first: Q = (R -
    # u1·G) / u2.
    x = N + 2
    while True:
        square = (
            x * x * x - 3 * x + 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
        ) % P
        y = pow(square, (P + 1) >> 2, P)
        if y * y % P == square:
            break
        x += 1
    # u1 = -1, u2 = 1 with s = r and e = -r: Q = R + G.
    q = affine(_p256_plain.add((x, y, 1), (GX, GY)))
    r = x - N
    check(verdicts(point(q[0], q[1]), number(N - r), number(r) + number(r)))
    check(not verdicts(point(q[0], q[1]), number(N - r), number(r + 1) + number(r + 1)))
    # The coordinate itself is not a second form of r.
    check(not verdicts(point(q[0], q[1]), number(N - r), number(x) + number(r)))
    # With an x that is below N, r + N is another number and must not count.
    digest, r, s = [unhex(part) for part in SIGNATURES[0]]
    check(not verdicts(KEY, digest, number((int.from_bytes(r, "big") + N) % P) + s))


def test_tables():
    x, y = int.from_bytes(KEY[:32], "big"), int.from_bytes(KEY[32:], "big")
    good = table_of(x, y)
    equal(len(good), 2560)
    equal(table_of(GX, GY), G)
    equal(bytes(_p256_plain.make_table(GX, GY)), G)
    digest, r, s = [unhex(part) for part in SIGNATURES[0]]
    saved = p256._fast
    for fast in (saved, _p256_plain):
        p256._fast = fast
        try:
            key = p256.PublicKey(KEY)
            equal(bytes(key.make_table()), good)
            check(fast.is_table_of(x, y, good) and not fast.is_table_of(GX, GY, good))
            for at in (0, 39, 40, 79, 80 * 7, 80 * 31, 80 * 31 + 41, 2559):
                bad = bytearray(good)
                bad[at] ^= 1
                check(not fast.is_table_of(x, y, bad), "byte %d" % at)
            for bad in (G, bytes(2560), good[80:] + good[:80]):
                check(not fast.is_table_of(x, y, bad))
            # What can't be loaded costs time, never the verdict; what is loaded need not end
            # there.
            for loaded, slow in ((None, True), (good, False), (good + bytes(32), False)):
                key.load_table = lambda loaded=loaded: loaded
                check(key.verify(digest, r + s) and key.slow is slow)
                check(not key.verify(digest, s + r) and not key.slow)
        finally:
            p256._fast = saved


def test_a_table_that_the_chip_computed_wrongly():
    made = _p256_plain.make_table
    _p256_plain.make_table = lambda x, y: made(GX, GY)
    try:
        raises("vault-unwritten", p256.PublicKey(KEY).make_table)
    finally:
        _p256_plain.make_table = made


def test_a_table_that_leads_the_check_astray():
    # Entry 0 is 2Q, which the check adds to 2Q: incomplete formulas give Z = 0 there, and every
    # other relation holds.
    x, y = int.from_bytes(KEY[:32], "big"), int.from_bytes(KEY[32:], "big")
    twice = [1 << 43 * j + 1 for j in range(6)]
    even = 2
    odd = twice[5] - even - sum(twice[1:5])
    out = b""
    for index in range(32):
        k = (odd if index & 1 else even) + sum(twice[j] for j in range(1, 5) if index >> j & 1)
        px, py = multiple(k % N, x, y)
        out += limbs(px * R % P) + limbs(2 * py * R % P)
    saved = p256._fast
    for fast in (saved, _p256_plain):
        check(not fast.is_table_of(x, y, out))
        check(fast.is_table_of(x, y, table_of(x, y)))


def test_recoding():
    from warden.crypto._p256_plain import comb_digits, naf

    scalars = [
        0,
        1,
        2,
        3,
        15,
        16,
        17,
        31,
        32,
        33,
        N - 1,
        N - 2,
        (N - 1) >> 1,
        2**255,
        2**256 - 1,
        2**256 - 16,
    ]
    scalars += [pow(7, i, N) for i in range(1, 60)]
    for k in scalars:
        total = 0
        for i, digit in enumerate(naf(k)):
            total += (digit - 256 if digit & 128 else digit) << i
        equal(total, k)
        if k < N:
            for negate in (False, True):
                total = 0
                for c, digit in enumerate(comb_digits(k, negate)):
                    value = 1 << 215
                    for j in range(5):
                        value += (1 if digit >> j & 1 else -1) << 43 * j
                    total += (-value if digit & 128 else value) << c
                equal(total % N, (-k if negate else k) % N)


def test_native_recoding_is_the_same():
    if p256._fast is _p256_plain:
        check(True, "no native emitter here")
        return
    from warden.crypto import _p256_vm

    for i in range(1, 80):
        k = pow(11, i, N)
        digits = bytearray(258)
        _p256_vm._naf(k.to_bytes(34, "little"), digits)
        equal(digits, _p256_plain.naf(k))
        equal(_p256_vm.comb_digits(k, False), _p256_plain.comb_digits(k, False))
        equal(_p256_vm.comb_digits(k, True), _p256_plain.comb_digits(k, True))
        _p256_vm._put(0, k)
        equal(_p256_vm._get(0), k)


def test_a_table_on_an_odd_address():
    if p256._fast is _p256_plain:
        check(True, "no native emitter here")
        return
    from warden.crypto import _p256_vm

    for offset in range(4):
        room = memoryview(bytearray(offset) + bytearray(G))[offset:]
        for index in (0, 31):
            _p256_vm._load(_p256_vm._w, room, index * 80)
            equal(bytes(_p256_vm._view[360:440]), G[80 * index : 80 * index + 80])


def test_cose_wants_these():
    equal(p256.PublicKey(KEY).algorithms, (-7, -9))
