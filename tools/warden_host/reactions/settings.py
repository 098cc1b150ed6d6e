"""Read [reactions] of warden.toml: which code leads to which reaction, and budgets of floods.

A fleet's default, and beneath it what types and single devices have instead:

    [reactions]
    device-flood = "quarantine"
    messages_s = 100

    [reactions.device.front-door]
    tampered = "quarantine"
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from warden_host import names
from warden_host.fleet.fleet import Fleet, check_keys, malformed

TABLE = "reactions"
IGNORE, ALERT, QUARANTINE, DEREGISTER = "ignore", "alert", "quarantine", "de-register"
REACTIONS = (IGNORE, ALERT, QUARANTINE, DEREGISTER)  # each includes the ones before it

FLOOD, CLONED, SHARED = "device-flood", "device-cloned", "account-shared"
ACCOUNT_FLOOD = "account-flood"  # of an application, its tokens, or a gateway
# Only what a device's own account did, or what its own keys prove, takes its rights away. A
# report of a forged message is no guilt of the device: the broker's owner can cause it.
DEFAULTS: Mapping[str, str] = {
    FLOOD: DEREGISTER,
    ACCOUNT_FLOOD: DEREGISTER,
    CLONED: QUARANTINE,
    SHARED: ALERT,
    "tampered": ALERT,
    "replayed": ALERT,
    "plain-refused": ALERT,
    "pin-mismatch": ALERT,
    "vault-damaged": ALERT,
    "slot-damaged": ALERT,
    "root-key": ALERT,
    "duress": ALERT,
}
# Codes that may be given: of incidents that devices report, and of messages that the authority
# refuses. A misspelt one would react to nothing.
CODES = frozenset(DEFAULTS) | frozenset(
    """
    app-failed app-flood bad-body bad-topic busy captive-portal cbor-limit cbor-malformed
    cbor-not-canonical certificate-dates certificate-expired certificate-malformed
    certificate-name certificate-not-yet-valid certificate-too-large certificate-unsupported
    certificate-untrusted cose-algorithm cose-malformed counter-exhausted counter-limit
    development device-locked dns-failed expired filesystem firmware-invalid firmware-key
    firmware-unsigned flooded gap gate-shut https-address https-malformed https-range
    https-status image-mismatch incident-dropped incident-gap incident-overflow
    incident-tampered keypad-failed link-closed link-taken link-timeout mqtt-malformed
    mqtt-refused mqtt-too-large mqtt-unavailable no-board no-ota no-session no-tls not-allowed
    old-manifest old-pins old-session otp-late otp-limit otp-locked otp-no-keypad otp-replayed
    otp-wrong out-of-memory outbox-full own-certificate-expired own-certificate-expires own-certificate-missing
    own-certificate-refused payload-key payload-tampered pin-expired pins-replaced policy-failed
    policy-mismatch quarantined randomness retained revoked rotation-expired rotation-failed
    sealed-refused slot-full slot-unsigned stale-hello suit-component suit-condition suit-digest
    suit-limit suit-malformed suit-unsupported tamper-detected time-ahead tls-address tls-failed
    token-failed token-malformed token-refused token-unavailable unexpected unknown-command
    unreachable update-chunk update-state update-timeout vault-limit vault-unwritten wifi-failed
    wiped wrong-application wrong-device
    """.split()
)
_NUMBERS = {  # key → (least, most)
    "messages_s": (1, 100_000),
    "kib_s": (1, 1 << 20),
    "account_kib_s": (16, 1 << 20),
    "processor_ms": (1, 10_000),
    "tolerance_s": (1, 600),
}
_OVERRIDES = ("type", "device")


@dataclass(frozen=True)
class Budget:
    """What one account may cost the authority for long.

    messages_s: messages a second. kib_s: KiB a second. processor_ms: milliseconds of the engine's
    time a second. tolerance_s: so many seconds' worth may come at once. account_kib_s: KiB a
    second of an account that is no device's: of the fleet's default alone.
    """

    messages_s: int = 200
    kib_s: int = 256
    account_kib_s: int = 1024
    processor_ms: int = 300
    tolerance_s: int = 4


@dataclass(frozen=True)
class Rules:
    """What holds for one device. reactions: code → one of REACTIONS."""

    reactions: Mapping[str, str] = field(default_factory=lambda: DEFAULTS)
    budget: Budget = Budget()

    def reaction(self, code: str) -> str:
        """Return the reaction to a code; IGNORE for one that has none."""
        return self.reactions.get(code, IGNORE)


@dataclass(frozen=True)
class ReactionSettings:
    """The content of [reactions]: the default, and overrides of types and of devices."""

    default: Rules = Rules()
    types: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def account_budget(self) -> Budget:
        """Return what an account may send that is no device's: bytes, by the kernel's count."""
        budget = self.default.budget
        return replace(budget, kib_s=budget.account_kib_s)

    def rules(self, type_: str, device: str) -> Rules:
        """Return what holds for a device: its own values before its type's, before the default."""
        found = self.default
        for table in (self.types.get(type_), self.devices.get(device)):
            found = _over(found, table or {})
        return found


def load(fleet: Fleet) -> ReactionSettings:
    """Return the settings of the fleet. Raises config-malformed."""
    table = dict(_checked(fleet.document.get(TABLE, {}), TABLE, overrides=True))
    deeper = {key: table.pop(key, {}) for key in _OVERRIDES}
    found: dict[str, dict[str, Any]] = {}
    for key, tables in deeper.items():
        if not isinstance(tables, dict):
            raise malformed(f"[{TABLE}.{key}] is no table of tables")
        for name, values in tables.items():
            names.check_id(name, "device type" if key == "type" else "device ID")
            _checked(values, f"{TABLE}.{key}.{name}", overrides=False)
        found[key] = tables
    return ReactionSettings(_over(Rules(), table), found["type"], found["device"])


def _over(rules: Rules, table: Mapping[str, Any]) -> Rules:
    """Return the rules with the values of a table in the place of theirs."""
    if not table:
        return rules
    numbers = {key: value for key, value in table.items() if key in _NUMBERS}
    reactions = {key: value for key, value in table.items() if key in CODES}
    return Rules(dict(rules.reactions) | reactions, replace(rules.budget, **numbers))


def _checked(table: Any, where: str, overrides: bool) -> dict[str, Any]:
    """Return a table whose keys and values are all known. Raises config-malformed."""
    known = {*CODES, *_NUMBERS, *(_OVERRIDES if overrides else ())}
    found = check_keys(table, known, where)
    for key, value in found.items():
        if key in CODES and value not in REACTIONS:
            raise malformed(f"[{where}]: {key} is none of {', '.join(REACTIONS)}")
        if key in _NUMBERS:
            least, most = _NUMBERS[key]
            if type(value) is not int or not least <= value <= most:
                raise malformed(f"[{where}]: {key} is no number between {least} and {most}")
    return found
