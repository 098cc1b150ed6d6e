"""Make the packets that open a connection, by umqtt.simple on a tape: it has no socket.

umqtt (from 1.3.4 on) assigns a fresh socket to `self.sock`, and reads and writes on it, blocking.
Here `sock` is a property that puts a tape in the place of any socket: what umqtt writes is
collected, and what it reads is an answer that says yes; net/mqtt.py checks the broker's own. So no
call of umqtt blocks, and no `assert` of umqtt is met by a peer's bytes.
"""

import sys

from micropython import const

from .. import unload

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


class Field:
    """A user name or password, true at any length: to newer umqtt an empty one means none."""

    def __init__(self, raw: "bytes | bytearray") -> None:
        self.raw = raw

    def __len__(self) -> int:
        return len(self.raw)

    def __bool__(self) -> bool:
        return True


class Tape:
    """A stand-in for umqtt's socket. answer: the bytes for its reads."""

    def __init__(self, answer: bytes) -> None:
        self.out = bytearray()
        self._answer = answer

    def write(self, data: "Any", count: "int | None" = None) -> int:
        if isinstance(data, Field):
            data = data.raw
        self.out.extend(data if count is None else memoryview(data)[:count])
        return len(data)

    def read(self, count: int) -> bytes:
        part, self._answer = self._answer[:count], self._answer[count:]
        return part

    def close(self, *_: "Any") -> None:
        """Do nothing, here and for umqtt's other calls of a socket: the link does it."""

    connect = setblocking = settimeout = close


class Packets:
    """Makes packets by umqtt, which is loaded until close(): it takes 4 KB of a board's heap."""

    def __init__(self) -> None:
        self._ours = "umqtt.simple" not in sys.modules  # an application may use it as well
        simple: "Any" = __import__("umqtt.simple", None, None, ("MQTTClient",))

        class Codec(simple.MQTTClient):  # type: ignore[misc]  # a class that is loaded by its name
            tape: Tape  # set before umqtt first opens a socket

            @property
            def sock(self) -> Tape:
                return self.tape

            @sock.setter
            def sock(self, value: "Any") -> None:
                if value is not None and value is not self.tape:
                    value.close()  # umqtt's own socket, which is never used

        self._codec: "Any" = Codec

    def login(
        self,
        client_id: bytes,
        user: "bytes | None",
        password: "bytes | bytearray | None",
        keepalive_s: int,
        will: "tuple[bytes, bytes, int] | None",
    ) -> bytearray:
        """Return a CONNECT for a clean session. will: topic, payload and QoS; not retained."""
        codec = self._codec(
            client_id,
            "127.0.0.1",  # never resolved over the network: the link makes the connection
            1883,
            None if user is None else Field(user),
            None if password is None else Field(password),
            keepalive_s,
        )
        if will is not None:
            codec.set_last_will(will[0], will[1], False, will[2])
        codec.tape = tape = Tape(b"\x20\x02\x00\x00")
        codec.connect(True)
        return tape.out

    def subscription(self, topic: bytes, qos: int, pid: int) -> bytearray:
        """Return a SUBSCRIBE with this packet ID."""
        codec = self._codec(b"", "")
        codec.set_callback(print)  # umqtt asks for one, and is given no message
        codec.tape = tape = Tape(bytes((0x90, 3, pid >> 8, pid & 255, qos)))
        codec.pid = pid - 1  # umqtt adds the one
        codec.subscribe(topic, qos)
        return tape.out

    def close(self) -> None:
        """Unload this module, and umqtt unless something else had loaded it before."""
        unload("warden.net.umqtt_adapter")
        self._codec = None
        if self._ours:
            unload("umqtt.simple")
