"""An ATECC608 on I2C as a driver sees it, in the place of machine.I2C: wake, packets, status
codes, the SHA command in HMAC mode, sleep.

After Microchip's data sheets of the ATECC508A and ATECC608 families. Commands take time: until
`busy` reads have been refused the element does not acknowledge its address. faults: {operation
number: what goes wrong there}, counted over writes and reads.
"""

import errno

from warden.crypto.kdf import hmac_sha256

ADDRESS = 0x60


def crc(data):
    """Written bit by bit from the data sheet: polynomial 0x8005, initial value 0."""
    value = 0
    for byte in data:
        for shift in range(8):
            bit = (byte >> shift) & 1
            top = (value >> 15) & 1
            value = (value << 1) & 0xFFFF
            if bit != top:
                value ^= 0x8005
    return bytes((value & 0xFF, value >> 8))


class Element:
    """keys: {slot: 32 bytes}, the slots that are written, locked and open to HMAC."""

    def __init__(self, keys, busy=2, faults=None, present=True):
        self._keys = keys
        self._busy = busy
        self.faults = faults or {}
        self.present = present
        self.operation = 0
        self.awake = False
        self._answer = b""
        self._wait = 0
        self._key = None
        self._message = b""
        self.opcodes = []
        self.slept_ms = 0
        self.sleeps = 0

    def sleep_ms(self, ms):
        self.slept_ms += ms

    def _fault(self):
        self.operation += 1
        fault = self.faults.get(self.operation - 1)
        if fault == "watchdog":
            self._sleep()
        return fault

    def _sleep(self):
        self.awake = False
        self._answer, self._key, self._message = b"", None, b""

    def writeto(self, address, data):
        fault = self._fault()
        if not self.present or fault == "nack":
            raise OSError(errno.EIO)
        if address == 0:
            # Nobody acknowledges the address 0; at 100 kHz it holds SDA low for 80 us, and the
            # element needs 60.
            if not self.awake:
                self.awake = True
                self._answer_with(b"\x11", 0)
                self.slept_ms = 0
                self._fresh = True
            raise OSError(errno.EIO)
        if address != ADDRESS or not self.awake:
            raise OSError(errno.EIO)
        data = bytes(data)
        if data == b"\x01":
            self._sleep()
            self.sleeps += 1
            return len(data)
        if self._wait or self._fresh:
            raise OSError(errno.EIO)
        if data[0] != 3:
            raise ValueError("a word address that the driver does not need")
        packet = data[1:]
        if fault == "lost bit":
            packet = bytes((packet[0], packet[1] ^ 4)) + packet[2:]
        if len(packet) != packet[0] or crc(packet[:-2]) != packet[-2:]:
            self._answer_with(b"\xff")
            return len(data)
        status = {"watchdog soon": b"\xee", "parse": b"\x03", "health": b"\x08"}.get(fault)
        self._answer_with(status or self._execute(packet))
        return len(data)

    def readfrom(self, address, count):
        fault = self._fault()
        if not self.present or address != ADDRESS or not self.awake or fault == "nack":
            raise OSError(errno.EIO)
        if self._fresh:
            # Awake 1.5 ms after the wake-up began.
            if self.slept_ms < 2:
                raise OSError(errno.EIO)
            self._fresh = False
        if self._wait:
            self._wait -= 1
            raise OSError(errno.EIO)
        answer = self._answer
        if fault == "noise":
            answer = answer[:1] + bytes((answer[1] ^ 0x10,)) + answer[2:]
        elif fault == "zeros":
            answer = bytes(len(answer))
        elif fault == "ones":
            answer = b"\xff" * len(answer)
        elif fault == "short":
            answer = b"\x05" + answer[1:]
        elif fault in ("stale", "other"):
            # Sound, and the answer to something else.
            packet = b"\x04\x00" if fault == "stale" else b"\x05\x00\x00"
            answer = packet + crc(packet)
        return (answer + b"\xff" * count)[:count]

    def _answer_with(self, data, busy=None):
        packet = bytes((len(data) + 3,)) + data
        self._answer = packet + crc(packet)
        self._wait = self._busy if busy is None else busy
        self._fresh = False

    def _execute(self, packet):
        opcode, mode, parameter, data = (
            packet[1],
            packet[2],
            packet[3] | packet[4] << 8,
            packet[5:-2],
        )
        self.opcodes.append((opcode, mode))
        if opcode != 0x47:
            return b"\x03"
        if mode == 4:
            if data:
                return b"\x03"
            if parameter not in self._keys:
                return b"\x0f"
            self._key, self._message = self._keys[parameter], b""
            return b"\x00"
        if self._key is None:
            return b"\x0f"
        if mode == 1:
            if parameter != 64 or len(data) != 64:
                return b"\x03"
            self._message += data
            return b"\x00"
        # The end of an HMAC on a 608; 0xC0: to the output alone.
        if mode != 0xC2 or parameter != len(data) or len(data) > 63:
            return b"\x03"
        digest = hmac_sha256(self._key, self._message + data)
        self._key, self._message = None, b""
        return digest
