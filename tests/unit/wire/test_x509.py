"""Certificate fields: what is read, and everything that is refused."""

import hashlib

from harness import check, equal, raises
from warden.wire import x509

PURE = BUILT = True


def tlv(tag, *parts):
    content = b"".join(parts)
    n = len(content)
    if n < 0x80:
        return bytes((tag, n)) + content
    if n < 0x100:
        return bytes((tag, 0x81, n)) + content
    return bytes((tag, 0x82, n >> 8, n & 255)) + content


SERIAL = tlv(2, b"\5")
ALGORITHM = tlv(0x30, tlv(6, bytes.fromhex("2a8648ce3d040302")))
NAME = tlv(0x30, tlv(0x31, tlv(0x30, tlv(6, b"\x55\x04\x03"), tlv(12, b"t"))))
SPKI = tlv(0x30, tlv(0x30, tlv(6, b"\x2a")), tlv(3, b"\0" + bytes(65)))
VERSION = tlv(0xA0, tlv(2, b"\2"))
EXTENSIONS = tlv(0xA3, tlv(0x30, bytes(40)))
BEFORE = tlv(0x17, b"200101000000Z")
AFTER = tlv(0x18, b"20511231235959Z")
DATES = tlv(0x30, BEFORE, AFTER)
SIGNATURE = tlv(3, bytes(71))


def tbs(*, version=VERSION, dates=DATES, spki=SPKI, tail=EXTENSIONS, serial=SERIAL):
    return tlv(0x30, version, serial, ALGORITHM, NAME, dates, NAME, spki, tail)


def certificate(**parts):
    return tlv(0x30, tbs(**parts), ALGORITHM, SIGNATURE)


def dated(before, after=AFTER):
    return certificate(dates=tlv(0x30, before, after))


def test_fields():
    for der in (certificate(), bytearray(certificate()), memoryview(certificate())):
        spki, before, after = x509.fields(der)
        equal(bytes(spki), SPKI)
        equal((before, after), (1577836800, 2587679999))


def test_a_real_certificate():
    der = bytes.fromhex(
        "308201183081bfa003020102020105300a06082a8648ce3d040302300c310a300806035504030c01743020170d3230303130313030"
        "303030305a180f32303531313233313233353935395a300c310a300806035504030c01743059301306072a8648ce3d020106082a86"
        "48ce3d030107034200048e533b6fa0bf7b4625bb30667c01fb607ef9f8b8a80fef5b300628703187b2a373eb1dbde03318366d069f"
        "83a6f5900053c73633cb041b21c55e1a86c1f400b4a310300e300c0603551d130101ff04023000300a06082a8648ce3d0403020348"
        "003045022100b3fb3c81cfb709857b52faa36a9eaa31f3fab20baefd9ae4b2082c4ae535102b02206ead37a07ec55215f1e58fa251"
        "e6892b0e89fadf755a23789d58814525935e08"
    )
    spki, before, after = x509.fields(der)
    equal(len(spki), 91)
    equal((before, after), (1577836800, 2587679999))
    pin = bytes.fromhex("11086649cd3e5d1892200a4200b165bbea5c9f9b47ca83792d4f9a1ef0dc8921")
    equal(hashlib.sha256(spki).digest(), pin)


def test_optional_parts():
    for parts in (
        {"version": b""},
        {"tail": b""},
        {"tail": tlv(0x81, b"\0") + tlv(0x82, b"\0") + EXTENSIONS},
    ):
        equal(bytes(x509.fields(certificate(**parts))[0]), SPKI)
    for n in (0, 127, 128, 255, 256, 600):
        equal(bytes(x509.fields(certificate(spki=tlv(0x30, bytes(n))))[0]), tlv(0x30, bytes(n)))
    x509.fields(certificate(tail=tlv(0x82, b"")))


def test_times():
    cases = (
        (0x17, b"700101000000Z", 0),
        (0x17, b"500101000000Z", -631152000),
        (0x17, b"491231235959Z", 2524607999),
        (0x17, b"000229000000Z", 951782400),
        (0x17, b"000301000000Z", 951868800),
        (0x17, b"260704120000Z", 1783166400),
        (0x18, b"20380119031408Z", 2147483648),
        (0x18, b"21000228235959Z", 4107542399),
        (0x18, b"21000301000000Z", 4107542400),
        (0x18, b"20240229000000Z", 1709164800),
        (0x18, b"99991231235959Z", 253402300799),
        (0x18, b"19691231235959Z", -1),
    )
    for tag, text, wanted in cases:
        equal(x509.fields(dated(tlv(tag, text)))[1], wanted, repr(text))
        equal(x509.fields(dated(BEFORE, tlv(tag, text)))[2], wanted)


def test_times_of_another_form():
    for tag, text in (
        (0x17, b"2001010000Z"),
        (0x17, b"200101000000"),
        (0x17, b"200101000000z"),
        (0x17, b"2001010000000"),
        (0x17, b"200101000000+0000"),
        (0x17, b"20200101000000Z"),
        (0x17, b"20010100000 Z"),
        (0x17, b":00101000000Z"),
        (0x17, b"/90101000000Z"),
        (0x17, b"2001010000:0Z"),
        (0x17, b"20010100000/Z"),
        (0x17, b"200001000000Z"),
        (0x17, b"201301000000Z"),
        (0x17, b"200100000000Z"),
        (0x17, b"200132000000Z"),
        (0x17, b"200431000000Z"),
        (0x17, b"210229000000Z"),
        (0x17, b"200101240000Z"),
        (0x17, b"200101006000Z"),
        (0x17, b"200101000060Z"),
        (0x18, b"200101000000Z"),
        (0x18, b"20200101000000.5Z"),
        (0x18, b"21000229000000Z"),
        (0x18, b"2020010100000xZ"),
        (0x16, b"200101000000Z"),
        (0x02, b"200101000000Z"),
    ):
        raises("certificate-malformed", x509.fields, dated(tlv(tag, text)))
        raises("certificate-malformed", x509.fields, dated(BEFORE, tlv(tag, text)))


def test_structure():
    good = certificate()
    for der in (
        b"",
        b"\x30",
        good + b"\0",
        b"\x31" + good[1:],
        certificate(tail=EXTENSIONS + EXTENSIONS),
        certificate(tail=EXTENSIONS + tlv(0x81, b"\0")),
        certificate(tail=tlv(0x04, b"")),
        certificate(tail=b"\xa3"),
        certificate(tail=b"\0\0"),
        certificate(version=tlv(0xA1, b"")),
        certificate(serial=b""),
        # A length that reaches out of the element around it.
        certificate(spki=b"\x30\x34" + bytes(40), tail=b""),
        certificate(dates=tlv(0x30, BEFORE, AFTER[:1] + b"\x1d" + AFTER[2:])),
        certificate(spki=b""),
        certificate(spki=tlv(0x31, bytes(70))),
        certificate(dates=b""),
        certificate(dates=tlv(0x30)),
        certificate(dates=tlv(0x30, BEFORE)),
        certificate(dates=tlv(0x30, BEFORE, AFTER, AFTER)),
        certificate(dates=tlv(0x30, BEFORE, AFTER, b"\0")),
        tlv(0x30, tbs(), ALGORITHM),
        tlv(0x30, tbs(), SIGNATURE),
        tlv(0x30, tbs(), ALGORITHM, SIGNATURE, SIGNATURE),
        tlv(0x30, ALGORITHM, SIGNATURE),
        tlv(0x30, tbs()),
    ):
        raises("certificate-malformed", x509.fields, der)


def test_lengths_have_one_form():
    # The same certificate with one length written longer, or without an end.
    body = tbs() + ALGORITHM + SIGNATURE
    n = len(body)
    check(0x100 < n < 0x10000)
    for front in (
        b"\x30\x83\0" + bytes((n >> 8, n & 255)),
        b"\x30\x84\0\0" + bytes((n >> 8, n & 255)),
        b"\x30\x80",
        b"\x30\xff",
        b"\x30\x82" + bytes(((n + 1) >> 8, (n + 1) & 255)),
        b"\x30\x82" + bytes(((n - 1) >> 8, (n - 1) & 255)),
    ):
        raises("certificate-malformed", x509.fields, front + body)
    raises("certificate-malformed", x509.fields, certificate(serial=b"\x02\x81\x01\x05"))
    raises(
        "certificate-malformed", x509.fields, certificate(serial=b"\x02\x82\x00\x81" + bytes(129))
    )
    raises(
        "certificate-malformed", x509.fields, certificate(spki=b"\x30\x82\x00\x81" + bytes(129))
    )
    raises("certificate-malformed", x509.fields, certificate(tail=b"\xa3\x81"))
    raises("certificate-malformed", x509.fields, certificate(tail=b"\xa3\x82\x01"))


def test_size_limit():
    filler = 16384 - len(certificate(tail=tlv(0xA3, bytes(3000)))) + 3000
    der = certificate(tail=tlv(0xA3, bytes(filler)))
    equal(len(der), 16384)
    x509.fields(der)
    larger = certificate(tail=tlv(0xA3, bytes(filler + 1)))
    equal(len(larger), 16385)
    raises("certificate-malformed", x509.fields, larger)


def test_every_prefix_is_refused():
    good = certificate()
    for n in range(len(good)):
        raises("certificate-malformed", x509.fields, good[:n])
