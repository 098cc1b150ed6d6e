"""The records of a vault as bytes: names in the store, keys, nonces, seals (docs/formats.md)."""

from micropython import const

from ..crypto import ct
from ..crypto.ccm import CCM
from ..crypto.kdf import hkdf, hmac_sha256
from ..crypto.rand import random_bytes
from ..errors import PeerError, StoreError, ensure
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from . import Store

MAX_NAME = 40
MAX_RECORDS = 64
FORMAT = const(1)
COMMIT_LIMIT = const(4096)
_MAX_VALUE = const(4096)
_NONCE = const(13)
_TAG = const(16)
OVERHEAD = const(1 + _NONCE + _TAG)
# In the order of wire/names.py, so that a board has these bytes once.
_NAME_CHARACTERS = const(b"abcdefghijklmnopqrstuvwxyz0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZ-")


def check_name(name: str) -> None:
    """Check a record's name. UsageError bad-name."""
    ensure(0 < len(name) <= MAX_NAME, "bad-name", "a record's name has 1 to 40 characters")
    for byte in name.encode():  # iterating the text itself would intern its characters
        ensure(byte in _NAME_CHARACTERS, "bad-name", "a record's name is made of A-Z a-z 0-9 _ -")


def file_name(name: str, generation: int) -> str:
    """Return the name that a record of this generation has in the store."""
    return "%s.%08x" % (name, generation)


class VaultKeys:
    """The keys of a vault, out of its own one: a bytearray of 32 bytes."""

    def __init__(self, key: bytearray) -> None:
        self.key = key
        self._seal_key = hkdf(key, b"warden vault seal", 32)
        self.nonce_key = hkdf(key, b"warden vault nonce", 32)
        self._set_key = hkdf(key, b"warden vault set", 32)
        # A start reads many records; from its commit on one cipher a record is made, since the AES
        # objects would take 600 bytes for as long as the board runs.
        self._kept: "CCM | None" = CCM(self._seal_key)

    def cipher(self) -> CCM:
        """Return the cipher of records."""
        return self._kept or CCM(self._seal_key)

    def last_cipher(self) -> CCM:
        """Return the cipher of records, and keep it no longer."""
        cipher, self._kept = self.cipher(), None
        return cipher

    def contribution(self, name: str, generation: int, blob: bytes) -> int:
        """Return a record's share of the tag over the set."""
        mac = hmac_sha256(self._set_key, cbor.encode([name, generation]), blob)
        return int.from_bytes(mac, "big")

    def close(self) -> None:
        """Wipe what can be wiped."""
        ct.wipe(self.key)
        self._kept, self._seal_key, self._set_key, self.nonce_key = None, b"", b"", b""


def read_blob(store: "Store", name: str, generation: int) -> bytes:
    """Read a sealed record. StoreError vault-damaged where it is gone, or too large."""
    blob = store.read(file_name(name, generation), OVERHEAD + _MAX_VALUE)
    if blob is None:
        raise StoreError("vault-damaged", "the record %s is gone" % name)
    return blob


def nonce_for(key: bytes, name: bytes, generation: int, value: "bytes | bytearray") -> bytes:
    """Return the nonce of a value.

    Bound to the value and the generation as well as to chance: a flash that was played back, on a
    chip whose randomness repeats, still never seals two values under one nonce.
    """
    return hmac_sha256(key, cbor.encode([random_bytes(16), generation, name]), value)[:_NONCE]


def record_aad(name: str, generation: int) -> bytes:
    """Return what a record's tag covers besides its value."""
    return cbor.encode(["warden record 1", name, generation])


def sealed(cipher: "CCM", nonce: bytes, value: "bytes | bytearray", aad: bytes) -> bytes:
    """Return format ‖ nonce ‖ ciphertext ‖ tag."""
    record = bytearray(OVERHEAD + len(value))
    record[0] = FORMAT
    record[1 : 1 + _NONCE] = nonce
    body = memoryview(record)[1 + _NONCE :]
    body[: len(value)] = value
    cipher.seal(nonce, body, len(value), aad)
    return bytes(record)


def opened(cipher: "CCM", record: bytes, aad: bytes) -> bytearray:
    """Return the value of a sealed record. StoreError vault-damaged when it was changed."""
    if len(record) < OVERHEAD or record[0] != FORMAT:
        raise StoreError("vault-damaged", "a record is cut short or of another version")
    body = bytearray(record[1 + _NONCE :])
    size = len(body) - _TAG
    try:
        cipher.open(record[1 : 1 + _NONCE], body, size, aad)
    except PeerError:
        raise StoreError("vault-damaged", "a record of the vault was changed")
    return body[:size]
