"""COSE_Mac0 and COSE_Encrypt0 as the protocol uses them (RFC 9052): untagged, exact headers.

Opening is strict: a protected header holds exactly the labels that the message kind has, the
unprotected header is empty, and the bytes are the deterministic encoding of their value.
Before the tag is verified only the structure's own heads and the protected header are read, so a
message costs the same whatever it holds and however long it is.
"""

import functools
import hashlib
import hmac
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from warden_client.errors import HostError
from warden_client.protocol import strictcbor

ALG, KID, PARTIAL_IV, KID_CONTEXT = 1, 4, 6, 10
HMAC_256 = 5
AES_CCM_16_128_256 = 31
TAG = 16
MAX_COUNTER = (1 << 32) - 1
_MAX_PROTECTED = 64  # ours take 31 bytes at most
_EMPTY_MAP = b"\xa0"
_MAC0 = strictcbor.head(strictcbor.ARRAY, 4) + strictcbor.encode("MAC0")
_OF_3 = strictcbor.head(strictcbor.ARRAY, 3)
_ENCRYPT0 = _OF_3 + strictcbor.encode("Encrypt0")
# The protected header of a sealed message, in the one form that decode() and the checks allow:
# {1: 31, 4: key ID, 6: partial IV, 10: session ID}.
_TO_KID, _TO_IV, _TO_SID = b"\xa4\x01\x18\x1f\x04\x48", b"\x06", b"\x0a\x48"
_HEADER = (
    re.escape(_TO_KID)
    + rb"(.{8})\x06(\x41.|\x42[^\0].|\x43[^\0].{2}|\x44[^\0].{3})"
    + re.escape(_TO_SID)
    + rb"(.{8})"
)
_SEALED = re.compile(_HEADER, re.DOTALL)
# The message around it, with a ciphertext of 16 bytes or more. Whether the lengths in its heads
# are right is no matter of the form.
_MESSAGE = re.compile(
    rb"\x83\x58(.)(" + _HEADER + rb")\xa0([\x50-\x57]|\x58[\x18-\xff]|\x59[^\0].)(.*)",
    re.DOTALL,
)


class Mac0(NamedTuple):
    """A COSE_Mac0 whose structure was checked and whose tag was not."""

    protected: bytes
    kid: bytes
    payload: bytes
    tag: bytes


class Encrypt0(NamedTuple):
    """A COSE_Encrypt0 whose structure was checked and whose ciphertext was not opened."""

    protected: bytes
    kid: bytes
    counter: int
    partial_iv: bytes
    sid: bytes
    ciphertext: bytes


def seal_mac0(key: bytes, kid: bytes, aad: bytes, payload: bytes) -> bytes:
    """Return the COSE_Mac0 of a payload (RFC 9052 §6.2)."""
    protected = strictcbor.encode({ALG: HMAC_256, KID: kid})
    tag = _mac(key, protected, aad, payload)
    return strictcbor.encode([protected, {}, payload, tag])


def parse_mac0(data: bytes) -> Mac0:
    """Return the parts of a COSE_Mac0; its tag is not verified yet.

    Raises: cbor-…, cose-malformed, cose-algorithm.
    """
    protected, headers, (payload, tag) = _parts(data, HMAC_256, 2)
    kid = headers.get(KID)
    if set(headers) != {ALG, KID} or not isinstance(kid, bytes) or len(kid) != 8:
        raise HostError("cose-malformed", "the protected header is not ours")
    if len(tag) != 32:
        raise HostError("cose-malformed", "the tag has another length")
    return Mac0(protected, kid, payload, tag)


def verify_mac0(key: bytes, message: Mac0, aad: bytes) -> bytes:
    """Return the payload of a message whose tag verifies; raises tampered."""
    if not hmac.compare_digest(_mac(key, message.protected, aad, message.payload), message.tag):
        raise HostError("tampered", "the tag does not verify")
    return message.payload


def seal_encrypt0(
    key: bytes, iv: bytes, kid: bytes, sid: bytes, counter: int, aad: bytes, payload: bytes
) -> bytes:
    """Return the COSE_Encrypt0 of a payload (RFC 9052 §5.2).

    counter: spent by the caller before, since a key and nonce pair must never be used twice.
    """
    partial = _partial_iv(counter)
    byte_string = strictcbor.byte_string
    protected = _TO_KID + kid + _TO_IV + byte_string(partial) + _TO_SID + sid
    ciphertext = AESCCM(key, tag_length=TAG).encrypt(
        _nonce(iv, partial), payload, _enc_structure(protected, aad)
    )
    return _OF_3 + byte_string(protected) + _EMPTY_MAP + byte_string(ciphertext)


def parse_encrypt0(data: bytes) -> Encrypt0:
    """Return the parts of a COSE_Encrypt0; its ciphertext is not opened yet.

    Raises: cbor-…, cose-malformed, cose-algorithm.
    """
    return _match_encrypt0(data) or _read_encrypt0(data)


def _match_encrypt0(data: bytes) -> Encrypt0 | None:
    """Return what _read_encrypt0() does, in half the time; None where that has to look closer."""
    match = _MESSAGE.fullmatch(data) if len(data) <= strictcbor.MAX_BYTES else None
    if match is None:
        return None
    size, protected, kid, counter, sid, head, ciphertext = match.groups()
    length = int.from_bytes(head[1:], "big") if len(head) > 1 else head[0] & 31
    if size[0] != len(protected) or length != len(ciphertext):
        return None
    partial = counter[1:]
    return Encrypt0(protected, kid, int.from_bytes(partial, "big"), partial, sid, ciphertext)


def _read_encrypt0(data: bytes) -> Encrypt0:
    protected, headers, (ciphertext,) = _parts(data, AES_CCM_16_128_256, 1)
    kid, partial, sid = headers.get(KID), headers.get(PARTIAL_IV), headers.get(KID_CONTEXT)
    if (
        set(headers) != {ALG, KID, PARTIAL_IV, KID_CONTEXT}
        or not isinstance(kid, bytes)
        or not isinstance(partial, bytes)
        or not isinstance(sid, bytes)
        or len(kid) != 8
        or len(sid) != 8
        or not 1 <= len(partial) <= 4
    ):
        raise HostError("cose-malformed", "the protected header is not ours")
    if len(partial) > 1 and partial[0] == 0:
        raise HostError("cose-malformed", "the partial IV is not in its shortest form")
    if len(ciphertext) < TAG:
        raise HostError("cose-malformed", "the ciphertext is shorter than its tag")
    counter = int.from_bytes(partial, "big")
    return Encrypt0(protected, kid, counter, partial, sid, ciphertext)


def open_encrypt0(key: bytes, iv: bytes, message: Encrypt0, aad: bytes) -> bytes:
    """Return the plaintext of a message that authenticates; raises tampered."""
    nonce = _nonce(iv, message.partial_iv)
    associated = _enc_structure(message.protected, aad)
    try:
        return AESCCM(key, tag_length=TAG).decrypt(nonce, message.ciphertext, associated)
    except InvalidTag:
        raise HostError("tampered", "the ciphertext does not authenticate") from None


def claimed_kid(data: bytes) -> bytes | None:
    """Return the key ID that a message claims; None where it is unreadable. It proves nothing."""
    try:
        kid = _protected(data)[1].get(KID)
    except HostError:
        return None
    return kid if isinstance(kid, bytes) else None


def _parts(
    data: bytes, algorithm: int, count: int
) -> tuple[bytes, Mapping[Any, Any], list[bytes]]:
    """Return (protected header, its labels, the byte strings after the empty unprotected header).

    algorithm: the one that the protected header must name. It is checked before every other label,
    whose form depends on it. count: how many byte strings follow. Reads the heads alone.
    """
    protected, headers, at = _protected(data)
    _check_algorithm(headers, algorithm)
    if data[0] != strictcbor.ARRAY << 5 | 2 + count:
        raise HostError("cose-malformed", "not a COSE structure of this kind")
    if data[at : at + 1] != _EMPTY_MAP:
        raise HostError("cose-malformed", "the unprotected header is not empty")
    at += 1
    rest = []
    for _ in range(count):
        part, at = _bytes(data, at)
        rest.append(part)
    if at != len(data):
        raise HostError("cbor-malformed", "bytes after the value")
    return protected, headers, rest


def _protected(data: bytes) -> tuple[bytes, Mapping[Any, Any], int]:
    """Return (protected header, its labels, where it ends) of a structure of 3 or 4 parts."""
    if len(data) > strictcbor.MAX_BYTES:
        raise HostError(
            "cbor-limit", f"{len(data)} bytes where {strictcbor.MAX_BYTES} are allowed"
        )
    major, count, at = strictcbor.read_head(data, 0)
    if major != strictcbor.ARRAY or count not in (3, 4):
        raise HostError("cose-malformed", "not a COSE structure of this kind")
    protected, at = _bytes(data, at)
    if not protected:  # RFC 9052 §3: the form of a map without labels
        raise HostError("cose-malformed", "the protected header is empty: it names no algorithm")
    if len(protected) > _MAX_PROTECTED:
        raise HostError("cose-malformed", f"a protected header of {len(protected)} bytes")
    return protected, _labels(protected), at


@functools.lru_cache(64)  # one message is looked at several times on its way to its session
def _labels(protected: bytes) -> Mapping[Any, Any]:
    """Return the labels of a protected header."""
    match = _SEALED.fullmatch(protected)
    if match is not None:  # three times as fast as decode()
        kid, counter, sid = match.groups()
        return MappingProxyType(
            {ALG: AES_CCM_16_128_256, KID: kid, PARTIAL_IV: counter[1:], KID_CONTEXT: sid}
        )
    headers = strictcbor.decode(protected)
    if not isinstance(headers, dict):
        raise HostError("cose-malformed", "the protected header is not a map")
    return MappingProxyType(headers)


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """Return (byte string, where it ends)."""
    major, length, at = strictcbor.read_head(data, at)
    if major != strictcbor.BYTES:
        raise HostError("cose-malformed", "another type where a byte string is wanted")
    return data[at : at + length], at + length


def _check_algorithm(headers: Mapping[Any, Any], wanted: int) -> None:
    alg = headers.get(ALG)
    if type(alg) is not int:  # True == 1 in Python, so isinstance would let a bool pass for one
        raise HostError("cose-malformed", "the protected header names no algorithm")
    if alg != wanted:
        raise HostError("cose-algorithm", f"algorithm {alg} where only {wanted} is allowed")


def _mac(key: bytes, protected: bytes, aad: bytes, payload: bytes) -> bytes:
    """Return the tag of a MAC_structure (RFC 9052 §6.3)."""
    structure = _MAC0 + b"".join(map(strictcbor.byte_string, (protected, aad, payload)))
    return hmac.new(key, structure, hashlib.sha256).digest()


def _enc_structure(protected: bytes, aad: bytes) -> bytes:
    """Return the Enc_structure, the AEAD's associated data (RFC 9052 §5.3)."""
    return _ENCRYPT0 + strictcbor.byte_string(protected) + strictcbor.byte_string(aad)


def _partial_iv(counter: int) -> bytes:
    if not 0 <= counter <= MAX_COUNTER:
        raise HostError("counter-exhausted", "the counter takes more than 4 bytes")
    return counter.to_bytes(max(1, (counter.bit_length() + 7) // 8), "big")


def _nonce(iv: bytes, partial: bytes) -> bytes:
    """Return the nonce: the common IV XOR the partial IV padded on the left (RFC 9052 §3.1)."""
    return (int.from_bytes(iv, "big") ^ int.from_bytes(partial, "big")).to_bytes(len(iv), "big")
