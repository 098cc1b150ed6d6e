"""The policy: every key there, every bound held, nothing taken for granted."""

import hashlib
import sys

from gate_kit import TERMS
from harness import check, equal, has_text, raises
from warden.errors import UsageError
from warden.policy.policy import Policy
from warden.wire import cbor

PURE = True

DEFAULT = {
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
# docs/protocol.md, Policy record.
BOUNDS = {
    "max_message": (512, 16384),
    "stall_ms": (500, 30000),
    "handshake_ms": (2000, 60000),
    "keepalive_s": (5, 3600),
    "backoff_min_ms": (100, 60000),
    "backoff_max_ms": (1000, 3600000),
}


def record(**changes):
    fields = dict(DEFAULT)
    fields.update(changes)
    return cbor.encode(fields)


def refused(data):
    check(isinstance(raises("bad-policy", Policy, data), UsageError))


def test_the_default():
    data = record()
    policy = Policy(data)
    for key, value in DEFAULT.items():
        if key != "v":
            equal(getattr(policy, key), value, key)
    equal(policy.digest, hashlib.sha256(data).digest())


def test_switches_and_modes():
    for validate in (True, False):
        for store in (True, False):
            policy = Policy(record(mode="plain", validate=validate, store=store))
            equal((policy.mode, policy.validate, policy.store), ("plain", validate, store))


def test_a_key_missing():
    for key in DEFAULT:
        fields = dict(DEFAULT)
        del fields[key]
        refused(cbor.encode(fields))
        # Another one in its place: as many keys as there should be, and a default is no answer.
        fields["other"] = DEFAULT[key]
        refused(cbor.encode(fields))


def test_a_key_too_many():
    refused(record(extra=1))
    fields = dict(DEFAULT)
    fields[1] = 1
    refused(cbor.encode(fields))


def test_bounds():
    for key, (least, most) in BOUNDS.items():
        # The two back-offs also bound each other.
        other = {"backoff_max_ms": 3600000} if key == "backoff_min_ms" else {}
        if key == "backoff_max_ms":
            other = {"backoff_min_ms": 100}
        for number in (least, most):
            other[key] = number
            equal(getattr(Policy(record(**other)), key), number)
        for number in (
            least - 1,
            most + 1,
            0,
            -1,
            1 << 40,
            float(most),
            True,
            False,
            None,
            "60",
            b"60",
            [most],
        ):
            other[key] = number
            refused(record(**other))


def test_wrong_types():
    for key in ("validate", "store"):
        for value in (0, 1, None, "true", [], {}):
            refused(record(**{key: value}))
    for mode in ("", "Sealed", "sealed ", b"sealed", None, 0, ["sealed"], {"sealed": 1}):
        refused(record(mode=mode))
    for version in (0, 3, 4, 5, True, "1", None, 1.0):
        refused(record(v=version))
    # Each version has its own keys, all of them.
    refused(record(v=2))
    refused(record(strict=False, otp=None))
    refused(record(v=2, strict=False))
    refused(record(v=2, strict=False, otp=None, other=1))
    refused(record(v=2, strict=False, other=None))
    refused(record(v=2, strict=False, otp=None, development=True))
    refused(record(v=3, strict=False, otp=None))
    refused(record(v=3, strict=False, otp=None, other=True))
    refused(record(v=2, other=False, otp=None))


def test_version_one_has_no_gate_and_is_not_strict():
    policy = Policy(record())
    equal((policy.strict, policy.otp), (False, None))


def test_development_mode_is_forbidden_but_by_version_three():
    for fields in ({}, {"v": 2, "strict": True, "otp": TERMS}):
        check(Policy(record(**fields)).development is False)
    for allowed in (True, False):
        policy = Policy(record(v=3, strict=True, otp=TERMS, development=allowed))
        equal((policy.development, policy.strict, policy.otp), (allowed, True, TERMS))
    for value in (0, 1, None, "true", b"", [], {}):
        refused(record(v=3, strict=False, otp=None, development=value))
        refused(record(v=3, strict=value, otp=None, development=False))
    check(len(record(v=3, strict=True, otp=TERMS, development=True)) < 512)


CONNECTION = {
    "auth": "password",
    "tls": True,
    "outbox": 0,
    "outbox_keep": "connection",
    "outbox_drop": "oldest",
}


def fourth(**changes):
    fields = {"v": 4, "strict": True, "otp": TERMS, "development": False}
    fields.update(CONNECTION)
    fields.update(changes)
    return record(**fields)


INCIDENTS = {
    "writes": 24,
    "lock_s": 60,
    "wipe_after": 100,
    "junk": "ignore",
    "apps": "lock",
    "codes": "lock",
    "tamper": "ignore",
}


def fifth(terms=None, **changes):
    """A record of version 5; terms: what differs in its map of incidents."""
    incidents = dict(INCIDENTS)
    incidents.update(terms or {})
    fields = {"v": 5, "incidents": incidents}
    fields.update(changes)
    return fourth(**fields)


def test_version_five():
    equal(Policy(fourth()).incidents, None)
    equal(Policy(fifth()).incidents, INCIDENTS)
    for key, least, most in (("writes", 0, 1000), ("lock_s", 10, 3600), ("wipe_after", 3, 1000)):
        for number in (least, most):
            equal(Policy(fifth({key: number})).incidents[key], number)
        for number in (least - 1, most + 1, None, True, "24", 1.0):
            refused(fifth({key: number}))
    # Nothing that comes over the network locks or wipes.
    for key, allowed in (
        ("junk", ("ignore", "delay")),
        ("apps", ("ignore", "delay", "lock")),
        ("tamper", ("ignore", "lock", "wipe")),
    ):
        for reaction in ("ignore", "delay", "lock", "wipe", "", None, 1, "ignore delay"):
            if reaction in allowed:
                equal(Policy(fifth({key: reaction})).incidents[key], reaction)
            else:
                refused(fifth({key: reaction}))
    for terms in (None, True, [], {}, {"writes": 24}):
        refused(fifth(incidents=terms))
    refused(fifth({"other": 1}))
    refused(fifth(v=4))
    check(len(fifth()) < 512)


def test_only_codes_that_the_device_verifies_may_wipe_it():
    wipe = {"codes": "wipe"}
    for source, good in (("hotp", True), ("totp", True), ("authority", False)):
        terms = dict(TERMS)
        terms["source"] = source
        if good:
            equal(Policy(fifth(wipe, otp=terms)).incidents["codes"], "wipe")
        else:
            refused(fifth(wipe, otp=terms))
    refused(fifth(wipe, otp=None))


def test_versions_before_four_have_no_terms_of_the_connection():
    sys.modules.pop("warden.policy.connection", None)  # a test that was refused left it
    for fields in ({}, {"v": 2, "strict": True, "otp": TERMS}):
        check(Policy(record(**fields)).connection is None)
    check(Policy(record(v=3, strict=True, otp=None, development=True)).connection is None)
    check("warden.policy.connection" not in sys.modules)


def test_version_four():
    policy = Policy(fourth(outbox_keep="reboot", outbox_drop="newest"))
    equal(
        policy.connection,
        {
            "auth": "password",
            "tls": True,
            "outbox": 0,
            "outbox_keep": "reboot",
            "outbox_drop": "newest",
        },
    )
    equal((policy.strict, policy.otp, policy.development), (True, TERMS, False))
    check("warden.policy.connection" not in sys.modules)
    check(len(fourth(auth="certificate", outbox=64)) <= 512)
    for key in tuple(CONNECTION) + ("development", "otp", "strict"):
        fields = dict(cbor.decode(fourth()))
        del fields[key]
        refused(cbor.encode(fields))
        fields["other"] = True
        refused(cbor.encode(fields))
    refused(fourth(extra=1))
    for key in CONNECTION:
        for value in (65, -1, None, "", "none", b"password", b"\1", [], {}, 1.0):
            refused(fourth(**{key: value}))
    for joint in ("and", "or"):
        for part in ("password", "token"):
            auth = "certificate-%s-%s" % (joint, part)
            equal(Policy(fourth(auth=auth)).connection["auth"], auth)
            check(len(fourth(auth=auth, outbox=64)) <= 512)
    for auth in ("certificate-xor-token", "token-and-certificate", "certificate-or-"):
        refused(fourth(auth=auth))
    # What equals a documented value, and is none.
    refused(fourth(tls=1))
    refused(fourth(outbox=False))
    for version in (3, 5):
        refused(fourth(v=version))


def test_without_tls_only_sealed_messages_and_a_password():
    refused(fourth(tls=False, mode="plain"))
    refused(fourth(tls=False, auth="token"))
    refused(fourth(tls=False, auth="certificate"))
    refused(fourth(tls=False, auth="certificate-or-password"))
    check(not Policy(fourth(tls=False)).connection["tls"])


TERMS_BOUNDS = {
    "digits": (6, 10),
    "validity_s": (30, 3600),
    "idle_s": (5, 600),
    "retries": (1, 10),
    "lock_s": (10, 3600),
}


def gated(**changes):
    terms = dict(TERMS)
    terms.update(changes)
    return record(v=2, strict=True, otp=terms)


def test_version_two():
    policy = Policy(record(v=2, strict=True, otp=None))
    equal((policy.strict, policy.otp), (True, None))
    policy = Policy(record(v=2, strict=False, otp=TERMS))
    equal((policy.strict, policy.otp), (False, TERMS))
    for strict in (0, 1, None, "true", b"", [], {}):
        refused(record(v=2, strict=strict, otp=None))
    check(len(gated()) < 512)


def test_the_terms_of_the_gate():
    for source in ("authority", "hotp", "totp"):
        equal(Policy(gated(source=source)).otp["source"], source)
    for before in ("nothing", "telemetry"):
        equal(Policy(gated(before=before)).otp["before"], before)
    for key in ("unlock", "duress"):
        for value in (True, False):
            equal(Policy(gated(**{key: value})).otp[key], value)
        for value in (0, 1, None, "true", []):
            refused(gated(**{key: value}))
    for key in ("source", "before"):
        for value in ("", "none", "HOTP", b"hotp", b"nothing", None, 0, True, ["hotp"], {}):
            refused(gated(**{key: value}))
    for key, (least, most) in TERMS_BOUNDS.items():
        for number in (least, most):
            equal(Policy(gated(**{key: number})).otp[key], number)
        for number in (least - 1, most + 1, 0, -1, 1 << 40, float(most), True, None, "60", [most]):
            refused(gated(**{key: number}))


def test_terms_that_are_not_the_map():
    for terms in (False, True, 0, 1, "", "authority", [], [TERMS], {}, {"source": "hotp"}):
        refused(record(v=2, strict=False, otp=terms))
    for key in TERMS:
        terms = dict(TERMS)
        del terms[key]
        refused(record(v=2, strict=False, otp=terms))
        terms["other"] = TERMS[key]
        refused(record(v=2, strict=False, otp=terms))
    refused(gated(other=1))


def test_backoff_bounds_each_other():
    equal(Policy(record(backoff_min_ms=5000, backoff_max_ms=5000)).backoff_max_ms, 5000)
    refused(record(backoff_min_ms=5001, backoff_max_ms=5000))


def test_not_a_record():
    for data in (
        b"",
        b"\xa0",
        b"\xf6",
        b"\x80",
        record()[:-1],
        record() + b"\0",
        b"\xff" * 20,
        bytes(600),
        cbor.encode("x" * 600),
    ):
        refused(data)
    # The size is looked at before anything is decoded, even where the rest would be refused by
    # another rule.
    has_text(raises("bad-policy", Policy, b"\xff" * 513), "large")
    check("large" not in raises("bad-policy", Policy, b"\xff" * 512).text)
