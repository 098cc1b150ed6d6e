"""The registry of the vault's records: names, forms and meanings.

provisioning/bundle.py writes them, the device reads them here.

| record       | value                                        | meaning |
|---|---|---|
| `identity`   | CBOR [type, device]                          | this device's type and ID |
| `broker`     | CBOR [host, port, user, password, client ID] | the broker and the account |
| `trust`      | CBOR [[CA DER, …], [pin, …]]                 | the CAs and pins of the broker |
| `policy`     | CBOR map (policy/policy.py)                  | the owner's demands |
| `network`    | CBOR null or [ssid, password]                | the Wi-Fi network |
| `nonce`      | 32 random bytes                              | Knonce, made on the device |
| `release`    | CBOR [vendor, class, [key, …]]               | release keys: x ‖ y or a modulus |
| `slots`      | ota/slots.py                                 | content and state of both slots |
| `parked0`, … `parked2` | ota/deferred.py                    | an update for the next start |
| `app_APPID`  | CBOR [K, is_authority, [command, …]]         | an application and its rights |
| `rotation`   | CBOR list, see below                         | new secrets, not proved yet |
| `otp`        | CBOR list, see below                         | one-time passwords |
| `own_NAME`   | up to 1,024 bytes                            | a secret of the device's program |
| `uid_APPID`  | 32 bytes                                     | plain mode: the application's ID |

`rotation`: [1, id, SHA-256 of the order, password or null, trust or null, {appid: K}, deadline or
null]. `otp`: [secret or null, digits, step in seconds or 0, duress secret or null, hash (sha1
where it is missing)].

Counters: `boot` (hellos), `time` (the highest time that the authority proved), `rotation` (the
highest ID of a rotation). Of the gate: `otp_used` (attempts begun), `otp_good` (otp_used at the
last success), `otp_step` (the first HOTP counter, or TOTP step, that may still be used),
`otp_duress` (the same of the duress secret). A retired name is never used for something else.
"""

from micropython import const

from ..errors import StoreError
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from . import Vault


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


def load_apps(vault: "Vault") -> "list[App]":
    """Return all applications, the authority first."""
    apps: "list[App]" = []
    for name in vault.names():
        if name.startswith("app_"):
            key, authority, commands = load(vault, name)
            app = App(name[4:], key, authority, tuple(commands))
            apps.insert(0 if authority else len(apps), app)
    return apps
