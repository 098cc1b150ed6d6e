"""The registry of what the vault keeps: names, forms and meanings. provisioning/bundle.py writes it, the device reads it here.

| record       | value                                           | meaning |
|---|---|---|
| `identity`   | CBOR [type, device]                             | who this device is |
| `broker`     | CBOR [host, port, user, password, client ID]    | where it connects, and as whom |
| `trust`      | CBOR [[CA DER, …], [pin, …]]                    | whom it believes |
| `policy`     | CBOR map (policy/policy.py)                     | what it demands |
| `network`    | CBOR null or [ssid, password]                   | how it gets online |
| `nonce`      | 32 random bytes                                 | Knonce, made on the device |
| `release`    | CBOR [vendor, class, [key, …]]                  | whose releases it takes: 16 bytes each, P-256 x ‖ y or an RSA modulus |
| `slots`      | ota/slots.py                                    | what both slots hold, and in which state they are |
| `parked0`, `parked1`, `parked2` | ota/deferred.py              | an update's order that the next start judges |
| `app_APPID`  | CBOR [K, is_authority, [command, …]]            | an application, its key and its rights |
| `rotation`   | CBOR [1, id, SHA-256 of the order, password or null, trust or null, {appid: K}, deadline or null] | new secrets that have not proved themselves |
| `otp`        | CBOR [secret or null, digits, step in seconds or 0, duress secret or null, hash]   | one-time passwords that the device checks itself (provisioning/bundle.py); hash: sha1 where it is missing |
| `own_NAME`   | up to 1,024 bytes                               | a secret of the device's program (secrets.py) |
| `uid_APPID`  | 32 bytes                                        | plain mode: the ID that the application gave |

Counters: `boot` (hellos), `time` (the highest time that the authority proved), `rotation` (the highest id of a rotation); of the gate
`otp_used` (attempts begun), `otp_good` (otp_used at the last success), `otp_step` (the first HOTP counter, or TOTP step, that may still be used), `otp_duress` (the same of the duress secret). A retired name is never used for something else.
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
    """A record's bytes. StoreError not-provisioned when it is missing."""
    value = vault.get(name)
    if value is None:
        raise StoreError("not-provisioned", "the vault has no record " + name)
    return value


def load(vault: "Vault", name: str) -> "Any":
    """A record, decoded. StoreError not-provisioned when it is missing."""
    return cbor.decode(load_raw(vault, name))


def load_apps(vault: "Vault") -> "list[App]":
    """All applications, the authority first."""
    apps: "list[App]" = []
    for name in vault.names():
        if name.startswith("app_"):
            key, authority, commands = load(vault, name)
            app = App(name[4:], key, authority, tuple(commands))
            apps.insert(0 if authority else len(apps), app)
    return apps
