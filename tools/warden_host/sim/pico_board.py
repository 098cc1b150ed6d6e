"""An emulated Pico W on rp2040py: MicroPython's own firmware with flash, USB port and Wi-Fi.

Beyond what rp2040py does: a flash with a unique ID, a USB host that sends no empty packets, a
network address of this machine, downloads that don't stand still, and a chip that does not outrun
its peers. Imports nothing of warden_host: the tests run it in the interpreter that has rp2040py.
"""

import asyncio
import dataclasses
import os
import pty
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The chip's clock moves after so many instructions, or at the next timer: a tenth faster.
os.environ.setdefault("RP2040PY_CLOCK_TICK_BATCH", "256")

from rp2040py.boards import BOARDS, FlashLayout
from rp2040py.device.mp_device import MicroPythonDevice
from rp2040py.external.cyw43 import Cyw43439

# Documentation's (RFC 5737): for the board it is this machine's loopback address.
HOST = "192.0.2.1"
# The filesystem of the stock RPI_PICO_W firmware.
LAYOUT = FlashLayout(fs_start=0x12C000, fs_blockcount=212, fs_blocksize=4096)
# Seconds that an idle second of the chip takes. A chip that works is slower than that: with this
# pace a peer's answer costs an idle chip about as much of its time as it would on a desk.
_PACE = 5.0
_TURN_NS = 1_000_000
_UNREAD = 1 << 16
_BOOTED_MS = 50  # an empty board is at its prompt
_START_S = 600.0
_UNIQUE_ID = bytes.fromhex("e6605838839b0d2f")
_READ_UNIQUE_ID = 0x4B
# Of a frame between the Wi-Fi driver and its chip (SDPCM): where its number stands, and the number
# of the first one that must wait.
_FRAME_NUMBER = 4
_FRAME_CREDIT = 9
_FRAMES_AHEAD = 8
PROGRAM_PAGE = 0x02
ERASE = {0x20: 4096, 0xD8: 65536}  # command: bytes


class Flash:
    """The flash's unique ID, which rp2040py leaves out.

    operations: pages programmed and sectors erased.
    """

    def __init__(self, device: MicroPythonDevice) -> None:
        self.chip: Any = device.mcu.ssi
        self.operations = 0
        self._shift = self.chip._shift_byte
        self._apply = self.chip._apply_command
        self.chip._shift_byte = self._shift_byte
        self.chip._apply_command = self._apply_command

    def before(self, command: int) -> None:
        """Do what a test wants before an operation."""

    def apply(self) -> None:
        """Carry out what was sent."""
        self._apply()

    def _apply_command(self) -> None:
        sent = self.chip._tx_buffer
        command = sent[0] if sent else 0
        if self.chip._write_enabled and (command == PROGRAM_PAGE or command in ERASE):
            self.operations += 1
            self.before(command)
        self._apply()

    def _shift_byte(self, byte: int) -> int:
        """Return the byte that the flash puts out: four dummy bytes, then the ID."""
        answer: int = self._shift(byte)
        sent = self.chip._tx_buffer
        at = len(sent) - 6
        return _UNIQUE_ID[at] if sent[0] == _READ_UNIQUE_ID and 0 <= at < 8 else answer


class Usb:
    """The host's end of USB: bytes to the board as it reads them, and its own on a pty.

    take(data): gets what the board sends.
    """

    def __init__(self, device: MicroPythonDevice, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._device = device
        self._usb = device.cdc.usb
        self._read = self._usb.on_endpoint_read
        self._wanted: tuple[int, int] | None = None  # endpoint and size that the board waits with
        self._out = bytearray()
        self._port = -1
        self._unread = bytearray()  # for the port
        self._usb.on_endpoint_read = self._on_read
        self.plug_in()

    def plug_in(self) -> None:
        """Take what the board sends from now on, also after a reset."""
        self._device.cdc.on_serial_data = self._on_data
        self._wanted = None

    def _on_read(self, endpoint: int, size: int) -> None:
        # An empty answer would make the board ask again at once, for ever.
        if endpoint == self._device.cdc._out_endpoint and not self._fill():
            self._wanted = endpoint, size
        else:
            self._read(endpoint, size)

    def _fill(self) -> bool:
        fifo = self._device.cdc.tx_fifo
        while self._out and not fifo.full:
            fifo.push(self._out.pop(0))
        return not fifo.empty

    def send(self, data: bytes) -> None:
        """Send bytes as fast as the board reads them."""
        self._out += data
        if self._wanted is not None and self._fill():
            wanted, self._wanted = self._wanted, None
            self._read(*wanted)

    def open_port(self) -> str:
        """Return the path of a pty that carries the console, in raw mode."""
        # The other end stays open here: programs open the path, close it, and open it again.
        self._port, other = pty.openpty()
        tty.setraw(other)
        os.set_blocking(self._port, False)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._port, lambda: self.send(os.read(self._port, 4096)))
        return os.ttyname(other)

    def _fill_port(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            del self._unread[: os.write(self._port, self._unread)]
        except BlockingIOError:
            pass
        if self._unread:
            # As with a real port, what no program reads is lost.
            del self._unread[:-_UNREAD]
            loop.add_writer(self._port, self._fill_port)
        else:
            loop.remove_writer(self._port)

    def _on_data(self, data: bytes) -> None:
        if self._port >= 0:
            self._unread += data
            self._fill_port()
        self._take(bytes(data))


class Credit:
    """How many frames the Wi-Fi driver may send ahead of those that its chip has taken.

    rp2040py adds one with each packet of its own. After 256 received ones the number is where it
    began, which forbids every frame: a download stood still there.
    """

    def __init__(self, bus: Any) -> None:
        self._write, self._queue = bus._write_wlan, bus.queue_rx_packet
        self._taken = 0
        bus._write_wlan, bus.queue_rx_packet = self._on_write, self._on_queue

    def _on_write(self, frame: bytes) -> None:
        if len(frame) > _FRAME_NUMBER:
            self._taken = frame[_FRAME_NUMBER] + 1
        self._write(frame)

    def _on_queue(self, packet: bytes) -> None:
        credit = (self._taken + _FRAMES_AHEAD) & 0xFF
        self._queue(packet[:_FRAME_CREDIT] + bytes((credit,)) + packet[_FRAME_CREDIT + 1 :])


class Board:
    """An emulated board, and its flash in a file.

    firmware: .uf2. image: the filesystem; None for an empty one.
    failed(error): called when the emulator ends by an error of its own.
    """

    def __init__(
        self, firmware: Path, image: Path | None, failed: Callable[[Exception], None]
    ) -> None:
        spec = dataclasses.replace(BOARDS["pico_w"], image=firmware, layout=LAYOUT)
        radio = Cyw43439()
        spec = dataclasses.replace(spec, extras=(*spec.extras[:-1], lambda: radio))
        self.device = MicroPythonDevice(board=spec, filesystem=image)
        self._began_ns = 0.0
        self._reset = self.device.hard_reset
        self.on_reset: list[Callable[[float, str], None]] = []  # chip's ms, cause
        radio.bus.nat_bridge._tcp._connect_fn = _connect
        Credit(radio.bus)
        _pace(self.device, failed)
        self.device.hard_reset = self.reset

    def ms(self) -> float:
        """Return milliseconds of the chip's own time since its reset."""
        passed = float(self.device.simulator.clock.nanos) - self._began_ns
        return round(passed / 1e6, 3)

    def reset(self, **more: Any) -> None:
        """Reset the chip, as the chip itself does."""
        at, cause = self.ms(), str(more.get("cause", ""))
        self._reset(**more)
        self._began_ns = self.device.simulator.clock.nanos
        for call in self.on_reset:
            call(at, cause)

    async def start(self) -> None:
        """Start the chip on the running loop; return when its port may be used."""
        self.device.simulator.bind_loop()
        enumerated = self.device.start_async(_START_S)
        # What is sent earlier is lost: on a desk there is no port before that.
        while not enumerated.done() or self.ms() < _BOOTED_MS:
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        """Stop the chip."""
        self.device.simulator.ended = self.device.simulator.stopped = True


async def _connect(host: str, port: int) -> Any:
    return await asyncio.open_connection("127.0.0.1" if host == HOST else host, port)


def _pace(device: MicroPythonDevice, failed: Callable[[Exception], None]) -> None:
    """Let an idle chip take its time: rp2040py skips from timer to timer."""
    simulator, clock = device.simulator, device.simulator.clock

    def end_turn() -> None:
        simulator.stopped = not simulator.ended
        turn.schedule(_TURN_NS)

    async def execute() -> None:
        turn.schedule(_TURN_NS)
        chip, wall = clock.nanos, time.monotonic()
        while not simulator.ended:
            simulator.stopped = False
            simulator._execute_batch()
            ahead = (clock.nanos - chip) * 1e-9 * _PACE - (time.monotonic() - wall)
            if ahead <= 0:
                chip, wall = clock.nanos, time.monotonic()
            await asyncio.sleep(max(0.0, ahead))

    async def execute_guarded() -> None:
        try:
            await execute()
        except Exception as error:
            failed(error)
            raise

    turn = clock.create_alarm(end_turn)
    simulator.ended = False
    simulator.execute = execute_guarded
