"""The provisioning bundle: checked whole, then committed to a new vault by one last write.

Its form: docs/protocol.md, Provisioning bundle.
"""

from micropython import const

from ..crypto.rand import random_bytes
from ..errors import PeerError, UsageError
from ..policy.policy import Policy
from ..wire import cbor
from ..wire.names import is_id, is_word

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault

MAX_BUNDLE = 16384


def install(vault: "Vault", bundle: bytes) -> None:
    """Check the whole bundle, then commit it to a new vault by one last write.

    Nothing is written before all checks passed. UsageError bad-bundle, bad-policy; StoreError
    already-provisioned.
    """
    counters: "dict[str, int]" = {}
    changes = _records(bundle, counters)
    changes["nonce"] = random_bytes(32)
    vault.create()
    vault.commit(changes, counters)


def _records(bundle: bytes, counters: "dict[str, int]") -> "dict[str, bytes | None]":
    if len(bundle) > MAX_BUNDLE:
        raise UsageError("bad-bundle", "the bundle is too large")
    try:
        fields: "Any" = cbor.decode(bundle)
    except PeerError as error:
        raise UsageError("bad-bundle", "the bundle can't be read: " + error.code)
    _want(
        isinstance(fields, dict)
        and len(fields) == 7 + ("release" in fields) + ("otp" in fields)
        and _number(fields.get("v"), 1, 1),
        "keys or version",
    )
    _want("network" in fields, "network")  # null is an answer; no answer is not
    identity = _list(fields.get("identity"), 2, "identity")
    _want(is_id(identity[0]) and is_id(identity[1]), "identity")

    host, port, user, password, client_id = broker = _list(fields.get("broker"), 5, "broker")
    _want(_text(host, 253) and _number(port, 1, 65535) and _text(client_id, 128), "broker")
    _want(_bytes(user, 0, 4000) and _bytes(password, 0, 4000), "broker")

    trust = fields.get("trust")
    check_trust(trust)

    policy = fields.get("policy")
    _want(isinstance(policy, bytes), "policy")
    terms = Policy(policy).otp

    network = fields.get("network")
    if network is not None:
        ssid, key = _list(network, 2, "network")
        _want(_text(ssid, 32) and _bytes(key, 0, 64), "network")

    changes: "dict[str, bytes | None]" = {
        "identity": cbor.encode(identity),
        "broker": cbor.encode(broker),
        "trust": cbor.encode(trust),
        "policy": policy,
        "network": cbor.encode(network),
    }
    _add_apps(changes, fields.get("apps"))
    if "release" in fields:
        changes["release"] = cbor.encode(check_release(fields["release"]))
    if "otp" in fields:
        otp = _otp(fields["otp"])
        changes["otp"] = cbor.encode(otp[:5])
        if len(otp) == 6 and otp[5] > 0:
            counters["otp_step"] = counters["otp_duress"] = otp[5]
    _want(terms is None or _fits(terms, fields.get("otp")), "otp")
    for name, value in changes.items():
        _want(len(value or b"") <= 4096, name)
    return changes


def check_trust(trust: "Any") -> None:
    """Check [[CA DER, …], [pin, …]]. UsageError bad-bundle."""
    cas, pins = _list(trust, 2, "trust")
    _want(
        isinstance(cas, list) and 1 <= len(cas) <= 4 and all(_bytes(ca, 1, 2048) for ca in cas),
        "trust",
    )
    _want(
        isinstance(pins, list)
        and 2 <= len(pins) <= 6
        and all(_bytes(pin, 32, 32) for pin in pins),
        "trust",
    )
    _want(len(set(pins)) == len(pins), "trust")  # the backup must differ from the live pin


def check_release(release: "Any") -> "Any":
    """Check and return [vendor, class, [release key, …]]. UsageError bad-bundle."""
    vendor, class_id, keys = _list(release, 3, "release")
    _want(_bytes(vendor, 16, 16) and _bytes(class_id, 16, 16), "release")
    _want(isinstance(keys, list) and 1 <= len(keys) <= 4, "release")
    for key in keys:
        _want(isinstance(key, bytes) and len(key) in (64, 256, 384, 512), "release")
    return release


def _otp(otp: "Any") -> "Any":
    """Check and return what the device verifies one-time passwords with.

    otp: [secret, digits, step in seconds or 0, duress secret, hash, first counter or step that may
    be used]; the last two may be missing.
    """
    _want(isinstance(otp, list) and 4 <= len(otp) <= 6, "otp")
    secret, digits, step_s, duress = otp[:4]
    _want(secret is None or _bytes(secret, 20, 64), "otp")
    _want(duress is None or (_bytes(duress, 20, 64) and duress != secret), "otp")
    _want(_number(digits, 6, 10) and (_number(step_s, 0, 0) or _number(step_s, 30, 60)), "otp")
    _want(len(otp) == 4 or otp[4] in ("sha1", "sha256"), "otp")
    _want(len(otp) < 6 or _number(otp[5], 0, 0xFFFFFFFF), "otp")
    return otp


def _fits(terms: "dict[str, Any]", otp: "Any") -> bool:
    """Return whether a device with this policy could open its gate with these secrets."""
    if terms["source"] == "authority":
        return True
    return (
        otp is not None
        and otp[0] is not None
        and otp[1] == terms["digits"]
        and (otp[2] > 0) == (terms["source"] == "totp")
        and (otp[3] is not None or not terms["duress"])
    )


def _add_apps(changes: "dict[str, bytes | None]", apps: "Any") -> None:
    _want(isinstance(apps, list) and 1 <= len(apps) <= 8, "apps")
    authorities = 0
    for app in apps:
        appid, key, authority, commands = _list(app, 4, "apps")
        _want(
            is_id(appid) and _bytes(key, 32, 32) and (authority is True or authority is False),
            "apps",
        )
        _want(
            isinstance(commands, list)
            and len(commands) <= 32
            and all(is_word(c) for c in commands),
            "apps",
        )
        _want("app_" + appid not in changes, "apps")
        authorities += 1 if authority else 0
        changes["app_" + appid] = cbor.encode([key, authority, commands])
    _want(authorities == 1, "apps")


def _want(condition: object, where: str) -> None:
    if not condition:
        raise UsageError("bad-bundle", "the bundle's %s is not as docs/protocol.md says" % where)


def _list(value: "Any", size: int, where: str) -> "Any":
    _want(isinstance(value, list) and len(value) == size, where)
    return value


def _text(value: object, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most


def _bytes(value: object, least: int, most: int) -> bool:
    return isinstance(value, bytes) and least <= len(value) <= most


def _number(value: object, least: int, most: int) -> bool:
    return (
        isinstance(value, int)
        and value is not True
        and value is not False
        and least <= value <= most
    )
