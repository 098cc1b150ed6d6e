"""A root key in a file, kept apart from the vault's store.

For the unix port, and for boards with nothing better than a second filesystem: code that reads the
file can open the vault. Every root key has exists(), create() and mac(message), HMAC-SHA-256 under
a
key that never leaves the object: chips with a key in fuses offer exactly that.
"""

import errno
import os

from micropython import const

from ..errors import StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Callable

_SIZE = const(32)


class SoftwareRootKey:
    """path: the key's file. hmac(key, message), random(n): `hal` imports no crypto."""

    _size = _SIZE  # of the file

    def __init__(
        self, path: str, hmac: "Callable[[bytes, bytes], bytes]", random: "Callable[[int], bytes]"
    ) -> None:
        self._path = path
        self._hmac = hmac
        self._random = random
        self._key = b""

    def _read(self) -> bytes:
        """Return the file's bytes, empty when it is surely not there. StoreError filesystem."""
        # A power cut inside a rename between folders hides another file until littlefs 2.11 is
        # asked to write. Asking is enough: it first finishes what was cut, also for a file that is
        # not there. What an interrupted create() left goes as well.
        asked: "int | None" = errno.ENOENT
        try:
            os.remove(self._path + "~")
        except OSError as error:
            asked = error.errno
        try:
            with open(self._path, "rb") as file:
                return file.read(self._size + 1)
        except OSError as error:
            if error.errno == asked == errno.ENOENT:
                return b""
            raise StoreError(
                "filesystem",
                "can't tell whether there is a root key (errno %d)" % (error.errno or 0),
            )

    def _new(self) -> bytes:
        return self._random(_SIZE)

    def exists(self) -> bool:
        return len(self._read()) == self._size

    def create(self) -> None:
        """Make the file unless there is one: a second call must not orphan a vault."""
        if self.exists():
            return
        data = self._new()
        try:
            with open(self._path + "~", "wb") as file:
                file.write(data)
            os.rename(self._path + "~", self._path)
        except OSError:
            pass  # as when it was written and is not there
        if self._read() != data:
            raise StoreError("root-key", "the root key's file did not keep what was written")

    def mac(self, message: bytes) -> bytes:
        """Return HMAC-SHA-256 (RFC 2104) of the message, 32 bytes."""
        if not self._key:
            self._key = self._read()
        if len(self._key) != _SIZE:
            self._key = b""
            raise StoreError(
                "root-key", "the root key is missing or damaged: provision the device again"
            )
        return self._hmac(self._key, message)

    def close(self) -> None:
        self._key = b""


def make(
    args: "tuple[str]", hmac: "Callable[[bytes, bytes], bytes]", random: "Callable[[int], bytes]"
) -> SoftwareRootKey:
    """Return the root key of ("software", path)."""
    return SoftwareRootKey(args[0], hmac, random)
