"""ESP32 Secure Boot V2: verify that a trusted key signed a firmware image, in one pass over it.

    check = Check(size, digests, make_rsa, make_p256)
    check.update(view); …                                 all of the image, in order
    check.finish()

The image is padded to a multiple of 4,096 bytes, and a signature sector of 4,096 bytes follows: up
to three blocks of 1,216 bytes, then FF. A block, from ESP-IDF's documentation of the format (all
integers little-endian):

    0     E7, version (2: RSA-3072 with PSS, 3: ECDSA), two zeros
    4     SHA-256 of the image with its padding
    36    RSA: modulus (384), exponent (4), R (384), M' (4); signature at 812 (384)
          ECDSA: curve (1; 2 is P-256), X, Y (32 each); signature r, s at 101 (32 each); zeros
    1196  CRC-32 of bytes 0 to 1195, then 16 zeros

A key is known by its digest, as in the chip's fuses: SHA-256 of bytes 36 to 811, or 36 to 100. One
good block of a trusted key is enough, as for the chip. But no byte of the sector may differ from
the format: a block of another curve, whose layout and digest may be other ones (P-384: SHA-384),
refuses the image.
"""

import binascii
import hashlib

from micropython import const

from ..errors import PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable, Sequence, Union

    Buffer = Union[bytes, bytearray, memoryview]

SECTOR = 4096

_BLOCK = const(1216)
_MOST_BLOCKS = const(3)
_MAGIC = const(0xE7)
_RSA = const(2)
_ECDSA = const(3)
_P256 = const(2)
_CRC_AT = const(1196)


class Check:
    """Verifies one image. PeerError firmware-unsigned when it can't be a signed one.

    size: bytes of the whole image, signature sector included.
    digests: 32 bytes each, of the trusted keys.
    make_rsa(modulus, exponent), make_p256(x ‖ y): big-endian; keys with verify(digest, signature).
    """

    def __init__(
        self,
        size: int,
        digests: "Sequence[bytes]",
        make_rsa: "Callable[[bytes, int], Any]",
        make_p256: "Callable[[bytes], Any]",
    ) -> None:
        if size % SECTOR or size < 2 * SECTOR:
            raise PeerError("firmware-unsigned", "no room for a signature sector")
        self._left = size - SECTOR
        self._digests = digests
        self._make_rsa = make_rsa
        self._make_p256 = make_p256
        self._sha = hashlib.sha256()
        self._sector = memoryview(bytearray(SECTOR))
        self._fill = 0

    def update(self, data: "Buffer") -> None:
        """Add the next bytes of the image."""
        view = memoryview(data)
        if self._left:
            self._sha.update(view[: self._left])
            taken = min(len(view), self._left)
            self._left -= taken
            view = view[taken:]
        end = self._fill + len(view)
        if end > SECTOR:
            raise PeerError("firmware-unsigned", "more than was announced")
        self._sector[self._fill : end] = view
        self._fill = end

    def finish(self) -> None:
        """Verify the signature. PeerError firmware-unsigned, firmware-key, tampered."""
        if self._fill != SECTOR:
            raise PeerError("firmware-unsigned", "less than was announced")
        digest = self._sha.digest()
        blocks = 0
        while blocks < _MOST_BLOCKS and self._sector[blocks * _BLOCK] == _MAGIC:
            _look(self._sector[blocks * _BLOCK : (blocks + 1) * _BLOCK], digest)
            blocks += 1
        if not blocks or _is_other(self._sector[blocks * _BLOCK :], 0xFF):
            raise PeerError("firmware-unsigned", "not a signature sector")
        found = False
        for number in range(blocks):
            block = self._sector[number * _BLOCK : (number + 1) * _BLOCK]
            end = 812 if block[1] == _RSA else 101
            if hashlib.sha256(block[36:end]).digest() not in self._digests:
                continue
            found = True
            if self._verify(block, digest):
                return
        if found:
            raise PeerError("tampered", "the firmware's signature is none of its key's")
        raise PeerError("firmware-key", "no key that this board trusts signed the firmware")

    def _verify(self, block: memoryview, digest: bytes) -> bool:
        if block[1] == _RSA:
            exponent = int.from_bytes(bytes(block[420:424]), "little")
            key = self._make_rsa(_swapped(block[36:420]), exponent)
            return bool(key.verify(digest, _swapped(block[812:_CRC_AT])))
        key = self._make_p256(_swapped(block[37:69]) + _swapped(block[69:101]))
        return bool(key.verify(digest, _swapped(block[101:133]) + _swapped(block[133:165])))


def _look(block: memoryview, digest: bytes) -> None:
    """Check that all of a block is as the format says; its key is not looked at."""
    if block[1] == _ECDSA:
        if block[36] != _P256 or _is_other(block[165:_CRC_AT], 0):
            raise PeerError("firmware-unsigned", "another curve than P-256")
    elif block[1] != _RSA:
        raise PeerError("firmware-unsigned", "another version of the signature block")
    if block[2] or block[3] or _is_other(block[_CRC_AT + 4 :], 0):
        raise PeerError("firmware-unsigned", "bytes where there are none")
    crc = binascii.crc32(block[:_CRC_AT]) & 0xFFFFFFFF
    if crc != int.from_bytes(bytes(block[_CRC_AT : _CRC_AT + 4]), "little"):
        raise PeerError("firmware-unsigned", "the signature block's checksum is wrong")
    if block[4:36] != digest:
        raise PeerError("tampered", "the firmware is not the one that was signed")


def _is_other(view: memoryview, value: int) -> bool:
    """Return whether any byte has another value."""
    for byte in view:
        if byte != value:
            return True
    return False


def _swapped(view: memoryview) -> bytes:
    return int.from_bytes(bytes(view), "little").to_bytes(len(view), "big")
