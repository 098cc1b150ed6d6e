"""The application's own secrets, kept in the vault: `device.secrets`.

Their records are named `own_NAME`, a prefix that no record of Warden has: no bundle, no rotation
and no event reads or writes them. A wipe destroys them with the rest.
"""

from micropython import const

from ..errors import StoreError, ensure
from ..wire.names import is_id

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from . import Vault

_PREFIX = const("own_")
MAX_SECRETS = 8
MAX_SIZE = 1024  # bytes of one secret


class Secrets:
    """Up to 8 named secrets of up to 1,024 bytes each; each change is one commit of the vault.

    UsageError bad-name for a name that is not 1 to 32 of A-Z a-z 0-9 _ -, closed after stop().
    """

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault

    def names(self) -> "list[str]":
        """Return the names of all secrets, in no order."""
        return [name[len(_PREFIX) :] for name in self._vault.names() if name.startswith(_PREFIX)]

    def get(self, name: str) -> "bytes | None":
        """Return a secret, or None. StoreError vault-damaged."""
        return self._vault.get(_record(name))

    def set(self, name: str, value: "bytes | bytearray") -> None:
        """Keep a secret, new or in the place of its old value, by one write to flash.

        UsageError bad-argument: no bytes, or too many. StoreError vault-limit: the ninth secret,
        or a full flash; vault-unwritten.
        """
        record = _record(name)
        fits = isinstance(value, (bytes, bytearray)) and len(value) <= MAX_SIZE
        ensure(fits, "bad-argument", "a secret is at most 1,024 bytes")
        names = self.names()
        if name not in names and len(names) >= MAX_SECRETS:
            raise StoreError("vault-limit", "an application keeps at most 8 secrets")
        self._vault.put(record, bytes(value))

    def delete(self, name: str) -> None:
        """Remove a secret; it need not exist. StoreError vault-unwritten."""
        self._vault.delete(_record(name))


def _record(name: str) -> str:
    ensure(is_id(name), "bad-name", "a secret's name is 1 to 32 of A-Z a-z 0-9 _ -")
    return _PREFIX + name
