"""Number the messages to devices, write their packets, and keep them until the broker has them.

For a PUBLISH and its PUBACK the client (paho) makes a dozen objects, as much work as the whole
command is for the engine. So this direction passes it by as the other one does (publish_tap.py):
QoS 1 alone, without retain. Nothing here does I/O.

Formats: MQTT 3.1.1, sections 2.2, 3.3 and 3.4; a message that was not acknowledged is sent again
after a reconnect, with DUP set and in its order (4.3.2, 4.6).
"""

# The client numbers its own packets, which are subscriptions, from 1 up.
FIRST_ID = 0x8000
_LAST_ID = 0xFFFF
_PUBLISH_QOS_1 = b"\x32"
_DUP = 0x08
# Messages on their way at once: a broker drops what it can't hand on, so it is not hurried.
WINDOW = 20


class PublishQueue:
    """The messages of one application that the broker has not acknowledged."""

    def __init__(self, most: int) -> None:
        """most: messages; those above are lost."""
        self._most = most
        self._next_id = FIRST_ID
        # Packet ID → packet, both in the order of their messages.
        self._sent: dict[int, bytes] = {}
        self._unsent: dict[int, bytes] = {}

    @property
    def unsent(self) -> bool:
        """Return whether messages wait that take() did not return since the last restart()."""
        return bool(self._unsent)

    def __len__(self) -> int:
        return len(self._sent) + len(self._unsent)

    def add(self, topic: str, payload: bytes) -> None:
        """Keep a message until the broker has it, unless the queue is full."""
        if len(self._sent) + len(self._unsent) >= self._most:
            return
        while self._next_id in self._sent or self._next_id in self._unsent:
            self._advance()
        name = topic.encode()
        head = len(name).to_bytes(2, "big") + name + self._next_id.to_bytes(2, "big")
        length = _remaining_length(len(head) + len(payload))
        self._unsent[self._next_id] = b"".join((_PUBLISH_QOS_1, length, head, payload))
        self._advance()

    def take(self) -> bytes:
        """Return the packets to write now: no more than WINDOW wait for the broker's answer."""
        packets = []
        while self._unsent and len(self._sent) < WINDOW:
            number = next(iter(self._unsent))
            packet = self._sent[number] = self._unsent.pop(number)
            packets.append(packet)
        return b"".join(packets)

    def acknowledge(self, number: int) -> None:
        """Drop a message that the broker has. number: its packet ID."""
        self._sent.pop(number, None)

    def restart(self) -> None:
        """Send again what was not acknowledged: the connection is a new one."""
        again = {
            number: bytes((packet[0] | _DUP,)) + packet[1:]
            for number, packet in self._sent.items()
        }
        self._unsent = again | self._unsent
        self._sent = {}

    def _advance(self) -> None:
        self._next_id = FIRST_ID if self._next_id == _LAST_ID else self._next_id + 1


def _remaining_length(length: int) -> bytes:
    encoded = bytearray()
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)
