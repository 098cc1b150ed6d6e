"""Ports of 127.0.0.1 for servers that a test starts and that can't choose their own."""

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator

HOST = "127.0.0.1"
# Below the ports that a system gives to connections (from 32768 on Linux): it could give one of
# those away between the moment when it is found free and the start of the server.
_FIRST, _BLOCK, _BLOCKS = 12000, 100, 200


def _claim(block: int) -> int | None:
    """Return a file that this process has locked until it ends, or None if another has it."""
    path = os.path.join(tempfile.gettempdir(), f"warden-test-ports-{block}")
    try:
        lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:  # another user's
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _ports_of_this_process() -> Iterator[int]:
    """Yield the ports of a block that no other process of the tests has, again and again."""
    for block in random.sample(range(_BLOCKS), _BLOCKS):
        if _claim(block) is not None:
            first = _FIRST + block * _BLOCK
            while True:
                yield from range(first, first + _BLOCK)
    raise RuntimeError("every block of ports is another test process's")


_ports: dict[int, Iterator[int]] = {}


def free_ports(count: int) -> list[int]:
    """Return ports where nothing listens, and which no other test process is given."""
    ports = _ports.setdefault(os.getpid(), _ports_of_this_process())
    found: list[int] = []
    for _ in range(2 * _BLOCK):
        if len(found) == count:
            return found
        port = next(ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            found.append(port)
    raise RuntimeError("every port of this process's block is in use")
