"""MQTT 3.1.1 packets, checked whole before anything parses them.

umqtt.simple trusts its peer: it reads as many bytes as were announced, meets surprises with
`assert`, and knows no limit. So no byte reaches it before its packet has arrived in one fixed
buffer and is well-formed (OASIS MQTT 3.1.1, sections 2.2, 3.2, 3.3, 3.4, 3.9, 3.13).
"""

from micropython import const

from ..errors import PeerError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Callable

CONNACK = 0x20
PUBLISH = 0x30
PUBACK = 0x40
SUBACK = 0x90
PINGRESP = 0xD0

_MAX_LENGTH_BYTES = const(4)
_MAX_TOPIC = const(128)  # bytes kept of a skipped message's topic: none of a longer one
_HEAD = const(17)  # bytes kept of its payload: to the end of the kid that it names
# What a client that subscribes with QoS 0 or 1 can be sent, with the one length that each may
# have.
_FIXED = {CONNACK: 2, PUBACK: 2, SUBACK: 3, PINGRESP: 0}


class Framer:
    """Collects one packet at a time in a fixed buffer: space(), then fed(), then `kind`.

    limit: bytes of the largest packet, header included.
    may_skip(size): whether a message above the limit may be received and dropped; without it none
    is. A dropped one has its size in `skipped`, its `topic` and the `head` of its payload if that
    topic is short enough, its `pid` (0 with QoS 0), and no packet().
    """

    def __init__(self, limit: int, may_skip: "Callable[[int], bool] | None" = None) -> None:
        self._view = memoryview(bytearray(limit))
        self._may_skip = may_skip
        self.clear()

    def clear(self) -> None:
        """Drop the packet and be ready for the next one."""
        self._have = 0
        self._need = 2
        self._start = 0
        self.kind = 0
        self.skipped = 0  # size of the packet that is being dropped
        self._passed = 0  # bytes of it that went through the buffer before

    @property
    def started(self) -> bool:
        """Whether a packet has begun and is not complete: the peer owes bytes."""
        return self.skipped > 0 or 0 < self._have < self._need

    def space(self) -> memoryview:
        """Return the place for the next bytes, never longer than the rest of this packet."""
        return self._view[self._have : self._need]

    def fed(self, count: int) -> bool:
        """Account for `count` bytes in space(); return whether the packet is whole.

        Raises PeerError mqtt-malformed, mqtt-too-large.
        """
        self._have += count
        if self._have < self._need:
            return False
        if self.skipped:
            return self._drop()
        if not self._start:
            last = self._view[self._have - 1]
            if self._have == 2:
                self._check_type(self._view[0])
            if last & 0x80:
                if self._have > _MAX_LENGTH_BYTES:
                    raise PeerError("mqtt-malformed")
                self._need += 1
                return False
            if last == 0 and self._have > 2:
                raise PeerError("mqtt-malformed")
            length = 0
            for i in range(self._have - 1, 0, -1):
                length = length << 7 | self._view[i] & 0x7F
            self._start = self._have
            self._need += length
            if self._need > len(self._view):
                return self._start_skip()
            if length:
                self._check_length(length)
                return False
        self.kind = self._view[0] if self._view[0] & 0xF0 == PUBLISH else self._view[0] & 0xF0
        self._check_length(self._need - self._start)
        self._check_body()
        return True

    def _start_skip(self) -> bool:
        first = self._view[0]
        if first & 0xF0 != PUBLISH or not self._may_skip or not self._may_skip(self._need):
            raise PeerError(
                "mqtt-too-large", "a packet of %d bytes is above the limit" % self._need
            )
        self.kind, self.skipped = first, self._need
        self.topic, self.head, self.pid = b"", b"", 0
        self._need = len(self._view)
        return False

    def _drop(self) -> bool:
        """Drop a full buffer of a message above the limit; return whether it was the last."""
        view = self._view
        if not self._passed:
            topic = self._start + 2
            self._end = topic + (view[topic - 2] << 8 | view[topic - 1])
            if self._end == topic or self._end + (2 if self.kind & 6 else 0) > self.skipped:
                raise PeerError("mqtt-malformed")
            if self._end <= min(topic + _MAX_TOPIC, self._need):
                self.topic = bytes(view[topic : self._end])
                start = self._end + (2 if self.kind & 6 else 0)
                self.head = bytes(view[start : min(start + _HEAD, self._need)])
        if self.kind & 6:
            for at in (self._end - self._passed, self._end + 1 - self._passed):
                if 0 <= at < self._need:
                    self.pid = self.pid << 8 | view[at]
        self._passed += self._need
        self._have, self._need = 0, min(self.skipped - self._passed, len(view))
        if self._need:
            return False
        if self.kind & 6 and not self.pid:
            raise PeerError("mqtt-malformed")
        return True

    def packet(self) -> memoryview:
        """Return the whole packet, header included."""
        return self._view[: self._need]

    def body(self) -> memoryview:
        """Return what follows the fixed header."""
        return self._view[self._start : self._need]

    def message(self) -> "tuple[memoryview, memoryview, int]":
        """Return (topic, payload, packet ID) of a PUBLISH; the ID is 0 with QoS 0."""
        body = self.body()
        end = 2 + (body[0] << 8 | body[1])
        if self.kind & 6:
            return body[2:end], body[end + 2 :], body[end] << 8 | body[end + 1]
        return body[2:end], body[end:], 0

    @property
    def retained(self) -> bool:
        return self.kind & 0xF0 == PUBLISH and bool(self.kind & 1)

    def _check_type(self, first: int) -> None:
        if first & 0xF0 == PUBLISH:
            qos = first >> 1 & 3
            if qos > 1:
                raise PeerError("mqtt-malformed")
            if first & 8 and not qos:
                raise PeerError("mqtt-malformed")
        elif first not in _FIXED:
            raise PeerError("mqtt-malformed")

    def _check_length(self, length: int) -> None:
        wanted = _FIXED.get(self._view[0])
        if wanted is None:
            # The shortest message: two bytes of length, a topic of one, and the packet id.
            if length < (5 if self._view[0] & 6 else 3):
                raise PeerError("mqtt-malformed")
        elif length != wanted:
            raise PeerError(
                "mqtt-malformed", "a packet of type %02x has the wrong length" % self._view[0]
            )

    def _check_body(self) -> None:
        body = self.body()
        kind = self._view[0]
        if kind & 0xF0 == PUBLISH:
            topic = body[0] << 8 | body[1]
            end = 2 + topic
            if not topic or end + (2 if kind & 6 else 0) > len(body):
                raise PeerError("mqtt-malformed")
            if kind & 6 and not body[end] << 8 | body[end + 1]:
                raise PeerError("mqtt-malformed")
        elif kind == CONNACK:
            # No session is ever kept (clean session), so a broker that says "session present"
            # answers another client (MQTT-3.2.2-1).
            if body[0]:
                raise PeerError(
                    "mqtt-malformed", "the broker kept a session that was not requested"
                )
            if body[1] > 5:
                raise PeerError("mqtt-malformed")
        elif kind == SUBACK and body[2] > 1 and body[2] != 0x80:
            raise PeerError("mqtt-malformed")


def puback(pid: int) -> bytes:
    """Return the acknowledgement of a PUBLISH with QoS 1."""
    return bytes((PUBACK, 2, pid >> 8, pid & 255))


def publish(
    topic: bytes, payload: "bytes | bytearray | memoryview", qos: int = 0, pid: int = 0
) -> bytearray:
    """Return a PUBLISH that is not retained. pid: the packet ID, with QoS 1."""
    n = len(topic)
    size = 2 + n + len(payload) + 2 * qos
    out = bytearray((PUBLISH | qos << 1,))
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.extend(bytes((size, n >> 8, n & 255)))
    out.extend(topic)
    if qos:
        out.extend(bytes((pid >> 8, pid & 255)))
    out.extend(payload)
    return out
