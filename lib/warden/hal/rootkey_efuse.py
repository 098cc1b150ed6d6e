"""A root key in the fuses of an ESP32-S2, S3, C3 or C6, used by its HMAC peripheral.

Software never sees the key: an attacker with the flash but not this chip learns nothing. The key
is
bound to the chip, not to our code: other code on this chip can ask the peripheral as well
(docs/threat-model.md). It is burnt once, on a bench, with `espefuse burn-key BLOCK_KEY… HMAC_UP`,
which also takes its readability away; this file burns nothing.

Facts: the chapters "HMAC Accelerator" and "System Registers" (C6: "Reset and Clock") of
Espressif's technical reference manuals, and the register headers in components/soc of ESP-IDF. Not
run on
hardware: the tests hold it against a model of the registers.
"""

from micropython import const

from ..errors import StoreError, ensure

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

# Offsets in the peripheral.
_START = const(0x40)
_PURPOSE = const(0x44)
_KEY = const(0x48)
_PARA_FINISH = const(0x4C)
_MESSAGE_ONE = const(0x50)
_RESULT_FINISH = const(0x5C)
_ERROR = const(0x68)
_BUSY = const(0x6C)
_MESSAGE = const(0x80)
_RESULT = const(0xC0)
_ONE_BLOCK = const(0xF4)

_UPSTREAM = const(8)  # the purpose HMAC_UP: the result goes to software
_BLOCK = const(64)
_MOST = const(55)  # bytes of a message that fits one block with its padding
_TURNS = const(100000)  # reads of BUSY; a hash takes a few microseconds

# chip -> (peripheral, [(register, bits)] that enable clocks, the same that hold in reset). HMAC
# works through SHA, and SHA is held in reset for as long as DS is.
_BITS = const(0x34)  # SHA, DS and HMAC in the system registers' …EN1
_CHIPS = {
    "esp32s2": (0x6003E000, ((0x3F4C0044, _BITS),), ((0x3F4C004C, _BITS),)),
    "esp32s3": (0x6003E000, ((0x600C001C, _BITS),), ((0x600C0024, _BITS),)),
    "esp32c3": (0x6003E000, ((0x600C0014, _BITS),), ((0x600C001C, _BITS),)),
    # PCR_SHA_CONF, PCR_DS_CONF, PCR_HMAC_CONF: bit 0 is the clock, bit 1 the reset.
    "esp32c6": (
        0x6008D000,
        ((0x600960CC, 1), (0x600960E0, 1), (0x600960E4, 1)),
        ((0x600960CC, 2), (0x600960E0, 2), (0x600960E4, 2)),
    ),
}


class EfuseRootKey:
    """chip: "esp32s2", "esp32s3", "esp32c3" or "esp32c6". key: the key block, 0 to 5.
    memory: 32-bit words by address, as machine.mem32. hmac(key, message): `hal` imports no crypto.
    """

    def __init__(
        self,
        chip: str,
        key: int,
        hmac: "Callable[[bytes, bytes], bytes]",
        memory: "Any" = None,
    ) -> None:
        ensure(chip in _CHIPS, "no-board", "this chip has no HMAC peripheral that Warden knows")
        ensure(0 <= key <= 5, "no-board", "the fuses have the key blocks 0 to 5")
        if memory is None:
            import machine

            memory = machine.mem32
        self._base, self._clocks, self._resets = _CHIPS[chip]
        self._number = key
        self._hmac = hmac
        self._memory = memory

    def exists(self) -> bool:
        """Return whether the fuses hold a key for this purpose."""
        try:
            self.create()
        except StoreError:
            return False
        return True

    def create(self) -> None:
        """Check that the key is there: burning fuses can't be undone, and is left to the bench."""
        probe = b"warden root key"
        # A purpose that was burnt without its key leaves a key of zeros, the same on every chip.
        if self.mac(probe) == self._hmac(bytes(32), probe):
            raise StoreError("root-key", "the key in the fuses is all zeros")

    def mac(self, message: bytes) -> bytes:
        """Return HMAC-SHA-256 of at most 55 bytes under the key in the fuses."""
        ensure(
            len(message) <= _MOST,
            "bad-argument",
            "the chip's HMAC takes messages of at most 55 bytes",
        )
        before = self._power_up()
        try:
            return self._compute(message)
        finally:
            self._restore(before)

    def close(self) -> None:
        """Do nothing: no secret is kept here."""

    # -- inside -------------------------------------------------------------------------------

    def _power_up(self) -> "list[tuple[int, int, int]]":
        """Switch clocks on and resets off; return (register, bits, value before) to put back.

        Others use SHA as well: only our bits are touched.
        """
        memory = self._memory
        before = []
        for register, bits in self._clocks:
            before.append((register, bits, memory[register] & bits))
            memory[register] = memory[register] | bits
        for register, bits in self._resets:
            before.append((register, bits, memory[register] & bits))
            memory[register] = memory[register] & ~bits
        return before

    def _restore(self, before: "list[tuple[int, int, int]]") -> None:
        for register, bits, was in reversed(before):
            self._memory[register] = self._memory[register] & ~bits | was

    def _set(self, register: int, value: int) -> None:
        self._memory[self._base + register] = value

    def _wait(self) -> None:
        busy = self._base + _BUSY
        for _ in range(_TURNS):
            if not self._memory[busy] & 1:
                return
        raise StoreError("root-key", "the HMAC peripheral does not answer")

    def _compute(self, message: bytes) -> bytes:
        self._wait()
        self._set(_START, 1)
        self._wait()
        self._set(_PURPOSE, _UPSTREAM)
        self._set(_KEY, self._number)
        self._set(_PARA_FINISH, 1)
        self._wait()
        if self._memory[self._base + _ERROR] & 1:
            self._set(_RESULT_FINISH, 2)
            raise StoreError(
                "root-key", "the fuses hold no HMAC_UP key in this block: burn it with espefuse"
            )
        # The peripheral has hashed the key's own block already: 512 bits that the length counts
        # (FIPS 180-4 §5.1.1).
        block = message + b"\x80" + bytes(_MOST - len(message))
        block += (8 * (_BLOCK + len(message))).to_bytes(8, "big")
        for at in range(0, _BLOCK, 4):
            self._set(_MESSAGE + at, int.from_bytes(block[at : at + 4], "little"))
        self._set(_MESSAGE_ONE, 1)
        self._wait()
        self._set(_ONE_BLOCK, 1)
        self._wait()
        result = b""
        for at in range(0, 32, 4):
            word = self._memory[self._base + _RESULT + at] & 0xFFFFFFFF
            result += word.to_bytes(4, "little")
        self._set(_RESULT_FINISH, 2)  # the peripheral forgets the result
        return result


def make(
    args: "tuple[str, int]", hmac: "Callable[[bytes, bytes], bytes]", *_: "Any"
) -> EfuseRootKey:
    """Return the root key of ("efuse", chip, key block)."""
    return EfuseRootKey(args[0], args[1], hmac)
