"""RSASSA-PSS: a valid signature, and everything that is none."""

import hashlib

from harness import check, equal
from warden.crypto import rsa

PURE = True
unhex = bytes.fromhex

# A key of 2048 bits, made for this test. The private exponent is here so that a test can sign what
# no signer would.
MODULUS = unhex(
    "edb61d3a973d5fad7bc01a44e1dee735db9aa17408c1046a31b24947fabeee5a2a5a5f9b5ae5d9d50ade371a"
    "217521f10767a06fdd57bf27b9d3a2440401527c75f8692696a599cb96308e921cba8f9a8045c3a67ff22617"
    "4e0888d57c2f53e9a8aeed057261a3b85a4e231c3692f272965ac7733a3e4263302abe46295cc0a82c026b24"
    "f6418b0453c73e9e8ea3bebddf5cb4797c926cfaacd8fd8e00454aef2107fb2b7411a20572aa8863cf0022fb"
    "897a997c811c6fbafe484c9ab66f084aed29b395cf7bac7aab2200ebc7bfd2dd23df6b015ae7e8da52bb355c"
    "569c092b35c5725a9339abd221791f9b777ecfa0e90426bca61a769f1e500d50e04a61dd"
)
PRIVATE = unhex(
    "09edbd5d76765dca0537df8bae537d1cc6c60d5052129dcdec5d7754c6530b3eeb889d78590798b2f3f7ec1d"
    "44a07bd6716a114d702aa615515c56e96306c5c73a60dc78d17a013e7ba61e39041cd6baabf8e8a9ca564c38"
    "ffa2b8f4671ccd9dc8d4904480a3e0b966818a533759a93ec2ab9aabb96c62f6cef58f6a5177f4f951f3bd3b"
    "a5ff876bf7a3ca5c45b0dc9295dc5a049efaaf399395961a06cf1f1b2c2d992381c4aa0b4d4623911c5436a4"
    "4ddfedd5e14a7977b3b18b645846eea4c56452251a7c31604ec018fa14449207955925d39e4809d3d37e0004"
    "4ab7b05374f36dfe2e546ed8cb576d1a7587a2a4b059794f1833c4f68d50dcc3680c9491"
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
DIGEST = hashlib.sha256(b"sample").digest()
N = int.from_bytes(MODULUS, "big")
D = int.from_bytes(PRIVATE, "big")


def sign(em):
    return pow(int.from_bytes(em, "big"), D, N).to_bytes(256, "big")


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
    check(key.verify(DIGEST, sign(encode())))
    check(key.verify(DIGEST, sign(encode(salt=b"\xff" * 32))))


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
        check(not key.verify(DIGEST, sign(em)))


def test_the_first_bit_must_be_clear():
    # Such an encoding can be below the modulus only when the modulus is large enough: search a
    # salt.
    key = rsa.PublicKey(MODULUS)
    for i in range(64):
        em = encode(salt=bytes((i,)) * 32, first=0x80)
        if int.from_bytes(em, "big") < N:
            check(not key.verify(DIGEST, sign(em)))
            return
    check(False, "no such encoding")


def test_lengths_and_ranges():
    key = rsa.PublicKey(MODULUS)
    s = int.from_bytes(SIGNATURE, "big")
    for signature in (b"", SIGNATURE[:-1], SIGNATURE + b"\0", b"\0" + SIGNATURE, bytes(256)):
        check(not key.verify(DIGEST, signature))
    for value in (0, 1, N - 1, N, 2**2048 - 1):
        check(not key.verify(DIGEST, value.to_bytes(256, "big")))
    for digest in (b"", DIGEST[:31], DIGEST + b"\0"):
        check(not key.verify(digest, SIGNATURE))
    # Even where such a thing was signed, it is no SHA-256.
    for digest in (DIGEST[:31], DIGEST + b"\0"):
        check(not key.verify(digest, sign(encode(digest=digest))))
    # A key that was found wanting never verifies.
    marked = rsa.PublicKey(MODULUS)
    marked.valid = False
    check(not marked.verify(DIGEST, SIGNATURE))
    # The same signature plus the modulus, where that still fits.
    small = next(
        value
        for value in (
            int.from_bytes(sign(encode(salt=bytes((i,)) * 32)), "big") for i in range(200)
        )
        if value + N < 2**2048
    )
    check(key.verify(DIGEST, small.to_bytes(256, "big")))
    check(not key.verify(DIGEST, (small + N).to_bytes(256, "big")))
    check(s < N)


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
