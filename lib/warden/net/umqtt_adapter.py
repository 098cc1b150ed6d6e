"""umqtt.simple on a tape: it makes and parses packets in memory, and touches no wire.

umqtt (1.3.4 and the newer ones alike) assigns a fresh socket to `self.sock` and then reads and writes on it, blocking. Here `sock` is a
property that swaps any socket for a tape: what umqtt writes is collected, what it reads is a packet that wire.mqtt found well-formed. So
no call of it can block, no announced length is believed, and no `assert` of it ever sees a peer's bytes.
"""

from micropython import const
from umqtt.simple import MQTTClient

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


class Field:
    """A user name or password. Newer umqtt takes an empty user name for anonymous: this one is true whatever its length."""

    def __init__(self, raw: "bytes | bytearray") -> None:
        self.raw = raw

    def __len__(self) -> int:
        return len(self.raw)

    def __bool__(self) -> bool:
        return True


class Tape:
    """Stands where umqtt expects its socket."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.data = memoryview(b"")

    def load(self, data: "bytes | memoryview") -> None:
        """What the next reads are to give."""
        self.data = memoryview(data)

    def take(self) -> bytearray:
        """All that was written since the last take()."""
        out, self.out = self.out, bytearray()
        return out

    def write(self, data: "Any", count: "int | None" = None) -> int:
        if isinstance(data, Field):
            data = data.raw
        elif isinstance(data, str):
            data = data.encode()
        self.out.extend(data if count is None else memoryview(data)[:count])
        return len(data)

    def read(self, count: int) -> "bytes | memoryview | None":
        part = self.data[:count]
        self.data = self.data[count:]
        # Single bytes are compared to literals by umqtt; a message's bytes are handed on without a copy.
        return bytes(part) if count < 5 else part

    def close(self, *_: "Any") -> None:
        """Nothing: the link does it. Likewise for what else umqtt asks of a socket."""

    connect = setblocking = settimeout = close


class Codec(MQTTClient):
    """umqtt on a tape."""

    def packet(
        self, topic: bytes, payload: "bytes | bytearray | memoryview"
    ) -> "bytes | bytearray":
        """What publish() with QoS 0 writes; the tape must be empty. A device says the same things all its life: what umqtt puts
        before a payload of this length is kept while topic and length stay the same."""
        n = len(payload)
        if n == self._length and topic == self._topic:
            return self._head + payload
        self.publish(topic, payload, False, 0)
        data = self.tape.take()
        self._topic, self._length, self._head = topic, n, bytes(data[: len(data) - n])
        return data

    @property
    def sock(self) -> Tape:
        return self.tape

    @sock.setter
    def sock(self, value: "Any") -> None:
        if value is not None and value is not self.tape:
            value.close()  # umqtt's own socket: it is never used

    tape: Tape  # the client's, put here before umqtt first wants a socket
    _topic = b""
    _head = b""
    _length = -1
