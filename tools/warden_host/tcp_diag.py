"""Ask the Linux kernel how many bytes each TCP connection of a port has received.

Formats: linux/inet_diag.h, linux/sock_diag.h, linux/tcp.h. No privilege is needed.
"""

import functools
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from warden_host.addresses import canonical_address

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_INFO = 2  # the attribute with struct tcp_info
_ESTABLISHED = 1 << 1
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_ID = struct.Struct("!HH16s16s4x8s")
_MESSAGE = 72  # bytes of struct inet_diag_msg
_RECEIVED = 128  # offset of tcpi_bytes_received
_ATTRIBUTE = struct.Struct("=HH")
_COUNT = struct.Struct("=Q")
_READ = 1 << 16
_TIMEOUT_S = 2.0


class Connection(NamedTuple):
    """cookie: the kernel's, of this socket alone. received: bytes."""

    cookie: bytes
    received: int


def received(port: int) -> dict[tuple[str, int], Connection]:
    """Return (peer's address, peer's port) → what the kernel knows, of a local port's connections.

    Raises OSError where the kernel does not tell.
    """
    found: dict[tuple[str, int], Connection] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in _dump(family, port):
            local, remote, _, peer, cookie = _ID.unpack_from(message, 4)
            count = _bytes_received(message)
            if local == port and count is not None:
                found[_address(family, peer), remote] = Connection(cookie, count)
    return found


def _dump(family: int, port: int) -> Iterator[bytes]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_TIMEOUT_S)
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), _ESTABLISHED)
        body += _ID.pack(port, 0, bytes(16), bytes(16), bytes(8))
        length = _HEADER.size + len(body)
        kernel.send(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + body)
        while True:
            data = kernel.recv(_READ)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                if kind == _DONE:
                    return
                if kind == _ERROR or length < _HEADER.size:
                    raise OSError("the kernel refuses to list connections")
                yield data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3


def _bytes_received(message: bytes) -> int | None:
    at = _MESSAGE
    while at + 4 <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if length < 4:
            return None
        if kind == _INFO and length >= 4 + _RECEIVED + 8:
            count: int = _COUNT.unpack_from(message, at + 4 + _RECEIVED)[0]
            return count
        at += (length + 3) & ~3
    return None


@functools.lru_cache(1 << 14)  # the same connections are there at the next look
def _address(family: int, raw: bytes) -> str:
    """Return an address of the kernel's, in its canonical form."""
    size = 4 if family == socket.AF_INET else 16
    return canonical_address(socket.inet_ntop(family, raw[:size]))
