"""Decrypt images of the host's tools with the device's code, on CPython and the unix port."""

import hashlib
import io
import random
import sys
from pathlib import Path

import cbor2
import pytest
from warden_host.names import Address
from warden_host.release import payload

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS / "cpython"))

import both  # noqa: E402  (the path must be set first)

LAMP = Address("lamp", "D1", "authority")
SEQUENCE = 70000


class Case:
    """All that a device is given; tests change one thing."""

    def __init__(self, size: int) -> None:
        rng = random.Random(size)
        self.plain = rng.randbytes(size)
        self.k = rng.randbytes(32)
        self.cek = rng.randbytes(32)
        self.manifest = rng.randbytes(32)
        self.digest = hashlib.sha256(self.plain).digest()
        plain = io.BytesIO(self.plain)
        made = payload.encrypt(self.cek, SEQUENCE, "app", size, self.digest, plain)
        self.sealed = b"".join(made)
        self.wrapped = payload.wrap(self.cek, self.k, LAMP, self.manifest)

    def line(self, **changes: bytes) -> str:
        values = {
            "identity": cbor2.dumps([LAMP.type, LAMP.device]),
            "key": self.k,
            "manifest": self.manifest,
            "info": payload.encryption_info(self.cek),
            "wrapped": self.wrapped,
            "sequence": SEQUENCE.to_bytes(4, "big"),
            "component": b"app",
            "size": len(self.plain).to_bytes(4, "big"),
            "digest": self.digest,
            "sealed": self.sealed,
        } | changes
        return both.line("payload", *values.values())


def ask(micropython: str, *lines: str) -> list[str]:
    answers = both.port(micropython, lines)
    assert answers == both.here(lines)
    return answers


def test_the_device_opens_payloads_of_the_host(micropython: str) -> None:
    cases = [Case(size) for size in (1, 15, 16, 1007, 1008, 1009, 2016, 2017, 50000)]
    assert [len(case.sealed) for case in cases] == [
        payload.length(len(case.plain)) for case in cases
    ]
    answers = ask(micropython, *[case.line() for case in cases])
    assert answers == [case.digest.hex() for case in cases]


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("payload-key", {"identity": cbor2.dumps(["lamp", "D2"])}),
        ("payload-key", {"identity": cbor2.dumps(["lamq", "D1"])}),
        ("payload-key", {"key": bytes(32)}),
        ("payload-key", {"manifest": bytes(32)}),
        ("payload-key", {"info": payload.encryption_info(bytes(32))}),
        ("payload-tampered", {"sequence": bytes(4)}),
        ("payload-tampered", {"component": b"web"}),
        ("payload-tampered", {"digest": bytes(32)}),
        ("payload-tampered", {"size": (3001).to_bytes(4, "big")}),
    ],
)
def test_the_key_is_bound_to_its_image(
    micropython: str, code: str, changes: dict[str, bytes]
) -> None:
    assert ask(micropython, Case(3000).line(**changes)) == ["error " + code]


def test_every_part_of_the_ciphertext(micropython: str) -> None:
    """A bit of each place of a segment, the whole segments in another order, and cut short."""
    case = Case(2500)
    sealed = case.sealed
    bad = [
        sealed[:at] + bytes([sealed[at] ^ 0x80]) + sealed[at + 1 :]
        for at in (*range(0, len(sealed), 61), 1007, 1008, 1023, 1024, len(sealed) - 1)
    ]
    bad += [sealed[1024:2048] + sealed[:1024] + sealed[2048:], sealed[:1024] * 2 + sealed[2048:]]
    answers = ask(micropython, *[case.line(sealed=one) for one in bad])
    assert set(answers) == {"error payload-tampered"}
    wrapped = case.wrapped
    keys = [
        wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :] for at in range(len(wrapped))
    ]
    answers = ask(micropython, *[case.line(wrapped=one) for one in keys])
    assert set(answers) == {"error payload-key"}
