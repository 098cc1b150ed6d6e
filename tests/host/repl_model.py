"""A board's firmware on the unix port: a littlefs in a file, and a REPL as it is documented.

    micropython repl_model.py FLASH FUSES STATE hard          runs boot.py and main.py
    micropython repl_model.py FLASH FUSES STATE raw           runs boot.py alone, then the raw REPL
    micropython repl_model.py FLASH FUSES STATE format KIND   makes the filesystem: VfsLfs2, VfsFat
    micropython repl_model.py FLASH FUSES STATE run FILE      runs a program and nothing else

FLASH: the file of the filesystem's blocks. FUSES: a folder that only the chip has. STATE: the file
that tells port_model.py what the board does, one byte each.

The REPL follows docs.micropython.org, "The MicroPython Interactive Interpreter Mode": friendly,
raw and raw-paste mode. Standard input and output are the serial line.
"""

import os
import sys

import micropython
import vfs

# Bytes to STATE: Ctrl-C interrupts from now on, or is a byte like others; a hard reset, a soft
# reset; the watchdog was started or fed.
INTERRUPTS, PLAIN, RESET, SOFT, FED = b"i", b"p", b"r", b"s", b"f"
CTRL_A, CTRL_B, CTRL_C, CTRL_D, CTRL_E = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
BLOCK = 4096
WINDOW = 128
RAW = "raw REPL; CTRL-B to exit\r\n>"

host = vfs.VfsPosix()
state = host.open(sys.argv[3], "wb")
serial_in, serial_out = sys.stdin.buffer, sys.stdout.buffer


class Flash:
    """The block device: every write goes to the file at once."""

    def __init__(self, path):
        self.file = host.open(path, "r+b")
        self.blocks = self.file.seek(0, 2) // BLOCK

    def readblocks(self, block, buffer, offset=0):
        self.file.seek(block * BLOCK + offset)
        self.file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=0):
        self.file.seek(block * BLOCK + offset)
        self.file.write(buffer)

    def ioctl(self, operation, argument):
        if operation == 4:
            return self.blocks
        if operation == 5:
            return BLOCK
        if operation == 6:
            self.file.seek(argument * BLOCK)
            self.file.write(b"\xff" * BLOCK)
        return 0


def tell(what):
    state.write(what)


def end(what):
    """End like a chip that resets: at once, without any `finally`."""
    tell(what)
    while True:
        os.system("kill -9 $PPID")


class Interpreter:
    """`micropython` of this board: it knows whether Ctrl-C interrupts."""

    def __getattr__(self, name):
        return getattr(micropython, name)

    def kbd_intr(self, character):
        tell(INTERRUPTS if character == 3 else PLAIN)


class Fuses:
    """The folder of the chip's fuses: VfsPosix alone mixes up the paths of a rename."""

    def __init__(self, path):
        self._path = path
        self._inside = vfs.VfsPosix(path)

    def __getattr__(self, name):
        return getattr(self._inside, name)

    def rename(self, old, new):
        host.rename(self._path + old, self._path + new)


class RTC:
    def datetime(self, *moment):
        with host.open(sys.argv[2] + "/rtc", "w") as file:
            file.write(repr(moment))


class WDT:
    def __init__(self, id=0, timeout=5000):
        self.feed()

    def feed(self):
        tell(FED)


class Machine:
    """`machine` of this board."""

    RTC, WDT = RTC, WDT

    def unique_id(self):
        with host.open(sys.argv[2] + "/unique_id", "rb") as file:
            return file.read()

    def reset(self):
        end(RESET)

    def soft_reset(self):
        raise SystemExit


def mount(flash):
    """As a board's _boot.py: mount the filesystem; the fuses beside it are the chip's."""
    kind = vfs.VfsLfs2
    head = bytearray(512)
    flash.readblocks(0, head)
    if head[510:512] == b"\x55\xaa":
        kind = vfs.VfsFat
    fuses = Fuses(sys.argv[2])
    vfs.umount("/")
    vfs.mount(kind(flash), "/")
    vfs.mount(fuses, "/fuses")
    os.chdir("/")


def run(code, names):
    """Run a program; Ctrl-C interrupts until it says otherwise, as on every start of one."""
    micropython.kbd_intr(3)
    tell(INTERRUPTS)
    try:
        exec(code, names)
    finally:
        tell(PLAIN)


def run_file(path):
    """Run boot.py or main.py, if it is there; an exception is printed and that is all."""
    try:
        with open(path) as file:
            text = file.read()
    except OSError:
        return
    try:
        run(compile(text, path, "exec"), {"__name__": "__main__"})
    except SystemExit:
        end(SOFT)
    except BaseException as error:
        sys.print_exception(error)


def put(text):
    serial_out.write(text if isinstance(text, bytes) else text.encode())


def get():
    byte = serial_in.read(1)
    if not byte:
        end(RESET)  # the model was closed
    return byte


class Window:
    """Raw-paste mode: the program comes in windows, each opened by a byte to the host."""

    def read(self):
        """Return the program, or None when the host gave it up."""
        put(b"R\x01" + WINDOW.to_bytes(2, "little") + b"\x01")
        program, left = bytearray(), WINDOW
        while True:
            byte = get()
            if byte == CTRL_D:
                put(CTRL_D)
                return bytes(program)
            if byte == CTRL_C:
                put(CTRL_D)
                return None
            program += byte
            left -= 1
            if left == 0:
                put(b"\x01")
                left = WINDOW


def execute(program, names):
    """Run what raw mode was given: its output, Ctrl-D, its traceback, Ctrl-D."""
    try:
        run(compile(program.decode(), "<stdin>", "exec"), names)
        put(CTRL_D)
    except SystemExit:
        put(CTRL_D + CTRL_D)
        end(SOFT)
    except BaseException as error:
        put(CTRL_D)
        sys.print_exception(error)
    put(CTRL_D)


def raw(names):
    """Raw mode, until Ctrl-B."""
    put(RAW)
    line = b""
    while True:
        byte = get()
        if byte == CTRL_A:
            put(RAW)
            line = b""
        elif byte == CTRL_B:
            put("\r\n")
            return
        elif byte == CTRL_C:
            line = b""
        elif byte == CTRL_E and not line:
            kind = get() + get()
            if kind != b"A\x01":
                put(b"R\x00")
                continue
            program = Window().read()
            if program is None:
                put(CTRL_D + CTRL_D)
            else:
                execute(program, names)
            put(">")
        elif byte == CTRL_D:
            if not line:
                put("OK\r\nMPY: soft reboot\r\n")
                end(SOFT)
            put("OK")
            execute(line, names)
            line = b""
            put(">")
        else:
            line += byte


def friendly(names):
    """The REPL for people: it echoes, and runs a line."""
    put("MicroPython (a model)\r\n>>> ")
    line = b""
    while True:
        byte = get()
        if byte == CTRL_A:
            raw(names)
            put(">>> ")
        elif byte == CTRL_C:
            put("\r\n>>> ")
            line = b""
        elif byte == CTRL_D:
            put("\r\nMPY: soft reboot\r\n")
            end(SOFT)
        elif byte == b"\r":
            put("\r\n")
            try:
                if line:
                    run(compile(line.decode(), "<stdin>", "single"), names)
            except BaseException as error:
                sys.print_exception(error)
            put(">>> ")
            line = b""
        elif byte >= b" ":
            put(byte)
            line += byte


flash, start = Flash(sys.argv[1]), sys.argv[4]
if start == "format":
    getattr(vfs, sys.argv[5]).mkfs(flash)
    sys.exit()
sys.modules["micropython"] = Interpreter()
sys.modules["machine"] = Machine()
mount(flash)
sys.path[:] = ["", ".frozen", "/lib"]
names = {"__name__": "__main__"}
if start == "run":
    with host.open(sys.argv[5], "r") as file:
        exec(file.read(), names)
    sys.exit()
try:
    run_file("/boot.py")
    if start == "hard":
        run_file("/main.py")
    else:
        raw(names)
except KeyboardInterrupt:  # a Ctrl-C that came as the program ended
    pass
while True:
    try:
        friendly(names)
    except KeyboardInterrupt:
        pass
