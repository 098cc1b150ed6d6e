"""The device's primitives against `cryptography` and NIST's vectors, on CPython and on the unix
port.

WARDEN_CASES is the number of random P-256 cases (600; the full run is 10000). Each is put to both
implementations.
"""

import hashlib
import hmac
import os
import random
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS / "cpython"))
sys.path.insert(0, str(TESTS.parent / "tools"))

import both  # noqa: E402  (the path must be set first)
import generate_p256 as curve  # noqa: E402

CASES = int(os.environ.get("WARDEN_CASES", "600"))
N = curve.N
P = curve.P
SHA256 = ec.ECDSA(Prehashed(hashes.SHA256()))

Asked = list[tuple[str, str]]  # question, wanted answer


def put(micropython: str, asked: Asked, here: bool = True) -> None:
    """Every question to the port, and to this CPython."""
    questions = [question for question, _ in asked]
    wanted = [answer for _, answer in asked]
    runs = [both.port(micropython, questions)] + ([both.here(questions)] if here else [])
    for got in runs:
        wrong = [
            (question[:300], answer, right)
            for question, answer, right in zip(questions, got, wanted, strict=True)
            if answer != right
        ]
        assert not wrong, f"{len(wrong)} of {len(asked)}, the first: {wrong[:3]}"


def test_nist(micropython: str) -> None:
    asked: Asked = []
    for line in (TESTS / "vectors" / "nist.txt").read_text().splitlines():
        wanted, question = line.split("\t")
        asked.append((question, wanted))
    assert len(asked) == 1560
    put(micropython, asked)


# --- P-256
# ----------------------------------------------------------------------------------------


def number(value: int) -> bytes:
    return value.to_bytes(32, "big")


def raw(key: ec.EllipticCurvePublicKey) -> bytes:
    numbers = key.public_numbers()
    return number(numbers.x) + number(numbers.y)


def oracle(key: bytes, digest: bytes, signature: bytes) -> str:
    """What OpenSSL says of it; what it can't even load is no signature."""
    if len(key) != 64 or len(signature) != 64 or len(digest) != 32:
        return "False"
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + key)
        r = int.from_bytes(signature[:32], "big")
        s = int.from_bytes(signature[32:], "big")
        public.verify(encode_dss_signature(r, s), digest, SHA256)
    except (InvalidSignature, ValueError):
        return "False"
    return "True"


def sign(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(digest, SHA256))
    return number(r) + number(s)


def flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    bit = rng.randrange(8 * len(out))
    out[bit >> 3] ^= 1 << (bit & 7)
    return bytes(out)


def random_cases(count: int) -> Asked:
    rng = random.Random(count)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(max(4, count // 50))]
    tables = []
    for key in keys[:4]:
        numbers = key.public_key().public_numbers()
        tables.append(curve.table(numbers.x, numbers.y))
    asked: Asked = []
    for i in range(count):
        chosen = i % len(keys)
        public = raw(keys[chosen].public_key())
        digest = rng.randbytes(32)
        signature = sign(keys[chosen], digest)
        spoil = rng.randrange(8)
        if spoil == 0:
            digest = flip(digest, rng)
        elif spoil == 1:
            signature = flip(signature, rng)
        elif spoil == 2:
            public = flip(public, rng)
        elif spoil == 3:
            signature = signature[:32] + number(N - int.from_bytes(signature[32:], "big"))
        elif spoil == 4:
            signature = rng.randbytes(64)
        question = [public, digest, signature]
        if chosen < len(tables) and spoil != 2 and rng.random() < 0.5:
            question.append(tables[chosen])
        asked.append((both.line("p256", *question), oracle(public, digest, signature)))
    return asked


def multiples() -> dict[int, tuple[int, int]]:
    """k: k·G for k from -40 to 40, without 0."""
    points: dict[int, tuple[int, int]] = {1: (curve.GX, curve.GY)}
    points[2] = curve.double(points[1])
    for k in range(3, 41):
        points[k] = curve.add(points[k - 1], points[1])
    points.update({-k: (x, P - y) for k, (x, y) in list(points.items())})
    return points


def adversarial_cases() -> Asked:
    asked: Asked = []
    points = multiples()
    rng = random.Random(1)

    def ask(key: bytes, digest: bytes, signature: bytes) -> None:
        asked.append((both.line("p256", key, digest, signature), oracle(key, digest, signature)))

    edges = [0, 1, 2, N - 1, N, N + 1, P - N, P - 1, P, 2**255, 2**256 - 1]
    # Q a small multiple of G, a small nonce, digests that make u1 or u2 small, zero or equal.
    for d in [*range(1, 13), *range(-12, 0), 31, 32, 33, -31, 40]:
        key = number(points[d][0]) + number(points[d][1])
        for k in (1, 2, 3, 4, 5, 16, 17, 40):
            r = points[k][0] % N
            for e in (
                0,
                1,
                r,
                (-r * d) % N,
                (k - r * d) % N,
                (2 * r * d) % N,
                rng.randrange(2**256),
            ):
                s = pow(k, -1, N) * (e + r * d) % N
                if s == 0:
                    continue
                ask(key, number(e % 2**256), number(r) + number(s))
    key, digest = number(points[7][0]) + number(points[7][1]), rng.randbytes(32)
    # r and s at the edges of their range, and beyond.
    for r in edges:
        for s in edges:
            ask(key, digest, number(r) + number(s))
    # A valid signature with r + N, s + N, -s and each coordinate out of range.
    private = ec.derive_private_key(7, ec.SECP256R1())
    for _ in range(20):
        digest = rng.randbytes(32)
        signature = sign(private, digest)
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        for other_r, other_s in ((r, s), (r, N - s), (N - r, s), (s, r), (0, s), (r, 0)):
            ask(key, digest, number(other_r) + number(other_s))
        if r + N < 2**256:
            ask(key, digest, number(r + N) + number(s))
        if s + N < 2**256:
            ask(key, digest, number(r) + number(s + N))
        for wrong in (signature[:63], signature + b"\0", b"", signature[:32], b"\0" + signature):
            ask(key, digest, wrong)
        ask(key, digest[:31], signature)
        # Points off the curve, and on its twist.
        x, y = points[7]
        for qx, qy in ((x, y ^ 1), (x ^ 1, y), (y, x), (0, 0), (x, 0), (P, y), (x, P - y), (x, P)):
            ask(number(qx) + number(qy), digest, signature)
        ask(key[:63], digest, signature)
        ask(key + b"\0", digest, signature)
    return asked


def test_p256_random(micropython: str) -> None:
    asked = random_cases(CASES)
    put(micropython, asked, here=False)
    put(micropython, asked[:20])


def test_p256_adversarial(micropython: str) -> None:
    asked = adversarial_cases()
    assert len(asked) > 1000
    assert sum(wanted == "True" for _, wanted in asked) > 1000
    if CASES < 10000:
        asked = asked[::4] + asked[-300::3]
    put(micropython, asked, here=False)


def test_generated_files_are_what_the_generator_writes(repo: Path) -> None:
    outputs = curve.outputs()
    assert "lib/warden/crypto/_p256_native.py" in outputs
    for path, text in outputs.items():
        assert (repo / path).read_text() == text, f"{path}: run tools/generate_p256.py"


def test_the_proof_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """One carry less, one multiple of p too small: each must be found."""
    good = curve.PROGRAMS["ADD"]
    monkeypatch.setitem(curve.PROGRAMS, "ADD", good.replace("C = norm 1 C", "C = C + ZERO + ZERO"))
    with pytest.raises(ValueError, match="overflows"):
        curve.prove()
    monkeypatch.undo()
    for name, smaller in (("KX", (3, 1)), ("K3", (5, 2)), ("KT", (1, 1))):
        monkeypatch.setitem(curve.COVER, name, smaller)
        with pytest.raises(ValueError, match="negative"):
            curve.prove()
        monkeypatch.undo()


# --- the others
# -----------------------------------------------------------------------------------


def test_ccm_random(micropython: str) -> None:
    rng = random.Random(2)
    asked: Asked = []
    for i in range(400):
        key = rng.randbytes(rng.choice((16, 32)))
        tag = rng.choice((8, 10, 12, 14, 16))
        nonce = rng.randbytes(13)
        plain = rng.randbytes(i if i < 80 else rng.randrange(3000))
        aad = rng.randbytes(rng.choice((0, rng.randrange(40), rng.randrange(600))))
        sealed = AESCCM(key, tag).encrypt(nonce, plain, aad)
        parts = (key, bytes((tag,)), nonce, aad)
        asked.append((both.line("seal", *parts, plain), sealed.hex()))
        if plain:
            asked.append((both.line("open", *parts, sealed), plain.hex()))
        asked.append((both.line("open", *parts, flip(sealed, rng)), "error tampered"))
    put(micropython, asked)


def test_derivations_random(micropython: str) -> None:
    rng = random.Random(3)
    asked: Asked = []
    for _ in range(200):
        key, data, info = (rng.randbytes(rng.randrange(150)) for _ in range(3))
        salt, n = rng.randbytes(rng.choice((0, 1, 32, 64, 100))), rng.randrange(1, 300)
        asked.append((both.line("hmac", key, data), hmac.digest(key, data, "sha256").hex()))
        okm = HKDF(hashes.SHA256(), n, salt or None, info).derive(key)
        asked.append((both.line("hkdf", key, salt, info, n.to_bytes(2, "big")), okm.hex()))
        turns = rng.randrange(1, 40)
        wanted = hashlib.pbkdf2_hmac("sha256", key, salt, turns, n).hex()
        parts = (key, salt, turns.to_bytes(2, "big"), n.to_bytes(2, "big"))
        asked.append((both.line("pbkdf2", *parts), wanted))
    put(micropython, asked)


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_pss_random(micropython: str, bits: int) -> None:
    rng = random.Random(bits)
    key = rsa.generate_private_key(65537, bits)
    numbers = key.public_key().public_numbers()
    n, e = numbers.n.to_bytes(bits // 8, "big"), b"\1\0\1"
    ours = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    shorter = padding.PSS(padding.MGF1(hashes.SHA256()), 20)
    other_mask = padding.PSS(padding.MGF1(hashes.SHA384()), 32)
    asked: Asked = []
    for _ in range(20):
        message = rng.randbytes(40)
        digest = hashlib.sha256(message).digest()
        signature = key.sign(message, ours, hashes.SHA256())
        asked.append((both.line("pss", n, e, digest, signature), "True"))
        for bad in (
            flip(signature, rng),
            key.sign(message, shorter, hashes.SHA256()),
            key.sign(message, other_mask, hashes.SHA256()),
            key.sign(message, padding.PKCS1v15(), hashes.SHA256()),
        ):
            asked.append((both.line("pss", n, e, digest, bad), "False"))
        asked.append((both.line("pss", n, e, flip(digest, rng), signature), "False"))
    put(micropython, asked)
