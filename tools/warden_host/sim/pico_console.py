"""What an emulated board's console says, as lines for people."""

from collections.abc import Callable

from warden_host import jsontext
from warden_host.sim import simulated

_MAX_LINE = simulated.MAX_LINE
# MicroPython's own words. Between them a program at the port, such as mpremote, gives the board
# work; what it sends and gets is no text.
_RAW = b"raw REPL; CTRL-B to exit"
_FRIENDLY = b"MicroPython v"


class Console:
    """Cuts what the board sends into lines, and leaves out what it says to a program.

    show: takes each line, and lines of ours that begin with "--".
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._line = bytearray()
        self._raw = False

    def take(self, data: bytes) -> None:
        """Show what has become whole lines."""
        self._line += data
        while b"\n" in self._line or len(self._line) > _MAX_LINE:
            line, _, rest = self._line.partition(b"\n")
            if len(line) > _MAX_LINE:
                line, rest = self._line[:_MAX_LINE], self._line[_MAX_LINE:]
            self._line = bytearray(rest)
            self._on_line(bytes(line))

    def reset(self) -> None:
        """Begin again: the board starts anew, and nothing at its port has it any more."""
        self._line.clear()
        self._raw = False
        self._show("-- it reset --")

    def _on_line(self, line: bytes) -> None:
        if _RAW in line:
            if not self._raw:
                self._show("-- a program at its serial port works on it --")
            self._raw = True
        elif line.startswith(_FRIENDLY):
            self._raw = False
        if not self._raw:
            self._show(jsontext.printable(line.decode(errors="replace").rstrip("\r")))
