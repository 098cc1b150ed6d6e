"""The device's COSE against `cwt`, both ways, and against garbage; on CPython and on the unix
port.

`cwt` wants a cbor2 below 6, so it lives in a virtual environment of its own, build/cwt, which
`make setup` makes.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS / "cpython"))

import both  # noqa: E402  (the path must be set first)
import cose_kit  # noqa: E402
from warden.errors import PeerError  # noqa: E402
from warden.wire import cose  # noqa: E402

KID = b"kid-8888"
SID = b"sid-8888"
ALGS = {
    "AES-CCM-16-64-128": (10, 16, 8),
    "AES-CCM-16-128-128": (30, 16, 16),
    "AES-CCM-16-128-256": (31, 32, 16),
}
REFUSALS = {"error cose-malformed", "error cose-algorithm", "error tampered"}


def cwt(requests: list[list[object]]) -> list[str]:
    python = os.environ.get("CWT_PYTHON", str(TESTS.parent / "build" / "cwt" / "bin" / "python"))
    if not Path(python).is_file():
        pytest.fail("cwt's environment is missing: run `make setup`")
    done = subprocess.run(
        [python, str(TESTS / "cpython" / "cwt_side.py")],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def ask(micropython: str, questions: list[str]) -> list[str]:
    """The answers of the port, which must be CPython's as well."""
    answers = both.port(micropython, questions)
    assert answers == both.here(questions)
    return answers


def nonce_of(base_iv: bytes, counter: int) -> bytes:
    return (int.from_bytes(base_iv, "big") ^ counter).to_bytes(13, "big")


def payloads(rng: random.Random) -> list[bytes]:
    return [rng.randbytes(n) for n in (0, 1, 15, 16, 23, 24, 200, 255, 256, 700)]


def test_mac0_both_ways(micropython: str) -> None:
    rng = random.Random(1)
    sets = [(rng.randbytes(32), payload, rng.randbytes(20)) for payload in payloads(rng)]
    made = ask(micropython, [both.line("build_mac0", k, KID, p, aad) for k, p, aad in sets])
    theirs = cwt([["mac", k.hex(), KID.hex(), p.hex(), aad.hex()] for k, p, aad in sets])
    # Both write the same bytes.
    assert made == theirs
    read = cwt(
        [
            ["read", "HS256", k.hex(), KID.hex(), aad.hex(), message]
            for (k, _, aad), message in zip(sets, made, strict=True)
        ]
    )
    assert read == [p.hex() for _, p, _ in sets]
    back = [
        both.line("mac0", k, aad, bytes.fromhex(message), b"\1")
        for (k, _, aad), message in zip(sets, theirs, strict=True)
    ]
    assert ask(micropython, back) == [p.hex() or "-" for _, p, _ in sets]


@pytest.mark.parametrize("name", ALGS)
def test_encrypt0_both_ways(micropython: str, name: str) -> None:
    alg, key_len, tag_len = ALGS[name]
    rng = random.Random(alg)
    sets = []
    for payload in payloads(rng):
        counter = rng.choice((0, 1, 255, 256, 70000, 0xFFFFFFFF))
        size = max(1, (counter.bit_length() + 7) // 8)
        piv = counter.to_bytes(size, "big")
        sets.append((rng.randbytes(key_len), rng.randbytes(13), piv, payload, rng.randbytes(9)))
    tag = bytes((tag_len,))
    made = ask(
        micropython,
        [
            both.line("build_encrypt0", k, tag, KID, piv, SID, iv, p, aad)
            for k, iv, piv, p, aad in sets
        ],
    )
    requests: list[list[object]] = []
    for (k, iv, piv, _, aad), message in zip(sets, made, strict=True):
        protected, unprotected, ciphertext = cbor2.loads(bytes.fromhex(message))
        assert unprotected == {}
        assert cbor2.loads(protected) == {1: alg, 4: KID, 6: piv, 10: SID}
        nonce = nonce_of(iv, int.from_bytes(piv, "big"))
        parts = (k, protected, nonce, aad)
        requests.append(["open", name, *(part.hex() for part in parts), ciphertext.hex()])
        requests.append(["open", name, *(part.hex() for part in parts), ciphertext[:-1].hex()])
    read = cwt(requests)
    assert read[::2] == [p.hex() for _, _, _, p, _ in sets]
    assert set(read[1::2]) == {"refused"}

    # With the whole IV in the open, as cwt writes it.
    requests = [
        ["encrypt", name, k.hex(), [[1, alg]], iv.hex(), p.hex(), aad.hex()]
        for k, iv, _, p, aad in sets
    ]
    back = [
        both.line("encrypt0", k, tag, b"", aad, bytes.fromhex(message), b"\0")
        for (k, _, _, _, aad), message in zip(sets, cwt(requests), strict=True)
    ]
    assert ask(micropython, back) == [p.hex() or "-" for _, _, _, p, _ in sets]


def pem(key: "ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey") -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def test_sign1_from_cwt(micropython: str) -> None:
    rng = random.Random(3)
    point = ec.generate_private_key(ec.SECP256R1())
    numbers = point.public_key().public_numbers()
    xy = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    big = rsa.generate_private_key(65537, 2048)
    modulus = big.public_key().public_numbers().n.to_bytes(256, "big")
    keys = {"ES256": (pem(point), xy), "ESP256": (pem(point), xy), "PS256": (pem(big), modulus)}
    requests: list[list[object]] = []
    sets = []
    for alg, (private, public) in keys.items():
        for payload in payloads(rng):
            for detached in (False, True):
                aad = rng.randbytes(6)
                requests.append(["sign", alg, private, payload.hex(), aad.hex(), detached])
                sets.append((public, aad, payload, detached))
    questions = []
    wanted = []
    for (public, aad, payload, detached), message in zip(sets, cwt(requests), strict=True):
        data = bytes.fromhex(message)
        more = (payload,) if detached else ()
        questions.append(both.line("sign1", public, aad, data, *more))
        wanted.append("valid")
        questions.append(both.line("sign1", public, aad + b"x", data, *more))
        wanted.append("error tampered")
        questions.append(
            both.line("sign1", public, aad, data[:-1] + bytes((data[-1] ^ 1,)), *more)
        )
        wanted.append("error tampered")
        wrong = modulus if public == xy else xy
        questions.append(both.line("sign1", wrong, aad, data, *more))
        wanted.append("error cose-algorithm")
    assert ask(micropython, questions) == wanted


def test_damaged_messages(micropython: str) -> None:
    """One to three bytes changed, put in or cut out: never accepted, never an exception of another
    kind."""
    rng = random.Random(4)
    key = hashlib.sha256(b"key").digest()
    seeds = both.here(
        [
            both.line("build_mac0", key, KID, b"payload", b"aad"),
            both.line("build_encrypt0", key, b"\x10", KID, b"\1", SID, bytes(13), b"p", b"aad"),
        ]
    )
    mac0, encrypt0 = (bytes.fromhex(seed) for seed in seeds)
    questions = []
    for _ in range(2500):
        data = bytearray(rng.choice((mac0, encrypt0)))
        right = bytes(data)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            how = rng.randrange(3)
            if how == 0:
                data[at] = rng.choice((0, 0xFF, data[at] ^ 1, rng.randrange(256)))
            elif how == 1:
                data.insert(at, rng.randrange(256))
            else:
                del data[at]
        if bytes(data) == right:
            continue
        strict = rng.choice((b"\0", b"\1"))
        if right == mac0:
            questions.append(both.line("mac0", key, b"aad", data, strict))
        else:
            questions.append(both.line("encrypt0", key, b"\x10", bytes(13), b"aad", data, strict))
    answers = ask(micropython, questions)
    assert set(answers) <= REFUSALS, set(answers) - REFUSALS
    assert set(answers) == REFUSALS


@pytest.mark.parametrize("parse", ["parse_mac0", "parse_encrypt0", "parse_sign1"])
@pytest.mark.parametrize("strict", [True, False])
def test_a_malformed_message_names_its_fault(parse: str, strict: bool) -> None:
    parts = 3 if parse == "parse_encrypt0" else 4
    empty = cbor2.dumps([b"", {}, bytes(20), bytes(32)][:parts])
    for message in (empty, b"", empty[:-1]):
        readers = [lambda data: getattr(cose_kit, parse)(data, strict=strict)]
        if parse == "parse_sign1":
            readers.append(cose.parse_sign1)
        for read in readers:
            with pytest.raises(PeerError) as caught:
                read(message)
            assert caught.value.code == "cose-malformed"
            assert caught.value.text
            assert message != empty or "empty" in caught.value.text
