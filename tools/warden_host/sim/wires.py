"""The host's end of a simulated board's wires: two pipes (boards/UNIX/wires.py is the board's).

What comes from the board may be anything: its application can write to the pipe as well.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple

from warden_host.numerals import decimal

_MAX_LINE = 16384  # bytes; a whole picture of a display is 2,100
_READ = 65536
_MAX_WORD = 255
_MAX_NUMBER = 10**9 - 1


class Written(NamedTuple):
    """Bytes for a part on the bus."""

    address: int
    data: bytes


class Output(NamedTuple):
    """An output's level."""

    pin: str
    level: int


class Operation(NamedTuple):
    """An operation of the flash. cut: the board waits within it for its end."""

    number: int
    name: str
    path: str
    cut: bool = False


class Incident(NamedTuple):
    """What the device refused and reports, how often, and with which command or event."""

    code: str
    times: int
    at: str


class Lookup(NamedTuple):
    """The board wants to connect, and waits for Wires.answer()."""

    host: str
    port: int


Event = Written | Output | Operation | Incident | Lookup


def parse(line: bytes) -> Event | None:
    """Return what a line says, or None where it is of no known form."""
    try:
        words = line.decode("ascii").split(" ")
        kind, first, rest = words[0], words[1], words[2:]
        if kind == "i2c":
            return Written(_number(first), bytes.fromhex(rest[0]))
        if kind == "pin":
            return Output(first[:_MAX_WORD], 1 if rest[0] == "1" else 0)
        if kind == "flash":
            return Operation(_number(first), rest[0][:_MAX_WORD], " ".join(rest[1:])[:_MAX_WORD])
        if kind == "cut":
            return Operation(_number(first), "", "", cut=True)
        if kind == "incident":
            return Incident(first[:_MAX_WORD], _number(rest[0]), " ".join(rest[1:])[:_MAX_WORD])
        if kind == "net":
            return Lookup(first[:_MAX_WORD], _number(rest[0]))
    except (ValueError, IndexError):
        pass
    return None


def _number(text: str) -> int:
    number = decimal(text, _MAX_NUMBER)
    if number is None:
        raise ValueError(text)
    return number


class Wires:
    """Both pipes of one run of a board. Used on the running loop's thread.

    handle(event): called for each thing that the board tells.
    """

    def __init__(self, handle: Callable[[Event], None]) -> None:
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._told, out = os.pipe()
        back, self._back = os.pipe()
        self.fds: tuple[int, ...] = (out, back)  # for the board, until it has them
        self._line = bytearray()
        os.set_blocking(self._told, False)
        os.set_blocking(self._back, False)

    def arguments(self) -> tuple[str, ...]:
        """Return what _boot.py is given beside the board's folders."""
        return ("run", *(f"/dev/fd/{fd}" for fd in self.fds))

    def attach(self) -> None:
        """Listen to the board, which was started with these pipes."""
        self._close_boards_ends()
        self._loop.add_reader(self._told, self._on_readable)

    def cut_after(self, count: int) -> None:
        """Let the power end within the flash's operation that comes so many later; 0: never."""
        self._send(f"cut {count}")

    def answer(self, port: int | None) -> None:
        """Answer a Lookup: a port of this machine's loopback address, or None."""
        self._send("no" if port is None else f"port {port}")

    def close(self) -> None:
        """Close the pipes, also those of a board that could not be started."""
        self._close_boards_ends()
        self._loop.remove_reader(self._told)
        for fd in (self._told, self._back):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._told = self._back = -1

    def _close_boards_ends(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = ()

    def _send(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it has ended, or reads nothing
            os.write(self._back, line.encode() + b"\n")

    def _on_readable(self) -> None:
        try:
            data = os.read(self._told, _READ)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._told)
            return
        *lines, rest = (bytes(self._line) + data).split(b"\n")
        self._line = bytearray(rest if len(rest) <= _MAX_LINE else b"")
        for line in lines:
            event = parse(line) if len(line) <= _MAX_LINE else None
            if event is not None:
                self._handle(event)
