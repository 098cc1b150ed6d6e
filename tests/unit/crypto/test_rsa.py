"""RSASSA-PSS: a valid signature, and everything that is none."""

import hashlib

from harness import check, equal
from warden.crypto import rsa

PURE = True
unhex = bytes.fromhex

# A key of 2048 bits, made for this test. Nothing is signed here: a board would take minutes.
MODULUS = unhex(
    "edb61d3a973d5fad7bc01a44e1dee735db9aa17408c1046a31b24947fabeee5a2a5a5f9b5ae5d9d50ade371a"
    "217521f10767a06fdd57bf27b9d3a2440401527c75f8692696a599cb96308e921cba8f9a8045c3a67ff22617"
    "4e0888d57c2f53e9a8aeed057261a3b85a4e231c3692f272965ac7733a3e4263302abe46295cc0a82c026b24"
    "f6418b0453c73e9e8ea3bebddf5cb4797c926cfaacd8fd8e00454aef2107fb2b7411a20572aa8863cf0022fb"
    "897a997c811c6fbafe484c9ab66f084aed29b395cf7bac7aab2200ebc7bfd2dd23df6b015ae7e8da52bb355c"
    "569c092b35c5725a9339abd221791f9b777ecfa0e90426bca61a769f1e500d50e04a61dd"
)
SIGNATURE = unhex(
    "4d056d46264b09a206492a51b09a5d32a89d2db7664ef355da4dad11b8e3dcdd8e564c9cdb001a629b13e9d0"
    "440d05ada15618255d671da92d1f703bc5149c3e20115d1641b40aaebc7d74e2ebb2521177900c902104df95"
    "a36c446013c04684121028d0d48362c00fae54b3f25d0c908acf22f01af54abdddd1b6b2d56db503fbc9c77c"
    "4ca0a23cc2c74ecef43eb8a8fc9f4a732f603dd1ac3d96a2b6b94a8573921d76ffe725fa1816d5c44b712ad8"
    "477fa30ad678d4542104e53ea319ad4015e40ca02d093b3e1d2d198227e48f53e0bbf5fe20495db1ee539ed3"
    "69165b61b420aaac4a668668b3bce7d6a712101a04d2db09dfb49a3987e84b523300e147"
)
SALT_OF_20 = unhex(
    "b700e5cda4fdfc9624af880290d324da95ef4a4a072385f7554c574143bfb64cf793e1fc87e851ddbfe2ddc7"
    "e1e86f013ac8cf5ab934e3ee6afde7c1d60179ff0ffecf1dceee85582e6678525bc16c5c29fea7a403db7434"
    "9bc3dc90d7bded18e0b88434f06f50c77b31e275b322944845b274ed08095797acfe76d2918a7528b02eb88f"
    "3c05014635230cfb279af0d327db7c5aa8b195b3939b030c982857013d339932f14e1b480766a260fd9fa5ff"
    "2a02691cf4edd6617ac979573dda8451dddc800ec64dac715a24a8a4736eba8cd206084f3fdfb8b8dc3787c6"
    "324bfcffe5189d823b1207fbf774424e6549c1940f0f6945cb162266532a668f97b2eba6"
)
# Valid, and so small that it plus the modulus still has 2048 bits.
SMALL = unhex(
    "029cef57ee03625e61f9f3e0ddfce81d16472c2a9f99b21abb0244d4d0efb8da0f15d750a529d42fad288f8d"
    "dd3112ee97f3f4f3d6422883d56fa91f7d10bb38ec503e0afa53b8f62772d49cada769c0a1d01827257d3472"
    "c0e434571d62a0b8eaebe67fd2f12ca41ab334510ebc7b39556dc9385ddc191929c37f58c2eefe821d057cad"
    "3f9231a0f63f1076d8eff4d2de8ea5ec9a2506f11bb7911428978aa9a0bfd3d2179cb189c86fbd92f5a51bc5"
    "d6fc8d197da1d77ace7e3d7bb8d886043f13c2b66560adb07ea77fcd4a535303b0a15c773c5f47446db94ed0"
    "6926e596bf28c8b528957de5c162da7258e6e646a22f3a2dfde12c6fd00029b0bc2a88dd"
)
# Of the first 31 bytes of the digest.
SHORT = unhex(
    "30c5df14f506fc724e22acc868a60dfe722e1e60d186ae8bc9563784c788fc1928a8324aa33a25388883db44"
    "8587a41051ad7f85354cb82b9d94e0768f1f27526aa7896683dee6e37cc5e56526064027cb803ff4361843cc"
    "1fa356eeb11d5bd6c40db89216d3002310a251009eb7f58306eff51ba2339be3a0d98a1148917f9b3f418970"
    "8f8716cf1bdc8baaf0ada1ff4f0e3d1afdf132cc1c040a957387818ffc995e36070a7a2c1a12cb985f11777b"
    "80ef028a6cc0514f8c2f1bd6a4eb57e1b4698cecf4a693cadb09a84b8c93511b4673fea8f0db78cc2f5b36fb"
    "c9d64ff072a15d87a01333969fe4bae5a3a7db3be8f866fdcdd6e4a761842d7a87e85332"
)
DIGEST = hashlib.sha256(b"sample").digest()
N = int.from_bytes(MODULUS, "big")


def accepts(em):
    """Whether a signature of this encoding would be valid."""
    return rsa._is_encoding(int.from_bytes(em, "big"), DIGEST, 256, 32)


def encode(
    salt=bytes(32), mark=b"\1", trailer=0xBC, first=0, padding=None, prefix=bytes(8), digest=DIGEST
):
    """EMSA-PSS with a part made wrong."""
    h = hashlib.sha256(prefix + digest + salt).digest()
    length = 223
    db = (bytes(length - 1 - len(salt)) if padding is None else padding) + mark + salt
    mask = rsa._mgf1(h, length)
    masked = bytearray(db[i] ^ mask[i] for i in range(length))
    masked[0] = masked[0] & 0x7F | first
    return bytes(masked) + h + bytes((trailer,))


def test_valid():
    key = rsa.PublicKey(MODULUS)
    check(key.valid)
    equal(key.algorithms, (-37,))
    check(key.verify(DIGEST, SIGNATURE))
    check(key.verify(memoryview(DIGEST), bytearray(SIGNATURE)))
    check(rsa.verify(memoryview(MODULUS), DIGEST, SIGNATURE))
    check(key.verify(DIGEST, SMALL))
    check(accepts(encode()))
    check(accepts(encode(salt=b"\xff" * 32)))


def test_every_bit_counts():
    key = rsa.PublicKey(MODULUS)
    for i in range(0, 2048, 61):
        bad = bytearray(SIGNATURE)
        bad[i >> 3] ^= 1 << (i & 7)
        check(not key.verify(DIGEST, bad))
    for i in range(0, 256, 13):
        bad = bytearray(DIGEST)
        bad[i >> 3] ^= 1 << (i & 7)
        check(not key.verify(bad, SIGNATURE))


def test_encodings_that_are_not_ours():
    key = rsa.PublicKey(MODULUS)
    check(not key.verify(DIGEST, SALT_OF_20))
    for em in (
        encode(salt=bytes(31)),
        encode(salt=bytes(33)),
        encode(salt=b""),
        encode(mark=b"\2"),
        encode(mark=b"\0"),
        encode(trailer=0xBD),
        encode(trailer=0xCC),
        encode(trailer=0),
        encode(padding=bytes(189) + b"\1"),
        encode(padding=b"\1" + bytes(189)),
        encode(padding=b"\x40" + bytes(189)),
        encode(prefix=bytes(7)),
    ):
        check(not accepts(em))


def test_the_first_bit_must_be_clear():
    check(not accepts(encode(first=0x80)))


def test_lengths_and_ranges():
    key = rsa.PublicKey(MODULUS)
    for signature in (b"", SIGNATURE[:-1], SIGNATURE + b"\0", b"\0" + SIGNATURE, bytes(256)):
        check(not key.verify(DIGEST, signature))
    for value in (0, 1, N - 1, N, 2**2048 - 1):
        check(not key.verify(DIGEST, value.to_bytes(256, "big")))
    for digest in (b"", DIGEST[:31], DIGEST + b"\0"):
        check(not key.verify(digest, SIGNATURE))
    # Even where such a thing was signed, it is no SHA-256.
    check(not key.verify(DIGEST[:31], SHORT))
    # A key that was found wanting never verifies.
    marked = rsa.PublicKey(MODULUS)
    marked.valid = False
    check(not marked.verify(DIGEST, SIGNATURE))
    # The same signature plus the modulus, where that still fits.
    small = int.from_bytes(SMALL, "big")
    check(not key.verify(DIGEST, (small + N).to_bytes(256, "big")))


def test_keys_that_are_none():
    for modulus in (
        b"",
        MODULUS[:255],
        MODULUS + b"\0",
        bytes(256),
        bytes(255) + b"\1",
        MODULUS[:128],
    ):
        key = rsa.PublicKey(modulus)
        check(not key.valid)
        check(not key.verify(DIGEST, SIGNATURE))
    even = bytearray(MODULUS)
    even[255] &= 0xFE
    check(not rsa.PublicKey(even).valid)
    short = bytearray(MODULUS)
    short[0] &= 0x7F
    check(not rsa.PublicKey(short).valid)
    for exponent in (0, 1, 3, 17, 65535, 65536, 65538, 1 << 256, (1 << 256) + 1, -65537):
        check(not rsa.PublicKey(MODULUS, exponent).valid)
    check(rsa.PublicKey(MODULUS, 65539).valid)
