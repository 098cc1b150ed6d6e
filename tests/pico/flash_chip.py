"""The flash of the emulated board, whose power a test cuts."""

from collections.abc import Callable

from rp2040py.device.mp_device import MicroPythonDevice
from warden_host.sim.pico_board import ERASE, PROGRAM_PAGE, Flash

_PAGE = 256


class FlashChip(Flash):
    """The flash's end when the power is cut. end(name): called within the last operation."""

    def __init__(self, device: MicroPythonDevice, end: Callable[[str], None]) -> None:
        super().__init__(device)
        self._last = -1
        self._part = 0.0
        self._end = end

    def cut(self, count: int, part: float) -> None:
        """Let the operation that comes so many later be the last one, done in part."""
        self._last, self._part = self.operations + count, part

    def before(self, command: int) -> None:
        if self.operations == self._last:
            self._tear(command)
            self._end("program" if command == PROGRAM_PAGE else "erase")

    def _tear(self, command: int) -> None:
        if command == PROGRAM_PAGE:
            del self.chip._tx_buffer[4 + int(_PAGE * self._part) :]
            self.apply()
        else:
            size = ERASE[command]
            at = self.chip._address_from_buffer() & ~(size - 1)
            done = int(size * self._part)
            self.chip.rp2040.flash[at : at + done] = b"\xff" * done
