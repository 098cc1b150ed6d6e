"""Extract PUBLISH packets from a broker's bytes before the MQTT client sees them.

The client (paho) reads a packet in five calls and makes objects of it, about 50 us each, and
yields the interpreter at each call: a flood on its thread starves the engine's. Here a message
costs a few us, and a payload is copied only if the sink does so. Only QoS 0 is extracted, which
needs no answer, and each PUBACK for publish_queue.py; all other packets reach the client as they
are.

Formats: MQTT 3.1.1, sections 2.2, 3.3 and 3.4.
"""

import select
import ssl
from collections.abc import Callable
from typing import Any

from warden_host.service.publish_queue import FIRST_ID

# (topic, payload, retain flag). The payload is valid during the call only.
Sink = Callable[[bytes, memoryview, bool], None]
# The packet ID of a message that the broker acknowledges.
Acknowledged = Callable[[int], None]
_PUBLISH_QOS_0 = 0x30
_PUBACK = 0x40
_TYPE_AND_QOS = 0xF6
_RETAIN = 0x01
_RECORD = 16384  # bytes of a TLS record, of which a call of recv_into() gives one at most
_READS = 64  # TLS records in one call of fill(): the client also has to write and to keep alive


class PublishTap:
    """Split the bytes of one connection."""

    def __init__(self, sink: Sink, most: int, acknowledged: Acknowledged) -> None:
        """most: bytes of a packet's body; a longer PUBLISH reaches the sink without a topic."""
        self._sink = sink
        self._acknowledged = acknowledged
        self._most = most
        self._rest = b""  # a packet that is incomplete
        self._pass = 0  # bytes of a packet that the client still needs
        self._skip = 0  # bytes of a PUBLISH that is too long
        self._broken = False

    def feed(self, data: bytes | memoryview) -> bytes:
        """Extract the messages from the next bytes; return those for the client."""
        if self._broken:
            return bytes(data)
        kept: list[bytes] = []
        with memoryview(self._rest + data if self._rest else data) as view:
            self._rest = bytes(view[self._split(view, kept) :])
        return b"".join(kept)

    def _split(self, view: memoryview, kept: list[bytes]) -> int:
        """Return how many bytes were handled; the rest is an incomplete packet."""
        at, end = 0, len(view)
        while at < end:
            if self._pass or self._skip:
                length = min(self._pass or self._skip, end - at)
                if self._pass:
                    kept.append(bytes(view[at : at + length]))
                    self._pass -= length
                else:
                    self._skip -= length
                at += length
                continue
            parsed = _remaining_length(view, at + 1, end)
            if parsed is None:
                return at
            body, length = parsed
            whole = body - at + length
            if length < 0:  # the client refuses it and closes the connection
                self._broken = True
                kept.append(bytes(view[at:]))
                return end
            if view[at] == _PUBACK and length == 2:
                if at + whole > end:
                    return at
                number = int.from_bytes(view[body : body + 2], "big")
                if number >= FIRST_ID:
                    self._acknowledged(number)
                    at += whole
                else:
                    self._pass = whole
            elif view[at] & _TYPE_AND_QOS != _PUBLISH_QOS_0:
                self._pass = whole
            elif length > self._most:
                self._sink(b"", view[:0], False)
                self._skip = whole
            elif at + whole > end:
                return at
            else:
                self._publish(view[at : at + whole], body - at, kept)
                at += whole
        return at

    def _publish(self, packet: memoryview, body: int, kept: list[bytes]) -> None:
        topic = body + 2
        payload = topic + int.from_bytes(packet[body:topic], "big")
        if topic <= payload <= len(packet):
            retain = bool(packet[0] & _RETAIN)
            self._sink(bytes(packet[topic:payload]), packet[payload:], retain)
        else:
            kept.append(bytes(packet))  # malformed: as above


def _remaining_length(view: memoryview, at: int, end: int) -> tuple[int, int] | None:
    """Return where the body begins and its length; None if bytes are missing.

    The length is -1 if it takes more than four bytes.
    """
    length = 0
    for index in range(4):
        if at + index >= end:
            return None
        byte = view[at + index]
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return at + index + 1, length
    return at + 4, -1


def tapped_socket(new_tap: Callable[[], PublishTap]) -> type[ssl.SSLSocket]:
    """Return a class for `SSLContext.sslsocket_class`: recv() gives what the tap leaves.

    new_tap: called once for each connection. The class has a method fill() beside recv(): it reads
    what is there, and returns whether recv() has anything, bytes or an end. The client need not be
    called otherwise.
    """

    class TappedSocket(ssl.SSLSocket):
        _tap: PublishTap | None = None
        _left = b""

        def fill(self) -> bool:
            if self._left:
                return True
            if self._tap is None:
                self._tap = new_tap()
                self._record = memoryview(bytearray(_RECORD))
                self._poll = select.poll()
                self._poll.register(self, select.POLLIN)
            left = b""
            ended = False
            for number in range(_READS):
                # A question costs less than an exception, and in a flood both are spared. A reply
                # often comes behind the PUBACK of its command, in a record of its own.
                if number in (1, 2) and not self._poll.poll(0):
                    break
                try:
                    # As recv_into(), in fewer calls.
                    length: Any = self.read(_RECORD, self._record)
                except ssl.SSLWantReadError:
                    break
                except (OSError, ValueError):  # lost, or closed
                    length = 0
                if not length:
                    ended = True
                    break
                left += self._tap.feed(self._record[:length])
            self._left = left
            return bool(left) or ended

        def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
            if not self.fill():
                raise ssl.SSLWantReadError  # a non-blocking socket's word for "nothing yet"
            if not self._left:
                return super().recv(buflen, flags)  # finds the end or the loss again
            given, self._left = self._left[:buflen], self._left[buflen:]
            return given

        def pending(self) -> int:
            return len(self._left) + super().pending()

    return TappedSocket
