"""What a simulated board has to press and to look at, by its board.py."""

import functools
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from warden_host.fleet import device_tree
from warden_host.fleet.board_file import BoardFile
from warden_host.sim import ssd1306
from warden_host.sim.hd44780 import Backpack

_CONSOLE = "display "  # before what a display that prints shows
_MAX_TEXT = 64
_GLYPHS = """
import framebuf
cell = bytearray(8)
frame = framebuf.FrameBuffer(cell, 8, 8, framebuf.MONO_VLSB)
for code in range(33, 127):
    frame.fill(0)
    frame.text(chr(code), 0, 0)
    print(cell.hex())
"""
_GLYPHS_S = 20.0


class Display(Protocol):
    """A display: it takes the bytes that its driver sends."""

    def write(self, data: bytes) -> None: ...

    def shown(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Keypad:
    """keys: in rows of so many columns."""

    keys: str = ""
    columns: int = 3


class Printed:
    """A display that prints its two lines, or none at all."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._lines = ["", ""]

    def write(self, data: bytes) -> None:
        """No byte goes to it."""

    def take(self, line: str) -> bool:
        """Show a line of the console if it is for the display; return whether it is."""
        if self._kind != "console" or not line.startswith(_CONSOLE):
            return False
        first, _, second = line.removeprefix(_CONSOLE).partition("|")
        self._lines = [first[:_MAX_TEXT], second[:_MAX_TEXT]]
        return True

    def shown(self) -> dict[str, Any]:
        return {"kind": self._kind, "lines": self._lines}


def keypad(board: BoardFile) -> Keypad:
    """Return the keys that can be pressed. Those of an expander on the bus can't."""
    described = board.values.get("KEYPAD")
    if described is None or described[0] != "matrix":
        return Keypad()
    return Keypad(described[3].decode("latin-1"), len(described[2]))


def display(board: BoardFile) -> tuple[int, Display]:
    """Return a display as it is when the power comes on, and its address on the bus."""
    described = board.values.get("DISPLAY", ("none",))
    if described[0] == "hd44780":
        return described[4], Backpack()
    if described[0] == "ssd1306":
        return ssd1306.ADDRESS, ssd1306.Oled(described[4], described[5], glyphs())
    return -1, Printed(described[0])


@functools.cache
def glyphs() -> Mapping[bytes, str]:
    """Return the characters of MicroPython's framebuf, asked from the very interpreter."""
    try:
        done = subprocess.run(
            [device_tree.micropython(), "-c", _GLYPHS],
            capture_output=True,
            text=True,
            timeout=_GLYPHS_S,
        )
        rows = [bytes.fromhex(line) for line in done.stdout.split()]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        rows = []
    return {row: chr(33 + at) for at, row in enumerate(rows)}
