"""A root key in a slot of a secure element, ATECC608 on I2C: HMAC under a key that never leaves
it.

A copy of the flash is worth nothing without the element. The answer travels the bus in the clear:
an attacker with a probe on it, or with the element on another board, gets what the device gets
(docs/threat-model.md). The slot is written and locked on a bench; this file configures nothing.

Facts: Microchip's data sheets of the ATECC508A and ATECC608 families (I/O groups, packets, status
codes, the SHA command) and the constants of its cryptoauthlib. Not run on hardware: the tests hold
it against a model of the commands.
"""

import time

from micropython import const

from ..errors import StoreError, ensure

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

ADDRESS = const(0x60)
# Word addresses: what the first byte of a write says.
_SLEEP = const(0x01)
_COMMAND = const(0x03)

_SHA = const(0x47)
_HMAC_START = const(0x04)
_UPDATE = const(0x01)
# HMAC's end, and the digest goes to the output alone: nothing stays in the element's buffers.
_END = const(0xC2)
_BLOCK = const(64)

_AWAKE = const(0x11)
_POLLS = const(30)
_POLL_MS = const(2)
_WAKE_MS = const(2)
_TRIES = const(3)


def make(args: "tuple[int, int, int, int]", *_: "Any") -> "AteccRootKey":
    """Return the root key on the board's own I2C at 100 kHz.

    At that speed the wake-up address alone holds SDA low for as long as the element wants.
    """
    import machine

    bus, scl, sda, slot = args
    i2c = machine.I2C(bus, scl=machine.Pin(scl), sda=machine.Pin(sda), freq=100000)
    return AteccRootKey(i2c, slot)


class AteccRootKey:
    """i2c: writeto(address, data) and readfrom(address, n), as machine.I2C; OSError without an
    answer.
    slot: 0 to 15.
    """

    def __init__(
        self,
        i2c: "Any",
        slot: int,
        address: int = ADDRESS,
        sleep_ms: "Callable[[int], None] | None" = None,
    ) -> None:
        ensure(0 <= slot <= 15, "no-board", "a secure element has the slots 0 to 15")
        self._i2c = i2c
        self._slot = slot
        self._address = address
        self._sleep_ms = sleep_ms or time.sleep_ms

    def exists(self) -> bool:
        """Return whether the element answers and its slot can be used."""
        try:
            self.create()
        except StoreError:
            return False
        return True

    def create(self) -> None:
        """Check that the element has its key; a bench writes and locks the slot."""
        self.mac(b"warden root key")

    def mac(self, message: bytes) -> bytes:
        """Return HMAC-SHA-256 of the message under the slot's key, 32 bytes."""
        # The whole of it again after noise: the element's watchdog may have put it to sleep, and
        # its context is gone then.
        said = ""
        for _ in range(_TRIES):
            try:
                self._wake()
                return self._hmac(message)
            except _Noise as noise:
                said = noise.args[0]
            finally:
                self._sleep()
        raise StoreError("root-key", said)

    def close(self) -> None:
        """Do nothing: no secret is kept here, and the element sleeps after each use."""

    # -- the element --------------------------------------------------------------------------

    def _hmac(self, message: bytes) -> bytes:
        self._execute(_HMAC_START, self._slot, b"", 1)
        at = 0
        while len(message) - at >= _BLOCK:
            self._execute(_UPDATE, _BLOCK, message[at : at + _BLOCK], 1)
            at += _BLOCK
        return self._execute(_END, len(message) - at, message[at:], 32)

    def _wake(self) -> None:
        try:
            self._i2c.writeto(0, b"")  # SDA low for long enough; no device acknowledges it
        except OSError:
            pass
        self._sleep_ms(_WAKE_MS)
        if self._receive(1) != bytes((_AWAKE,)):
            raise _Noise("the secure element does not wake up")

    def _sleep(self) -> None:
        try:
            self._i2c.writeto(self._address, bytes((_SLEEP,)))
        except OSError:
            pass  # it sleeps, or is not there; its watchdog ends what was begun

    def _execute(self, mode: int, parameter: int, data: bytes, size: int) -> bytes:
        """Run one SHA command; return `size` bytes of answer. A lone byte is a status."""
        packet = bytes((7 + len(data), _SHA, mode, parameter & 255, parameter >> 8)) + data
        try:
            self._i2c.writeto(self._address, bytes((_COMMAND,)) + packet + crc16(packet))
        except OSError:
            raise _Noise("the secure element does not answer")
        answer = self._receive(size)
        if size == 1 and answer != b"\x00":
            self._refused(answer[0])
        return answer

    def _receive(self, size: int) -> bytes:
        """Return the answer, once the element stops refusing its address while it works."""
        for _ in range(_POLLS):
            try:
                answer = self._i2c.readfrom(self._address, size + 3)
            except OSError:
                self._sleep_ms(_POLL_MS)
                continue
            count = answer[0]
            # A status comes where an answer was expected; the rest of what was read is filling.
            if (
                count not in (4, size + 3)
                or crc16(answer[: count - 2]) != answer[count - 2 : count]
            ):
                raise _Noise("the secure element's answer is damaged")
            if count != size + 3:
                self._refused(answer[1])
            return bytes(answer[1 : count - 2])
        raise _Noise("the secure element does not answer")

    def _refused(self, status: int) -> None:
        # CRC or communication error, the watchdog about to fire, awake again: what was lost on the
        # way can be said again.
        if status in (0xFF, 0xEE, _AWAKE):
            raise _Noise("the secure element lost the command")
        raise StoreError("root-key", "the secure element refused: status 0x%02x" % status)


class _Noise(Exception):
    """A failure that is worth another try."""


def crc16(data: bytes) -> bytes:
    """Return the packets' check: polynomial 0x8005, lowest bit first, low byte first."""
    register = 0
    for byte in data:
        for bit in range(8):
            carry = register >> 15 ^ byte >> bit & 1
            register = register << 1 & 0xFFFF
            if carry:
                register ^= 0x8005
    return bytes((register & 255, register >> 8))
