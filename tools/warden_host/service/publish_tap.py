"""Extract PUBLISH packets from a broker's bytes before the MQTT client sees them.

The client (paho) reads a packet in five calls and makes objects of it, about 50 us each, and
yields the interpreter at each call: a flood on its thread starves the engine's. Here a message
costs a few us, and a payload is copied only if the sink does so. Only QoS 0 is extracted, which
needs no answer; all other packets reach the client as they are.

Formats: MQTT 3.1.1, sections 2.2 and 3.3.
"""

import contextlib
import ssl
from collections.abc import Callable

# (topic, payload, retain flag). The payload is valid during the call only.
Sink = Callable[[bytes, memoryview, bool], None]
_PUBLISH_QOS_0 = 0x30
_TYPE_AND_QOS = 0xF6
_RETAIN = 0x01
_CHUNK = 65536
_READS = 64  # TLS records in one call of recv(): the client also has to write and to keep alive


class PublishTap:
    """Split the bytes of one connection."""

    def __init__(self, sink: Sink, most: int) -> None:
        """most: bytes of a packet's body; a longer PUBLISH reaches the sink without a topic."""
        self._sink = sink
        self._most = most
        self._buffer = bytearray()
        self._pass = 0  # bytes of a packet that the client still needs
        self._skip = 0  # bytes of a PUBLISH that is too long
        self._broken = False

    def feed(self, data: bytes) -> bytes:
        """Extract the messages from the next bytes; return those for the client."""
        if self._broken:
            return data
        self._buffer += data
        kept: list[bytes] = []
        with memoryview(self._buffer) as view:
            done = self._split(view, kept)
        del self._buffer[:done]
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
            if view[at] & _TYPE_AND_QOS != _PUBLISH_QOS_0:
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

    new_tap: called once for each connection.
    """

    class TappedSocket(ssl.SSLSocket):
        _tap: PublishTap | None = None
        _left = b""

        def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
            if self._tap is None:
                self._tap = new_tap()
            if not self._left:
                read = [super().recv(_CHUNK, flags)]
                with contextlib.suppress(
                    OSError
                ):  # an end or a loss is found again by the next call
                    while read[-1] and len(read) < _READS:
                        read.append(super().recv(_CHUNK, flags))
                self._left = self._tap.feed(b"".join(read))
                if not self._left and read[-1]:
                    raise ssl.SSLWantReadError  # a non-blocking socket's word for "nothing yet"
            given, self._left = self._left[:buflen], self._left[buflen:]
            return given

        def pending(self) -> int:
            return len(self._left) + super().pending()

    return TappedSocket
