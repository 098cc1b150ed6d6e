"""The registry of the vault's records: names, forms and meanings.

provisioning/bundle.py writes them, the device reads them here.

| record       | value                                        | meaning |
|---|---|---|
| `identity`   | CBOR [type, device]                          | this device's type and ID |
| `broker`     | CBOR [host, port, user, password, client ID] | the broker and the account |
| `brokers`    | CBOR list, see below                         | several brokers (net/brokers.py) |
| `trust`      | CBOR [[CA DER, …], [pin, …]]                 | the CAs and pins of the broker |
| `policy`     | CBOR map (policy/policy.py)                  | the owner's demands |
| `policy_new` | CBOR list, see below                         | a change of `policy`, not proved |
| `network`    | CBOR null or [[ssid, password], …]           | the Wi-Fi networks, in order |
| `network_new` | CBOR list, see below                        | a change of `network`, not proved |
| `nonce`      | 32 random bytes                              | Knonce, made on the device |
| `release`    | CBOR [vendor, class, [key, …]]               | release keys: x ‖ y or a modulus |
| `slots`      | ota/slots.py                                 | content and state of both slots |
| `parked0`, … `parked2` | ota/deferred.py                    | an update for the next start |
| `failures`   | board/app_failures.py                        | failures of the application |
| `app_APPID`  | CBOR [K, is_authority, [command, …]]         | an application and its rights |
| `certificate` | CBOR [leaf, intermediate, key], DER | its certificate and key |
| `certificate_key` | x ‖ y ‖ d, 96 bytes            | a new key, not certified yet |
| `development` | CBOR list, see below                        | an order for development mode |
| `rotation`   | CBOR list, see below                         | new secrets, not proved yet |
| `outbox0`, … `outbox4` | session/outbox.py                  | events that wait, in pieces |
| `otp`        | CBOR list, see below                         | one-time passwords |
| `clock`      | CBOR list, see below                         | steps of the clock |
| `otp_clock`  | CBOR list, see below                         | the same, for codes by time |
| `token`      | CBOR list (token/terms.py)                   | where tokens come from, and how |
| `token_new`  | CBOR list (token/terms.py)                   | the same, not proven |
| `token_now`  | CBOR list, see below                         | the token that is in use |
| `incidents`  | CBOR list (session/incident_log.py)          | the incident log |
| `locked`     | what was tampered with                       | the authority alone is obeyed |
| `own_NAME`   | up to 1,024 bytes                            | a secret of the device's program |
| `uid_APPID`  | 32 bytes                                     | plain mode: the application's ID |

`brokers`: [1, [[host, port, weight], …]], or with 2 as its format and a way to log in
(certificate, password, token) behind each weight. `rotation`: [1, id, SHA-256 of the order,
password or null, trust or null, {appid: K}, deadline or null], or with 2 as its format and a new
record `certificate` behind that. `network_new`: [1, id,
[ssid, password] to add or null, the networks to keep, how often it may still be tried].
`policy_new`: [1, id,
record, how often it may still be tried], or with 2 as its format and brokers behind the record.
`development`: [1, end in unix seconds, starts left, seconds left]. `otp`: [secret or null, digits,
step in seconds or 0, duress secret or null, hash (sha1 where it is missing)]. `token_now`: [1,
number of its terms, token, its end, when it is renewed], unix seconds.

`clock`: [1, shift, [mark, earliest, first] of a time far ahead that is not confirmed ([] without
one), the last [mark, earliest] that were confirmed]: the mark before it, the earliest such time
since, and the one that waits to be confirmed. The mark is the counter `time` less `shift`
(seconds), which an order that sets the clock changes: counters only rise. `otp_clock`: [1,
{counter: [shift, [[first, end], …]]}] for `otp_step` and `otp_duress` where an order set them
back: the shift in steps, and steps of the past whose codes may have been used.

Counters: `boot` (hellos), `time` (the highest time that the authority proved), `rotation` (the
highest ID of a rotation), `network` (the highest ID of a change of the networks), `network_good`
(the highest one that proved itself), `policy` and `policy_good` (the same of changes of the
policy), `apps` (the highest ID of a change of the applications), `pins` (unix seconds: when the
pins were ordered, or their file was made), `outbox` (the highest number of an event that is
reserved), `token` (the highest number of a token's terms). Of the gate: `otp_used` (attempts
begun), `otp_good` (otp_used at the last success), `otp_step` (the first HOTP counter, or TOTP
step, that may still be used), `otp_duress` (the same of the duress secret). A retired name is
never used for something else.
"""

from micropython import const

from ..errors import StoreError
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from . import Vault

MAX_APPS = const(8)  # of one device, the authority among them
MAX_COMMANDS = const(32)  # of one application


class App:
    """An application that the vault knows."""

    def __init__(
        self, appid: str, key: bytes, authority: bool, commands: "tuple[str, ...]"
    ) -> None:
        self.appid = appid
        self.key = key
        self.authority = authority
        self.commands = commands


def load_raw(vault: "Vault", name: str) -> bytes:
    """Return a record's bytes. StoreError not-provisioned when it is missing."""
    value = vault.get(name)
    if value is None:
        raise StoreError("not-provisioned", "the vault has no record " + name)
    return value


def load(vault: "Vault", name: str) -> "Any":
    """Return a decoded record. StoreError not-provisioned when it is missing."""
    return cbor.decode(load_raw(vault, name))


def clock_shift(vault: "Vault") -> int:
    """Return the seconds by which the counter `time` is ahead of the mark: of `clock`, or 0."""
    shift: int = load(vault, "clock")[1] if "clock" in vault.names() else 0
    return shift


def load_networks(vault: "Vault") -> "list[Any]":
    """Return the Wi-Fi networks, [[ssid, password], …], the preferred one first."""
    networks = load(vault, "network") or []
    # Of former versions: one network, without a list around it.
    return [networks] if networks and isinstance(networks[0], str) else networks


def are_networks(value: "Any") -> bool:
    """Return whether this is a list of 1 to 8 Wi-Fi networks, as the record `network` holds it."""
    if not isinstance(value, list) or not 0 < len(value) <= 8:
        return False
    seen: "list[Any]" = []
    for network in value:
        if not isinstance(network, list) or len(network) != 2 or network[0] in seen:
            return False
        ssid, password = network
        if not isinstance(ssid, str) or not 0 < len(ssid.encode()) <= 32:
            return False
        if not isinstance(password, bytes) or len(password) > 64:
            return False
        seen.append(ssid)
    return True


def load_apps(vault: "Vault") -> "list[App]":
    """Return all applications, the authority first."""
    apps: "list[App]" = []
    for name in vault.names():
        if name.startswith("app_"):
            key, authority, commands = load(vault, name)
            app = App(name[4:], key, authority, tuple(commands))
            apps.insert(0 if authority else len(apps), app)
    return apps
