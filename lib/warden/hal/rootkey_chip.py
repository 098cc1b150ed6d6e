"""A root key out of the chip's unique ID and a stored salt.

This binds the vault to one chip: flash copied to another board doesn't open. It keeps nothing
secret from code on this chip, or from an attacker who knows its ID (docs/threat-model.md).
"""

import machine
from micropython import const

from ..errors import StoreError
from .rootkey_software import SoftwareRootKey

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Callable


class ChipRootKey(SoftwareRootKey):
    """path: the salt's file (32 random bytes, made at provisioning)."""

    def __init__(
        self,
        path: str,
        hmac: "Callable[[bytes, bytes], bytes]",
        random: "Callable[[int], bytes]",
        unique_id: "Callable[[], bytes] | None" = None,
    ) -> None:
        super().__init__(path, hmac, random)
        self._unique_id = unique_id or machine.unique_id

    def _bound_key(self) -> bytes:
        chip = bytes(self._unique_id())
        if chip == b"\x00" * len(chip) or chip == b"\xff" * len(chip):
            raise StoreError("root-key", "this chip gives no unique ID")
        return self._hmac(super()._read(), chip)

    def mac(self, message: bytes) -> bytes:
        """Return HMAC under HMAC(salt, chip's ID), 32 bytes."""
        if not self.exists():
            raise StoreError(
                "root-key",
                "the salt of the root key is missing or damaged: provision the device again",
            )
        if not self._key:
            self._key = self._bound_key()
        return self._hmac(self._key, message)


def make(
    args: "tuple[str]", hmac: "Callable[[bytes, bytes], bytes]", random: "Callable[[int], bytes]"
) -> ChipRootKey:
    """Return the root key of ("chip", path)."""
    return ChipRootKey(args[0], hmac, random)
