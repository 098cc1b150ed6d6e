"""Decrypt images. Each release has a content key of its own, wrapped for this device; segments are
authenticated before a byte of them is written. Sans-IO. Loaded for an encrypted update.

    key = content_key(vault, wrapped, plan)       the manifest is verified
    segments = Segments(key, plan.sequence, "app", image)
    segments.start(have)                          goes on behind the plain bytes that are there
    at, length = segments.want(most)              the next bytes of the ciphertext
    piece = segments.open(data)                   plain bytes, b"" while a segment is not whole

The image is cut into pieces of 1,008 bytes. Segment i is AES-256-CCM of piece i with its tag of 16
bytes behind it, under a key that is derived for this image alone (from its digest, too), so that
the nonce is just i: no two messages share a key and a nonce, and a segment in another place, of
another release or of another component does not open. The manifest's digest still decides on the
plain image.

The manifest's parameter 19 (draft-ietf-suit-firmware-encryption) is a COSE_Encrypt0 without a
ciphertext: algorithm -70001, which is this scheme and private to Warden, and the name of the
content key. docs/protocol.md has the derivations.
"""

from micropython import const

from ..crypto import ct
from ..crypto.ccm import CCM
from ..crypto.kdf import hkdf
from ..errors import LinkError, PeerError
from ..vault import records
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Iterator, Union

    from ..vault import Vault
    from ..wire.suit_plan import Image, Plan

    Buffer = Union[bytes, bytearray, memoryview]

_PIECE = const(1008)
_TAG = const(16)
SEGMENT = _PIECE + _TAG
_NONCE = const(13)
_KEY = const(32)

# COSE_Encrypt0_Tagged, its protected header {1: -70001, 4: kid} around the kid's eight bytes, no
# ciphertext. Deterministic CBOR leaves one encoding.
_FRONT = const(b"\xd0\x83\x51\xa2\x01\x3a\x00\x01\x11\x70\x04\x48")
_BACK = const(b"\xa0\xf6")
_INFO_SIZE = const(22)
_KID = const(8)


def content_key(vault: "Vault", wrapped: "bytes | None", plan: "Plan") -> bytearray:
    """Return the key that opens the plan's encrypted images; the caller wipes it.

    Raises: PeerError payload-key: missing, superfluous, wrapped for another device or manifest, or
      not the one that the manifest names; suit-unsupported: encrypted in another way.
    """
    kids = [_kid(image.encryption) for image in plan.images if image.encryption is not None]
    if not kids or wrapped is None:
        raise PeerError("payload-key", "a key without an encrypted image, or none with one")
    if len(wrapped) != _NONCE + _KEY + _TAG:
        raise PeerError("payload-key", "a wrapped key of another length")
    aad = cbor.encode(["warden1", "payload key", plan.digest])
    for encryption_key in _keys(vault):
        opened = bytearray(wrapped[_NONCE:])
        cipher = CCM(encryption_key)
        try:
            cipher.open(wrapped[:_NONCE], opened, _KEY, aad)
        except PeerError:
            continue
        finally:
            cipher.close()
        key = opened[:_KEY]
        ct.wipe(opened)
        own = hkdf(key, cbor.encode(["warden1", "payload kid"]), _KID)
        for kid in kids:
            if kid != own:
                ct.wipe(key)
                raise PeerError("payload-key", "another key than the manifest names")
        return key
    raise PeerError("payload-key", "the key was not wrapped for this device and manifest")


def _kid(info: bytes) -> bytes:
    if len(info) != _INFO_SIZE or not info.startswith(_FRONT) or not info.endswith(_BACK):
        raise PeerError("suit-unsupported", "encrypted in a way that is not known here")
    return info[len(_FRONT) : len(_FRONT) + _KID]


def _keys(vault: "Vault") -> "Iterator[bytes]":
    """Yield the keys that may wrap the content key: the authority's, and its successor's."""
    type, device = records.load(vault, "identity")
    authority = records.load_apps(vault)[0]
    found = [authority.key]
    if vault.get("rotation") is not None:
        following = records.load(vault, "rotation")[5].get(authority.appid)
        if following is not None:
            found.append(following)
    info = cbor.encode(["warden1", "payload", 1, type, device, authority.appid])
    for key in found:
        yield hkdf(key, info, _KEY)


class Segments:
    """Decrypt one image through one buffer of a segment.

    key: the release's
    component: its name
    """

    def __init__(self, key: bytearray, sequence: int, component: str, image: "Image") -> None:
        text = cbor.encode(["warden1", "payload", sequence, component, image.size, image.digest])
        self._cipher = CCM(hkdf(key, text, _KEY))
        self._size = image.size
        self._buffer = memoryview(bytearray(min(image.size, _PIECE) + _TAG))
        self.start(0)

    def start(self, have: int) -> None:
        """Begin behind plain bytes that are there.

        have: their number; what the first segment holds of them is authenticated again, and not
          returned
        """
        self._index, self._skip = divmod(have, _PIECE)
        self._fill = 0

    def _length(self) -> int:
        """Return the length of the present segment, with its tag."""
        return min(_PIECE, self._size - self._index * _PIECE) + _TAG

    def total(self) -> int:
        """Return the bytes of the whole ciphertext."""
        return self._size + (self._size + _PIECE - 1) // _PIECE * _TAG

    def want(self, most: int) -> "tuple[int, int]":
        """Return (offset in the ciphertext, bytes) of the next part, within its segment.

        most: bytes to return at most
        """
        return self._index * SEGMENT + self._fill, min(most, self._length() - self._fill)

    def open(self, data: "Buffer") -> "Buffer":
        """Return the plain bytes that the part completes: a view, valid until the next call.

        data: the bytes that want() named
        Raises: LinkError payload-tampered.
        """
        length = self._length()
        end = self._fill + len(data)
        self._buffer[self._fill : end] = data
        self._fill = end
        if end < length:
            return b""
        self._fill = 0
        try:
            self._cipher.open(
                self._index.to_bytes(_NONCE, "big"), self._buffer, length - _TAG, b""
            )
        except PeerError:
            raise LinkError("payload-tampered", "a segment of the image does not authenticate")
        skip, self._skip = self._skip, 0
        self._index += 1
        return self._buffer[skip : length - _TAG]

    def close(self) -> None:
        self._cipher.close()
        ct.wipe(self._buffer)
