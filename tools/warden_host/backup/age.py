"""Encrypt and decrypt files in the age format, version 1 (c2sp.org/age).

A random file key is wrapped for each recipient: an X25519 key, or a passphrase through scrypt.
The content follows in chunks of 64 KiB, each sealed by ChaCha20-Poly1305 with its number and
whether it is the last: a file that was cut, reordered or extended does not open.
"""

import base64
import hashlib
import hmac
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from warden_host.backup import bech32
from warden_host.errors import HostError

CHUNK = 65536
WORK = 17  # log2 of scrypt's N, with r = 8: half a second and 128 MiB a guess
MOST_WORK = 20
MAX_RECIPIENTS = 20
_VERSION = b"age-encryption.org/v1\n"
_X25519_LABEL = b"age-encryption.org/v1/X25519"
_SCRYPT_LABEL = b"age-encryption.org/v1/scrypt"
_RECIPIENT, _IDENTITY = "age", "age-secret-key-"
_TAG = 16
_LINE = 64  # characters of a body's line
_MAX_HEADER = 16384
_ZERO = bytes(12)  # a wrapping key is used once
_NUMBER = re.compile(rb"[1-9][0-9]?\Z")


@dataclass(frozen=True)
class _Stanza:
    kind: bytes
    arguments: tuple[bytes, ...]
    body: bytes


# Keys


def new_identity() -> tuple[str, str]:
    """Return a new secret key and its recipient, in age's own forms."""
    key = X25519PrivateKey.generate()
    secret = bech32.encode(_IDENTITY, key.private_bytes_raw()).upper()
    return secret, bech32.encode(_RECIPIENT, key.public_key().public_bytes_raw())


def read_identity(text: bytes) -> bytes:
    """Return the secret key of an identity file, as age-keygen writes it. Raises backup-key."""
    lines = [line for line in text.split(b"\n") if line.strip() and not line.startswith(b"#")]
    try:
        (line,) = lines
        return _exactly(bech32.decode(_IDENTITY, line.strip().decode("ascii")), 32)
    except ValueError:
        raise HostError(
            "backup-key", "the file holds no secret key, or more than one of them"
        ) from None


def read_recipient(text: str) -> bytes:
    """Return the public key of a recipient, age1…. Raises backup-key."""
    try:
        return _exactly(bech32.decode(_RECIPIENT, text), 32)
    except ValueError:
        raise HostError("backup-key", "this is no recipient: age1… is one") from None


# Writing


class Writer:
    """Encrypt what is written to a file; close() writes the last chunk, and leaves it open."""

    def __init__(
        self,
        file: IO[bytes],
        recipients: Sequence[bytes] = (),
        passphrase: bytes | None = None,
        work: int = WORK,
    ) -> None:
        """Give recipients, public keys of 32 bytes, or a passphrase."""
        key = os.urandom(16)
        if passphrase is not None:
            stanzas = [_wrap_passphrase(key, passphrase, work)]
        else:
            stanzas = [_wrap_x25519(key, recipient) for recipient in recipients]
        header = _header(stanzas)
        nonce = os.urandom(16)
        file.write(header + b" " + _base64(_mac(key, header)) + b"\n" + nonce)
        self._file = file
        self._cipher = ChaCha20Poly1305(_hkdf(key, nonce, b"payload"))
        self._number = 0
        self._waiting = bytearray()

    def write(self, data: Any) -> int:
        self._waiting += data
        # The last chunk must not be empty, so a full one waits for what may follow.
        while len(self._waiting) > CHUNK:
            self._seal(bytes(self._waiting[:CHUNK]), False)
            del self._waiting[:CHUNK]
        return len(data)

    def close(self) -> None:
        self._seal(bytes(self._waiting), True)
        self._waiting.clear()

    def _seal(self, chunk: bytes, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_chunk_nonce(self._number, last), chunk, None))
        self._number += 1


def _wrap_passphrase(key: bytes, passphrase: bytes, work: int) -> _Stanza:
    salt = os.urandom(16)
    wrapping = Scrypt(_SCRYPT_LABEL + salt, 32, 1 << work, 8, 1).derive(passphrase)
    body = ChaCha20Poly1305(wrapping).encrypt(_ZERO, key, None)
    return _Stanza(b"scrypt", (_base64(salt), b"%d" % work), body)


def _wrap_x25519(key: bytes, recipient: bytes) -> _Stanza:
    ephemeral = X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    wrapping = _hkdf(shared, share + recipient, _X25519_LABEL)
    return _Stanza(
        b"X25519", (_base64(share),), ChaCha20Poly1305(wrapping).encrypt(_ZERO, key, None)
    )


def _header(stanzas: Sequence[_Stanza]) -> bytes:
    lines = [_VERSION]
    for stanza in stanzas:
        lines.append(b" ".join((b"->", stanza.kind, *stanza.arguments)) + b"\n")
        body = _base64(stanza.body)
        # The last line is shorter than the others, so it may be empty.
        lines += [body[at : at + _LINE] + b"\n" for at in range(0, len(body) + 1, _LINE)]
    return b"".join(lines) + b"---"


# Reading


class Reader(io.RawIOBase):
    """Decrypt a file as it is read. Each byte that it gives is authentic.

    Raises backup-damaged for a file that is no age file, or was cut or changed; backup-key,
    passphrase-wrong where it is for another key.
    """

    def __init__(
        self, file: IO[bytes], identity: bytes | None = None, passphrase: bytes | None = None
    ) -> None:
        """identity: a secret key of 32 bytes."""
        header, stanzas, mac = _read_header(file)
        key = _unwrap(stanzas, identity, passphrase)
        if not hmac.compare_digest(_mac(key, header), mac):
            raise damaged("its header was changed")
        self._file = file
        self._cipher = ChaCha20Poly1305(_hkdf(key, file.read(16), b"payload"))
        self._number = 0
        self._next = file.read(CHUNK + _TAG)
        self._chunk = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._chunk and not self._ended:
            self._open_next()
        count = min(len(buffer), len(self._chunk))
        buffer[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count

    def check_end(self) -> None:
        """Read what is left. Raises backup-damaged where the last chunk is missing."""
        while not self._ended:
            self._open_next()
        self._chunk = memoryview(b"")

    def _open_next(self) -> None:
        sealed, self._next = self._next, self._file.read(CHUNK + _TAG)
        last = not self._next
        try:
            nonce = _chunk_nonce(self._number, last)
            self._chunk = memoryview(self._cipher.decrypt(nonce, sealed, None))
        except InvalidTag:
            raise damaged("it was cut or changed") from None
        if last and not self._chunk and self._number:
            raise damaged("its last chunk is empty")
        self._number += 1
        self._ended = last


def is_for_passphrase(file: IO[bytes]) -> bool:
    """Return whether a file's header asks for a passphrase; the file is read from its start."""
    _, stanzas, _ = _read_header(file)
    file.seek(0)
    return stanzas[0].kind == b"scrypt"


def passphrase_work(file: IO[bytes]) -> int | None:
    """Return log2 of scrypt's N in a file's header, or None where it asks for no passphrase."""
    _, stanzas, _ = _read_header(file)
    file.seek(0)
    if stanzas[0].kind != b"scrypt":
        return None
    if len(stanzas[0].arguments) != 2 or not _NUMBER.match(stanzas[0].arguments[1]):
        raise damaged("its header is no header of age")
    return int(stanzas[0].arguments[1])


def _read_header(file: IO[bytes]) -> tuple[bytes, list[_Stanza], bytes]:
    """Return the header up to "---", its stanzas, and its MAC, which is not verified yet."""
    lines: list[bytes] = []
    size = 0
    while True:
        line = file.readline(_MAX_HEADER)
        size += len(line)
        if size > _MAX_HEADER or not line.endswith(b"\n"):
            raise damaged("it is no age file")
        if line.startswith(b"---"):
            break
        lines.append(line)
        if lines[0] != _VERSION:
            raise damaged("it is no age file of version 1")
    if not line.startswith(b"--- "):
        raise damaged("its header has no MAC")
    return b"".join(lines) + b"---", _stanzas(lines[1:]), _unbase64(line[4:-1], 32)


def _stanzas(lines: list[bytes]) -> list[_Stanza]:
    found = []
    rest = iter(lines)
    for line in rest:
        mark, *words = line[:-1].split(b" ")
        if mark != b"->" or not words:
            raise damaged("its header has another form")
        body = b""
        for part in rest:
            body += part[:-1]
            if len(part) - 1 < _LINE:
                break
            if len(part) - 1 > _LINE:
                raise damaged("its header has another form")
        else:
            raise damaged("its header has another form")  # the last line is shorter
        found.append(_Stanza(words[0], tuple(words[1:]), _unbase64(body)))
    if not found or len(found) > MAX_RECIPIENTS:
        raise damaged(f"it is for no key, or for more than {MAX_RECIPIENTS}")
    if len(found) > 1 and any(stanza.kind == b"scrypt" for stanza in found):
        raise damaged("a passphrase beside other keys")
    return found


def _unwrap(stanzas: list[_Stanza], identity: bytes | None, passphrase: bytes | None) -> bytes:
    if stanzas[0].kind == b"scrypt":
        if passphrase is None:
            raise HostError("passphrase-missing", "the backup is under a passphrase")
        return _unwrap_passphrase(stanzas[0], passphrase)
    if identity is None:
        raise HostError("backup-key", "the backup is for a key, not under a passphrase")
    for stanza in stanzas:
        if stanza.kind == b"X25519" and len(stanza.arguments) == 1:
            key = _unwrap_x25519(stanza, identity)
            if key is not None:
                return key
    raise HostError("backup-key", "the backup is for other keys than this one")


def _unwrap_passphrase(stanza: _Stanza, passphrase: bytes) -> bytes:
    if len(stanza.arguments) != 2 or not _NUMBER.match(stanza.arguments[1]):
        raise damaged("its header has another form")
    work = int(stanza.arguments[1])
    if work > MOST_WORK:
        raise damaged(f"it asks for 2^{work} rounds of scrypt, and for too much memory")
    salt = _unbase64(stanza.arguments[0], 16)
    wrapping = Scrypt(_SCRYPT_LABEL + salt, 32, 1 << work, 8, 1).derive(passphrase)
    try:
        return _exactly(ChaCha20Poly1305(wrapping).decrypt(_ZERO, stanza.body, None), 16)
    except (InvalidTag, ValueError):
        raise HostError("passphrase-wrong", "the passphrase does not open the backup") from None


def _unwrap_x25519(stanza: _Stanza, identity: bytes) -> bytes | None:
    """Return the file key, or None where the stanza is for another key."""
    share = _unbase64(stanza.arguments[0], 32)
    private = X25519PrivateKey.from_private_bytes(identity)
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(share))
        wrapping = _hkdf(shared, share + private.public_key().public_bytes_raw(), _X25519_LABEL)
        return _exactly(ChaCha20Poly1305(wrapping).decrypt(_ZERO, stanza.body, None), 16)
    except (InvalidTag, ValueError):
        return None


# Both ways


def damaged(why: str) -> HostError:
    """Return the error for a backup that can't be used."""
    return HostError("backup-damaged", f"the backup can't be used: {why}")


def _chunk_nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _mac(key: bytes, header: bytes) -> bytes:
    return hmac.new(_hkdf(key, b"", b"header"), header, hashlib.sha256).digest()


def _hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(key)


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ValueError("another length")
    return data


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _unbase64(text: bytes, size: int | None = None) -> bytes:
    """Return the bytes of base64 without padding, in its one form. Raises backup-damaged."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise damaged("its header has another form") from None
    if _base64(data) != text or (size is not None and len(data) != size):
        raise damaged("its header has another form")
    return data
