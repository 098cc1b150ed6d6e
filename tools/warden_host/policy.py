"""The policy record: what a device demands. Its bytes are hashed, so both sides must agree on them."""

import hashlib
from typing import Any

from warden_host import strictcbor
from warden_host.errors import HostError

_BOUNDS = {
    "max_message": (512, 16384),
    "stall_ms": (500, 5000),
    "handshake_ms": (2000, 60000),
    "keepalive_s": (5, 3600),
    "backoff_min_ms": (100, 60000),
    "backoff_max_ms": (1000, 3600000),
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


def record(**changes: Any) -> bytes:
    """The record's bytes: the defaults with these changes; raises bad-policy."""
    policy = _DEFAULTS | changes
    check(policy)
    return strictcbor.encode(policy)


def parse(data: bytes) -> dict[str, Any]:
    """The record as a map; raises bad-policy, cbor-…"""
    policy = strictcbor.decode(data)
    if not isinstance(policy, dict):
        raise HostError("bad-policy", "the record is not a map")
    check(policy)
    return policy


def policy_hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def check(policy: dict[str, Any]) -> None:
    if set(policy) != set(_DEFAULTS):
        raise HostError("bad-policy", "keys are missing or unknown")
    if policy["v"] != 1 or isinstance(policy["v"], bool):
        raise HostError("bad-policy", "v is not 1")
    if policy["mode"] not in ("sealed", "plain"):
        raise HostError("bad-policy", "mode is neither sealed nor plain")
    for key in ("validate", "store"):
        if not isinstance(policy[key], bool):
            raise HostError("bad-policy", f"{key} is not true or false")
    for key, (low, high) in _BOUNDS.items():
        value = policy[key]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise HostError("bad-policy", f"{key} is not between {low} and {high}")
    if policy["backoff_min_ms"] > policy["backoff_max_ms"]:
        raise HostError("bad-policy", "backoff_min_ms is above backoff_max_ms")
