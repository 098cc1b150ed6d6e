"""An MQTT client that obeys nobody: any bytes, over TLS, as fast as the broker takes them."""

import contextlib
import select
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path

CONNECT, CONNACK, PUBLISH, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x82, 0x90
_TIMEOUT_S = 60.0


def field(data: bytes | str) -> bytes:
    """Return a string of MQTT: two bytes of length, then the bytes."""
    raw = data.encode() if isinstance(data, str) else data
    return len(raw).to_bytes(2, "big") + raw


def packet(first: int, body: bytes) -> bytes:
    """Return a packet with its remaining length."""
    length, head = len(body), bytearray([first])
    while True:
        length, low = divmod(length, 128)
        head.append(low | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def connect_packet(
    client: str,
    user: str,
    password: str,
    will: tuple[str, bytes, bool] | None = None,
    keepalive: int = 60,
) -> bytes:
    """Return a CONNECT. will: topic, payload and whether it is retained."""
    flags = 0xC2
    payload = field(client)
    if will is not None:
        flags |= 0x04 | (0x20 if will[2] else 0)
        payload += field(will[0]) + field(will[1])
    payload += field(user) + field(password)
    return packet(
        CONNECT, field("MQTT") + bytes([4, flags]) + keepalive.to_bytes(2, "big") + payload
    )


def publish_packet(topic: str, payload: bytes, retain: bool = False) -> bytes:
    return packet(PUBLISH | retain, field(topic) + payload)


def subscribe_packet(*filters: str, number: int = 1) -> bytes:
    return packet(
        SUBSCRIBE, number.to_bytes(2, "big") + b"".join(field(each) + b"\x01" for each in filters)
    )


class RawClient:
    """One connection. Raises OSError where the broker ends it."""

    def __init__(self, ca: Path, port: int, host: str = "127.0.0.1", source: str = "") -> None:
        """source: the address to connect from."""
        context = ssl.create_default_context(cafile=str(ca))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.socket = context.wrap_socket(
            socket.create_connection(
                (host, port), _TIMEOUT_S, source_address=(source, 0) if source else None
            ),
            server_hostname=host,
        )
        self._got = b""

    def log_in(self, user: str, password: str, client: str = "", **more: object) -> int:
        """Return the CONNACK's return code; -1 where the broker closed instead."""
        packet = connect_packet(client or user, user, password, **more)  # type: ignore[arg-type]
        self.socket.sendall(packet)
        got = self.read_packet()
        return got[1][1] if got is not None and got[0] == CONNACK else -1

    def subscribe(self, *filters: str) -> list[int]:
        """Return what the broker granted for each filter: 0x80 is a refusal."""
        self.socket.sendall(subscribe_packet(*filters))
        while True:
            got = self.read_packet()
            if got is None:
                return []
            if got[0] == SUBACK:
                return list(got[1][2:])

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        self.socket.sendall(publish_packet(topic, payload, retain))

    def ping(self) -> bool:
        """Return whether the broker answers: all that was sent before was dealt with then."""
        try:
            self.socket.sendall(b"\xc0\x00")
            while True:
                got = self.read_packet()
                if got is None or got[0] == 0xD0:
                    return got is not None
        except OSError:
            return False

    def read_packet(self, seconds: float = _TIMEOUT_S) -> tuple[int, bytes] | None:
        """Return the next packet's first byte and body; None at the end of the connection.

        Raises TimeoutError.
        """
        self.socket.settimeout(seconds)
        while True:
            parsed = self._parse()
            if parsed is not None:
                return parsed
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                raise
            except OSError:
                return None
            if not more:
                return None
            self._got += more

    def _parse(self) -> tuple[int, bytes] | None:
        length = shift = 0
        for at in range(1, 5):
            if len(self._got) <= at:
                return None
            byte = self._got[at]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                end = at + 1 + length
                if len(self._got) < end:
                    return None
                first, body = self._got[0], self._got[at + 1 : end]
                self._got = self._got[end:]
                return first, body
        raise ValueError("a length of more than four bytes")

    def blast(self, packets: Iterable[bytes]) -> int:
        """Send packets until they end or the broker closes; return how many went out."""
        count, batch = 0, bytearray()
        self.socket.settimeout(_TIMEOUT_S)
        try:
            for count, each in enumerate(packets, 1):  # noqa: B007
                batch += each
                if len(batch) >= 16384:
                    if select.select([self.socket], [], [], 0)[0] and not self.socket.recv(65536):
                        return count
                    self.socket.sendall(batch)
                    batch.clear()
            self.socket.sendall(batch)
        except OSError:
            pass
        return count

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
