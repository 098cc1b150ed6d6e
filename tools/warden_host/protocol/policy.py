"""The policy record: what a device demands. Both sides hash its bytes, so these must agree."""

import functools
import hashlib
from typing import Any

from warden_client.protocol import strictcbor

from warden_host.errors import HostError

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
    "backoff_min_ms": "Longest wait before the first new attempt to connect, milliseconds",
    "backoff_max_ms": "Longest wait between two attempts to connect, milliseconds",
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
# And version 3 this one, under the same rule.
_DEFAULTS_3: dict[str, Any] = {"development": False}
# Version 4: the terms of the connection.
_DEFAULTS_4: dict[str, Any] = {
    "auth": "password",
    "tls": True,
    "outbox": 0,
    "outbox_keep": "connection",
    "outbox_drop": "oldest",
}
# Version 5: what is kept of incidents, and the reactions to them (docs/protocol.md, Reactions).
INCIDENT_BOUNDS = {"writes": (0, 1000), "lock_s": (10, 3600), "wipe_after": (3, 1000)}
INCIDENT_REACTIONS = {
    "junk": ("ignore", "delay"),
    "apps": ("ignore", "delay", "lock"),
    "codes": ("lock", "wipe"),
    "tamper": ("ignore", "lock", "wipe"),
}
INCIDENT_DEFAULTS: dict[str, Any] = {
    "writes": 24,
    "lock_s": 60,
    "wipe_after": 100,
    "junk": "ignore",
    "apps": "lock",
    "codes": "lock",
    "tamper": "ignore",
}
_DEFAULTS_5: dict[str, Any] = {"incidents": INCIDENT_DEFAULTS}
_ADDED = {2: _DEFAULTS_2, 3: _DEFAULTS_3, 4: _DEFAULTS_4, 5: _DEFAULTS_5}
_LATEST = max(_ADDED)
_ALL_ADDED = {key: value for added in _ADDED.values() for key, value in added.items()}
_KEYS = {
    version: set(_DEFAULTS).union(*(_ADDED[one] for one in range(2, version + 1)))
    for version in range(1, _LATEST + 1)
}
AUTH = (
    *("password", "token", "certificate"),
    *("certificate-and-password", "certificate-or-password"),
    *("certificate-and-token", "certificate-or-token"),
)
OUTBOX_KEEP = ("connection", "reboot")
OUTBOX_DROP = ("oldest", "newest")
OUTBOX_MOST = 64  # messages
OUTBOX = ("outbox", "outbox_keep", "outbox_drop")

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
    """Return the record's bytes: the defaults with these changes; raises bad-policy.

    incidents: a map of what differs from INCIDENT_DEFAULTS.
    """
    policy = _DEFAULTS | changes
    if isinstance(policy.get("incidents"), dict):
        policy["incidents"] = INCIDENT_DEFAULTS | policy["incidents"]
    version = 1
    for number, added in _ADDED.items():
        if any(_differs(policy.get(key, plain), plain) for key, plain in added.items()):
            version = number
    policy = _ALL_ADDED | policy
    if version > 1:
        policy["v"] = version
    unneeded = _KEYS[_LATEST] - _KEYS[version]
    policy = {key: value for key, value in policy.items() if key not in unneeded}
    check(policy)
    return strictcbor.encode(policy)


def _differs(value: Any, plain: Any) -> bool:
    return type(value) is not type(plain) or value != plain


def changed(data: bytes, **values: Any) -> bytes:
    """Return the record with other values, of LIMITS and OUTBOX; incidents: a map of what changes.

    Raises bad-policy, and as parse() does.
    """
    policy = parse(data)
    known = (*LIMITS, *OUTBOX, "incidents")
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise HostError("bad-policy", f"{unknown[0]} is none of {', '.join(known)}")
    if isinstance(values.get("incidents"), dict):
        before = policy.get("incidents", INCIDENT_DEFAULTS)
        values["incidents"] = before | values["incidents"]
    if any(_differs(value, policy.get(key, _ALL_ADDED.get(key))) for key, value in values.items()):
        # As with record(): a newer version only where a value needs it.
        least = 5 if "incidents" in values else 4 if set(values) & set(OUTBOX) else 1
        if policy["v"] < least:
            added = {key: _ALL_ADDED[key] for key in _KEYS[least] - set(policy)}
            policy = added | policy | {"v": least}
        policy |= {key: value for key, value in values.items() if key in policy}
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
def policy_hash(data: bytes | None) -> bytes:
    """Return the record's hash as hello and welcome carry it; b"" where there is none."""
    return b"" if data is None else hashlib.sha256(data).digest()


@functools.lru_cache(64)  # asked for each command
def max_message(data: bytes) -> int:
    """Return the largest packet that the device takes, bytes. Raises as parse() does."""
    return int(parse(data)["max_message"])


@functools.lru_cache(64)  # asked for each device a few times a second
def keepalive_s(data: bytes) -> int:
    """Return the device's MQTT keepalive, seconds. Raises as parse() does."""
    return int(parse(data)["keepalive_s"])


def gate(data: bytes) -> dict[str, Any] | None:
    """Return the record's gate; None where the device asks for no code. Raises as parse() does."""
    found: dict[str, Any] | None = parse(data).get("otp")
    return found


def connection(data: bytes) -> dict[str, Any]:
    """Return the record's terms of the connection, those of version 4. Raises as parse() does."""
    policy = parse(data)
    return {key: policy.get(key, plain) for key, plain in _DEFAULTS_4.items()}


def incidents(data: bytes) -> dict[str, Any]:
    """Return the record's terms of incidents, those of version 5. Raises as parse() does."""
    found: dict[str, Any] = parse(data).get("incidents", INCIDENT_DEFAULTS)
    return found


def check(policy: dict[str, Any]) -> None:
    """Raise bad-policy unless keys, types and bounds of the record are as its version says."""
    version = policy.get("v")
    if type(version) is not int or version not in _KEYS:
        raise HostError("bad-policy", "v is none of 1 to 5")
    if set(policy) != _KEYS[version]:
        raise HostError("bad-policy", "keys are missing or unknown")
    if policy["mode"] not in ("sealed", "plain"):
        raise HostError("bad-policy", "mode is neither sealed nor plain")
    for key in ("validate", "store"):
        if not isinstance(policy[key], bool):
            raise HostError("bad-policy", f"{key} is not true or false")
    _check_numbers(policy, _BOUNDS)
    if policy["backoff_min_ms"] > policy["backoff_max_ms"]:
        raise HostError("bad-policy", "backoff_min_ms is above backoff_max_ms")
    for key in {"strict", "development"} & set(policy):
        if not isinstance(policy[key], bool):
            raise HostError("bad-policy", f"{key} is not true or false")
    if version > 1:
        if policy["otp"] is not None:
            _check_otp(policy["otp"])
    if version > 3:
        _check_connection(policy)
    if version > 4:
        _check_incidents(policy)


def _check_connection(policy: dict[str, Any]) -> None:
    choices = {"auth": AUTH, "outbox_keep": OUTBOX_KEEP, "outbox_drop": OUTBOX_DROP}
    for key, values in choices.items():
        if policy[key] not in values:
            raise HostError("bad-policy", f"{key} is none of {', '.join(values)}")
    if not isinstance(policy["tls"], bool):
        raise HostError("bad-policy", "tls is not true or false")
    _check_numbers(policy, {"outbox": (0, OUTBOX_MOST)})
    if not policy["tls"] and (policy["mode"] != "sealed" or policy["auth"] != "password"):
        raise HostError("bad-policy", "without TLS only mode sealed and auth password are safe")


def _check_incidents(policy: dict[str, Any]) -> None:
    terms = policy["incidents"]
    if not isinstance(terms, dict) or set(terms) != set(INCIDENT_DEFAULTS):
        raise HostError("bad-policy", "incidents: keys are missing or unknown")
    for key, allowed in INCIDENT_REACTIONS.items():
        if terms[key] not in allowed:
            raise HostError("bad-policy", f"incidents: {key} is none of {', '.join(allowed)}")
    _check_numbers(terms, INCIDENT_BOUNDS)
    if terms["codes"] == "wipe" and (policy["otp"] or {}).get("source") not in ("hotp", "totp"):
        raise HostError(
            "bad-policy",
            "codes wipe only a device that verifies them itself: of the authority's codes, "
            "who holds back the verdicts makes right ones count as wrong",
        )


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
