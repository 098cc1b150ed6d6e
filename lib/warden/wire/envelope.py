"""The two COSE envelopes (RFC 9052) of the protocol, each in its one encoding.

Every header has a fixed place and length, and deterministic CBOR leaves no choice, so parsing is a
comparison with a template: there is no second spelling of a message. Tests hold it against COSE in
general.

mac0       84  58 0E [A2  01 05  04 48 KID]                                  A0  payload  58 20 TAG
encrypt0   83  58 .. [A4  01 18 1F  04 48 KID  06 4x PARTIAL-IV  0A 48 SID]  A0  ciphertext and tag
"""

from micropython import const

from ..crypto import ct
from ..crypto.kdf import hmac_sha256
from ..errors import PeerError
from .cbor import encode, head

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from ..crypto.ccm import CCM

_BYTES = const(2)  # CBOR's major type of byte strings
_TAG = const(16)
_MAC = const(32)
_PIV_MOST = const(4)
# encrypt0's header around the kid, by the counter's size: up to the kid, and from there up to the
# counter.
_HEADS = const(
    (
        (b"\x58\x1b\xa4\x01\x18\x1f\x04\x48", b"\x06\x41"),
        (b"\x58\x1c\xa4\x01\x18\x1f\x04\x48", b"\x06\x42"),
        (b"\x58\x1d\xa4\x01\x18\x1f\x04\x48", b"\x06\x43"),
        (b"\x58\x1e\xa4\x01\x18\x1f\x04\x48", b"\x06\x44"),
    )
)


class Envelope:
    """A message of the right form, neither verified nor opened.

    protected: the encoded protected header. kid: 8 bytes. body: a view of the payload (mac0), or
    of the ciphertext with its tag (encrypt0). tag: the MAC. counter, sid: of encrypt0.
    """

    def __init__(self, message: memoryview, first: int, protected: bytes) -> None:
        """Match the header. protected: the protected header's first bytes, up to the kid."""
        # The shortest header and the longest one have one byte of length, below 24 or not.
        at = 2 if len(message) > 2 and message[1] >> 5 == _BYTES and message[1] & 31 < 24 else 3
        size = (message[1] & 31 if at == 2 else message[2]) if len(message) > 3 else 0
        end = at + size
        start = len(protected)
        if (
            size < start + 8
            or end >= len(message)
            or message[0] != first
            or bytes(message[1:at]) != head(_BYTES, size)
            or bytes(message[at : at + start]) != protected
            or message[end] != 0xA0
        ):
            raise PeerError("cose-malformed")
        self.protected = bytes(message[at:end])
        self.kid = self.protected[start : start + 8]
        self.rest = self.protected[start + 8 :]
        self.body, self.after = _string(message, end + 1)
        self.tag = b""
        self.counter = 0
        self.sid = b""


def _string(message: memoryview, at: int) -> "tuple[memoryview, memoryview]":
    """Return (content, what follows) of the byte string at `at`.

    Its length is in the shortest form and at most 65,535.
    """
    if at < len(message) and message[at] >> 5 == _BYTES:
        info = message[at] & 31
        size = 0 if info < 24 else info - 23
        start = at + 1 + size
        if size < 3 and start <= len(message):
            length = int.from_bytes(message[at + 1 : start], "big") if size else info
            if bytes(message[at:start]) == head(_BYTES, length) and start + length <= len(message):
                return message[start : start + length], message[start + length :]
    raise PeerError("cose-malformed")


def parse_mac0(message: memoryview) -> Envelope:
    """Parse a mac0 of the protocol. PeerError cose-malformed for anything else."""
    parsed = Envelope(message, 0x84, b"\xa2\x01\x05\x04\x48")
    tag = parsed.after
    if parsed.rest or len(tag) != 2 + _MAC or bytes(tag[:2]) != b"\x58\x20":
        raise PeerError("cose-malformed")
    parsed.tag = bytes(tag[2:])
    return parsed


def verify_mac0(parsed: Envelope, key: bytes, aad: bytes) -> None:
    """Verify the tag of the MAC_structure (RFC 9052 §6.3). PeerError tampered."""
    if not ct.equal(_mac(key, parsed.protected, parsed.body, aad), parsed.tag):
        raise PeerError("tampered")


def build_mac0(key: bytes, kid: bytes, payload: bytes, aad: bytes) -> bytes:
    protected = b"\xa2\x01\x05\x04\x48" + kid
    tag = _mac(key, protected, payload, aad)
    return b"\x84" + _bytes(protected) + b"\xa0" + _bytes(payload) + _bytes(tag)


def parse_encrypt0(message: memoryview) -> Envelope:
    """Parse an encrypt0 of the protocol. PeerError cose-malformed for anything else."""
    parsed = Envelope(message, 0x83, b"\xa4\x01\x18\x1f\x04\x48")
    rest = parsed.rest
    size = len(rest) - 12
    counter = rest[2 : 2 + size]
    # The counter in its shortest form only, else the same nonce would come in two messages that
    # differ.
    if not 1 <= size <= _PIV_MOST or rest != b"\x06" + _bytes(counter) + b"\x0a\x48" + rest[-8:]:
        raise PeerError("cose-malformed")
    if (size > 1 and not counter[0]) or len(parsed.body) < _TAG or len(parsed.after):
        raise PeerError("cose-malformed")
    parsed.counter = int.from_bytes(counter, "big")
    parsed.sid = rest[-8:]
    return parsed


def open_encrypt0(parsed: Envelope, ccm: "CCM", nonce: bytes, aad: bytes) -> memoryview:
    """Decrypt in place, in the buffer that was parsed, and return a view of the plaintext.

    Raises PeerError tampered, with zeros in its place.
    """
    size = len(parsed.body) - _TAG
    structure = encode(["Encrypt0", parsed.protected, aad])  # RFC 9052 §5.3
    ccm.open(_nonce(nonce, parsed.counter), parsed.body, size, structure)
    return parsed.body[:size]


def seal_encrypt0(
    ccm: "CCM", kid: bytes, counter: int, sid: bytes, nonce: bytes, payload: bytes, aad: bytes
) -> bytearray:
    """Return a sealed message.

    counter: spent by the caller before: a key and a counter must never come together twice.
    """
    size = 1 if counter < 1 << 8 else 2 if counter < 1 << 16 else 3 if counter < 1 << 24 else 4
    # The protected header as a byte string, put together by hand, as is the Enc_structure (RFC
    # 9052 §5.3) that begins with it. This is done for every event: small pieces are cheap, but
    # each object of more than one block searches the heap.
    first, second = _HEADS[size - 1]
    protected = first + kid + second + counter.to_bytes(size, "big") + b"\x0a\x48" + sid
    length = b"\xa0" + head(_BYTES, len(payload) + _TAG)
    n = len(payload)
    end = 1 + len(protected)
    start = end + len(length)
    out = bytearray(start + n + _TAG)
    out[0] = 0x83
    out[1:end] = protected
    out[end:start] = length
    out[start : start + n] = payload
    length = head(_BYTES, len(aad))
    end = 10 + len(protected)
    at = end + len(length)
    structure = bytearray(at + len(aad))
    structure[:10] = b"\x83\x68Encrypt0"
    structure[10:end] = protected
    structure[end:at] = length
    structure[at:] = aad
    ccm.seal(_nonce(nonce, counter), memoryview(out)[start:], n, structure)
    return out


def _bytes(value: "bytes | memoryview") -> bytes:
    return head(_BYTES, len(value)) + value


def _nonce(nonce: bytes, counter: int) -> bytearray:
    """Return the base IV XOR the partial IV, padded from the left (RFC 9052 §3.1)."""
    out = bytearray(nonce)
    i = len(out) - 1
    while counter:
        out[i] ^= counter & 255
        counter >>= 8
        i -= 1
    return out


def _mac(key: bytes, protected: bytes, payload: "bytes | memoryview", aad: bytes) -> bytes:
    return hmac_sha256(key, encode(["MAC0", protected, aad, bytes(payload)]))
