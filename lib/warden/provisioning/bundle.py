"""The provisioning bundle: checked whole, then committed to a new vault by one last write.

Its form: docs/protocol.md, Provisioning bundle.
"""

from micropython import const

from ..crypto.rand import random_bytes
from ..errors import PeerError, UsageError
from ..policy.policy import Policy
from ..vault.records import MAX_APPS, MAX_COMMANDS, are_networks
from ..wire import cbor, x509
from ..wire.names import are_words, is_id

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault

MAX_BUNDLE = 16384


def install(
    vault: "Vault", bundle: bytes, wifi: bool = False, own_key: "list[bytes] | tuple[()]" = ()
) -> None:
    """Check the whole bundle, then commit it to a new vault by one last write.

    wifi: the board needs a network to join. own_key: [d, x ‖ y] of the key that was made here for
    the bundle's certificate, or empty. Nothing is written before all checks passed.
    UsageError bad-bundle, bad-policy, no-network; StoreError already-provisioned.
    """
    counters: "dict[str, int]" = {}
    changes = _records(bundle, counters, own_key)
    if wifi and changes["network"] == cbor.encode(None):
        raise UsageError("no-network", "this board joins Wi-Fi, and the bundle has no network")
    changes["nonce"] = random_bytes(32)
    vault.create()
    vault.commit(changes, counters)


def _records(
    bundle: bytes, counters: "dict[str, int]", own_key: "list[bytes] | tuple[()]"
) -> "dict[str, bytes | None]":
    if len(bundle) > MAX_BUNDLE:
        raise UsageError("bad-bundle", "the bundle is too large")
    try:
        fields: "Any" = cbor.decode(bundle)
    except PeerError as error:
        raise UsageError("bad-bundle", "the bundle can't be read: " + error.code)
    _want(
        isinstance(fields, dict)
        and len(fields)
        == 7
        + sum([key in fields for key in ("release", "otp", "certificate", "token", "brokers")])
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
    parsed = Policy(policy)
    terms = parsed.otp
    parts = (parsed.connection["auth"] if parsed.connection else "password").split("-")
    # A certificate that the policy does not ask for would be a key without a use, and a policy
    # without one a device that can't log in; tokens likewise.
    for part in ("certificate", "token"):
        _want((part in parts) == (part in fields), part)

    brokers = fields.get("brokers")
    ways = ways_of("-".join(parts))
    _want(ways is None or "brokers" in fields, "brokers")
    if "brokers" in fields:
        check_brokers(brokers, ways)
        _want(brokers[0][:2] == [host, port], "brokers")  # what a device without the record takes

    networks = check_networks(fields.get("network"))
    changes: "dict[str, bytes | None]" = {
        "identity": cbor.encode(identity),
        "broker": cbor.encode(broker),
        "trust": cbor.encode(trust),
        "policy": policy,
        "network": cbor.encode(networks),
    }
    if brokers is not None:
        changes["brokers"] = cbor.encode([1 if ways is None else 2, brokers])
    _add_apps(changes, fields.get("apps"))
    if "release" in fields:
        changes["release"] = cbor.encode(check_release(fields["release"]))
    if "certificate" in fields:
        certificate = fields["certificate"]
        if own_key:
            certificate = _with_own_key(certificate, *own_key)
        changes["certificate"] = cbor.encode(check_certificate(certificate))
    if "token" in fields:
        from ..token.terms import Terms

        Terms(fields["token"])
        changes["token"] = cbor.encode(fields["token"])
    if "otp" in fields:
        otp = _otp(fields["otp"])
        changes["otp"] = cbor.encode(otp[:5])
        if len(otp) == 6 and otp[5] > 0:
            counters["otp_step"] = counters["otp_duress"] = otp[5]
    _want(terms is None or _fits(terms, fields.get("otp")), "otp")
    for name, value in changes.items():
        _want(len(value or b"") <= 4096, name)
    return changes


def ways_of(auth: str) -> "list[str] | None":
    """Return the ways to log in among which a policy's `auth` has a choice, or None."""
    parts = auth.split("-")
    return parts[::2] if "or" in parts else None


def check_brokers(brokers: "Any", ways: "list[str] | None", least: int = 2) -> None:
    """Check [[host, port, weight], …]: `least` to 8 brokers, none of them twice.

    ways: of which each broker names one behind that, and all are there; or None.
    UsageError bad-bundle.
    """
    _want(isinstance(brokers, list) and least <= len(brokers) <= 8, "brokers")
    seen: "list[Any]" = []
    for broker in brokers:
        host, port, weight = _list(broker, 3 if ways is None else 4, "brokers")[:3]
        _want(_text(host, 253) and _number(port, 1, 65535) and _number(weight, 0, 100), "brokers")
        one = [host, port] + broker[3:]
        _want(one not in seen and (ways is None or one[2] in ways), "brokers")
        seen.append(one)
    for way in ways or ():
        _want(way in [one[2] for one in seen], "brokers")


def check_networks(networks: "Any") -> "Any":
    """Check and return null or [[SSID, password], …]; one network may stand without the list.

    UsageError bad-bundle.
    """
    if networks is None:
        return None
    if isinstance(networks, list) and networks and isinstance(networks[0], str):
        networks = [networks]
    _want(are_networks(networks), "network")
    return networks


def check_trust(trust: "Any") -> None:
    """Check [[CA DER, …], [pin, …]]. UsageError bad-bundle.

    A pin has 32 bytes, or 8 more with its end, unix seconds; one at least has no end.
    """
    cas, pins = _list(trust, 2, "trust")
    _want(
        isinstance(cas, list) and 1 <= len(cas) <= 4 and all(_bytes(ca, 1, 2048) for ca in cas),
        "trust",
    )
    _want(
        isinstance(pins, list)
        and 2 <= len(pins) <= 6
        and all(_bytes(pin, 32, 40) and len(pin) in (32, 40) for pin in pins)
        and any(len(pin) == 32 for pin in pins),
        "trust",
    )
    # The backup must differ from the live pin.
    _want(len({pin[:32] for pin in pins}) == len(pins), "trust")


def check_certificate(certificate: "Any") -> "Any":
    """Check and return [leaf, intermediate, key], DER. UsageError bad-bundle."""
    leaf, intermediate, key = _list(certificate, 3, "certificate")
    for der in (leaf, intermediate):
        _want(_bytes(der, 1, 2048), "certificate")
        try:
            x509.fields(der)
        except PeerError:
            raise UsageError("bad-bundle", "the bundle's certificate can't be read")
    _want(_bytes(key, 32, 2048), "certificate")
    return certificate


def _with_own_key(certificate: "Any", d: bytes, public: bytes) -> "Any":
    """Return [leaf, intermediate, key] for the key that was made here. UsageError bad-bundle."""
    from ..crypto.p256_key import key_der

    leaf, intermediate, key = _list(certificate, 3, "certificate")
    check_certificate([leaf, intermediate, d])
    # Another key in its place, or a certificate for another one, was not asked for.
    _want(key is None and bytes(x509.fields(leaf)[0])[-64:] == public, "certificate")
    return [leaf, intermediate, key_der(d)]


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
    _want(isinstance(apps, list) and 1 <= len(apps) <= MAX_APPS, "apps")
    authorities = 0
    for app in apps:
        appid, key, authority, commands = _list(app, 4, "apps")
        _want(
            is_id(appid) and _bytes(key, 32, 32) and (authority is True or authority is False),
            "apps",
        )
        _want(are_words(commands, MAX_COMMANDS), "apps")
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
