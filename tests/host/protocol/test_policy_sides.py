"""Device and host give a policy record the same verdict: a session compares its hash alone."""

import random
import sys
from pathlib import Path
from typing import Any

import cbor2
from warden_host.errors import HostError
from warden_host.protocol import policy

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS.parent / "lib"), str(TESTS / "cpython")]

from warden.errors import UsageError  # type: ignore[import-not-found]  # noqa: E402
from warden.policy.policy import Policy  # type: ignore[import-not-found]  # noqa: E402

RECORDS = 2000
CHOICES: dict[str, tuple[Any, ...]] = {
    "mode": ("sealed", "plain"),
    "auth": policy.AUTH,
    "tls": (True, False),
    "outbox": (0, policy.OUTBOX_MOST, policy.OUTBOX_MOST + 1),
    "outbox_keep": policy.OUTBOX_KEEP,
    "outbox_drop": policy.OUTBOX_DROP,
}
VALUES = [
    *(True, False, None, 0, 1, -1, 4, 64, 65, 500, 512, 16384, 16385, 30000, 60000, 3600, 3600001),
    *(2**31, 2**32, 2**63, 2**64 - 1, -(2**64), 1.0, 60.0, float("nan"), b"sealed", b"password"),
    *("", "sealed", "password", "Password", "token", "certificate-and-token", "reboot", "newest"),
    *("authority", "telemetry", [], {}, [1]),
]
KEYS = ["auth", "tls", "outbox", "strict", "otp", "incidents", "writes", "port", 1, b"auth"]


def draw(chance: random.Random) -> bytes:
    """Return a record of any version, as a rule with something wrong."""
    version = chance.choice((1, 2, 3, 4, 4, 5, 5, 5))
    source = chance.choice(policy.OTP_SOURCES)
    added = {"otp": policy.otp(source=source) if chance.random() < 0.4 else None}
    terms = {key: chance.choice(each) for key, each in policy.INCIDENT_REACTIONS.items()}
    if chance.random() < 0.5:
        terms["codes"] = "lock"
    added["incidents"] = policy.INCIDENT_DEFAULTS | terms
    full = policy.parse(policy.record(incidents={"writes": 1})) | added
    record = {key: full[key] for key in policy._KEYS[version]} | {"v": version}
    for key, values in CHOICES.items():
        if key in record and chance.random() < 0.4:
            record[key] = chance.choice(values)
    for _ in range(chance.choice((0, 0, 1, 1, 2))):
        gate = record.get(chance.choice(("otp", "incidents")))
        target = gate if isinstance(gate, dict) and gate and chance.random() < 0.4 else record
        kind = chance.random()
        if kind < 0.6:
            target[chance.choice(list(target))] = chance.choice(VALUES)
        elif kind < 0.75:
            del target[chance.choice(list(target))]
        else:
            target[chance.choice(KEYS)] = chance.choice(VALUES)
    data = bytearray(cbor2.dumps(record, canonical=True))
    if chance.random() < 0.15:
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data) + bytes(chance.choice((0,) * 50 + (1, 300)))


def device_accepts(data: bytes) -> bool:
    try:
        Policy(data)
    except UsageError:
        return False
    return True


def host_accepts(data: bytes) -> bool:
    try:
        policy.parse(data)
    except HostError:
        return False
    return True


def test_both_sides_agree_on_every_record() -> None:
    chance = random.Random(14)
    accepted = 0
    for _ in range(RECORDS):
        data = draw(chance)
        verdict = host_accepts(data)
        assert device_accepts(data) == verdict, data.hex()
        accepted += verdict
    assert RECORDS // 10 < accepted < RECORDS * 9 // 10
