"""Untagged COSE_Mac0, COSE_Encrypt0 and COSE_Sign1 (RFC 9052) in general, over canonical CBOR:
what wire/envelope.py and wire/cose.py, which know one form each, are held against.

Two profiles. `strict`, the default, is the protocol's own: exactly the labels of its table, all of
them protected, fixed lengths. Without it, what RFC 9052 allows of the labels that we know, which
is for files and for other people's software: kid, IV and partial IV may then be unprotected, where
nothing authenticates them.
"""

import hashlib

from micropython import const
from warden.crypto import ct
from warden.crypto.kdf import hmac_sha256
from warden.errors import PeerError, UsageError, ensure
from warden.wire import cbor
from warden.wire.cbor_reader import BYTES, MAP, UINT, Reader

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Protocol, Union

    from warden.crypto.ccm import CCM

    Buffer = Union[bytes, bytearray, memoryview]

    class Verifier(Protocol):
        """A public key: crypto.p256.PublicKey or crypto.rsa.PublicKey."""

        algorithms: "tuple[int, ...]"

        def verify(self, digest: bytes, signature: Buffer) -> bool: ...


# Algorithms (RFC 9053, RFC 9864).
HMAC_256 = 5
AES_CCM_16_64_128 = 10
AES_CCM_16_128_128 = 30
AES_CCM_16_128_256 = 31
ES256 = -7
ESP256 = -9
PS256 = -37

# Header labels (RFC 9052 §3.1; kid context: RFC 8613 §5.1).
_ALG = 1
_CRIT = 2
_KID = 4
_IV = 5
_PIV = 6
_CONTEXT = 10

# Algorithm: (key bytes, tag bytes).
_CCM = {
    AES_CCM_16_64_128: (16, 8),
    AES_CCM_16_128_128: (16, 16),
    AES_CCM_16_128_256: (32, 16),
}

_ID_LEN = 8  # kid and kid context in the strict profile
_ID_MOST = 64
_MAC_LEN = 32
_IV_LEN = 13
_PIV_MOST = 4


class Parsed:
    """A message that is well-formed, and nothing more.

    protected: the raw protected header. alg: int. kid, context: bytes or None. piv: the partial IV
    as a counter, or None. iv: bytes or None. body: payload or ciphertext with its tag, a view into
    the caller's buffer; None when detached. tag: MAC or signature, a view; None for COSE_Encrypt0.
    """

    def __init__(self) -> None:
        self.protected = b""
        self.alg = 0
        self.kid: "bytes | None" = None
        self.piv: "int | None" = None
        self.iv: "bytes | None" = None
        self.context: "bytes | None" = None
        self.crit: "tuple[int, ...]" = ()
        self.body: "memoryview | None" = None
        self.tag: "memoryview | None" = None


def parse_mac0(buf: "Buffer", strict: bool = True, detached: bool = False) -> Parsed:
    """A COSE_Mac0 under HMAC 256/256. Raises PeerError("cose-malformed") or ("cose-algorithm")."""
    return _parse(buf, 4, (_ALG, _KID), (HMAC_256,), strict, detached)


def parse_encrypt0(
    buf: "Buffer",
    algs: "tuple[int, ...]" = (AES_CCM_16_128_256,),
    strict: bool = True,
    detached: bool = False,
) -> Parsed:
    """A COSE_Encrypt0 under one of `algs`. Raises PeerError("cose-malformed") or
    ("cose-algorithm")."""
    return _parse(buf, 3, (_ALG, _KID, _PIV, _CONTEXT), algs, strict, detached)


def parse_sign1(buf: "Buffer", strict: bool = False, detached: bool = False) -> Parsed:
    """A COSE_Sign1 under ES256, ESP256 or PS256. `strict` asks that all headers are protected.
    Raises PeerError("cose-malformed") or ("cose-algorithm")."""
    return _parse(buf, 4, (), (ES256, ESP256, PS256), strict, detached)


def verify_mac0(
    parsed: Parsed, key: "Buffer", external_aad: "Buffer", payload: "Buffer | None" = None
) -> None:
    """Raises PeerError("tampered") unless the tag matches. payload: only for a detached one."""
    body = _body(parsed, payload)
    if parsed.tag is None or not ct.equal(
        _mac(key, parsed.protected, external_aad, body), parsed.tag
    ):
        raise PeerError("tampered", "the tag does not match")


def build_mac0(key: "Buffer", kid: "Buffer", payload: "Buffer", external_aad: "Buffer") -> bytes:
    """A COSE_Mac0 with protected {1: 5, 4: kid}."""
    protected = b"\xa2\x01\x05\x04" + _bstr(kid)
    tag = _mac(key, protected, external_aad, payload)
    return b"".join((b"\x84", _bstr(protected), b"\xa0", _bstr(payload), _bstr(tag)))


def decrypt0(
    parsed: Parsed,
    ccm: "CCM",
    base_iv: "Buffer | None",
    external_aad: "Buffer",
    ciphertext: "bytearray | memoryview | None" = None,
) -> memoryview:
    """Decrypt in place, in the writable buffer that was parsed, and return a view of the
    plaintext. Raises PeerError("tampered") and leaves zeros when the tag does not match. The nonce
    is base_iv XOR the partial IV (RFC 9052 §3.1), or the whole IV where the message carries one.
    ciphertext: only for a detached one."""
    if _CCM[parsed.alg] != (ccm.key_len, ccm.tag_len):
        raise PeerError("cose-algorithm", "not the algorithm of this key")
    body = _body(parsed, ciphertext)
    n = len(body) - ccm.tag_len
    if not 0 <= n <= 65535:
        raise PeerError("cose-malformed", "a ciphertext of an impossible length")
    if parsed.piv is None:
        if parsed.iv is None:
            raise PeerError("cose-malformed", "neither IV nor partial IV")
        nonce = parsed.iv
    else:
        if base_iv is None:
            raise UsageError("bad-argument", "a partial IV wants a base IV")
        nonce = _nonce(base_iv, parsed.piv)
    ccm.open(nonce, body, n, _enc_structure(parsed.protected, external_aad))
    return body[:n]


def build_encrypt0(
    ccm: "CCM",
    kid: "Buffer | None",
    counter: int,
    context: "Buffer | None",
    base_iv: "Buffer",
    payload: "Buffer",
    external_aad: "Buffer",
) -> bytes:
    """A COSE_Encrypt0 with protected {1: alg, 4: kid, 6: counter, 10: context}; the algorithm
    follows from the key. The caller has spent the counter before: a key and a counter must never
    come together twice."""
    ensure(0 <= counter < 1 << 8 * _PIV_MOST, "bad-argument", "a counter has at most 32 bits")
    alg = _alg_of(ccm)
    labels = [b"\x01" + cbor.head(UINT, alg)]
    if kid is not None:
        labels.append(b"\x04" + _bstr(kid))
    labels.append(b"\x06" + _bstr(_counter_bytes(counter)))
    if context is not None:
        labels.append(b"\x0a" + _bstr(context))
    protected = cbor.head(MAP, len(labels)) + b"".join(labels)

    n = len(payload)
    front = b"".join((b"\x83", _bstr(protected), b"\xa0", cbor.head(BYTES, n + ccm.tag_len)))
    out = bytearray(len(front) + n + ccm.tag_len)
    out[: len(front)] = front
    view = memoryview(out)[len(front) :]
    view[:n] = payload
    ccm.seal(_nonce(base_iv, counter), view, n, _enc_structure(protected, external_aad))
    return bytes(out)


def verify_sign1(
    parsed: Parsed, key: "Verifier", external_aad: "Buffer" = b"", payload: "Buffer | None" = None
) -> None:
    """Raises PeerError("cose-algorithm") when the key is not for this algorithm, ("tampered")
    unless the signature is valid. payload: only for a detached one."""
    if parsed.alg not in key.algorithms:
        raise PeerError("cose-algorithm", "not the algorithm of this key")
    body = _body(parsed, payload)
    h = hashlib.sha256(_start(b"\x84\x6aSignature1", parsed.protected, external_aad))
    h.update(cbor.head(BYTES, len(body)))
    h.update(body)
    if parsed.tag is None or not key.verify(h.digest(), parsed.tag):
        raise PeerError("tampered", "the signature does not match")


def _parse(
    buf: "Buffer",
    parts: int,
    required: "tuple[int, ...]",
    algs: "tuple[int, ...]",
    strict: bool,
    detached: bool,
) -> Parsed:
    try:
        parsed = _read(Reader(buf), parts, required, algs, strict, detached)
    except PeerError as error:
        if error.code == "cose-algorithm":
            raise
        raise PeerError("cose-malformed", error.text or "not CBOR, or another type than COSE has")
    if parts == 3 and parsed.body is not None and len(parsed.body) < _CCM[parsed.alg][1]:
        raise PeerError("cose-malformed", "shorter than its tag")
    if parsed.alg == HMAC_256 and len(parsed.tag or b"") != _MAC_LEN:
        raise PeerError("cose-malformed", "a tag of another length")
    return parsed


def _read(
    reader: Reader,
    parts: int,
    required: "tuple[int, ...]",
    algs: "tuple[int, ...]",
    strict: bool,
    detached: bool,
) -> Parsed:
    if reader.array() != parts:
        raise PeerError("cose-malformed", "an array of another length")
    parsed = Parsed()
    parsed.protected = bytes(reader.byte_string())
    if not parsed.protected:  # RFC 9052 §3: the form of a map without labels
        raise PeerError("cose-malformed", "an empty protected header, which names no algorithm")
    inner = Reader(parsed.protected)
    seen = _headers(parsed, inner, (), strict, algs)
    inner.end()
    if _ALG not in seen:
        raise PeerError("cose-malformed", "no algorithm")
    for label in parsed.crit:
        # Known labels are always obeyed; a listed one must be there (RFC 9052 §3.1).
        if label not in seen:
            raise PeerError("cose-malformed", "a critical header that is not there")
    seen = _headers(parsed, reader, seen, strict, None)
    if strict and required and seen != required:
        raise PeerError("cose-malformed", "not the headers of this message")
    if parts == 4 and (_IV in seen or _PIV in seen or _CONTEXT in seen):
        raise PeerError("cose-malformed", "a header of a message that is encrypted")
    if parsed.iv is not None and parsed.piv is not None:
        raise PeerError("cose-malformed", "an IV and a partial IV")
    if detached:
        reader.null()
    else:
        parsed.body = reader.byte_string()
    if parts == 4:
        parsed.tag = reader.byte_string()
    reader.end()
    return parsed


def _headers(
    parsed: Parsed,
    reader: Reader,
    seen: "tuple[int, ...]",
    strict: bool,
    algs: "tuple[int, ...] | None",
) -> "tuple[int, ...]":
    """Read one header map into `parsed`; returns the labels seen so far. An unknown label is
    refused: what it would have asked of us cannot be known. algs: those that the protected header
    may name; None for the unprotected one."""
    count = reader.mapping()
    protected = algs is not None
    if strict and not protected and count:
        raise PeerError("cose-malformed", "an unprotected header")
    previous = None
    for _ in range(count):
        start = reader.at
        label = reader.integer()
        previous = cbor.key_order(previous, reader.view[start : reader.at])
        if label in seen:
            raise PeerError("cose-malformed", "a header in both maps")
        seen += (label,)
        if label == _KID:
            parsed.kid = _sized(reader, strict)
        elif label == _CONTEXT:
            parsed.context = _sized(reader, strict)
        elif label == _PIV:
            parsed.piv = _partial_iv(reader.byte_string())
        elif label == _ALG and algs is not None:
            parsed.alg = reader.integer()
            # At once: the form of other headers, as the length of an IV, depends on it.
            if parsed.alg not in algs:
                raise PeerError("cose-algorithm", "an algorithm that is not used here")
        elif label == _CRIT and protected:
            parsed.crit = _critical(reader)
        elif label == _IV and not strict:
            parsed.iv = bytes(reader.byte_string())
            if len(parsed.iv) != _IV_LEN:
                raise PeerError("cose-malformed", "an IV of another length")
        else:
            raise PeerError("cose-malformed", "a header that is not used here")
    return seen


def _sized(reader: Reader, strict: bool) -> bytes:
    value = reader.byte_string()
    if len(value) > _ID_MOST or (strict and len(value) != _ID_LEN):
        raise PeerError("cose-malformed", "an identifier of another length")
    return bytes(value)


def _partial_iv(value: memoryview) -> int:
    # One form a counter, else the same nonce would come in two messages that differ.
    if not 1 <= len(value) <= _PIV_MOST or (len(value) > 1 and not value[0]):
        raise PeerError("cose-malformed", "a partial IV of another form")
    return int.from_bytes(value, "big")


def _critical(reader: Reader) -> "tuple[int, ...]":
    count = reader.array()
    if not 1 <= count <= 8:
        raise PeerError("cose-malformed", "an empty or a long list of critical headers")
    return tuple([reader.integer() for _ in range(count)])


def _body(parsed: Parsed, detached: "Buffer | None") -> memoryview:
    if parsed.body is not None and detached is None:
        return parsed.body
    if parsed.body is None and detached is not None:
        return memoryview(detached)
    raise UsageError("bad-argument", "either the message carries its content or the caller does")


def _alg_of(ccm: "CCM") -> int:
    for alg in _CCM:
        if _CCM[alg] == (ccm.key_len, ccm.tag_len):
            return alg
    raise UsageError("bad-argument", "COSE has no algorithm for this key and tag")


def _bstr(value: "Buffer") -> bytes:
    return cbor.head(BYTES, len(value)) + value


def _counter_bytes(counter: int) -> bytes:
    n = 1
    while counter >> 8 * n:
        n += 1
    return counter.to_bytes(n, "big")


def _nonce(base_iv: "Buffer", counter: int) -> bytes:
    ensure(len(base_iv) == _IV_LEN, "bad-argument", "an IV has 13 bytes")
    return (int.from_bytes(base_iv, "big") ^ counter).to_bytes(_IV_LEN, "big")


def _start(context: bytes, protected: bytes, external_aad: "Buffer") -> bytes:
    # Mac_, Enc_ and Sig_structure (RFC 9052 §4.4, 5.3, 6.3) begin alike.
    return b"".join((context, _bstr(protected), _bstr(external_aad)))


def _enc_structure(protected: bytes, external_aad: "Buffer") -> bytes:
    return _start(b"\x83\x68Encrypt0", protected, external_aad)


def _mac(key: "Buffer", protected: bytes, external_aad: "Buffer", payload: "Buffer") -> bytes:
    ensure(len(key) >= _MAC_LEN, "bad-argument", "an HMAC key has at least 32 bytes")
    front = _start(b"\x84\x64MAC0", protected, external_aad)
    return hmac_sha256(key, front, cbor.head(BYTES, len(payload)), payload)
