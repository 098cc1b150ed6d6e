"""COSE_Mac0 and COSE_Encrypt0 as the protocol uses them (RFC 9052): untagged, exact headers.

Opening is strict: a protected header holds exactly the labels that the message kind has, the
unprotected header is empty, and the bytes must be the deterministic encoding of what they decode to.
"""

import hashlib
import hmac
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from warden_host import strictcbor
from warden_host.errors import HostError

ALG, KID, PARTIAL_IV, KID_CONTEXT = 1, 4, 6, 10
HMAC_256 = 5
AES_CCM_16_128_256 = 31
TAG = 16
MAX_COUNTER = (1 << 32) - 1


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
    protected = strictcbor.encode({ALG: HMAC_256, KID: kid})
    tag = _mac(key, protected, aad, payload)
    return strictcbor.encode([protected, {}, payload, tag])


def parse_mac0(data: bytes) -> Mac0:
    """Raises cbor-…, cose-malformed or cose-algorithm; the tag is for verify_mac0."""
    protected, headers, payload, tag = _parts(data, 4)
    _algorithm(headers, HMAC_256)
    kid = headers.get(KID)
    if set(headers) != {ALG, KID} or not isinstance(kid, bytes) or len(kid) != 8:
        raise HostError("cose-malformed", "the protected header is not ours")
    if not isinstance(payload, bytes) or not isinstance(tag, bytes) or len(tag) != 32:
        raise HostError("cose-malformed", "payload or tag has the wrong shape")
    return Mac0(protected, kid, payload, tag)


def verify_mac0(key: bytes, message: Mac0, aad: bytes) -> bytes:
    """The payload; raises tampered."""
    if not hmac.compare_digest(_mac(key, message.protected, aad, message.payload), message.tag):
        raise HostError("tampered", "the tag does not verify")
    return message.payload


def seal_encrypt0(
    key: bytes, iv: bytes, kid: bytes, sid: bytes, counter: int, aad: bytes, payload: bytes
) -> bytes:
    """The caller has spent the counter already: a key and nonce pair is never used twice."""
    partial = _partial_iv(counter)
    headers = {ALG: AES_CCM_16_128_256, KID: kid, PARTIAL_IV: partial, KID_CONTEXT: sid}
    protected = strictcbor.encode(headers)
    ciphertext = AESCCM(key, tag_length=TAG).encrypt(
        _nonce(iv, partial), payload, _enc_structure(protected, aad)
    )
    return strictcbor.encode([protected, {}, ciphertext])


def parse_encrypt0(data: bytes) -> Encrypt0:
    """Raises cbor-…, cose-malformed or cose-algorithm; the ciphertext is for open_encrypt0."""
    protected, headers, ciphertext = _parts(data, 3)
    _algorithm(headers, AES_CCM_16_128_256)
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
    if not isinstance(ciphertext, bytes) or len(ciphertext) < TAG:
        raise HostError("cose-malformed", "the ciphertext has the wrong shape")
    counter = int.from_bytes(partial, "big")
    return Encrypt0(protected, kid, counter, partial, sid, ciphertext)


def open_encrypt0(key: bytes, iv: bytes, message: Encrypt0, aad: bytes) -> bytes:
    """The plaintext; raises tampered."""
    nonce = _nonce(iv, message.partial_iv)
    associated = _enc_structure(message.protected, aad)
    try:
        return AESCCM(key, tag_length=TAG).decrypt(nonce, message.ciphertext, associated)
    except InvalidTag:
        raise HostError("tampered", "the ciphertext does not authenticate") from None


def claimed_kid(data: bytes) -> bytes | None:
    """Whose message it says it is; None where it says nothing that makes sense. Proves nothing."""
    try:
        headers = strictcbor.decode(strictcbor.decode(data)[0])
        kid = headers[KID]
    except (HostError, LookupError, TypeError):
        return None
    return kid if isinstance(kid, bytes) else None


def _parts(data: bytes, count: int) -> list[Any]:
    """[protected bytes, decoded headers, …the rest after the empty unprotected header]."""
    value = strictcbor.decode(data)
    if not isinstance(value, list) or len(value) != count or not isinstance(value[0], bytes):
        raise HostError("cose-malformed", "not a COSE structure of this kind")
    if value[1] != {} or not isinstance(value[1], dict):
        raise HostError("cose-malformed", "the unprotected header is not empty")
    headers = strictcbor.decode(value[0])
    if not isinstance(headers, dict):
        raise HostError("cose-malformed", "the protected header is not a map")
    return [value[0], headers, *value[2:]]


def _algorithm(headers: dict[Any, Any], wanted: int) -> None:
    alg = headers.get(ALG)
    if type(alg) is not int:  # True == 1 in Python, so isinstance would let a bool pass for one
        raise HostError("cose-malformed", "no algorithm")
    if alg != wanted:
        raise HostError("cose-algorithm", f"algorithm {alg} where only {wanted} is allowed")


def _mac(key: bytes, protected: bytes, aad: bytes, payload: bytes) -> bytes:
    """RFC 9052 §6.3."""
    structure = strictcbor.encode(["MAC0", protected, aad, payload])
    return hmac.new(key, structure, hashlib.sha256).digest()


def _enc_structure(protected: bytes, aad: bytes) -> bytes:
    """RFC 9052 §5.3."""
    return strictcbor.encode(["Encrypt0", protected, aad])


def _partial_iv(counter: int) -> bytes:
    if not 0 <= counter <= MAX_COUNTER:
        raise HostError("counter-exhausted", "the counter takes more than 4 bytes")
    return counter.to_bytes(max(1, (counter.bit_length() + 7) // 8), "big")


def _nonce(iv: bytes, partial: bytes) -> bytes:
    """RFC 9052 §3.1: the common IV XOR the partial IV padded on the left."""
    padded = partial.rjust(len(iv), b"\0")
    return bytes(a ^ b for a, b in zip(iv, padded, strict=True))
