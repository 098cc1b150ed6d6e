"""The policy record: what a device demands. Both sides hash its bytes, so these must agree."""

import functools
import hashlib
from typing import Any

from warden_host.errors import HostError
from warden_host.protocol import strictcbor

_BOUNDS = {
    "max_message": (512, 16384),
    "stall_ms": (500, 30000),
    "handshake_ms": (2000, 60000),
    "keepalive_s": (5, 3600),
    "backoff_min_ms": (100, 60000),
    "backoff_max_ms": (1000, 3600000),
}
# The limits that `warden provision` sets, and their help texts.
LIMITS = {
    "max_message": "Largest MQTT packet that the device takes, bytes",
    "stall_ms": "How long a peer that owes bytes may keep the device waiting, milliseconds",
    "handshake_ms": "How long connecting may take: TCP, TLS and the log-in, milliseconds",
    "keepalive_s": "MQTT keepalive, seconds",
}
_DEFAULTS: dict[str, Any] = {
    "v": 1,
    "mode": "sealed",
    "validate": True,
    "store": True,
    "max_message": 2048,
    "stall_ms": 5000,
    "handshake_ms": 20000,
    "keepalive_s": 60,
    "backoff_min_ms": 1000,
    "backoff_max_ms": 60000,
}
# Version 2 adds these; a device that needs neither keeps version 1, which older firmware reads.
_DEFAULTS_2: dict[str, Any] = {"strict": False, "otp": None}

OTP_SOURCES = ("authority", "hotp", "totp")
OTP_BOUNDS = {
    "digits": (6, 10),
    "validity_s": (30, 3600),
    "idle_s": (5, 600),
    "retries": (1, 10),
    "lock_s": (10, 3600),
}
OTP_BEFORE = ("nothing", "telemetry")
_OTP_DEFAULTS: dict[str, Any] = {
    "source": "authority",
    "digits": 6,
    "validity_s": 300,
    "idle_s": 60,
    "retries": 3,
    "lock_s": 60,
    "before": "nothing",
    "unlock": True,
    "duress": False,
}


def limit(key: str) -> tuple[int, int, int]:
    """Return the least, the most and the default value of one of LIMITS."""
    return (*_BOUNDS[key], _DEFAULTS[key])


def otp(**changes: Any) -> dict[str, Any]:
    """Return the record's gate: the defaults with these changes; raises bad-policy."""
    gate = _OTP_DEFAULTS | changes
    _check_otp(gate)
    return gate


def record(**changes: Any) -> bytes:
    """Return the record's bytes: the defaults with these changes; raises bad-policy."""
    policy = _DEFAULTS | changes
    if any(policy.get(key, plain) is not plain for key, plain in _DEFAULTS_2.items()):
        policy = _DEFAULTS_2 | policy | {"v": 2}
    else:
        policy = {key: value for key, value in policy.items() if key not in _DEFAULTS_2}
    check(policy)
    return strictcbor.encode(policy)


def parse(data: bytes) -> dict[str, Any]:
    """Return the record as a map; raises bad-policy, cbor-…"""
    policy = strictcbor.decode(data)
    if not isinstance(policy, dict):
        raise HostError("bad-policy", "the record is not a map")
    check(policy)
    return policy


@functools.lru_cache(64)  # most devices of a fleet have the same policy
def policy_hash(data: bytes) -> bytes:
    """Return the record's hash as hello and welcome carry it."""
    return hashlib.sha256(data).digest()


def gate(data: bytes) -> dict[str, Any] | None:
    """Return the record's gate; None where the device asks for no code. Raises as parse() does."""
    found: dict[str, Any] | None = parse(data).get("otp")
    return found


def check(policy: dict[str, Any]) -> None:
    """Raise bad-policy unless keys, types and bounds of the record are as its version says."""
    version = policy.get("v")
    if type(version) is not int or version not in (1, 2):
        raise HostError("bad-policy", "v is neither 1 nor 2")
    if set(policy) != set(_DEFAULTS) | (set(_DEFAULTS_2) if version == 2 else set()):
        raise HostError("bad-policy", "keys are missing or unknown")
    if policy["mode"] not in ("sealed", "plain"):
        raise HostError("bad-policy", "mode is neither sealed nor plain")
    for key in ("validate", "store"):
        if not isinstance(policy[key], bool):
            raise HostError("bad-policy", f"{key} is not true or false")
    _check_numbers(policy, _BOUNDS)
    if policy["backoff_min_ms"] > policy["backoff_max_ms"]:
        raise HostError("bad-policy", "backoff_min_ms is above backoff_max_ms")
    if version == 2:
        if not isinstance(policy["strict"], bool):
            raise HostError("bad-policy", "strict is not true or false")
        if policy["otp"] is not None:
            _check_otp(policy["otp"])


def _check_otp(gate: Any) -> None:
    if not isinstance(gate, dict) or set(gate) != set(_OTP_DEFAULTS):
        raise HostError("bad-policy", "otp: keys are missing or unknown")
    for key, allowed in (("source", OTP_SOURCES), ("before", OTP_BEFORE)):
        if gate[key] not in allowed:
            raise HostError("bad-policy", f"otp: {key} is none of {', '.join(allowed)}")
    for key in ("unlock", "duress"):
        if not isinstance(gate[key], bool):
            raise HostError("bad-policy", f"otp: {key} is not true or false")
    _check_numbers(gate, OTP_BOUNDS)


def _check_numbers(values: dict[str, Any], bounds: dict[str, tuple[int, int]]) -> None:
    for key, (low, high) in bounds.items():
        value = values[key]
        if type(value) is not int or not low <= value <= high:
            raise HostError("bad-policy", f"{key} is not between {low} and {high}")
