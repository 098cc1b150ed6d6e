"""The simulated board's serial port: `machine.UART`, whose id is the path of a terminal.

A link in the board's folder to a pseudo-terminal is one. It is there at once, at any speed.
"""

import io
import select

POLL = 3  # ioctl() requests of MicroPython's streams
FAILED = -1


class UART(io.IOBase):
    def __init__(self, id, **settings):
        self.file = open(id, "r+b")  # noqa: SIM115
        self.ready = select.poll()
        self.ready.register(self.file, select.POLLIN)

    def ioctl(self, request, flags):
        if request != POLL:
            return FAILED
        return flags & (select.POLLOUT | (select.POLLIN if self.ready.poll(0) else 0))

    def readinto(self, buffer):
        count = 0
        while count < len(buffer) and self.ready.poll(0):
            buffer[count] = self.file.read(1)[0]
            count += 1
        return count or None

    def write(self, data):
        return self.file.write(data)
