"""COSE: both directions, and a refusal for every rule."""

from harness import check, equal, raises
from warden.crypto.ccm import CCM
from warden.wire import cbor, cose

PURE = True
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


def test_build_encrypt0_refuses():
    raises("bad-argument", cose.build_encrypt0, CCM(KEY), KID, -1, SID, IV, b"", AAD)
    raises("bad-argument", cose.build_encrypt0, CCM(KEY), KID, 1 << 32, SID, IV, b"", AAD)
    raises("bad-argument", cose.build_encrypt0, CCM(KEY, 8), KID, 0, SID, IV, b"", AAD)
    raises("bad-argument", cose.build_encrypt0, CCM(KEY), KID, 0, SID, IV[1:], b"", AAD)
    raises("bad-argument", cose.build_encrypt0, CCM(KEY), KID, 0, SID, IV, bytes(65536), AAD)
