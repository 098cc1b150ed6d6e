"""Run umqtt.simple on a tape: it makes and parses packets in memory, and has no socket.

umqtt (from 1.3.4 on) assigns a fresh socket to `self.sock`, and reads and writes on it, blocking.
Here `sock` is a property that puts a tape in the place of any socket: what umqtt writes is
collected, and what it reads is a packet that wire.mqtt found well-formed. So no call of umqtt
blocks, and no announced length and no `assert` of umqtt is met by a peer's bytes.
"""

from micropython import const
from umqtt.simple import MQTTClient

from ..errors import ensure

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_MAX_FIELD = const(65535)


class Field:
    """A user name or password, true at any length: to newer umqtt an empty one means none."""

    def __init__(self, raw: "bytes | bytearray") -> None:
        self.raw = raw

    def __len__(self) -> int:
        return len(self.raw)

    def __bool__(self) -> bool:
        return True


class Tape:
    """A stand-in for umqtt's socket."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.data = memoryview(b"")

    def load(self, data: "bytes | memoryview") -> None:
        """Set the bytes for the next reads."""
        self.data = memoryview(data)

    def pop(self) -> bytearray:
        """Return all that was written since the last pop()."""
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
        # umqtt compares short reads to literals; a message's bytes are passed on without a copy.
        return bytes(part) if count < 5 else part

    def close(self, *_: "Any") -> None:
        """Do nothing, here and for umqtt's other calls of a socket: the link does it."""

    connect = setblocking = settimeout = close


class Codec(MQTTClient):
    """umqtt on a tape."""

    def packet(
        self, topic: bytes, payload: "bytes | bytearray | memoryview"
    ) -> "bytes | bytearray":
        """Return what publish() with QoS 0 writes. The tape must be empty.

        What umqtt puts before a payload is kept for the next one of the same topic and length.
        """
        n = len(payload)
        if n == self._length and topic == self._topic:
            return self._head + payload
        self.publish(topic, payload, False, 0)
        data = self.tape.pop()
        self._topic, self._length, self._head = topic, n, bytes(data[: len(data) - n])
        return data

    @property
    def sock(self) -> Tape:
        return self.tape

    @sock.setter
    def sock(self, value: "Any") -> None:
        if value is not None and value is not self.tape:
            value.close()  # umqtt's own socket, which is never used

    tape: Tape  # set by the client before umqtt first opens a socket
    _topic = b""
    _head = b""
    _length = -1


def make_codec(
    client_id: str, user: "bytes | None", password: "bytes | None", keepalive_s: int
) -> Codec:
    """Return a codec for this log-in.

    user, password: any bytes, 0 to 65,535 long, or both None. keepalive_s: 1 to 65,535 seconds.
    Raises UsageError bad-argument, bad-credential.
    """
    name = client_id.encode()  # umqtt counts characters, MQTT bytes
    ensure(len(name) <= _MAX_FIELD, "bad-argument", "a client ID has at most 65,535 bytes")
    both = (user is None) == (password is None)
    ensure(both, "bad-credential", "a user name goes with a password")
    for field in (user, password):
        fits = field is None or len(field) <= _MAX_FIELD
        ensure(fits, "bad-credential", "a user name or password has at most 65,535 bytes")
    ensure(0 < keepalive_s <= _MAX_FIELD, "bad-argument", "keepalive is 1 to 65,535 seconds")
    made = Codec(
        name,
        "127.0.0.1",  # never resolved over the network: the link makes the connection
        1883,
        None if user is None else Field(user),
        None if password is None else Field(password),
        keepalive_s,
    )
    made.tape = Tape()
    return made
