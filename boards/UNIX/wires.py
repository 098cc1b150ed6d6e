"""The simulated board's wires to `warden run --web`: what its pins, its bus, its flash and its
network do is told, and the power can be cut at any operation of the flash.

_boot.py loads it where it is given two pipes. To the host go lines of words:

    i2c ADDRESS HEX          bytes written to a part on the bus
    pin NAME LEVEL           an output
    flash NUMBER OPERATION PATH
    cut NUMBER               the power ends within that operation; nothing follows
    incident CODE COUNT AT   what the device refused and reports, and with which command
    net HOST PORT            where is it? the answer is `port NUMBER` of this machine, or `no`

From the host come those answers, and `cut COUNT`: end within the operation of the flash that
comes so many later; 0: don't.
"""

import io
import select
import socket
import sys
import time

SSD1306 = 0x3C  # where its driver looks for it
_ENODEV = 19
_EHOSTUNREACH = 113


class Wires:
    """Both pipes. out, back: files of the device's end, without a buffer."""

    def __init__(self, out, back):
        self._out = out
        self._back = back
        self._poll = select.poll()
        self._poll.register(back, select.POLLIN)
        self._answers = []
        self._cut = 0
        self._operations = 0

    def tell(self, line):
        self._out.write(line.encode() + b"\n")

    def ask(self, line):
        """Return the words of the answer."""
        self.tell(line)
        while not self._answers:
            self._read()
        return self._answers.pop(0)

    def _read(self):
        words = self._back.readline().decode().split()
        if not words:
            sys.exit(1)  # the host has ended
        elif words[0] == "cut":
            count = int(words[1])
            self._cut = self._operations + count if count else 0
        else:
            self._answers.append(words)

    def operation(self, name, path):
        """Count an operation of the flash; return whether the power ends within it."""
        while self._poll.poll(0):
            self._read()
        self._operations += 1
        self.tell("flash %d %s %s" % (self._operations, name, path))
        return self._operations == self._cut

    def cut(self):
        """Wait for the end: the host kills the process."""
        self.tell("cut %d" % self._operations)
        while True:
            time.sleep(1)


class File(io.IOBase):
    """A file that is open for writing, each write an operation. Of a cut one, half is done."""

    def __init__(self, file, path, wires):
        self._file = file
        self._path = path
        self._wires = wires

    def write(self, data):
        if self._wires.operation("write", self._path):
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            self._wires.cut()
        return self._file.write(data)

    def readinto(self, buffer):
        return self._file.readinto(buffer)

    def ioctl(self, request, argument):
        if request == 4:  # close
            self._file.close()
        return 0

    def close(self):
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __iter__(self):
        return iter(self._file)

    def __getattr__(self, name):
        return getattr(self._file, name)


class Flash:
    """The folder that is the board's flash. A cut operation that is no write is not done."""

    def __init__(self, folder, wires):
        self._folder = folder
        self._wires = wires

    def __getattr__(self, name):
        return getattr(self._folder, name)

    def _operation(self, name, path):
        if self._wires.operation(name, path):
            self._wires.cut()

    def open(self, path, mode):
        if not [letter for letter in "wa+" if letter in mode]:
            return self._folder.open(path, mode)
        self._operation("open", path)
        return File(self._folder.open(path, mode), path, self._wires)

    def rename(self, old, new):
        self._operation("rename", "%s %s" % (old, new))
        self._folder.rename(old, new)

    def remove(self, path):
        self._operation("remove", path)
        self._folder.remove(path)

    def mkdir(self, path):
        self._operation("mkdir", path)
        self._folder.mkdir(path)

    def rmdir(self, path):
        self._operation("rmdir", path)
        self._folder.rmdir(path)


class I2C:
    """`machine.I2C` with the display that board.py names, which only takes bytes."""

    wires = None

    def __init__(self, *_, **__):
        import board

        display = getattr(board, "DISPLAY", ("",))
        self._address = {"hd44780": display[-1], "ssd1306": SSD1306}.get(display[0])

    def scan(self):
        return [] if self._address is None else [self._address]

    def writeto(self, address, data, stop=True):
        if address != self._address:
            raise OSError(_ENODEV)
        self.wires.tell("i2c %d %s" % (address, bytes(data).hex()))
        return len(data)

    def writevto(self, address, parts, stop=True):
        return self.writeto(address, b"".join([bytes(part) for part in parts]))


class Socket:
    """The module `socket`, in which every name leads to this machine's side of the network."""

    def __init__(self, wires):
        self._wires = wires

    def __getattr__(self, name):
        return getattr(socket, name)

    def getaddrinfo(self, host, port, *rest):
        answer = self._wires.ask("net %s %d" % (host, port))
        if answer[0] != "port":
            raise OSError(_EHOSTUNREACH)
        found = socket.getaddrinfo("127.0.0.1", int(answer[1]), socket.AF_INET, *rest[1:])
        return found


def install(chip, wires):
    """Connect the chip's parts. chip: `machine` of _boot.py."""
    I2C.wires = wires
    chip.I2C = chip.SoftI2C = I2C
    chip.Pin.on_output = lambda pin, level: wires.tell("pin %s %d" % (pin, level))
    sys.modules["socket"] = Socket(wires)


def watch(wires):
    """Tell each incident as the device counts it. Called once /lib is there."""
    try:
        from warden.session.incident import Incidents
    except ImportError:
        return  # not a whole device
    add = Incidents.add

    def told(self, code, at, now_ms, count=1, *rest):
        wires.tell("incident %s %d %s" % (code, count, at))
        return add(self, code, at, now_ms, count, *rest)

    Incidents.add = told
