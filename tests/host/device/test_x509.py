"""The device's certificate fields against `cryptography`, on CPython and on the unix port."""

import datetime
import random
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "cpython"))

import both  # noqa: E402  (the path must be set first)

EPOCH = datetime.datetime(1970, 1, 1)


def moments(rng: random.Random) -> tuple[datetime.datetime, datetime.datetime]:
    """Two times from 1950 to 9999, in order: borders of the two forms, of months and of leap years
    among them."""
    special = [
        datetime.datetime(1950, 1, 1),
        datetime.datetime(2049, 12, 31, 23, 59, 59),
        datetime.datetime(2050, 1, 1),
        datetime.datetime(2000, 2, 29, 12),
        datetime.datetime(2100, 2, 28, 23, 59, 59),
        datetime.datetime(2100, 3, 1),
        datetime.datetime(9999, 12, 31, 23, 59, 59),
    ]
    drawn = [
        rng.choice(special)
        if rng.random() < 0.3
        else datetime.datetime(rng.randrange(1950, 2200), 1, 1)
        + datetime.timedelta(seconds=rng.randrange(366 * 86400))
        for _ in range(2)
    ]
    return min(drawn), max(drawn)


def seconds(moment: datetime.datetime) -> int:
    return (moment - EPOCH) // datetime.timedelta(seconds=1)


def test_certificates(micropython: str) -> None:
    rng = random.Random(5)
    keys = [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ]
    questions = []
    wanted = []
    ders = []
    for i in range(120):
        key = keys[i % len(keys)]
        before, after = moments(rng)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * rng.randrange(1, 60))])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(rng.randrange(1, 2 ** rng.choice((7, 8, 150))))
            .not_valid_before(before)
            .not_valid_after(after)
        )
        if i % 3:
            names = [x509.DNSName(f"host{j}.example") for j in range(rng.randrange(1, 30))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = builder.sign(key, None if i % 4 == 3 else hashes.SHA256())
        der = signed.public_bytes(serialization.Encoding.DER)
        spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        ders.append(der)
        questions.append(both.line("x509", der))
        wanted.append(f"{spki.hex()} {seconds(before)} {seconds(after)}")
    assert both.port(micropython, questions) == wanted
    assert both.here(questions) == wanted

    # A byte changed, cut or put in: a refusal, or another certificate; nothing else.
    questions = []
    for _ in range(3000):
        data = bytearray(rng.choice(ders))
        at = rng.randrange(min(len(data), 200))
        how = rng.randrange(3)
        if how == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[at]
        else:
            data.insert(at, rng.randrange(256))
        questions.append(both.line("x509", data))
    answers = both.port(micropython, questions)
    assert answers == both.here(questions)
    # Most positions are lengths and tags.
    assert answers.count("error certificate-malformed") > 1000
