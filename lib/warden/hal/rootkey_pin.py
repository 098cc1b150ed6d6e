"""A root key out of a passphrase or PIN, alone or together with another root key.

Stretched by PBKDF2, so each guess costs as much as an opening. A PIN of six digits is a million
guesses: alone, a copy of the flash gives it away in minutes on a desktop machine, whatever the
count. Together with a key in fuses each guess needs this very chip. Nothing here counts wrong
attempts: the caller that asks for the PIN must.
"""

from micropython import const

from ..errors import StoreError, ensure
from .rootkey_software import SoftwareRootKey

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

LEAST = const(1000)
MOST = const(1000000)
_FORMAT = const(1)
_SALT = const(16)
_SIZE = const(1 + 4 + _SALT)
_MAX_PIN = const(128)


class PinRootKey(SoftwareRootKey):
    """path: the salt's file. iterations: for a new salt; an old one keeps its own. ask(): returns
    the PIN, 1 to 128 bytes, once until close(). inner: another root key, or None.
    pbkdf2(password, salt, iterations, n), hkdf(key, info, n, salt), hmac(key, message),
    random(n): `hal` imports no crypto.
    """

    _size = _SIZE

    def __init__(
        self,
        path: str,
        iterations: int,
        ask: "Callable[[], bytes]",
        inner: "Any",
        pbkdf2: "Callable[[bytes, bytes, int, int], bytes]",
        hkdf: "Callable[[bytes, bytes, int, bytes], bytes]",
        hmac: "Callable[[bytes, bytes], bytes]",
        random: "Callable[[int], bytes]",
    ) -> None:
        ensure(
            LEAST <= iterations <= MOST,
            "bad-argument",
            "PBKDF2 takes 1,000 to 1,000,000 iterations",
        )
        super().__init__(path, hmac, random)
        self._iterations = iterations
        self._ask = ask
        self._inner = inner
        self._pbkdf2 = pbkdf2
        self._hkdf = hkdf

    def _new(self) -> bytes:
        return bytes((_FORMAT,)) + self._iterations.to_bytes(4, "big") + self._random(_SALT)

    def _parameters(self) -> "tuple[int, bytes]":
        data = self._read()
        if len(data) != _SIZE or data[0] != _FORMAT:
            raise StoreError(
                "root-key",
                "the salt of the root key is missing or damaged: provision the device again",
            )
        iterations = int.from_bytes(data[1:5], "big")
        # Not authenticated: a count that was lowered gives another key, one that was raised
        # must not hold the board for hours.
        if not LEAST <= iterations <= MOST:
            raise StoreError("root-key", "the root key's iterations are out of bounds")
        return iterations, data[5:]

    def exists(self) -> bool:
        return super().exists() and (self._inner is None or self._inner.exists())

    def create(self) -> None:
        """Make the salt unless there is one, and the other key."""
        if self._inner is not None:
            self._inner.create()
        super().create()

    def mac(self, message: bytes) -> bytes:
        """Return HMAC-SHA-256 under HKDF(PBKDF2(PIN), salt = the other root key's part)."""
        iterations, salt = self._parameters()
        if not self._key:
            pin = self._ask()
            if not 0 < len(pin) <= _MAX_PIN:
                raise StoreError("root-key", "a PIN has 1 to 128 bytes")
            # Bound to this salt, so that the other key's part differs for each vault.
            other = b"" if self._inner is None else self._inner.mac(b"warden pin 1" + salt)
            stretched = self._pbkdf2(pin, salt, iterations, 32)
            self._key = self._hkdf(stretched, b"warden root key pin 1", 32, other)
        return self._hmac(self._key, message)

    def close(self) -> None:
        super().close()
        if self._inner is not None:
            self._inner.close()


def make(
    args: "tuple[str, int]",
    ask: "Callable[[], bytes]",
    inner: "Any",
    pbkdf2: "Callable[[bytes, bytes, int, int], bytes]",
    kdf: "Any",
    random: "Callable[[int], bytes]",
) -> PinRootKey:
    """Return the root key of ("pin", path, iterations, another root key or None)."""
    return PinRootKey(args[0], args[1], ask, inner, pbkdf2, kdf.hkdf, kdf.hmac_sha256, random)
