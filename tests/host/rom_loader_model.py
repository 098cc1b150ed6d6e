"""An ESP32-S3 in its boot loader, at a pseudo-terminal: its flash is an array of bytes.

It follows the esptool documentation, Serial Protocol. What it does not show: reset lines, which a
pseudo-terminal has not; the real stub's code, whose upload it takes and then answers as the stub
does; and the speed of a UART.
"""

import hashlib
import os
import pty
import select
import struct
import threading
import tty
import zlib
from typing import Any

from process_kit import PATIENCE_S

SYNC, WRITE_REG, READ_REG = 0x08, 0x09, 0x0A
MEM_BEGIN, MEM_END, MEM_DATA = 0x05, 0x06, 0x07
SPI_SET_PARAMS, SPI_ATTACH, SECURITY_INFO = 0x0B, 0x0D, 0x14
DEFL_BEGIN, DEFL_DATA, DEFL_END, MD5 = 0x10, 0x11, 0x12, 0x13
ERASE_FLASH, READ_FLASH = 0xD0, 0xD2
# Of the flash controller: a command bit that is 0 when done, and the word with the answer.
_SPI_W0 = 0x60002058
_FUSES, _PAGE = 0x60007000, 0xFFFFF000
_SECURE_DOWNLOAD = 1 << 2
_END = b"\xc0"


class RomLoader:
    """port: the terminal's path. chip_id: 9 is the ESP32-S3.

    flash_id: of the flash chip; 0x17 in its third byte is 8 MB. answers: how many requests are
    answered before the board falls silent, None for all of them. fuses: espefuse's virtual
    controller, behind the registers. secure: in secure download mode.
    """

    def __init__(
        self,
        chip_id: int = 9,
        flash_id: int = 0x174020,
        secure: bool = False,
        fuses: Any = None,
    ) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self._slave = slave
        self.port = os.ttyname(slave)
        self.flash = bytearray(b"\x00" * (8 << 20))  # not erased
        self.asked: list[int] = []
        self.answers: int | None = None
        self.loses: int | None = None  # flash byte that never takes what is written
        self._chip_id, self._flash_id, self._secure = chip_id, flash_id, secure
        self._fuses = fuses
        self._stub = False
        self._inflate = zlib.decompressobj()
        self._at = 0
        self._over, self._close = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def restart(self) -> None:
        """Leave the stub: what the reset lines would do."""
        self._stub = False

    def close(self) -> None:
        os.write(self._close, b"x")
        self._thread.join(PATIENCE_S)  # before what it reads has another file's number
        for number in (self._slave, self._master, self._over, self._close):
            os.close(number)

    def _serve(self) -> None:
        waiting = b""
        while self._over not in select.select([self._master, self._over], [], [])[0]:
            waiting += os.read(self._master, 65536)
            while waiting.count(_END) >= 2:
                _, packet, waiting = waiting.split(_END, 2)
                packet = packet.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")
                if packet:
                    self._packet(packet)
                else:
                    waiting = _END + waiting

    def _packet(self, packet: bytes) -> None:
        if len(packet) < 8:
            return
        _, op, size, _ = struct.unpack_from("<BBHI", packet)
        self.asked.append(op)
        if self.answers is not None:
            if self.answers <= 0:
                return
            self.answers -= 1
        self._run(op, packet[8 : 8 + size])

    def _run(self, op: int, data: bytes) -> None:
        value, answer = 0, b""
        words = struct.unpack_from(f"<{len(data) // 4}I", data)
        if op == SYNC:
            value = 0 if self._stub else 0x20120707
        elif op == READ_REG:
            value = self._read_register(words[0])
        elif op == WRITE_REG and self._fuses is not None and words[0] & _PAGE == _FUSES:
            self._fuses.write_reg(*words[:3])
        elif op == SECURITY_INFO:
            flags = _SECURE_DOWNLOAD if self._secure else 0
            answer = struct.pack("<IB7sII", flags, 0, bytes(7), self._chip_id, 0)
        elif op == DEFL_BEGIN:
            self._at, self._inflate = words[3], zlib.decompressobj()
            self.flash[self._at : self._at + words[0]] = b"\xff" * words[0]
        elif op == DEFL_DATA:
            self._write(self._inflate.decompress(data[16:]))
        elif op == MD5:
            answer = hashlib.md5(self.flash[words[0] : words[0] + words[1]]).digest()
            answer = answer if self._stub else answer.hex().encode()
        elif op == ERASE_FLASH:
            self.flash[:] = b"\xff" * len(self.flash)
        elif op not in (SYNC, WRITE_REG, MEM_BEGIN, MEM_DATA, MEM_END, SPI_ATTACH, SPI_SET_PARAMS):
            self._reply(op, 0, b"", failed=op != DEFL_END)
            return
        for _ in range(8 if op == SYNC else 1):
            self._reply(op, value, answer)
        if op == MEM_END:
            self._stub = True
            self._send(b"OHAI")

    def _read_register(self, address: int) -> int:
        if address == _SPI_W0:
            return self._flash_id
        if self._fuses is not None and address & _PAGE == _FUSES:
            return int(self._fuses.read_reg(address))
        return 0

    def _write(self, data: bytes) -> None:
        for byte in data:  # flash only clears bits
            self.flash[self._at] &= byte if self._at != self.loses else ~byte
            self._at += 1

    def _reply(self, op: int, value: int, answer: bytes, failed: bool = False) -> None:
        status = bytes([failed, 5 if failed else 0]) + (b"" if self._stub else bytes(2))
        self._send(struct.pack("<BBHI", 1, op, len(answer + status), value) + answer + status)

    def _send(self, packet: bytes) -> None:
        packet = packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
        os.write(self._master, _END + packet + _END)
