"""Check UF2 files, find boot volumes, and copy to one."""

import os
import sys
from pathlib import Path

import pytest
from firmware_kit import uf2, uf2_block
from warden_host.chips import uf2 as checked
from warden_host.chips.chip import Board
from warden_host.errors import HostError

MB = 1 << 20
PICO = Board("RPI_PICO_W", "rp2040", 2 * MB, "emulated")
PICO2 = Board("RPI_PICO2_W", "rp2350", 4 * MB, "experimental")
RP2040 = 0xE48BFF56
RP2350_ARM = 0xE48BFF59
RP2350_RISCV = 0xE48BFF5A
ABSOLUTE = 0xE48BFF57
GOOD = uf2(b"program." * 200)


def refused(code: str, data: bytes, board: Board = PICO, text: str = "") -> None:
    with pytest.raises(HostError) as caught:
        checked.read(data, board)
    assert caught.value.code == code
    assert text in caught.value.text


def test_a_firmware() -> None:
    assert checked.read(GOOD, PICO).used == 1792
    for family in (RP2350_ARM, RP2350_RISCV):
        assert checked.read(uf2(b"x" * 300, family), PICO2).used == 512


def test_the_block_of_an_erratum_comes_before_an_rp2350s() -> None:
    first = uf2_block(b"\xef" * 256, ABSOLUTE, 0x10FFFF00, 0, 2)
    assert checked.read(first + uf2(b"x" * 300, RP2350_ARM), PICO2).used == 512
    refused("wrong-board", first + uf2(b"x" * 300), PICO)
    refused("wrong-board", uf2(b"x" * 300, RP2350_ARM) + first, PICO2)


def test_a_firmware_of_another_chip() -> None:
    refused("wrong-board", uf2(b"x", RP2350_ARM), PICO, "RP2350")
    refused("wrong-board", GOOD, PICO2, "RP2040")
    refused("wrong-board", uf2(b"x", 0x12345678), PICO, "0x12345678")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "0 bytes"),
        (GOOD[:-1], "whole blocks"),
        (GOOD + GOOD[:512], "block 7"),
        (GOOD[:-512], "after 6 of 7"),
        (GOOD[512:], "block 0"),
        (GOOD[:512] + GOOD[1024:], "block 1"),
        (GOOD[:512] + GOOD[512:1024] * 2 + GOOD[1536:], "block 2"),
        (b"?" + GOOD[1:], "no UF2"),
        (GOOD[:-1] + b"?", "no UF2"),
        (uf2(b"x", flags=0), "names no chip"),
        (uf2(b"x", flags=0x2001), "no flash"),
        (uf2_block(b"", RP2040, 0x10000000, 0, 1), "no flash"),
        (uf2(b"x", start=0x20000000), "0x20000000"),
        (uf2(b"x", start=0x0FFFFF00), "0xfffff00"),
        (uf2(b"x", start=0x10000000 + 2 * MB), "0x10200000"),
        (uf2(b"x" * 512, start=0x10000000 + 2 * MB - 256), "0x10200000"),
        (bytes(512 * 8200 * 2), "more than the flash"),
    ],
)
def test_a_damaged_file(data: bytes, text: str) -> None:
    refused("bad-firmware", data, PICO, text)


# --- volumes -------------------------------------------------------------------------------------


def volume(folder: Path, board_id: str) -> Path:
    folder.mkdir()
    text = f"UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: {board_id}\r\n"
    (folder / "INFO_UF2.TXT").write_bytes(text.encode())
    return folder


def test_the_volume_is_found(tmp_path: Path) -> None:
    pico = volume(tmp_path / "a", "RPI-RP2")
    pico2 = volume(tmp_path / "b", "RP2350")
    places = [tmp_path, pico, pico2, tmp_path / "gone"]
    assert checked.find(PICO, places) == pico
    assert checked.find(PICO2, places) == pico2
    checked.check_volume(pico, PICO)


@pytest.mark.parametrize(
    ("ids", "code", "text"),
    [
        ([], "no-boot-volume", "no board"),
        (["RPI-RP2", "RPI-RP2"], "no-boot-volume", "2 boards"),
        (["RP2350"], "wrong-board", "RP2350"),
        (["\udcff"], "wrong-board", ""),
    ],
)
def test_no_volume_for_the_board(ids, code: str, text: str, tmp_path: Path) -> None:
    places = []
    for number, one in enumerate(ids):
        folder = volume(tmp_path / str(number), "")
        line = b"Board-ID: " + one.encode("utf-8", "surrogateescape")
        (folder / "INFO_UF2.TXT").write_bytes(line)
        places.append(folder)
    with pytest.raises(HostError) as caught:
        checked.find(PICO, places)
    assert caught.value.code == code
    assert text in caught.value.text


def test_a_folder_is_no_boot_volume(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        checked.check_volume(tmp_path, PICO)
    assert caught.value.code == "no-boot-volume"
    with pytest.raises(HostError) as caught:
        checked.check_volume(volume(tmp_path / "v", "RP2350"), PICO)
    assert caught.value.code == "wrong-board"


def test_this_machines_mount_points() -> None:
    assert Path("/") in checked.mounted() or os.name != "posix"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such list")
def test_mount_points_of_any_name(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_bytes(b"a /media/jos\xc3\xa9/RPI\\040RP2 vfat rw 0 0\nb /media/\xff ext4 ro 0 0\n")
    assert checked.mounted(table) == [Path("/media/jos\u00e9/RPI RP2"), Path("/media/\udcff")]


def test_a_copy(tmp_path: Path) -> None:
    checked.copy(checked.read(GOOD, PICO), tmp_path)
    assert (tmp_path / "firmware.uf2").read_bytes() == GOOD


def test_a_volume_that_vanishes_early(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(HostError) as caught:
        checked.copy(checked.read(GOOD, PICO), tmp_path / "gone")
    assert caught.value.code == "flash-failed"
    assert "0 of" in caught.value.text


def test_a_volume_that_vanishes_with_the_last_block(tmp_path: Path, monkeypatch) -> None:
    """The board has all blocks and restarts before the file is closed."""

    def fsync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checked.os, "fsync", fsync)
    checked.copy(checked.read(GOOD, PICO), tmp_path)
