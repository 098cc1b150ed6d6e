"""HMAC, HKDF and PBKDF2 against the vectors of their RFCs."""

from harness import equal, raises
from warden.crypto import kdf, pbkdf2

PURE = True
unhex = bytes.fromhex


def test_hmac_rfc4231():
    cases = (
        (
            b"\x0b" * 20,
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            b"\xaa" * 20,
            b"\xdd" * 50,
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            bytes(range(1, 26)),
            b"\xcd" * 50,
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    )
    for key, data, wanted in cases:
        equal(kdf.hmac_sha256(key, data), unhex(wanted))
        equal(kdf.hmac_sha256(memoryview(key), data[:3], b"", memoryview(data)[3:]), unhex(wanted))


def test_hmac_key_at_the_block_boundary():
    # A 64-byte key is used as it is, a 65-byte key is its digest.
    equal(
        kdf.hmac_sha256(b"k" * 64, b"m"),
        unhex("3b7a8d453e76edb519238a515105a57508d0f169f480ebeee120a9e7803289fa"),
    )
    equal(
        kdf.hmac_sha256(b"k" * 65, b"m"),
        unhex("c2d7d4c2256ddb097409ec0c67e1d58fa1a007fc6932cac0d892a525d08af7cc"),
    )


def test_hkdf_rfc5869():
    prk = kdf.hkdf_extract(unhex("000102030405060708090a0b0c"), b"\x0b" * 22)
    equal(prk, unhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"))
    okm = unhex(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    equal(kdf.hkdf_expand(prk, unhex("f0f1f2f3f4f5f6f7f8f9"), 42), okm)
    okm = unhex(
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )
    equal(kdf.hkdf(b"\x0b" * 22, b"", 42), okm)
    okm = unhex(
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
    )
    equal(kdf.hkdf(bytes(range(80)), bytes(range(0xB0, 0x100)), 82, bytes(range(0x60, 0xB0))), okm)


def test_hkdf_length_limits():
    equal(len(kdf.hkdf_expand(bytes(32), b"", 8160)), 8160)
    raises("bad-argument", kdf.hkdf_expand, bytes(32), b"", 8161)
    raises("bad-argument", kdf.hkdf_expand, bytes(32), b"", 0)


def test_pbkdf2():
    # RFC 7914 §11, and RFC 6070's inputs with SHA-256.
    cases = (
        (
            b"passwd",
            b"salt",
            1,
            64,
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
            "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783",
        ),
        (
            b"password",
            b"salt",
            2,
            32,
            "ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43",
        ),
        (
            b"passwordPASSWORDpassword",
            b"saltSALTsaltSALTsaltSALTsaltSALTsalt",
            100,
            40,
            "642ea3cc424c6e709af485b1e51692f0a7557aa922c0dddc7561830ed30fd4e9205c287a1efebd76",
        ),
        (b"k" * 65, memoryview(b"salt"), 3, 5, "37681f3749"),
    )
    equal(pbkdf2.pbkdf2_sha256(b"k" * 64, b"salt", 1, 5), unhex("27ea5b49b1"))
    equal(len(pbkdf2.pbkdf2_sha256(b"k", b"salt", 1, 8160)), 8160)
    for password, salt, iterations, n, wanted in cases:
        got = pbkdf2.pbkdf2_sha256(password, salt, iterations, n)
        equal(got, unhex(wanted))


def test_pbkdf2_refuses():
    raises("bad-argument", pbkdf2.pbkdf2_sha256, b"p", b"s", 0, 32)
    raises("bad-argument", pbkdf2.pbkdf2_sha256, b"p", b"s", -1, 32)
    raises("bad-argument", pbkdf2.pbkdf2_sha256, b"p", b"s", 1, 0)
    raises("bad-argument", pbkdf2.pbkdf2_sha256, b"p", b"s", 1, 8161)


def test_hmac_leaves_no_key_behind():
    kdf.hmac_sha256(b"k" * 64, b"m")
    equal(bytes(kdf._pad), bytes(64))
    # Nor does a longer key's rest go into the next call.
    equal(kdf.hmac_sha256(b"Jefe", b""), kdf.hmac_sha256(b"Jefe" + bytes(60), b""))
