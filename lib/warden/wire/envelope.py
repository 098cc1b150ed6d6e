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
_PIV_AT = const(19)  # the counter in an encrypt0
_STRUCTURE = const(9)  # bytes by which it is later in the Enc_structure
_KEPT = const(448)  # bytes of the largest payload whose message's buffer is kept
_LEAST_MAC0 = const(51)
_LEAST_ENCRYPT0 = const(48)
_MAC0_HEADER = const(13)  # bytes of its protected header
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
    """A message of the right form, neither verified nor opened. All views are of the message.

    protected: the encoded protected header. body: the payload (mac0), or the ciphertext with its
    tag (encrypt0). tag: the MAC of a mac0. counter: of an encrypt0.
    """

    tag: "bytes | memoryview" = b""
    counter = 0

    def __init__(self, protected: memoryview, body: memoryview) -> None:
        self.protected = protected
        self.body = body

    @property
    def kid(self) -> memoryview:
        """The ID of the key, 8 bytes."""
        at = 5 if len(self.protected) == _MAC0_HEADER else 6
        return self.protected[at : at + 8]

    @property
    def sid(self) -> memoryview:
        """The ID of the session of an encrypt0, 8 bytes."""
        return self.protected[-8:]


def _content(message: memoryview, at: int, end: int) -> int:
    """Return where the content of the byte string at `at` begins, which must end at `end`.

    Its length is in the shortest form and at most 65,535.
    """
    n = end - at  # with its head
    if 0 < n <= 24:
        if message[at] == 0x3F + n:
            return at + 1
    elif 26 <= n <= 257:
        if message[at] == 0x58 and message[at + 1] == n - 2:
            return at + 2
    elif 259 <= n <= 65538:
        if message[at] == 0x59 and message[at + 1] << 8 | message[at + 2] == n - 3:
            return at + 3
    raise PeerError("cose-malformed")


def parse_mac0(message: memoryview) -> Envelope:
    """Parse a mac0 of the protocol. PeerError cose-malformed for anything else."""
    n = len(message)
    end = n - 2 - _MAC
    if (
        n >= _LEAST_MAC0
        and message[:7] == _MAC0
        and message[15] == 0xA0
        and message[end] == 0x58
        and message[end + 1] == _MAC
    ):
        parsed = Envelope(message[2:15], message[_content(message, 16, end) : end])
        parsed.tag = message[end + 2 :]
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
    n = len(message)
    size = message[2] - 26 if n >= _LEAST_ENCRYPT0 else 0
    if 0 < size <= _PIV_MOST and message[:9] == _ENCRYPT0[size - 1]:
        at = _PIV_AT + size
        if (
            message[17] == 0x06
            and message[18] == 0x40 + size
            # The counter in its shortest form only, else the same nonce would come in two
            # messages that differ.
            and (size == 1 or message[_PIV_AT])
            and message[at] == 0x0A
            and message[at + 1] == 0x48
            and message[at + 10] == 0xA0
        ):
            start = _content(message, at + 11, n)
            if n - start >= _TAG:
                parsed = Envelope(message[3 : at + 10], message[start:])
                parsed.counter = int.from_bytes(message[_PIV_AT:at], "big")
                return parsed
    raise PeerError("cose-malformed")


def claimed_kid(head: bytes) -> bytes:
    """Return the kid that an encrypt0 names, of whose first bytes nothing was verified."""
    return head[9:17]


class Opener:
    """Opens the messages of one direction of a session.

    ccm: under the direction's key. iv: the direction's IV, 13 bytes.
    """

    def __init__(self, ccm: "CCM", iv: bytes) -> None:
        self._ccm = ccm
        self._iv = iv
        self._nonce = bytearray(iv)
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
        _set_nonce(self._nonce, self._iv, parsed.counter)
        size = len(parsed.body) - _TAG
        self._ccm.open(self._nonce, parsed.body, size, self._structure)
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
        self._nonce = bytearray(iv)
        # Bytes of the counter, and the first counter that takes more: counters only rise.
        self._size = self._end = 0
        self._aad = b""
        # The Enc_structure (RFC 9052 §5.3) of the last message. A device seals the same events all
        # its life: of most messages only the counter and the payload differ.
        self._structure = bytearray()
        # The last message, in a buffer that is kept; its payload with the tag; their length.
        self._out = bytearray()
        self._message = self._body = memoryview(b"")
        self._length = -1

    def _prepare(self, counter: int, aad: bytes) -> None:
        """Make the Enc_structure for another AAD, or a counter of another size."""
        self._length = -1
        size = 1
        while counter >> 8 * size:
            size += 1
        protected = _ENCRYPT0[size - 1][1:] + self._kid + _PIV[size - 1] + bytes(size) + _SID
        protected += self._sid
        structure = bytearray(b"\x83\x68Encrypt0" + protected + head(_BYTES, len(aad)) + aad)
        self._size, self._aad, self._structure = size, aad, structure
        self._end = 1 << 8 * size

    def _lay_out(self, n: int) -> None:
        """Make the message around a payload of n bytes, but for payload and counter."""
        self._length = -1
        end = _PIV_AT + self._size + 10
        length = b"\xa0" + head(_BYTES, n + _TAG)
        start = end + len(length)
        size = start + n + _TAG
        if len(self._out) < size:
            # Kept: each object of more than one block searches the heap.
            self._out = bytearray(size)
        self._message = view = memoryview(self._out)[:size]
        self._body = view[start:]
        view[0] = 0x83
        view[1:end] = memoryview(self._structure)[10 : 9 + end]
        view[end:start] = length
        self._length = n

    def seal(self, counter: int, payload: "bytes | bytearray", aad: bytes) -> memoryview:
        """Return a sealed message: a view that the next one overwrites.

        counter: spent by the caller before: a key and a counter must never come together twice.
        """
        # The message of the last call fits again, but for payload and counter; else another.
        if counter >= self._end or aad != self._aad:
            self._prepare(counter, aad)
        n = len(payload)
        if n != self._length:
            self._lay_out(n)
        self._body[:n] = payload
        self._write_counter(counter)
        _set_nonce(self._nonce, self._iv, counter)
        self._ccm.seal(self._nonce, self._body, n, self._structure)
        return self._message if n <= _KEPT else self._release()

    def _write_counter(self, counter: int) -> None:
        """Write the counter to the message and to its Enc_structure."""
        message, structure, at = self._message, self._structure, _PIV_AT + self._size
        while at > _PIV_AT:
            at -= 1
            message[at] = structure[at + _STRUCTURE] = counter & 255
            counter >>= 8

    def _release(self) -> memoryview:
        """Return the message, and keep no buffer for the next one."""
        message = self._message
        self._out = bytearray()
        self._message = self._body = memoryview(b"")
        self._length = -1
        return message


def _set_nonce(nonce: bytearray, iv: bytes, counter: int) -> None:
    """Set nonce to the IV XOR the partial IV, padded from the left (RFC 9052 §3.1)."""
    nonce[12] = iv[12] ^ counter & 255
    nonce[11] = iv[11] ^ counter >> 8 & 255
    nonce[10] = iv[10] ^ counter >> 16 & 255
    nonce[9] = iv[9] ^ counter >> 24


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
