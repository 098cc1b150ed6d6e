"""MQTT 3.1.1 packets, checked whole before anybody parses them.

umqtt.simple trusts its peer: it reads as many bytes as were announced, meets surprises with `assert`, and knows no limit. So no byte reaches
it before the packet that it belongs to has arrived in one fixed buffer and has been found well-formed here (OASIS MQTT 3.1.1, sections
2.2, 3.2, 3.3, 3.4, 3.9, 3.13).
"""

from micropython import const

from ..errors import PeerError

CONNACK = 0x20
PUBLISH = 0x30
PUBACK = 0x40
SUBACK = 0x90
PINGRESP = 0xD0

_MAX_LENGTH_BYTES = const(4)
# What a client that subscribes with QoS 0 or 1 can be sent, with the one length that each may have.
_FIXED = {CONNACK: 2, PUBACK: 2, SUBACK: 3, PINGRESP: 0}


class Framer:
    """Collects one packet at a time in a fixed buffer: read into space(), tell fed(), look at `kind`.

    limit: bytes of the largest packet taken, header included.
    """

    def __init__(self, limit: int) -> None:
        self._view = memoryview(bytearray(limit))
        self.clear()

    def clear(self) -> None:
        """Forget the packet and be ready for the next one."""
        self._have = 0
        self._need = 2
        self._start = 0
        self.kind = 0

    @property
    def started(self) -> bool:
        """A packet has begun and is not complete: the peer owes bytes."""
        return 0 < self._have < self._need

    def space(self) -> memoryview:
        """Where the next bytes go; never longer than what belongs to this packet."""
        return self._view[self._have : self._need]

    def fed(self, count: int) -> bool:
        """`count` bytes were put into space(). True when the packet is whole and well-formed. PeerError mqtt-malformed, mqtt-too-large."""
        self._have += count
        if self._have < self._need:
            return False
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
                raise PeerError(
                    "mqtt-too-large", "a packet of %d bytes is above the limit" % self._need
                )
            if length:
                self._check_length(length)
                return False
        self.kind = self._view[0] if self._view[0] & 0xF0 == PUBLISH else self._view[0] & 0xF0
        self._check_length(self._need - self._start)
        self._check_body()
        return True

    def packet(self) -> memoryview:
        """The whole packet, header included."""
        return self._view[: self._need]

    def body(self) -> memoryview:
        """What follows the fixed header."""
        return self._view[self._start : self._need]

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
            # No session is ever kept (clean session), so a broker that says "session present" answers somebody else.
            if body[0] or body[1] > 5:
                raise PeerError("mqtt-malformed")
        elif kind == SUBACK and body[2] > 1 and body[2] != 0x80:
            raise PeerError("mqtt-malformed")
