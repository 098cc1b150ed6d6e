"""Encrypt a private key under a passphrase: PKCS#8 in PEM, AES-256-CBC with scrypt.

RFC 5958, RFC 8018, RFC 7914. `openssl pkey` reads the file. cryptography reads it too, but writes
2,048 rounds of PBKDF2, which a graphics card breaks in hours; scrypt costs each guess 16 MB and a
third of a second.
"""

import base64
import secrets
import textwrap

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from warden_host.errors import HostError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
MIN_PASSPHRASE, MAX_PASSPHRASE = 10, 1024
# OWASP's Password Storage Cheat Sheet; OpenSSL's own limit of 32 MB allows no larger N.
_N, _R, _P = 1 << 14, 8, 5
_PBES2, _SCRYPT, _AES_256_CBC = (
    bytes.fromhex(oid)
    for oid in ("2a864886f70d01050d", "2b06010401da47040b", "60864801650304012a")
)
_INTEGER, _OCTETS, _OID, _SEQUENCE = 0x02, 0x04, 0x06, 0x30


def seal(key: PrivateKey, passphrase: bytes) -> bytes:
    """Return the encrypted PEM. Raises passphrase-wrong for a passphrase that is too short."""
    check_passphrase(passphrase)
    plain = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    salt, iv = secrets.token_bytes(16), secrets.token_bytes(16)
    padder = padding.PKCS7(128).padder()
    padded = padder.update(plain) + padder.finalize()
    cipher = Cipher(
        algorithms.AES(Scrypt(salt, 32, _N, _R, _P).derive(passphrase)), modes.CBC(iv)
    ).encryptor()
    kdf = _der(_SEQUENCE, _der(_OCTETS, salt), *map(_number, (_N, _R, _P)))
    parameters = _der(
        _SEQUENCE,
        _der(_SEQUENCE, _der(_OID, _SCRYPT), kdf),
        _der(_SEQUENCE, _der(_OID, _AES_256_CBC), _der(_OCTETS, iv)),
    )
    document = _der(
        _SEQUENCE,
        _der(_SEQUENCE, _der(_OID, _PBES2), parameters),
        _der(_OCTETS, cipher.update(padded) + cipher.finalize()),
    )
    body = "\n".join(textwrap.wrap(base64.b64encode(document).decode(), 64))
    label = "ENCRYPTED PRIVATE KEY"
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()


def unseal(pem: bytes, passphrase: bytes) -> PrivateKey:
    """Return the key of an encrypted PEM.

    Raises passphrase-wrong; key-damaged for anything but an encrypted key of a supported kind.
    """
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" not in pem:
        # A bare key is none that a passphrase protects, and no passphrase would be the right one.
        raise HostError("key-damaged", "the key is not an encrypted one")
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except UnsupportedAlgorithm:  # the passphrase opened it: an unknown curve
        raise HostError("key-damaged", "the key is of another kind") from None
    except (ValueError, TypeError):
        raise HostError(
            "passphrase-wrong", "this passphrase does not open the key", "try again"
        ) from None
    if not isinstance(key, PrivateKey):
        raise HostError("key-damaged", "the key is of another kind")
    return key


def check_passphrase(passphrase: bytes) -> None:
    """Raise passphrase-wrong for a passphrase that is too short or too long."""
    if not MIN_PASSPHRASE <= len(passphrase) <= MAX_PASSPHRASE:
        raise HostError(
            "passphrase-wrong",
            f"a passphrase has {MIN_PASSPHRASE} to {MAX_PASSPHRASE} bytes",
            "five words drawn by chance are easy to keep and hard to guess",
        )


def _number(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _der(tag: int, *content: bytes) -> bytes:
    body = b"".join(content)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body
