"""Port expanders on I2C as a driver sees them, with a keypad's contacts between their pins; in the
place of machine.I2C.

Pcf8574: NXP's data sheet PCF8574 (§8.1, quasi-bidirectional I/Os): a written 0 pulls low, a
written 1 leaves a weak pull-up; all are 1 after power-on. Mcp23017: Microchip's DS20001952:
registers of BANK = 0, IODIR all inputs after power-on, pull-ups by GPPU, outputs drive the latch.
"""

import errno


class Bus:
    """closed: [(pin, pin)], the contacts. present: whether the chip answers.

    It counts what it is asked.
    """

    def __init__(self, address):
        self.address = address
        self.closed = []
        self.present = True
        self.transfers = 0
        self.shorts = 0  # an output that drives high joined to one that drives low

    def _called(self, address):
        self.transfers += 1
        if not self.present or address != self.address:
            raise OSError(errno.ENODEV)

    def _levels(self, low, high):
        """Mask of the pins that are low: by their own drive, or joined to such a one."""
        group = list(range(16))
        for a, b in self.closed:
            old, new = group[a], group[b]
            group = [new if g == old else g for g in group]
        result = 0
        for pin in range(16):
            mates = [other for other in range(16) if group[other] == group[pin]]
            down = [other for other in mates if low >> other & 1]
            if down and [other for other in mates if high >> other & 1]:
                self.shorts += 1
            if down:
                result |= 1 << pin
        return result


class Pcf8574(Bus):
    def __init__(self, address=0x20):
        super().__init__(address)
        self.latch = 0xFF

    def writeto(self, address, data):
        self._called(address)
        self.latch = data[-1]

    def readfrom(self, address, count):
        self._called(address)
        return bytes([0xFF & ~self._levels(0xFF & ~self.latch, 0)] * count)


class Mcp23017(Bus):
    def __init__(self, address=0x20):
        super().__init__(address)
        self.registers = bytearray(22)
        self.registers[0] = self.registers[1] = 0xFF

    def writeto_mem(self, address, register, data):
        self._called(address)
        self.registers[register : register + len(data)] = data

    def readfrom_mem(self, address, register, count):
        self._called(address)
        if register != 0x13 or count != 1:
            return bytes(self.registers[register : register + count])
        outputs = 0xFFFF & ~(self.registers[0] | self.registers[1] << 8)
        latch = self.registers[0x14] | self.registers[0x15] << 8
        low = self._levels(outputs & ~latch, outputs & latch)
        # An input that nothing pulls down needs its pull-up, or it floats: read as low here, the
        # worse case.
        floating = ~(self.registers[0x0C] | self.registers[0x0D] << 8) & ~outputs
        return bytes([0xFF & ~((low | floating) >> 8)])
