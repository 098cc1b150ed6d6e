"""COSE_Sign1 (RFC 9052 §4.2) over canonical CBOR, as a manifest carries it: untagged, all headers
protected, the payload detached.

Parsing never touches a key, and nothing of a Sign1 may be acted on before verify_sign1().
envelope.py has COSE_Mac0 and COSE_Encrypt0.
"""

import hashlib

from micropython import const

from ..errors import PeerError
from . import cbor
from .cbor_reader import BYTES, Reader

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Protocol, Union

    Buffer = Union[bytes, bytearray, memoryview]

    class Verifier(Protocol):
        """A public key: crypto.p256.PublicKey or crypto.rsa.PublicKey."""

        algorithms: "tuple[int, ...]"

        def verify(self, digest: bytes, signature: Buffer) -> bool: ...


# ES256, ESP256 and PS256 (RFC 9053, RFC 9864, RFC 8230).
_ALGORITHMS = const((-7, -9, -37))

# Header labels (RFC 9052 §3.1).
_ALG = const(1)
_CRIT = const(2)
_KID = const(4)

_KID_LEN = const(8)
_MOST_CRITICAL = const(8)


class Sign1:
    """A well-formed COSE_Sign1, not verified.

    protected: the encoded protected header. alg: its algorithm. signature: a view into the
    caller's buffer.
    """

    def __init__(self, protected: bytes, alg: int, signature: memoryview) -> None:
        self.protected = protected
        self.alg = alg
        self.signature = signature


def parse_sign1(buf: "Buffer") -> Sign1:
    """Parse a COSE_Sign1 under ES256, ESP256 or PS256.

    Raises PeerError: cose-malformed, or cose-algorithm for another algorithm.
    """
    try:
        reader = Reader(buf)
        if reader.array() != 4:
            raise PeerError("cose-malformed", "an array of another length")
        protected = bytes(reader.byte_string())
        if not protected:  # RFC 9052 §3: the form of a map without labels
            raise PeerError("cose-malformed", "an empty protected header has no algorithm")
        alg = _algorithm(Reader(protected))
        if reader.mapping():
            raise PeerError("cose-malformed", "an unprotected header")
        reader.null()
        signature = reader.byte_string()
        reader.end()
        return Sign1(protected, alg, signature)
    except PeerError as error:
        if error.code == "cose-algorithm":
            raise
        raise PeerError("cose-malformed", error.text or "not CBOR, or another type than COSE has")


def verify_sign1(parsed: Sign1, key: "Verifier", payload: "Buffer") -> None:
    """Verify the signature over the detached payload, with empty external data.

    Raises PeerError: cose-algorithm when the key is for another algorithm, tampered when the
    signature is not valid.
    """
    if parsed.alg not in key.algorithms:
        raise PeerError("cose-algorithm", "not the algorithm of this key")
    # Sig_structure (RFC 9052 §4.4).
    h = hashlib.sha256(b"\x84\x6aSignature1" + cbor.head(BYTES, len(parsed.protected)))
    h.update(parsed.protected)
    h.update(b"\x40" + cbor.head(BYTES, len(payload)))
    h.update(payload)
    if not key.verify(h.digest(), parsed.signature):
        raise PeerError("tampered", "the signature does not match")


def _algorithm(reader: Reader) -> int:
    """Return the algorithm of a protected header; refuse every label that is not known."""
    alg = 0
    seen: "tuple[int, ...]" = ()
    critical: "list[int]" = []
    previous = None
    for _ in range(reader.mapping()):
        start = reader.at
        label = reader.integer()
        previous = cbor.key_order(previous, reader.view[start : reader.at])
        seen += (label,)
        if label == _ALG:
            alg = reader.integer()
            if alg not in _ALGORITHMS:
                raise PeerError("cose-algorithm", "an algorithm that is not used here")
        elif label == _CRIT:
            count = reader.array()
            if not 1 <= count <= _MOST_CRITICAL:
                raise PeerError("cose-malformed", "an empty or a long list of critical headers")
            critical = [reader.integer() for _ in range(count)]
        elif label != _KID:
            raise PeerError("cose-malformed", "a header that is not used here")
        elif len(reader.byte_string()) != _KID_LEN:
            raise PeerError("cose-malformed", "an identifier of another length")
    reader.end()
    if _ALG not in seen:
        raise PeerError("cose-malformed", "no algorithm")
    for label in critical:
        # Known labels are always obeyed; a listed one must be there (RFC 9052 §3.1).
        if label not in seen:
            raise PeerError("cose-malformed", "a critical header that is not there")
    return alg
