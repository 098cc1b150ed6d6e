"""Write firmware with esptool to a model of the ROM loader, and burn fuses through it."""

from pathlib import Path
from typing import Any

import espefuse
import esptool
import pytest
import rom_loader_model
from firmware_kit import (
    APP_AT,
    APP_SIZE,
    ESPRESSIF,
    ROWS,
    Signer,
    esp_board,
    esp_firmware,
    esp_image,
    refused,
    table,
)
from rom_loader_model import RomLoader
from warden_host.chips import image
from warden_host.chips.chip import CHIPS
from warden_host.chips.espressif import load_image
from warden_host.chips.flash import Esptool, write_firmware
from warden_host.chips.fuses import Fuses
from warden_host.chips.harden import Hardening, SecureBoot
from warden_host.errors import HostError

S3 = esp_board("esp32s3", 8)


@pytest.fixture
def chip():
    made = RomLoader()
    yield made
    made.close()


def checked(data: bytes, chip: str = "esp32s3", flash_mb: int = 8) -> image.Firmware:
    return image.read(data, chip, CHIPS[chip], flash_mb << 20)


def write(chip: RomLoader, data: bytes, board=S3, erase: bool = True) -> list[str]:
    stages: list[str] = []
    firmware = image.read(data, board.chip, board.facts, board.flash)
    write_firmware(
        Esptool(), board, firmware, chip.port, erase, stages.append, lambda done, total: None
    )
    return stages


# --- what is written -----------------------------------------------------------------------------


def test_erased_written_verified(chip: RomLoader) -> None:
    data = esp_firmware("esp32s3")
    assert write(chip, data) == ["connected: ESP32-S3, 8 MB of flash", "written", "verified"]
    assert chip.flash[: len(data)] == data
    assert set(chip.flash[0x20000:]) == {0xFF}
    assert rom_loader_model.ERASE_FLASH in chip.asked
    assert chip.asked.count(rom_loader_model.MD5) >= 2  # esptool's own look, and ours


def test_the_rest_of_the_flash_is_kept(chip: RomLoader) -> None:
    data = esp_firmware("esp32s3")
    chip.flash[0x200000:0x200005] = b"vault"
    write(chip, data, erase=False)
    assert chip.flash[: len(data)] == data
    assert chip.flash[0x200000:0x200005] == b"vault"
    assert rom_loader_model.ERASE_FLASH not in chip.asked


def test_the_same_again(chip: RomLoader) -> None:
    data = esp_firmware("esp32s3")
    for _ in range(2):
        assert write(chip, data)[-1] == "verified"


def test_a_byte_that_the_flash_does_not_keep(chip: RomLoader) -> None:
    chip.loses = 0x10004
    refused("flash-failed", lambda: write(chip, esp_firmware("esp32s3")))


def test_another_chip_at_the_port() -> None:
    chip = RomLoader(chip_id=CHIPS["esp32c6"].image_id)
    before = bytes(chip.flash)
    refused("wrong-board", lambda: write(chip, esp_firmware("esp32s3")), "ESP32-C6")
    assert bytes(chip.flash) == before
    chip.close()


def test_a_flash_that_is_too_small() -> None:
    chip = RomLoader(flash_id=0x164020)  # 4 MB
    rows = (*ROWS, ("vfs", 1, 0x81, 0x200000, 0x600000))
    before = bytes(chip.flash)
    refused("wrong-board", lambda: write(chip, esp_firmware("esp32s3", rows=rows)), "8 MB")
    assert bytes(chip.flash) == before
    chip.close()


@pytest.mark.parametrize(
    ("fuse", "text"),
    [("SPI_BOOT_CRYPT_CNT", "flash encryption"), ("SECURE_BOOT_EN", "secure boot")],
)
@pytest.mark.parametrize("erase", [True, False])
def test_a_hardened_chip(fuse: str, text: str, erase: bool, tmp_path: Path) -> None:
    """Plain or unsigned firmware would end it."""
    controller = fuses_of(tmp_path / "fuses")
    espefuse.init_commands(esp=controller, do_not_confirm=True).burn_efuse({fuse: 1})
    chip = RomLoader(fuses=controller)
    before = bytes(chip.flash)
    refused("not-applicable", lambda: write(chip, esp_firmware("esp32s3"), S3, erase), text)
    assert bytes(chip.flash) == before
    chip.close()


def test_flashing_in_secure_download_mode() -> None:
    chip = RomLoader(secure=True)
    refused("not-applicable", lambda: write(chip, esp_firmware("esp32s3")), "secure download")
    chip.close()


def test_a_board_that_is_refused_runs_again(monkeypatch) -> None:
    resets: list[str] = []
    monkeypatch.setattr(esptool, "reset_chip", lambda _, how: resets.append(how))
    chip = RomLoader(secure=True)
    refused("not-applicable", lambda: write(chip, esp_firmware("esp32s3")))
    chip.close()
    assert resets == ["hard-reset"]


def test_silence_in_the_middle(chip: RomLoader, monkeypatch) -> None:
    """The cable, at moments spread over the run; a repeat then writes it all."""
    from esptool import cmds, loader

    data = esp_firmware("esp32s3")
    write(chip, data)
    # Up to the last look at the flash: what follows it only starts the firmware.
    whole = len(chip.asked) - chip.asked[::-1].index(rom_loader_model.MD5)
    with monkeypatch.context() as impatient:  # not for what is to be written: a machine is slow
        for name in ("DEFAULT_TIMEOUT", "CHIP_ERASE_TIMEOUT"):
            impatient.setattr(loader, name, 0.2)
        impatient.setattr(cmds, "DEFAULT_CONNECT_ATTEMPTS", 1)
        for answers in range(0, whole, whole // 5):
            chip.restart()
            chip.answers = answers
            with pytest.raises(HostError) as caught:
                write(chip, data)
            assert caught.value.code in ("unreachable", "flash-failed")
            chip.answers = None
    chip.restart()
    assert write(chip, data)[-1] == "verified"


# --- what is refused before anything is erased ---------------------------------------------------


@pytest.mark.parametrize("chip_name", ESPRESSIF)
def test_the_parts_of_a_firmware(chip_name: str) -> None:
    found = checked(esp_firmware(chip_name), chip_name)
    assert [one.label for one in found.partitions] == ["nvs", "factory"]
    assert found.bootloader.startswith(esp_image(chip_name))
    assert found.apps == (esp_image(chip_name, b"application!"),)


def test_a_table_behind_a_large_bootloader() -> None:
    bootloader = esp_image("esp32s3", b"x" * 0xA000)
    found = checked(esp_firmware("esp32s3", bootloader, table_at=0xF000))
    assert found.bootloader[: len(bootloader)] == bootloader
    assert len(found.partitions) == len(ROWS)


@pytest.mark.parametrize("size", range(4, 24, 4))
def test_the_length_of_an_image(size: int) -> None:
    """Exact: the signature of secure boot lies in the sector behind it."""
    made = esp_image("esp32s3", b"x" * size)
    assert load_image("esp32s3", made + b"\xff" * 64, "image") == len(made)


GOOD = esp_firmware("esp32s3")


def damaged(at: int) -> bytes:
    return GOOD[:at] + bytes([GOOD[at] ^ 1]) + GOOD[at + 1 :]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "size"),
        (GOOD + bytes(8 << 20), "8 MB"),
        (b"?" + GOOD[1:], "bootloader"),
        (damaged(40), "bootloader is damaged"),
        (damaged(APP_AT + 33), "application in factory is damaged"),
        (damaged(0x8000 + 12), "partition table"),
        (GOOD[:0x8000], "no partition table"),
        (esp_image("esp32s3"), "no partition table"),
        (GOOD[:APP_AT], "no application"),
        (esp_firmware("esp32s3", rows=(*ROWS, ("x", 1, 2, 0x700000, 0x200000))), "'x'"),
        (GOOD[: APP_AT + 20], "application in factory"),
    ],
)
def test_a_damaged_firmware(data: bytes, text: str) -> None:
    refused("bad-firmware", lambda: checked(data), text)


def test_a_firmware_of_another_chip() -> None:
    refused("wrong-board", lambda: checked(esp_firmware("esp32c3")), "another chip")


def test_the_table_of_the_kit_is_espressifs() -> None:
    assert len(table(*ROWS)) == 96
    assert ROWS[1][3:] == (APP_AT, APP_SIZE)


# --- fuses through the port ----------------------------------------------------------------------


def fuses_of(path: Path) -> Any:
    return espefuse.get_esp(chip="esp32s3", virt=True, virt_efuse_file=str(path))


def test_fuses_are_burnt_through_the_port(tmp_path: Path, monkeypatch) -> None:
    resets: list[str] = []

    def reset(_: Any, how: str) -> None:
        resets.append(how)
        raise RuntimeError("no reset line")

    monkeypatch.setattr(esptool, "reset_chip", reset)
    signer = Signer()
    firmware = signer.firmware("esp32s3")
    chip = RomLoader(fuses=fuses_of(tmp_path / "fuses"))
    boot = SecureBoot(signer.public, firmware)
    names = ("root-key", "jtag", "secure-boot", "download-mode")
    fuses = Fuses.at_port(chip.port)
    made = Hardening(fuses, S3, boot)
    refused("flash-differs", lambda: made.burn(names, lambda step: None))
    chip.flash[: len(firmware)] = firmware
    assert made.burn(names, lambda step: None) == list(names)
    assert resets == []
    fuses.close()
    assert resets == ["hard-reset"]  # the board runs again
    chip.close()
    burnt = espefuse.init_commands(esp=fuses_of(tmp_path / "fuses")).efuses
    assert burnt["KEY_PURPOSE_0"].get() == "HMAC_UP"
    assert not burnt["BLOCK_KEY0"].is_readable()
    for name in ("DIS_PAD_JTAG", "SECURE_BOOT_EN", "ENABLE_SECURITY_DOWNLOAD"):
        assert burnt[name].get() == 1


def test_a_chip_in_secure_download_mode() -> None:
    chip = RomLoader(secure=True)
    refused("not-applicable", lambda: Fuses.at_port(chip.port), "secure download mode")
    chip.close()


def test_a_chip_without_a_board() -> None:
    chip = RomLoader(chip_id=16)  # ESP32-H2
    refused("wrong-board", lambda: Fuses.at_port(chip.port), "ESP32-H2")
    chip.close()
