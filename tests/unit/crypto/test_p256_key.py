"""Private keys on P-256: the public key is the right one, and the DER that the TLS stack loads."""

from harness import check, equal
from warden.crypto import _p256_plain, p256, p256_key
from warden.crypto._p256_curve import N
from warden.crypto._p256_table import G

PURE = True
unhex = bytes.fromhex

# RFC 6979 A.2.5, and 1: keys and their points.
VECTORS = (
    (
        0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721,
        "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
    ),
    (
        1,
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    ),
)


def encoded(point):
    return point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def test_known_keys():
    table = _p256_plain.decode(G)
    for d, public in VECTORS:
        equal(encoded(p256_key._multiply(d, table)), unhex(public))
    # -k·G has the same x.
    x, y = p256_key._multiply(VECTORS[0][0], table)
    other = p256_key._multiply(N - VECTORS[0][0], table)
    check(other[0] == x and other[1] != y)


def test_a_new_key():
    table = _p256_plain.decode(G)
    seen = set()
    for _ in range(3):
        d, public = p256_key.new_key()
        equal((len(d), len(public)), (32, 64))
        check(p256.PublicKey(public).valid)
        equal(encoded(p256_key._multiply(int.from_bytes(d, "big"), table)), public)
        seen.add(d)
    equal(len(seen), 3)


def test_scalars_out_of_range_are_drawn_again():
    drawn = [bytes(32), b"\xff" * 32, N.to_bytes(32, "big"), (5).to_bytes(32, "big")]
    real, p256_key.random_bytes = p256_key.random_bytes, lambda _: drawn.pop(0)
    try:
        equal(p256_key._scalar(), 5)
    finally:
        p256_key.random_bytes = real
    equal(drawn, [])


def test_der():
    der = p256_key.key_der(b"d" * 32)
    equal(len(der), der[1] + 2)
    check(b"d" * 32 in der)
