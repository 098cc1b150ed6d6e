"""One question a line, one answer a line, alike under CPython and on the unix port, so that a host
test can put thousands of cases to one process: `micropython tests/cpython/answers.py < questions`.

A question is an operation and its arguments in hex ("-" is empty). An answer is hex, a word, or
"error CODE"; any other exception ends the process, and so the test.
"""

import sys

if __name__ == "__main__":
    HERE = __file__.rsplit("/", 1)[0]
    sys.path[:] = [HERE + "/../../lib", HERE + "/../unit/kit", ".frozen"]

from warden.errors import WardenError  # noqa: E402  (the path must be set first)
from warden.wire.cbor_reader import Reader  # noqa: E402


def ask_cbor(data):
    """Decode and encode again; skip() and decode() must judge alike."""
    from warden.wire import cbor

    reader = Reader(data)
    try:
        reader.skip()
        reader.end()
        code = None
    except WardenError as error:
        code = error.code
    try:
        again = cbor.encode(cbor.decode(data))
    except WardenError as error:
        return "error " + (error.code if error.code == code else "%s and %s" % (error.code, code))
    return again.hex() if code is None else "skip refused " + code


def ask_x509(data):
    from warden.wire import x509

    spki, before, after = x509.fields(data)
    return "%s %d %d" % (bytes(spki).hex(), before, after)


def ask_cose(kind, strict, data):
    import cose_kit as cose

    strict = strict == b"\1"
    if kind == b"\1":
        parsed = cose.parse_mac0(data, strict)
    elif kind == b"\2":
        parsed = cose.parse_encrypt0(data, (10, 30, 31), strict)
    else:
        parsed = cose.parse_sign1(data, strict)
    return "%s %r %r %r %s" % (
        parsed.protected.hex(),
        parsed.alg,
        parsed.kid and parsed.kid.hex(),
        parsed.piv,
        bytes(parsed.body).hex(),
    )


def ask_seal(key, tag_len, nonce, aad, plaintext):
    from warden.crypto.ccm import CCM

    buf = bytearray(plaintext) + bytearray(tag_len[0])
    CCM(key, tag_len[0]).seal(nonce, buf, len(plaintext), aad)
    return bytes(buf).hex()


def ask_open(key, tag_len, nonce, aad, sealed):
    from warden.crypto.ccm import CCM

    buf = bytearray(sealed)
    n = len(buf) - tag_len[0]
    CCM(key, tag_len[0]).open(nonce, buf, n, aad)
    return bytes(buf[:n]).hex() or "-"


def ask_opens(*parts):
    ask_open(*parts)
    return "pass"


def ask_hmac(key, data):
    from warden.crypto.kdf import hmac_sha256

    return hmac_sha256(key, data).hex()


def ask_hkdf(ikm, salt, info, n):
    from warden.crypto.kdf import hkdf

    return hkdf(ikm, info, int.from_bytes(n, "big"), salt).hex()


def ask_pbkdf2(password, salt, iterations, n):
    from warden.crypto.pbkdf2 import pbkdf2_sha256

    return pbkdf2_sha256(
        password, salt, int.from_bytes(iterations, "big"), int.from_bytes(n, "big")
    ).hex()


def ask_p256(key, digest, signature, table=None):
    """What both implementations say: one word where they agree."""
    from warden.crypto import _p256_plain, p256

    chosen = p256._fast
    said = []
    for implementation in (chosen, _p256_plain):
        p256._fast = implementation
        try:
            public = p256.PublicKey(key)
            public.load_table = lambda: table
            said.append(str(public.verify(digest, signature)))
        finally:
            p256._fast = chosen
    return said[0] if said[0] == said[1] else " but ".join(said)


def ask_point(key):
    from warden.crypto import p256

    return str(p256.PublicKey(key).valid)


def ask_pss(modulus, exponent, digest, signature):
    from warden.crypto import rsa

    return str(rsa.verify(modulus, digest, signature, int.from_bytes(exponent, "big")))


def ask_pss_salt(modulus, exponent, digest, signature, salt_len):
    """With a salt of another length, as NIST's vectors have."""
    from warden.crypto import rsa

    n = int.from_bytes(modulus, "big")
    s = int.from_bytes(signature, "big")
    if s >= n:
        return "False"
    em = pow(s, int.from_bytes(exponent, "big"), n)
    return str(rsa._is_encoding(em, digest, len(modulus), salt_len[0]))


def ask_mac0(key, aad, data, strict):
    import cose_kit as cose

    parsed = cose.parse_mac0(data, strict == b"\1")
    cose.verify_mac0(parsed, key, aad)
    return bytes(parsed.body).hex() or "-"


def ask_build_mac0(key, kid, payload, aad):
    import cose_kit as cose

    return cose.build_mac0(key, kid, payload, aad).hex()


def ask_encrypt0(key, tag_len, base_iv, aad, data, strict):
    import cose_kit as cose
    from warden.crypto.ccm import CCM

    parsed = cose.parse_encrypt0(bytearray(data), (10, 30, 31), strict == b"\1")
    ccm = CCM(key, tag_len[0])
    return bytes(cose.decrypt0(parsed, ccm, base_iv or None, aad)).hex() or "-"


def ask_build_encrypt0(key, tag_len, kid, counter, context, base_iv, payload, aad):
    import cose_kit as cose
    from warden.crypto.ccm import CCM

    ccm = CCM(key, tag_len[0])
    counter = int.from_bytes(counter, "big")
    return cose.build_encrypt0(ccm, kid, counter, context, base_iv, payload, aad).hex()


def ask_sign1(key, aad, data, payload=None):
    """An EC key has 64 bytes, an RSA modulus more; a fourth part is a detached payload."""
    import cose_kit as cose
    from warden.crypto import p256, rsa

    public = p256.PublicKey(key) if len(key) == 64 else rsa.PublicKey(key)
    parsed = cose.parse_sign1(data, detached=payload is not None)
    cose.verify_sign1(parsed, public, aad, payload)
    return "valid"


def ask_suit(key, vendor, class_id, slot, components, least, held, envelope):
    """components: CBOR, identifiers of the device; held: the digest of what the slot holds
    already."""
    from warden.crypto import p256, rsa
    from warden.wire import cbor, suit
    from warden.wire.suit_commands import Target

    public = p256.PublicKey(key) if len(key) == 64 else rsa.PublicKey(key)
    own = [tuple(parts) for parts in cbor.decode(components)]
    number = int.from_bytes(least, "big")
    target = Target(vendor, class_id, slot[0], own, number, lambda _, digest: digest == held)
    plan = suit.process(envelope, (public,), target)
    said = "%d %d %d %r" % (plan.sequence, plan.slot, plan.floor, plan.invoke)
    for image in plan.images:
        said += " %d %s %d %s" % (
            image.component,
            image.digest.hex(),
            image.size,
            image.uri.hex(),
        )
    return said


class Plain:
    """A vault that holds records only, a plan and an image, all in one."""

    def __init__(self, records, digest, encryption, size=0):
        self.get = records.get
        self.names = lambda: sorted(records)
        self.digest, self.encryption, self.size, self.images = digest, encryption, size, [self]


class Room:
    """Slots with room for anything."""

    firmware = make_check = None

    def __init__(self, names):
        self.names = names
        self.room = lambda name: 1 << 60
        self.size = lambda slot, name: 0


def ask_order(key, vendor, class_id, slot, components, shared_key, wrapped, envelope):
    """What a device makes of an order: the plan of its manifest and the content key. wrapped
    counts where an image is encrypted."""
    from warden.crypto import p256
    from warden.ota.manifest_verify import check_room, content_key
    from warden.wire import cbor, suit
    from warden.wire.suit_commands import Target

    own = [tuple(parts) for parts in cbor.decode(components)]
    target = Target(vendor, class_id, slot[0], own, 0)
    plan = suit.process(envelope, (p256.PublicKey(key),), target)
    names = [b"/".join(parts).decode() for parts in own]
    identity = cbor.encode(["relay", "r1"])
    records = {"identity": identity, "app_authority": cbor.encode([shared_key, True, []])}
    plain = all([image.encryption is None for image in plan.images])
    vault = Plain(records, plan.digest, None)
    check_room(Room(names), plan, len(envelope))
    cek = content_key(vault, plan, None if plain else wrapped)
    said = "%s %d %d %s %s" % (
        plan.digest.hex(),
        plan.sequence,
        plan.floor,
        "-" if plan.invoke is None else names[plan.invoke],
        "-" if cek is None else bytes(cek).hex(),
    )
    for image in plan.images:
        said += " %s %s %d %s %s" % (
            names[image.component],
            image.digest.hex(),
            image.size,
            image.uri.hex() or "-",
            (image.encryption or b"").hex() or "-",
        )
    return said


def ask_payload(identity, key, manifest, info, wrapped, sequence, component, size, digest, sealed):
    """The SHA-256 of what comes out of the segments."""
    import hashlib

    from warden.ota.payload import Segments, content_key
    from warden.wire import cbor

    records = {"identity": identity, "app_authority": cbor.encode([key, True, []])}
    found = content_key(Plain(records, manifest, info), wrapped, Plain({}, manifest, info))
    image = Plain({}, digest, info, int.from_bytes(size, "big"))
    segments = Segments(found, int.from_bytes(sequence, "big"), component.decode(), image)
    out = hashlib.sha256()
    while True:
        at, length = segments.want(300)
        if at >= len(sealed):
            return out.digest().hex()
        out.update(segments.open(sealed[at : at + length]))


def sbv2(image, digests, step):
    from warden.crypto import p256, rsa
    from warden.wire.sbv2 import Check

    keys = [digests[at : at + 32] for at in range(0, len(digests), 32)]
    check = Check(len(image), keys, rsa.PublicKey, p256.PublicKey)
    for at in range(0, len(image), step):
        check.update(memoryview(image)[at : at + step])
    check.finish()
    return "valid"


def ask_sbv2(image, digests, step):
    return sbv2(image, digests, int.from_bytes(step, "big"))


def ask_sbv2flips(image, digests, bits):
    """Every byte flipped, by each of the bits: how often each answer came."""
    data = bytearray(image)
    seen = {}
    for bit in bits:
        for at in range(len(data)):
            data[at] ^= bit
            try:
                said = sbv2(data, digests, 8192)
            except WardenError as error:
                said = error.code
            seen[said] = seen.get(said, 0) + 1
            data[at] ^= bit
    return " ".join(["%s %d" % (code, seen[code]) for code in sorted(seen)])


def answer(line):
    """The answer to one question."""
    words = line.split()
    try:
        parts = [b"" if word == "-" else bytes.fromhex(word) for word in words[1:]]
        return globals()["ask_" + words[0]](*parts)
    except WardenError as error:
        return "error " + error.code


if __name__ == "__main__":
    for line in sys.stdin:
        if line.strip():
            print(answer(line))
