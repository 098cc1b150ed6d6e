"""Build firmware as the chips take it: ESP images with a partition table, signed ones, UF2."""

import functools
import hashlib
import io
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import espsecure
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from warden_host.chips.chip import CHIPS, Board
from warden_host.errors import HostError

# For each virtual chip, espefuse parses the definition of its fuses anew: 0.3 s by the loader that
# is written in Python.
yaml.safe_load = functools.partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

SECTOR = 4096
TABLE_AT = 0x8000
APP_AT = 0x10000
APP_SIZE = 0x10000
# A RAM address of each chip, for the one segment of an image.
_RAM = {
    "esp32": 0x3FFB0000,
    "esp32s2": 0x3FFC0000,
    "esp32s3": 0x3FC90000,
    "esp32c3": 0x3FC90000,
    "esp32c6": 0x40810000,
}
ESPRESSIF = sorted(_RAM)


def esp_board(chip: str, flash_mb: int = 4) -> Board:
    return Board("BOARD", chip, flash_mb << 20, "experimental")


def esp_image(chip: str, content: bytes = b"program!" * 8) -> bytes:
    """An image with one segment, its checksum and digest (esptool's Firmware Image Format)."""
    head = struct.pack("<BBBBI", 0xE9, 1, 2, 0x20, _RAM[chip])
    head += struct.pack(
        "<B3sHBHH4sB", 0xEE, bytes(3), CHIPS[chip].image_id, 0, 0, 399, bytes(4), 1
    )
    body = head + struct.pack("<II", _RAM[chip], len(content)) + content
    checksum = 0xEF
    for byte in content:
        checksum ^= byte
    body += bytes(15 - len(body) % 16) + bytes([checksum])
    return body + hashlib.sha256(body).digest()


def table(*rows: tuple[str, int, int, int, int]) -> bytes:
    """Rows of label, type, subtype, offset, size, as gen_esp32part writes them, with the MD5."""
    data = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, sub, at, size, label.encode(), 0)
        for label, kind, sub, at, size in rows
    )
    return data + b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(data).digest()


ROWS = (("nvs", 1, 2, 0x9000, 0x6000), ("factory", 0, 0, APP_AT, APP_SIZE))


def esp_firmware(
    chip: str,
    bootloader: bytes | None = None,
    app: bytes | None = None,
    rows: tuple[tuple[str, int, int, int, int], ...] = ROWS,
    table_at: int = TABLE_AT,
) -> bytes:
    """The whole image, from the bootloader on."""
    start = CHIPS[chip].firmware_at
    data = (bootloader or esp_image(chip)).ljust(table_at - start, b"\xff")
    data = (data + table(*rows)).ljust(APP_AT - start, b"\xff")
    return data + (app or esp_image(chip, b"application!"))


class Signer:
    """A key for secure boot v2, made for this run."""

    def __init__(self, key: Any = None) -> None:
        self._key = key or rsa.generate_private_key(65537, 3072)
        self.public = self._key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        self.private = self._key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        )

    def sign(self, image: bytes) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "signed"
            espsecure.sign_data(
                "2",
                [io.BytesIO(self.private)],
                str(out),
                False,
                False,
                None,
                [],
                [],
                _named(image),
            )
            return out.read_bytes()

    @functools.cache  # noqa: B019  (a few signers a run; each signature loads its RSA key anew)
    def firmware(self, chip: str) -> bytes:
        return esp_firmware(
            chip, self.sign(esp_image(chip)), self.sign(esp_image(chip, b"application!"))
        )

    def digest(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "digest"
            espsecure.digest_sbv2_public_key(_named(self.public), str(out))
            return out.read_bytes()


def _named(data: bytes) -> io.BytesIO:
    file = io.BytesIO(data)
    file.name = "file"
    return file


def uf2(
    payload: bytes, family: int = 0xE48BFF56, start: int = 0x10000000, flags: int = 0x2000
) -> bytes:
    """A UF2 file of 256 bytes of flash a block."""
    pieces = [payload[at : at + 256] for at in range(0, len(payload), 256)]
    return b"".join(
        uf2_block(
            piece.ljust(256, b"\0"), family, start + 256 * number, number, len(pieces), flags
        )
        for number, piece in enumerate(pieces)
    )


def uf2_block(
    data: bytes, family: int, address: int, number: int, blocks: int, flags: int = 0x2000
) -> bytes:
    head = struct.pack(
        "<8I", 0x0A324655, 0x9E5D5157, flags, address, len(data), number, blocks, family
    )
    return head + data.ljust(476, b"\0") + struct.pack("<I", 0x0AB16F30)


def refused(code: str, call: Callable[[], object], text: str = "") -> None:
    """The call raises an error of this code, with these words in it and a hint."""
    with pytest.raises(HostError) as caught:
        call()
    assert caught.value.code == code
    assert text in caught.value.text
    assert caught.value.hint
