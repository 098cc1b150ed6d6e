"""MQTT 3.1.1 packets of a device: read, taken apart and written."""

import asyncio

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14


class Refused(Exception):
    """What a device sent ends its connection. The text says why, and holds nothing of it."""


class Fields:
    """Read the fields of an MQTT packet's body; raises Refused where one is missing."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise Refused("a packet that is cut short")
        self._at += size
        return found

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def text(self) -> bytes:
        return self.take(self.number())

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    @property
    def left(self) -> bool:
        return self._at < len(self._data)


async def read_packet(reader: asyncio.StreamReader, most: int) -> tuple[int, int, bytes]:
    """Return kind, flags and body of the next packet. Raises Refused, IncompleteReadError.

    most: bytes of a packet that the broker takes; at a larger one it ends the gateway's
    connection.
    """
    first = (await reader.readexactly(1))[0]
    size = 0
    for shift in range(0, 28, 7):
        byte = (await reader.readexactly(1))[0]
        size |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
    else:
        raise Refused("a length of more than four bytes")
    if size > most - 3:  # as mosquitto reckons, with two bytes of the length
        raise Refused("a packet above the limit")
    return first >> 4, first & 15, await reader.readexactly(size)


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Return a packet's bytes."""
    size, head = len(body), bytearray([kind << 4 | flags])
    while True:
        size, digit = size >> 7, size & 0x7F
        head.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(head) + body
