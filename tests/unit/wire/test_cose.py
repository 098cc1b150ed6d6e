"""COSE: the general kit in both directions, a refusal for every rule, Sign1 on the device."""

import cose_kit as cose
from harness import check, equal, raises
from warden.crypto.ccm import CCM
from warden.errors import PeerError
from warden.wire import cbor
from warden.wire import cose as device_cose

PURE = BUILT = True
unhex = bytes.fromhex

KEY = bytes(range(32))
KID = b"kid-8888"
SID = b"sid-8888"
IV = bytes(range(0x20, 0x2D))
AAD = b"the topic"


def mac0(protected=None, unprotected=b"\xa0", payload=b"\x43abc", tag=None, front=b"\x84"):
    if protected is None:
        protected = cbor.encode({1: 5, 4: KID})
    tag = bytes(32) if tag is None else tag
    return front + cbor.encode(protected) + unprotected + payload + cbor.encode(tag)


def encrypt0(protected=None, unprotected=b"\xa0", body=None, front=b"\x83"):
    if protected is None:
        protected = {1: 31, 4: KID, 6: b"\0", 10: SID}
    if isinstance(protected, dict):
        protected = cbor.encode(protected)
    return (
        front
        + cbor.encode(protected)
        + unprotected
        + cbor.encode(bytes(20) if body is None else body)
    )


def test_mac0_round_trip():
    data = cose.build_mac0(KEY, KID, b"payload", AAD)
    parsed = cose.parse_mac0(data)
    equal(parsed.protected, cbor.encode({1: 5, 4: KID}))
    equal((parsed.alg, parsed.kid, bytes(parsed.body)), (5, KID, b"payload"))
    cose.verify_mac0(parsed, KEY, AAD)
    raises("tampered", cose.verify_mac0, parsed, KEY, b"another topic")
    raises("tampered", cose.verify_mac0, parsed, bytes(32), AAD)
    raises("bad-argument", cose.verify_mac0, parsed, b"", AAD)
    raises("bad-argument", cose.build_mac0, KEY[:31], KID, b"", AAD)
    equal(cbor.decode(data)[:3], [parsed.protected, {}, b"payload"])


def test_mac0_is_the_hmac_of_its_structure():
    from warden.crypto.kdf import hmac_sha256

    data = cose.build_mac0(KEY, KID, bytes(300), AAD)
    protected, _, payload, tag = cbor.decode(data)
    equal(tag, hmac_sha256(KEY, cbor.encode(["MAC0", protected, AAD, payload])))


def test_mac0_notices_every_bit():
    data = cose.build_mac0(KEY, KID, b"payload", AAD)
    for i in range(len(data)):
        for bit in (0, 7):
            other = bytearray(data)
            other[i] ^= 1 << bit
            try:
                cose.verify_mac0(cose.parse_mac0(other), KEY, AAD)
            except Exception as error:
                check(
                    getattr(error, "code", "") in ("tampered", "cose-malformed", "cose-algorithm")
                )
            else:
                check(False, "bit %d of byte %d" % (bit, i))


def test_mac0_refusals():
    cose.parse_mac0(mac0())
    for data in (
        b"",
        b"\x84",
        mac0() + b"\0",
        mac0()[:-1],
        mac0(front=b"\x83"),
        mac0(front=b"\x85") + b"\0",
        mac0(front=b"\xd1\x84"),  # tagged
        mac0(front=b"\x9f") + b"\xff",
        mac0(unprotected=b"\xa1\x04\x48" + KID),
        mac0(unprotected=b"\x80"),
        mac0(unprotected=b"\x40"),
        mac0(payload=b"\xf6"),  # detached
        mac0(payload=b"\x63abc"),
        mac0(payload=b"\x58\x03abc"),
        mac0(tag=bytes(31)),
        mac0(tag=bytes(33)),
        mac0(tag=b""),
        mac0(tag="x" * 32),
        mac0(b""),
        mac0(b"\xa0"),
        mac0(b"\xf6"),
        mac0(cbor.encode([1, 5])),
        mac0(cbor.encode({1: 5, 4: KID}) + b"\0"),
        mac0(cbor.encode({1: 5})),
        mac0(cbor.encode({4: KID})),
        mac0(cbor.encode({1: 5, 4: KID[:7]})),
        mac0(cbor.encode({1: 5, 4: KID + b"x"})),
        mac0(cbor.encode({1: 5, 4: "kid-8888"})),
        mac0(cbor.encode({1: "HS256", 4: KID})),
        mac0(cbor.encode({1: 5, 2: [4], 4: KID})),
        mac0(cbor.encode({1: 5, 2: [99], 4: KID, 99: 0})),
        mac0(cbor.encode({1: 5, 3: 0, 4: KID})),
        mac0(cbor.encode({1: 5, 4: KID, 5: bytes(13)})),
        mac0(cbor.encode({1: 5, 4: KID, 6: b"\0"})),
        mac0(cbor.encode({1: 5, 4: KID, 10: SID})),
        mac0(cbor.encode({1: 5, 4: KID, "x": 0})),
        mac0(b"\xa2\x04\x48" + KID + b"\x01\x05"),  # out of order
        mac0(b"\xa3\x01\x05\x01\x05\x04\x48" + KID),
        mac0(b"\xa2\x18\x01\x05\x04\x48" + KID),
        mac0(b"\xa2\x01\x18\x05\x04\x48" + KID),
    ):
        raises("cose-malformed", cose.parse_mac0, data)
    for alg in (4, 6, 7, 31, -7, 1 << 63):
        raises("cose-algorithm", cose.parse_mac0, mac0(cbor.encode({1: alg, 4: KID})))


def test_encrypt0_round_trip():
    for key, tag_len, alg in ((KEY, 16, 31), (KEY[:16], 16, 30), (KEY[:16], 8, 10)):
        ccm = CCM(key, tag_len)
        for counter in (0, 1, 255, 256, 65536, 0xFFFFFFFF):
            for payload in (b"", b"p", bytes(range(256)) * 3):
                data = cose.build_encrypt0(ccm, KID, counter, SID, IV, payload, AAD)
                buf = bytearray(data)
                parsed = cose.parse_encrypt0(buf, (alg,))
                equal(
                    (parsed.alg, parsed.kid, parsed.piv, parsed.context), (alg, KID, counter, SID)
                )
                plain = cose.decrypt0(parsed, ccm, IV, AAD)
                equal(bytes(plain), payload)
                # In place: the view is in the caller's buffer.
                check(
                    bytes(buf[len(buf) - tag_len - len(payload) : len(buf) - tag_len]) == payload
                )


def test_encrypt0_is_ccm_over_its_structure():
    ccm = CCM(KEY)
    data = cose.build_encrypt0(ccm, KID, 0x0102, SID, IV, b"payload", AAD)
    protected, unprotected, body = cbor.decode(data)
    equal(protected, cbor.encode({1: 31, 4: KID, 6: b"\x01\x02", 10: SID}))
    equal(unprotected, {})
    nonce = bytearray(IV)
    nonce[11] ^= 1
    nonce[12] ^= 2
    buf = bytearray(b"payload") + bytearray(16)
    ccm.seal(nonce, buf, 7, cbor.encode(["Encrypt0", protected, AAD]))
    equal(body, bytes(buf))


def test_encrypt0_notices_every_bit():
    ccm = CCM(KEY)
    data = cose.build_encrypt0(ccm, KID, 7, SID, IV, b"payload", AAD)
    for i in range(len(data)):
        other = bytearray(data)
        other[i] ^= 1
        try:
            cose.decrypt0(cose.parse_encrypt0(other), ccm, IV, AAD)
        except Exception as error:
            check(getattr(error, "code", "") in ("tampered", "cose-malformed", "cose-algorithm"))
        else:
            check(False, "byte %d" % i)
    for base_iv, aad in ((bytes(13), AAD), (IV, b""), (IV, AAD + b"x")):
        buf = bytearray(data)
        parsed = cose.parse_encrypt0(buf)
        raises("tampered", cose.decrypt0, parsed, ccm, base_iv, aad)
        equal(bytes(parsed.body[:7]), bytes(7))


def test_encrypt0_refusals():
    cose.parse_encrypt0(encrypt0())
    whole = {1: 31, 4: KID, 6: b"\0", 10: SID}

    def without(label):
        return {key: whole[key] for key in whole if key != label}

    def with_(label, value):
        other = dict(whole)
        other[label] = value
        return other

    for data in (
        b"",
        encrypt0() + b"\0",
        encrypt0()[:-1],
        encrypt0(front=b"\x84") + b"\0",
        encrypt0(front=b"\xd0\x83"),
        encrypt0(unprotected=b"\xa1\x06\x41\x00"),
        encrypt0(without(6), unprotected=b"\xa1\x06\x41\x00"),
        encrypt0(unprotected=b"\x80"),
        encrypt0(without(1)),
        encrypt0(without(4)),
        encrypt0(without(6)),
        encrypt0(without(10)),
        encrypt0(with_(2, [4])),
        encrypt0(with_(5, bytes(13))),
        encrypt0(with_(11, 0)),
        encrypt0(with_("x", 0)),
        encrypt0(with_(-1, 0)),
        encrypt0(with_(4, KID[1:])),
        encrypt0(with_(10, SID[1:])),
        encrypt0(with_(10, SID + b"x")),
        encrypt0(with_(6, b"")),
        encrypt0(with_(6, b"\0\0")),
        encrypt0(with_(6, b"\0\1")),
        encrypt0(with_(6, b"\1\0\0\0\0")),
        encrypt0(with_(6, 0)),
        encrypt0(cbor.encode(whole) + b"\0"),
        encrypt0(b""),
        encrypt0(body=bytes(15)),
        encrypt0(body=b""),
        encrypt0(body=None)[:-21] + b"\xf6",
        encrypt0()[:-21] + b"\x74" + b"a" * 20,
    ):
        raises("cose-malformed", cose.parse_encrypt0, data)
    for alg in (1, 3, 10, 30, 24, 5, -7):
        raises("cose-algorithm", cose.parse_encrypt0, encrypt0(with_(1, alg)))
    equal(cose.parse_encrypt0(encrypt0(with_(6, b"\xff\0\0\0"))).piv, 0xFF000000)


def test_the_algorithm_is_checked_first():
    """Other algorithms have other lengths of IV and tag, and other labels."""
    for alg in (1, 2, 3, 11, 13, 24, 33, -65000):
        for size in (7, 12, 24):
            for message in (
                encrypt0({1: alg}, unprotected=b"\xa1\x05" + cbor.encode(bytes(size))),
                encrypt0({1: alg, 5: bytes(size)}),
                encrypt0({1: alg, 3: 0, 99: 1}, body=bytes(4)),
            ):
                for strict in (True, False):
                    raises("cose-algorithm", cose.parse_encrypt0, message, strict=strict)
    other = encrypt0({1: 31}, unprotected=b"\xa1\x05\x4c" + bytes(12))
    raises("cose-malformed", cose.parse_encrypt0, other, strict=False)


def test_encrypt0_wrong_key_or_buffer():
    data = cose.build_encrypt0(CCM(KEY[:16]), KID, 0, SID, IV, b"payload", AAD)
    parsed = cose.parse_encrypt0(bytearray(data), (30, 31))
    raises("cose-algorithm", cose.decrypt0, parsed, CCM(KEY), IV, AAD)
    raises("cose-algorithm", cose.decrypt0, parsed, CCM(KEY[:16], 8), IV, AAD)
    raises("bad-argument", cose.decrypt0, parsed, CCM(KEY[:16]), IV[1:], AAD)
    raises("bad-argument", cose.decrypt0, parsed, CCM(KEY[:16]), None, AAD)
    parsed = cose.parse_encrypt0(data, (30, 31))
    raises("bad-argument", cose.decrypt0, parsed, CCM(KEY[:16]), IV, AAD)
    # A hostile message may be longer than CCM takes; that is the peer's fault, not the caller's.
    parsed = cose.parse_encrypt0(bytearray(encrypt0(body=bytes(65536 + 16))))
    raises("cose-malformed", cose.decrypt0, parsed, CCM(KEY), IV, AAD)
    parsed = cose.parse_encrypt0(bytearray(encrypt0(body=bytes(65535 + 16))))
    raises("tampered", cose.decrypt0, parsed, CCM(KEY), IV, AAD)


def test_build_encrypt0_without_names():
    ccm = CCM(KEY)
    data = cose.build_encrypt0(ccm, None, 5, None, IV, b"payload", AAD)
    raises("cose-malformed", cose.parse_encrypt0, data)
    parsed = cose.parse_encrypt0(bytearray(data), strict=False)
    equal((parsed.kid, parsed.piv, parsed.context), (None, 5, None))
    equal(bytes(cose.decrypt0(parsed, ccm, IV, AAD)), b"payload")


def test_build_encrypt0_refuses():
    raises("bad-argument", cose.build_encrypt0, CCM(KEY), KID, -1, SID, IV, b"", AAD)
    raises("bad-argument", cose.build_encrypt0, CCM(KEY), KID, 1 << 32, SID, IV, b"", AAD)
    raises("bad-argument", cose.build_encrypt0, CCM(KEY, 8), KID, 0, SID, IV, b"", AAD)
    raises("bad-argument", cose.build_encrypt0, CCM(KEY), KID, 0, SID, IV[1:], b"", AAD)
    raises("bad-argument", cose.build_encrypt0, CCM(KEY), KID, 0, SID, IV, bytes(65536), AAD)


CONTENT = b"This is the content."
# The key "11" of RFC 9052 appendix C.7.1.
KEY_11 = unhex(
    "bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff"
    "20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e"
)
SIGNED = unhex(
    "8443a10126a10442313154546869732069732074686520636f6e74656e742e5840"
    "8eb33e4ca31d1c465ab05aac34cc6b23d58fef5c083106c4d25a91aef0b0117e"
    "2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36"
)


def test_rfc9052_c21_sign1():
    from warden.crypto import p256

    key = p256.PublicKey(KEY_11)
    parsed = cose.parse_sign1(SIGNED)
    equal((parsed.alg, parsed.kid, bytes(parsed.body)), (-7, b"11", CONTENT))
    cose.verify_sign1(parsed, key)
    raises("tampered", cose.verify_sign1, parsed, key, b"other")
    raises("tampered", cose.verify_sign1, parsed, p256.PublicKey(bytes(64)))
    # All headers protected is what the strict profile asks.
    raises("cose-malformed", cose.parse_sign1, SIGNED, True)
    # A detached payload.
    detached = SIGNED[:10] + b"\xf6" + SIGNED[31:]
    raises("cose-malformed", cose.parse_sign1, detached)
    parsed = cose.parse_sign1(detached, detached=True)
    check(parsed.body is None)
    cose.verify_sign1(parsed, key, b"", CONTENT)
    raises("tampered", cose.verify_sign1, parsed, key, b"", CONTENT + b"!")
    raises("bad-argument", cose.verify_sign1, parsed, key)
    raises("bad-argument", cose.verify_sign1, cose.parse_sign1(SIGNED), key, b"", CONTENT)
    raises("cose-malformed", cose.parse_sign1, SIGNED, detached=True)


def test_rfc9052_c4_encrypt0():
    ccm = CCM(unhex("849b5786457c1491be3a76dcea6c4271"), 8)
    # C.4.1: the whole IV in the message; C.4.2: a partial IV and a base IV of the context.
    for data, base_iv in (
        (
            "8343a1010aa1054d89f52f65a1c580933b5261a78c581c"
            "5974e1b99a3a4cc09a659aa2e9e7fff161d38ce71cb45ce460ffb569",
            None,
        ),
        (
            "8343a1010aa1064261a7581c252a8911d465c125b6764739700f0141ed09192de139e053bd09abca",
            unhex("89f52f65a1c580930000000000"),
        ),
    ):
        buf = bytearray(unhex(data))
        raises("cose-malformed", cose.parse_encrypt0, buf, (10,))
        parsed = cose.parse_encrypt0(buf, (10,), strict=False)
        equal(bytes(cose.decrypt0(parsed, ccm, base_iv, b"")), CONTENT)
    parsed = cose.parse_encrypt0(
        bytearray(unhex("8343a1010aa048") + bytes(8)), (10,), strict=False
    )
    raises("cose-malformed", cose.decrypt0, parsed, ccm, IV, b"")


def test_detached_ciphertext_and_mac():
    ccm = CCM(KEY)
    data = cose.build_encrypt0(ccm, KID, 3, SID, IV, CONTENT, AAD)
    ciphertext = bytearray(data[-36:])
    detached = data[:-38] + b"\xf6"
    raises("cose-malformed", cose.parse_encrypt0, detached)
    parsed = cose.parse_encrypt0(detached, detached=True)
    raises("bad-argument", cose.decrypt0, parsed, ccm, IV, AAD)
    raises("cose-malformed", cose.decrypt0, parsed, ccm, IV, AAD, bytearray(15))
    equal(bytes(cose.decrypt0(parsed, ccm, IV, AAD, ciphertext)), CONTENT)
    data = cose.build_mac0(KEY, KID, CONTENT, AAD)
    at = data.find(CONTENT)
    parsed = cose.parse_mac0(data[: at - 1] + b"\xf6" + data[at + 20 :], detached=True)
    cose.verify_mac0(parsed, KEY, AAD, CONTENT)
    raises("tampered", cose.verify_mac0, parsed, KEY, AAD, CONTENT[1:])
    raises("bad-argument", cose.verify_mac0, parsed, KEY, AAD)


class Key:
    """Remembers what it was asked."""

    algorithms = (-9,)
    answer = True

    def verify(self, digest, signature):
        self.asked = (digest, bytes(signature))
        return self.answer


def sign1(protected, unprotected=b"\xa0", payload=b"\x43abc", tag=b"\x42ok", front=b"\x84"):
    if isinstance(protected, dict):
        protected = cbor.encode(protected)
    return front + cbor.encode(protected) + unprotected + payload + tag


def refusal_of_sign1(data):
    """Return the code with which both readers refuse the message, or "" when both take it."""
    codes = []
    for parse in (
        lambda: cose.parse_sign1(data, True, True),
        lambda: device_cose.parse_sign1(data),
    ):
        try:
            parse()
            codes.append("")
        except PeerError as error:
            codes.append(error.code)
    equal(codes[0], codes[1], repr(data))
    return codes[0]


def test_the_device_reads_sign1_as_the_kit_does():
    """Strict and detached reading agree in verdict, parts, and requests to the key."""
    key, other = Key(), Key()
    for protected in (
        {1: -9},
        {1: -9, 4: KID},
        {1: -9, 2: [1]},
        {1: -9, 2: [1, 4] * 4, 4: KID},
    ):
        data = sign1(protected, payload=b"\xf6")
        equal(refusal_of_sign1(data), "")
        parsed, ours = cose.parse_sign1(data, True, True), device_cose.parse_sign1(data)
        equal((ours.protected, ours.alg), (parsed.protected, parsed.alg))
        equal(bytes(ours.signature), bytes(parsed.tag))
        for payload in (b"", b"abc", bytes(24), bytes(300)):
            cose.verify_sign1(parsed, key, b"", payload)
            device_cose.verify_sign1(ours, other, payload)
            equal(other.asked, key.asked)
        other.answer = False
        raises("tampered", device_cose.verify_sign1, ours, other, b"abc")
        other.answer = True
    for alg in (-7, -37):
        parsed = device_cose.parse_sign1(sign1({1: alg}, payload=b"\xf6"))
        raises("cose-algorithm", device_cose.verify_sign1, parsed, key, b"")


def test_the_device_refuses_what_the_kit_refuses():
    good = sign1({1: -9, 2: [1], 4: KID}, payload=b"\xf6")
    for i in range(len(good)):
        for bit in range(8):
            bent = bytearray(good)
            bent[i] ^= 1 << bit
            refusal_of_sign1(bytes(bent))
        refusal_of_sign1(good[:i])
        refusal_of_sign1(good[:i] + good[i + 1 :])
        refusal_of_sign1(good[:i] + b"\0" + good[i:])
    for data in (
        SIGNED,
        good + b"\0",
        sign1({1: -9}),  # not detached
        sign1({1: -9, 4: b"any"}, payload=b"\xf6"),
        sign1({1: -9}, unprotected=b"\xa1\x04\x48" + KID, payload=b"\xf6"),
        sign1({1: -9, 5: bytes(13)}, payload=b"\xf6"),
    ):
        equal(refusal_of_sign1(data), "cose-malformed")


def test_sign1_asks_the_key():
    import hashlib

    key = Key()
    parsed = cose.parse_sign1(sign1({1: -9}))
    cose.verify_sign1(parsed, key, AAD)
    structure = cbor.encode(["Signature1", cbor.encode({1: -9}), AAD, b"abc"])
    equal(key.asked, (hashlib.sha256(structure).digest(), b"ok"))
    key.answer = False
    raises("tampered", cose.verify_sign1, parsed, key, AAD)
    # A key is used for its own algorithms only, else a weaker one could be asked for.
    for alg in (-7, -37):
        raises("cose-algorithm", cose.verify_sign1, cose.parse_sign1(sign1({1: alg})), key, AAD)


def test_sign1_refusals():
    cose.parse_sign1(sign1({1: -7}), True)
    cose.parse_sign1(sign1({1: -7, 4: b"any"}))
    equal(cose.parse_sign1(sign1({1: -7, 4: bytes(64)})).kid, bytes(64))
    open_kid = b"\xa1\x04\x48" + KID
    equal(cose.parse_sign1(sign1({1: -7}, unprotected=open_kid)).kid, KID)
    raises("cose-malformed", cose.parse_sign1, sign1({1: -7}, unprotected=open_kid), True)
    cose.parse_sign1(sign1({1: -7}, unprotected=b"\xa1\x04\x41k"))
    for data in (
        b"",
        sign1({1: -7}) + b"\0",
        sign1({1: -7})[:-1],
        sign1({1: -7}, front=b"\xd2\x84"),
        sign1({1: -7}, front=b"\x83"),
        sign1(b""),
        sign1({}),
        sign1({4: b"k"}),
        sign1({}, unprotected=b"\xa1\x01\x26"),  # the algorithm unprotected
        sign1({1: -7}, unprotected=b"\xa1\x01\x26"),
        sign1({1: -7, 4: b"k"}, unprotected=b"\xa1\x04\x41k"),
        sign1({1: -7}, unprotected=b"\xa1\x02\x81\x04"),  # criticality unprotected
        sign1({1: -7, 3: 0}),
        sign1({1: -7, 99: 0}),
        sign1({1: -7, 99: bytes(13)}),
        sign1({1: -7, 5: bytes(13)}),
        sign1({1: -7, 6: b"\1"}),
        sign1({1: -7, 10: b"c"}),
        sign1({1: -7, 4: bytes(65)}),
        sign1({1: -7}, unprotected=b"\xa1\x18\x63\x00"),
        sign1({1: -7}, payload=b"\x63abc"),
        sign1({1: -7}, tag=b"\x62ok"),
        sign1({1: -7}, tag=b"\xf6"),
        sign1({1: "ES256"}),
        sign1(b"\xa1\x01\x26\x00"),
        sign1(b"\xbf\x01\x26\xff"),
    ):
        raises("cose-malformed", cose.parse_sign1, data)
        equal(refusal_of_sign1(data.replace(b"\x43abc", b"\xf6")), "cose-malformed")
    for alg in (-8, -35, -36, -257, -65535, 5, 31, 0):
        raises("cose-algorithm", cose.parse_sign1, sign1({1: alg}))
        equal(refusal_of_sign1(sign1({1: alg}, payload=b"\xf6")), "cose-algorithm")


def test_critical_headers():
    # Listed labels must be known and there; an unknown one is refused whether it is critical or
    # not.
    equal(cose.parse_sign1(sign1({1: -7, 2: [4], 4: b"k"})).crit, (4,))
    cose.parse_sign1(sign1({1: -7, 2: [1]}))
    equal(len(cose.parse_sign1(sign1({1: -7, 2: [1, 4] * 4, 4: b"k"})).crit), 8)
    for protected in (
        {1: -7, 2: [4]},
        {1: -7, 2: []},
        {1: -7, 2: 4},
        {1: -7, 2: ["reserved"]},
        {1: -7, 2: [99]},
        {1: -7, 2: [99], 99: 0},
        {1: -7, 2: [4] * 9, 4: b"k"},
    ):
        raises("cose-malformed", cose.parse_sign1, sign1(protected))
        equal(refusal_of_sign1(sign1(protected, payload=b"\xf6")), "cose-malformed")
    raises(
        "cose-malformed", cose.parse_sign1, sign1({1: -7, 2: [4]}, unprotected=b"\xa1\x04\x41k")
    )


def test_ivs_in_the_open_profile():
    def message(protected, unprotected):
        return (
            b"\x83"
            + cbor.encode(cbor.encode(protected))
            + cbor.encode(unprotected)
            + b"\x50"
            + bytes(16)
        )

    equal(cose.parse_encrypt0(message({1: 31}, {6: b"\7"}), strict=False).piv, 7)
    equal(cose.parse_encrypt0(message({1: 31, 5: IV}, {}), strict=False).iv, IV)
    for protected, unprotected in (
        ({1: 31, 5: IV}, {6: b"\7"}),
        ({1: 31, 6: b"\7"}, {6: b"\7"}),
        ({1: 31, 5: IV[1:]}, {}),
        ({1: 31, 5: IV + b"x"}, {}),
        ({1: 31, 6: b"\0\7"}, {}),
    ):
        raises(
            "cose-malformed", cose.parse_encrypt0, message(protected, unprotected), strict=False
        )
