"""The policy record, checked key by key against bounds, with a digest that both ends compare.

A policy has no optional parts: a key that is missing or unknown is an error and never a default,
which could be weaker than what the owner meant. Version 1 has neither `strict` nor `otp`, and
means not strict and no gate; `development` comes with version 3, and those before forbid it; the
terms of the connection (policy/connection.py) come with version 4, and those before mean a
password over TLS and no outbox; those of incidents (policy/incidents.py) come with version 5.
"""

import hashlib

from micropython import const

from .. import unload
from ..errors import PeerError, UsageError
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

# Key, least and most, inclusive; docs/protocol.md holds the same table.
_NUMBERS = const(
    (
        ("max_message", 512, 16384),
        ("stall_ms", 500, 30000),
        ("handshake_ms", 2000, 60000),
        ("keepalive_s", 5, 3600),
        ("backoff_min_ms", 100, 60000),
        ("backoff_max_ms", 1000, 3600000),
    )
)
_SWITCHES = const(("validate", "store"))
_MAX_RECORD = const(512)


class Policy:
    """A parsed policy, with an attribute for each key of the record.

    digest: SHA-256 of the record. otp: None, or the gate's terms (policy/otp.py). connection: None
    (a password, TLS, no outbox), or the terms of version 4 (policy/connection.py). incidents: None
    (the defaults), or the terms of version 5 (policy/incidents.py).
    """

    mode: str
    validate: bool
    store: bool
    strict: bool
    otp: "dict[str, Any] | None"
    development: bool
    connection: "dict[str, Any] | None"
    incidents: "dict[str, Any] | None"
    max_message: int
    stall_ms: int
    handshake_ms: int
    keepalive_s: int
    backoff_min_ms: int
    backoff_max_ms: int

    def __init__(self, data: bytes) -> None:
        """Parse CBOR as in docs/protocol.md. UsageError bad-policy for anything else."""
        if len(data) > _MAX_RECORD:
            raise UsageError("bad-policy", "the policy record is too large")
        try:
            fields: "Any" = cbor.decode(data)
        except PeerError as error:
            raise UsageError("bad-policy", "the policy record can't be read: " + error.code)
        version = fields.get("v") if isinstance(fields, dict) else None
        if type(version) is not int or version not in (1, 2, 3, 4, 5):
            raise UsageError("bad-policy", "this version of the policy record is not known")
        # What version 1 lacks, and later versions must hold.
        self.strict, self.otp, self.development, self.connection = False, None, False, None
        self.incidents = None
        if version == 5:
            from .incidents import split_incidents

            self.incidents = split_incidents(fields)
            del split_incidents
            unload("warden.policy.incidents")
            version = 4
        if version == 4:
            from .connection import split

            self.connection = split(fields, fields.get("mode"))
            del split
            unload("warden.policy.connection")
            version = 3
        if len(fields) != len(_NUMBERS) + len(_SWITCHES) + (2, 4, 5)[version - 1]:
            raise UsageError(
                "bad-policy", "the policy record must hold exactly the documented keys"
            )
        if version > 1:
            for key in ("strict", "development")[: version - 1]:
                if fields.get(key) is not True and fields.get(key) is not False:
                    raise UsageError("bad-policy", key + " must be true or false")
            if fields.get("otp", 0) is not None:
                from .otp import parse

                parse(fields.get("otp"))
        if self.incidents is not None and self.incidents["codes"] == "wipe":
            # Of another's codes, who holds up the verdicts makes right ones count as wrong.
            gate = fields.get("otp")
            if not gate or gate["source"] == "authority":
                raise UsageError("bad-policy", "codes wipe only where the device verifies them")
        if fields.get("mode") not in ("sealed", "plain"):
            raise UsageError("bad-policy", "mode must be sealed or plain")
        for key in _SWITCHES:
            if fields.get(key) is not True and fields.get(key) is not False:
                raise UsageError("bad-policy", key + " must be true or false")
        for key, least, most in _NUMBERS:
            number = fields.get(key)
            if number is True or number is False or not isinstance(number, int):
                raise UsageError("bad-policy", key + " must be a whole number")
            if not least <= number <= most:
                raise UsageError("bad-policy", "%s must lie in %d to %d" % (key, least, most))
        # Each of them is a documented one: all of those are there, and there are no more.
        for key in fields:
            setattr(self, key, fields[key])
        if self.backoff_min_ms > self.backoff_max_ms:
            raise UsageError("bad-policy", "backoff_min_ms is above backoff_max_ms")
        self.digest = hashlib.sha256(data).digest()
