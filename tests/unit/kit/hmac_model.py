"""The HMAC peripheral of the ESP32-S2, S3, C3 and C6 as a driver sees it: 32-bit words by address,
in the place of machine.mem32.

After the chapter "HMAC Accelerator" of Espressif's technical reference manuals. It is stricter
than silicon: what the manual does not allow raises Violation here, where a chip would give a wrong
result or none.
"""

from warden.crypto.kdf import hmac_sha256

# chip -> (peripheral, where SHA's, DS's and HMAC's clocks and resets are)
SYSTEM = {
    "esp32s2": (0x6003E000, [(0x3F4C0044, bit, 0x3F4C004C, bit) for bit in (4, 16, 32)]),
    "esp32s3": (0x6003E000, [(0x600C001C, bit, 0x600C0024, bit) for bit in (4, 16, 32)]),
    "esp32c3": (0x6003E000, [(0x600C0014, bit, 0x600C001C, bit) for bit in (4, 16, 32)]),
    "esp32c6": (0x6008D000, [(at, 1, at, 2) for at in (0x600960CC, 0x600960E0, 0x600960E4)]),
}
HMAC_UP = 8


class Violation(Exception):
    """The driver did what the manual does not allow."""


class Peripheral:
    """keys: {block: (purpose, key in the fuses)}. busy: how often BUSY reads 1 after each step;
    None: for ever. system: what the system registers hold at first, for those that hold anything.
    """

    def __init__(self, chip, keys, busy=2, system=None):
        self._base, self._parts = SYSTEM[chip]
        self._keys = keys
        self._turns = busy
        self._left = 0
        self.system = {register: 0 for part in self._parts for register in (part[0], part[2])}
        self.system.update(system or {})
        self._words = {}
        self._state = "idle"
        self._error = 0
        self._key = b""
        self._result = b""
        self.steps = []

    def __getitem__(self, address):
        if address in self.system:
            return self.system[address]
        offset = self._awake(address)
        if offset == 0x6C:
            if self._turns is None:
                return 1
            self._left = max(0, self._left - 1)
            return 1 if self._left else 0
        self._idle(offset)
        if offset == 0x68:
            if self._state not in ("configured", "refused"):
                raise Violation("the error is read before the configuration is finished")
            return self._error
        if 0xC0 <= offset < 0xE0 and offset % 4 == 0:
            if self._state != "done":
                raise Violation("the result is read before there is one")
            return int.from_bytes(self._result[offset - 0xC0 : offset - 0xBC], "little")
        raise Violation("a read of 0x%x" % offset)

    def __setitem__(self, address, value):
        if not 0 <= value <= 0xFFFFFFFF:
            raise Violation("no word of 32 bits")
        if address in self.system:
            self.system[address] = value
            return
        offset = self._awake(address)
        self._idle(offset)
        if 0x80 <= offset < 0xC0 and offset % 4 == 0:
            self._expect("configured", offset)
            self._words[offset - 0x80] = value
            return
        self.steps.append(offset)
        if offset == 0x40:
            self._expect("idle", offset, value, 1)
            self._go("started")
        elif offset == 0x44:
            self._expect("started", offset)
            self._purpose = value
        elif offset == 0x48:
            self._expect("started", offset)
            self._block = value
        elif offset == 0x4C:
            self._expect("started", offset, value, 1)
            purpose, self._key = self._keys.get(self._block, (0, bytes(32)))
            # The error register says that purpose and key do not go together; a block that is none
            # counts as that.
            self._error = 0 if purpose == self._purpose == HMAC_UP else 1
            self._go("refused" if self._error else "configured")
        elif offset == 0x50:
            self._expect("configured", offset, value, 1)
            self._go("hashed")
        elif offset == 0xF4:
            self._expect("hashed", offset, value, 1)
            self._result = self._compute()
            self._go("done")
        elif offset == 0x5C:
            if value != 2 or self._state not in ("done", "refused"):
                raise Violation("the result is finished at the wrong time")
            self._result, self._key, self._words = b"", b"", {}
            self._go("idle")
        else:
            raise Violation("a write to 0x%x" % offset)

    def _awake(self, address):
        offset = address - self._base
        if not 0 <= offset < 0x1000:
            raise Violation("an access to 0x%08x" % address)
        for clock, enable, reset, hold in self._parts:
            if not self.system[clock] & enable or self.system[reset] & hold:
                raise Violation("an access without a clock, or in reset")
        return offset

    def _idle(self, offset):
        if self._left or self._turns is None:
            raise Violation("an access to 0x%x while it works" % offset)

    def _expect(self, state, offset, value=None, wanted=None):
        if self._state != state or value != wanted:
            raise Violation("0x%x in the state %s" % (offset, self._state))

    def _go(self, state):
        self._state = state
        self._left = self._turns

    def _compute(self):
        if sorted(self._words) != list(range(0, 64, 4)):
            raise Violation("a block that is not whole")
        block = b"".join(self._words[at].to_bytes(4, "little") for at in range(0, 64, 4))
        bits = int.from_bytes(block[56:], "big") - 512
        size = bits // 8
        if bits % 8 or not 0 <= size <= 55:
            raise Violation("a length of %d bits" % bits)
        if block[size:56] != b"\x80" + bytes(55 - size):
            raise Violation("a padding that is none")
        return hmac_sha256(self._key, block[:size])
