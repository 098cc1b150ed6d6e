"""The two COSE envelopes (RFC 9052) of the protocol, each in its one encoding.

Every header has a fixed place and length, and deterministic CBOR leaves no choice, so parsing is a
comparison with a template: there is no second spelling of a message. Tests hold it against COSE in
general.

mac0       84  4D [A2  01 05  04 48 KID]                                  A0  payload  58 20 TAG
encrypt0   83  58 .. [A4  01 18 1F  04 48 KID  06 4x PARTIAL-IV  0A 48 SID]  A0  ciphertext and tag
"""

from micropython import const

from ..crypto import ct
from ..crypto.kdf import hmac_sha256
from ..errors import PeerError
from .cbor import head

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from ..crypto.ccm import CCM

_BYTES = const(2)  # CBOR's major type of byte strings
_TEXT = const(3)  # of texts
_TAG = const(16)
_MAC = const(32)
_PIV_MOST = const(4)
_PIV_AT = const(28)  # the counter in the Enc_structure
_KEPT = const(512)  # bytes of the largest message whose buffer is kept for the next one
_LEAST = const(30)  # bytes before the payload of an encrypt0, at least
# What stands before the kid. The protected header of an encrypt0, whose length is the third byte,
# grows with its counter, whose length is the last byte before it.
_MAC0 = const(b"\x84\x4d\xa2\x01\x05\x04\x48")
_ENCRYPT0 = const(
    (
        b"\x83\x58\x1b\xa4\x01\x18\x1f\x04\x48",
        b"\x83\x58\x1c\xa4\x01\x18\x1f\x04\x48",
        b"\x83\x58\x1d\xa4\x01\x18\x1f\x04\x48",
        b"\x83\x58\x1e\xa4\x01\x18\x1f\x04\x48",
    )
)
_PIV = const((b"\x06\x41", b"\x06\x42", b"\x06\x43", b"\x06\x44"))
_SID = const(b"\x0a\x48")


def external(kind: str, topic: "bytes | memoryview") -> bytes:
    """Return the external AAD, the CBOR list [kind, topic]: ASCII, kind below 24 bytes."""
    return b"\x82" + bytes((0x60 | len(kind),)) + kind.encode() + head(_TEXT, len(topic)) + topic


class Envelope:
    """A message of the right form, neither verified nor opened.

    protected: the encoded protected header. kid: 8 bytes. body: a view of the payload (mac0), or
    of the ciphertext with its tag (encrypt0).
    """

    tag: "bytes | memoryview" = b""  # the MAC of a mac0
    counter = 0  # of encrypt0, as is sid
    sid = b""

    def __init__(self, protected: memoryview, kid: bytes, body: memoryview) -> None:
        self.protected = protected
        self.kid = kid
        self.body = body


def _string(message: memoryview, at: int) -> "tuple[memoryview, memoryview]":
    """Return (content, what follows) of the byte string at `at`.

    Its length is in the shortest form and at most 65,535.
    """
    if at < len(message) and message[at] >> 5 == _BYTES:
        length = message[at] & 31
        start = at + 1
        least = 0
        if length == 24:
            start += 1
            least = 24
        elif length == 25:
            start += 2
            least = 256
        if start <= len(message) and length < 26:
            if least:
                length = int.from_bytes(message[at + 1 : start], "big")
            if least <= length <= len(message) - start:
                return message[start : start + length], message[start + length :]
    raise PeerError("cose-malformed")


def parse_mac0(message: memoryview) -> Envelope:
    """Parse a mac0 of the protocol. PeerError cose-malformed for anything else."""
    if message[:7] == _MAC0 and message[15:16] == b"\xa0":
        body, tag = _string(message, 16)
        if len(tag) == 2 + _MAC and tag[:2] == b"\x58\x20":
            parsed = Envelope(message[2:15], bytes(message[7:15]), body)
            parsed.tag = tag[2:]
            return parsed
    raise PeerError("cose-malformed")


def verify_mac0(parsed: Envelope, key: bytes, aad: bytes) -> None:
    """Verify the tag of the MAC_structure (RFC 9052 §6.3). PeerError tampered."""
    if not ct.equal(_mac(key, parsed.protected, parsed.body, aad), parsed.tag):
        raise PeerError("tampered")


def build_mac0(key: bytes, kid: bytes, payload: bytes, aad: bytes) -> bytes:
    protected = _MAC0[2:] + kid
    tag = _mac(key, protected, payload, aad)
    return _MAC0 + kid + b"\xa0" + head(_BYTES, len(payload)) + payload + b"\x58\x20" + tag


def parse_encrypt0(message: memoryview) -> Envelope:
    """Parse an encrypt0 of the protocol. PeerError cose-malformed for anything else."""
    size = message[2] - 26 if len(message) > _LEAST else 0
    if 0 < size <= _PIV_MOST and message[:9] == _ENCRYPT0[size - 1]:
        at = 19 + size
        if (
            message[17:19] == _PIV[size - 1]
            # The counter in its shortest form only, else the same nonce would come in two
            # messages that differ.
            and (size == 1 or message[19])
            and message[at : at + 2] == _SID
            and message[at + 10 : at + 11] == b"\xa0"
        ):
            body, after = _string(message, at + 11)
            if len(body) >= _TAG and not len(after):
                parsed = Envelope(message[3 : at + 10], bytes(message[9:17]), body)
                parsed.counter = int.from_bytes(message[19:at], "big")
                parsed.sid = bytes(message[at + 2 : at + 10])
                return parsed
    raise PeerError("cose-malformed")


class Opener:
    """Opens the messages of one direction of a session.

    ccm: under the direction's key. iv: the direction's IV, 13 bytes.
    """

    def __init__(self, ccm: "CCM", iv: bytes) -> None:
        self._ccm = ccm
        self._iv = iv
        # The Enc_structure (RFC 9052 §5.3) of the last message: the next one often has its topic.
        self._structure = bytearray()
        self._topic = b""
        self._size = 0  # bytes of its protected header

    def open(self, parsed: Envelope, topic: "bytes | memoryview") -> memoryview:
        """Decrypt in place, in the buffer that was parsed, and return a view of the plaintext.

        topic: of the message, ASCII. Raises PeerError tampered, with zeros in its place.
        """
        n = len(parsed.protected)
        if n != self._size or topic != self._topic:
            aad = external("msg", topic)
            lead = b"\x83\x68Encrypt0\x58" + bytes((n,)) + parsed.protected
            structure = bytearray(lead + head(_BYTES, len(aad)) + aad)
            # Together: memory that runs out must not leave one topic with another one's AAD.
            self._topic, self._size, self._structure = bytes(topic), n, structure
        else:
            self._structure[12 : 12 + n] = parsed.protected
        size = len(parsed.body) - _TAG
        self._ccm.open(_nonce(self._iv, parsed.counter), parsed.body, size, self._structure)
        return parsed.body[:size]


class Sealer:
    """Seals the messages of one direction of a session.

    ccm: under the direction's key. kid, sid: 8 bytes. iv: the direction's IV, 13 bytes.
    """

    def __init__(self, ccm: "CCM", kid: bytes, sid: bytes, iv: bytes) -> None:
        self._ccm = ccm
        self._kid = kid
        self._sid = sid
        self._iv = iv
        self._size = 0  # bytes of the counter
        self._aad = b""
        # The Enc_structure (RFC 9052 §5.3) of the last message, and the protected header in it. A
        # device seals the same events all its life: of most messages only the counter differs.
        self._structure = bytearray()
        self._protected = memoryview(b"")
        self._out = bytearray()

    def _prepare(self, size: int, aad: bytes) -> None:
        protected = _ENCRYPT0[size - 1][1:] + self._kid + _PIV[size - 1] + bytes(size) + _SID
        protected += self._sid
        text = head(_BYTES, len(aad)) + aad
        structure = bytearray(b"\x83\x68Encrypt0" + protected + text)
        self._protected = memoryview(structure)[10 : 10 + len(protected)]
        self._size, self._aad, self._structure = size, aad, structure

    def seal(self, counter: int, payload: "bytes | bytearray", aad: bytes) -> memoryview:
        """Return a sealed message: a view that the next one overwrites.

        counter: spent by the caller before: a key and a counter must never come together twice.
        """
        size = 1 if counter < 1 << 8 else 2 if counter < 1 << 16 else 3 if counter < 1 << 24 else 4
        if size != self._size or aad != self._aad:
            self._prepare(size, aad)
        structure = self._structure
        structure[_PIV_AT : _PIV_AT + size] = counter.to_bytes(size, "big")
        n = len(payload)
        protected = self._protected
        end = len(protected) + 1
        length = b"\xa0" + head(_BYTES, n + _TAG)
        start = end + len(length)
        size = start + n + _TAG
        out = self._out
        if len(out) < size:
            # Kept: each object of more than one block searches the heap.
            out = bytearray(size)
            if size <= _KEPT:
                self._out = out
        view = memoryview(out)[:size]
        view[0] = 0x83
        view[1:end] = protected
        view[end:start] = length
        view[start : start + n] = payload
        self._ccm.seal(_nonce(self._iv, counter), view[start:], n, structure)
        return view


def _nonce(nonce: bytes, counter: int) -> bytearray:
    """Return the base IV XOR the partial IV, padded from the left (RFC 9052 §3.1)."""
    out = bytearray(nonce)
    i = len(out) - 1
    while counter:
        out[i] ^= counter & 255
        counter >>= 8
        i -= 1
    return out


def _mac(
    key: bytes, protected: "bytes | memoryview", payload: "bytes | memoryview", aad: bytes
) -> bytes:
    """Return the HMAC of the MAC_structure (RFC 9052 §6.3); protected: 13 bytes."""
    return hmac_sha256(
        key,
        b"\x84\x64MAC0\x4d",
        protected,
        head(_BYTES, len(aad)),
        aad,
        head(_BYTES, len(payload)),
        payload,
    )
