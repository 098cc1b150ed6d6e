"""Plan and burn fuses on espefuse's virtual chips, and look at them before and after."""

import io
from pathlib import Path
from typing import Any

import espefuse
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from espefuse.efuse.base_fields import EfuseBlockBase
from esptool import FatalError
from firmware_kit import ESPRESSIF, Signer, esp_board, esp_firmware, esp_image, refused
from warden_host.chips import fuse_plan, harden
from warden_host.chips.fuse_plan import DONE, OPEN, REFUSED, STEPS
from warden_host.chips.fuses import Fuses
from warden_host.chips.harden import Hardening, SecureBoot
from warden_host.errors import HostError

CLASSIC = "esp32"
SUCCESSORS = [chip for chip in ESPRESSIF if chip != CLASSIC]
# Fuses that espefuse shows as burnt after the step jtag.
JTAG = {
    "esp32": ("JTAG_DISABLE",),
    "esp32s2": ("HARD_DIS_JTAG",),
    "esp32s3": ("DIS_PAD_JTAG", "DIS_USB_JTAG"),
    "esp32c3": ("DIS_PAD_JTAG", "DIS_USB_JTAG"),
    "esp32c6": ("DIS_PAD_JTAG", "DIS_USB_JTAG"),
}


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fuses"


def chip_of(chip: str, path: Path) -> Any:
    """espefuse's own view of the virtual chip, without our code."""
    return espefuse.init_commands(
        chip=chip, virt=True, virt_efuse_file=str(path), do_not_confirm=True
    )


def hardening(chip: str, path: Path, signer: Signer | None = None, **options: Any) -> Hardening:
    boot = SecureBoot(signer.public, signer.firmware(chip)) if signer else None
    return Hardening(Fuses.in_file(chip, path), esp_board(chip), boot, **options)


def make_revision_3(path: Path) -> None:
    """A virtual ESP32 of revision 3.0, as the maker would have burnt it."""
    commands = chip_of(CLASSIC, path)
    commands.esp.set_major_chip_version(3)
    commands.esp.save_to_file()


def make_ready(chip: str, path: Path) -> None:
    """A virtual chip of a revision that has secure boot v2."""
    if chip == CLASSIC:
        make_revision_3(path)
    elif chip == "esp32c3":
        commands = chip_of(chip, path)
        commands.esp.set_minor_chip_version(3)
        commands.esp.save_to_file()


def states(made: Hardening) -> dict[str, str]:
    return {step.name: step.state for step in made.plan()}


def burn(made: Hardening, *names: str) -> list[str]:
    return made.burn(names, lambda step: None)


# --- before and after ----------------------------------------------------------------------------


@pytest.mark.parametrize("chip", SUCCESSORS)
def test_all_steps(chip: str, path: Path, signer: Signer, monkeypatch) -> None:
    keys: list[bytes] = []
    made_key = harden.secrets.token_bytes
    monkeypatch.setattr(
        harden.secrets, "token_bytes", lambda size: keys.append(made_key(size)) or keys[-1]
    )
    make_ready(chip, path)
    made = hardening(chip, path, signer)
    assert states(made) == dict.fromkeys(STEPS, OPEN)
    assert burn(made, *STEPS) == list(STEPS)
    assert states(hardening(chip, path, signer)) == dict.fromkeys(STEPS, DONE)

    fuses = chip_of(chip, path).efuses
    purposes = [fuses[f"KEY_PURPOSE_{number}"].get() for number in range(4)]
    assert purposes == ["HMAC_UP", "XTS_AES_128_KEY", "SECURE_BOOT_DIGEST0", "USER"]
    for block in ("BLOCK_KEY0", "BLOCK_KEY1"):
        assert not fuses[block].is_readable()
        assert not fuses[block].is_writeable()
    digest = fuses["BLOCK_KEY2"]
    assert digest.get_bitstring().bytes[::-1] == signer.digest()
    assert digest.is_readable()
    assert not digest.is_writeable()
    for name in (*JTAG[chip], "SECURE_BOOT_EN", "ENABLE_SECURITY_DOWNLOAD"):
        assert fuses[name].get() == 1, name
    for name in ("SECURE_BOOT_KEY_REVOKE1", "SECURE_BOOT_KEY_REVOKE2"):
        assert fuses[name].get() == 1
    assert fuses["SECURE_BOOT_KEY_REVOKE0"].get() == 0
    assert fuses["DIS_DOWNLOAD_MANUAL_ENCRYPT"].get() == 1
    assert fuses["DIS_DOWNLOAD_MODE"].get() == 0
    # A bootloader switches it on; with plain text in the flash it would never start again.
    assert fuses["SPI_BOOT_CRYPT_CNT"].get() == 0
    assert not fuses["RD_DIS"].is_writeable()

    image = path.read_bytes()
    assert len(keys) == 2
    for key in keys:
        assert key not in image
        assert key[::-1] not in image
    assert burn(hardening(chip, path, signer), *STEPS) == []
    assert path.read_bytes() == image


def test_all_steps_of_the_classic_chip(path: Path, signer: Signer) -> None:
    make_revision_3(path)
    made = hardening(CLASSIC, path, signer)
    wanted = {**dict.fromkeys(STEPS, OPEN), "root-key": REFUSED}
    assert states(made) == wanted
    left = [name for name in STEPS if name != "root-key"]
    assert burn(made, *left) == left
    fuses = chip_of(CLASSIC, path).efuses
    assert not fuses["BLOCK1"].is_readable()
    assert fuses["BLOCK2"].get_bitstring().bytes[::-1] == signer.digest()
    assert fuses["BLOCK2"].is_readable()
    names = ("JTAG_DISABLE", "ABS_DONE_1", "DISABLE_DL_ENCRYPT", "DISABLE_DL_DECRYPT")
    for name in (*names, "DISABLE_DL_CACHE", "CONSOLE_DEBUG_DISABLE"):
        assert fuses[name].get() == 1, name
    assert fuses["FLASH_CRYPT_CONFIG"].get() == 0xF
    assert fuses["FLASH_CRYPT_CNT"].get() == 0
    assert fuses["UART_DOWNLOAD_DIS"].get() == 0
    image = path.read_bytes()
    assert burn(hardening(CLASSIC, path, signer), *left) == []
    assert path.read_bytes() == image


@pytest.mark.parametrize("chip", ESPRESSIF)
def test_end_of_the_download_mode(chip: str, path: Path) -> None:
    make_ready(chip, path)
    assert burn(hardening(chip, path, off=True), "download-mode") == ["download-mode"]
    name = "UART_DOWNLOAD_DIS" if chip == CLASSIC else "DIS_DOWNLOAD_MODE"
    assert chip_of(chip, path).efuses[name].get() == 1


def test_a_plan_burns_nothing(path: Path, signer: Signer) -> None:
    made = hardening("esp32s3", path, signer)
    before = path.read_bytes()
    made.plan()
    made.check(STEPS)
    assert path.read_bytes() == before


def test_the_board_file_gets_the_block_that_was_burnt(path: Path) -> None:
    chip_of("esp32c3", path).burn_efuse({"KEY_PURPOSE_0": 5})
    made = hardening("esp32c3", path)
    assert made.plan()[0].says.endswith('ROOT_KEY = ("efuse", "esp32c3", 1)')
    burn(made, "root-key")
    says = hardening("esp32c3", path).plan()[0].says
    assert says == 'key block 1 holds a hidden key; board.py: ROOT_KEY = ("efuse", "esp32c3", 1)'


# --- cut and repeated ----------------------------------------------------------------------------


class Cut(FatalError):
    """The cable, in the middle of a burn."""


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["esp32", "esp32s3"])
def test_cut_at_every_write(chip: str, path: Path, signer: Signer, monkeypatch) -> None:
    """A repeat completes every step; no key stays readable in a block that has its purpose."""
    whole = EfuseBlockBase.burn_words
    left = [0]

    def burn_words(block: EfuseBlockBase, words: list[int]) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Cut("no answer")
        whole(block, words)

    names = STEPS if chip != CLASSIC else STEPS[1:]
    cuts = 0
    while True:
        path.unlink(missing_ok=True)
        make_ready(chip, path)
        left[0] = cuts
        monkeypatch.setattr(EfuseBlockBase, "burn_words", burn_words)
        try:
            burn(hardening(chip, path, signer), *names)
            break
        except HostError as error:
            assert error.code == "fuses-failed"
        monkeypatch.setattr(EfuseBlockBase, "burn_words", whole)
        if REFUSED in states(hardening(chip, path, signer)).values() and chip != CLASSIC:
            refused("not-applicable", lambda: burn(hardening(chip, path, signer), *names), "adopt")
        burn(hardening(chip, path, signer, adopt=True), *names)
        made = hardening(chip, path, signer)
        assert [step.state for step in made.plan() if step.name in names] == [DONE] * len(names)
        fuses = chip_of(chip, path).efuses
        assert chip == CLASSIC or not any(
            fuses[f"BLOCK_KEY{number}"].is_readable()
            for number in range(6)
            if fuses[f"KEY_PURPOSE_{number}"].get() in ("HMAC_UP", "XTS_AES_128_KEY")
        )
        cuts += 1
    assert cuts >= 8


@pytest.mark.parametrize(
    ("step", "purpose"), [("root-key", "HMAC_UP"), ("flash-encryption", "XTS_AES_128_KEY")]
)
def test_a_readable_key_is_used_on_demand_alone(path: Path, step: str, purpose: str) -> None:
    """Cut between purpose and protection; or put there by somebody who knows the key."""
    commands = chip_of("esp32s2", path)
    key = _file(b"k" * 32)
    commands.burn_key(
        ["BLOCK_KEY0"], [key], [purpose], no_write_protect=True, no_read_protect=True
    )
    before = path.read_bytes()
    refused("not-applicable", lambda: burn(hardening("esp32s2", path), step), "may be known")
    assert path.read_bytes() == before
    made = hardening("esp32s2", path, adopt=True)
    says = next(one.says for one in made.plan() if one.name == step)
    assert says.startswith("hides the key in BLOCK_KEY0, which anyone at this chip could read")
    burn(made, step)
    block = chip_of("esp32s2", path).efuses["BLOCK_KEY0"]
    assert not block.is_readable()
    assert not block.is_writeable()
    assert b"k" * 32 not in path.read_bytes()


def test_a_purpose_without_its_key_gets_one(path: Path) -> None:
    chip_of("esp32s3", path).burn_efuse({"KEY_PURPOSE_0": 8})
    burn(hardening("esp32s3", path), "root-key")
    assert not chip_of("esp32s3", path).efuses["BLOCK_KEY0"].is_readable()
    assert hardening("esp32s3", path).plan()[0].block == "BLOCK_KEY0"


def test_secure_boot_that_was_cut_is_completed_without_the_key(path: Path, signer: Signer) -> None:
    commands = chip_of("esp32s3", path)
    commands.burn_key(["BLOCK_KEY0"], [_file(signer.digest())], ["SECURE_BOOT_DIGEST0"])
    commands.burn_efuse({"SECURE_BOOT_EN": 1})
    burn(hardening("esp32s3", path), "secure-boot")
    fuses = chip_of("esp32s3", path).efuses
    assert fuses["SECURE_BOOT_KEY_REVOKE1"].get() == 1
    assert not fuses["RD_DIS"].is_writeable()


def _file(data: bytes) -> io.BytesIO:
    return io.BytesIO(data)


# --- refused -------------------------------------------------------------------------------------


def test_another_chip_than_the_boards(path: Path) -> None:
    fuses = Fuses.in_file("esp32s3", path)
    refused("wrong-board", lambda: Hardening(fuses, esp_board("esp32c3")), "esp32s3")


@pytest.mark.parametrize(
    ("step", "text"), [("root-key", "HMAC"), ("secure-boot", "revision"), ("download-mode", "3.0")]
)
def test_what_the_first_esp32_can_not_do(step: str, text: str, path: Path) -> None:
    made = hardening(CLASSIC, path, off=True)
    before = path.read_bytes()
    with pytest.raises(HostError) as caught:
        burn(made, "jtag", step)
    assert caught.value.code == "not-applicable"
    assert text in caught.value.text
    assert path.read_bytes() == before  # nothing of the other step either


def test_secure_boot_on_an_early_c3(path: Path, signer: Signer) -> None:
    made = hardening("esp32c3", path, signer)
    refused("not-applicable", lambda: burn(made, "secure-boot"), "revision 0.3")


def test_no_key_after_secure_boot(path: Path, signer: Signer) -> None:
    burn(hardening("esp32s3", path, signer), "secure-boot")
    later = states(hardening("esp32s3", path, signer))
    assert later == {
        "root-key": REFUSED,
        "flash-encryption": REFUSED,
        "jtag": OPEN,
        "secure-boot": DONE,
        "download-mode": OPEN,
    }
    other = Signer()
    refused(
        "not-applicable",
        lambda: burn(hardening("esp32s3", path, other), "secure-boot"),
        "another key",
    )


def test_secure_boot_with_another_digest_in_its_place(path: Path, signer: Signer) -> None:
    make_ready("esp32c3", path)
    commands = chip_of("esp32c3", path)
    commands.burn_key(["BLOCK_KEY0"], [_file(b"d" * 32)], ["SECURE_BOOT_DIGEST0"])
    made = hardening("esp32c3", path, signer)
    refused("not-applicable", lambda: burn(made, "secure-boot"), "another key's digest")
    make_revision_3(path.with_name("classic"))
    classic = chip_of(CLASSIC, path.with_name("classic"))
    classic.burn_key(["BLOCK2"], [_file(b"d" * 32)])
    made = hardening(CLASSIC, path.with_name("classic"), signer)
    refused("not-applicable", lambda: burn(made, "secure-boot"), "BLOCK2")


def test_secure_boot_whose_digest_would_be_revoked(path: Path, signer: Signer) -> None:
    """The chip would accept no key, and never start again."""
    chip_of("esp32s3", path).burn_efuse({"SECURE_BOOT_KEY_REVOKE0": 1})
    made = hardening("esp32s3", path, signer)
    refused("not-applicable", lambda: burn(made, "secure-boot"), "revoked")


def test_secure_boot_whose_switch_is_write_protected(path: Path, signer: Signer) -> None:
    chip_of("esp32s3", path).write_protect_efuse(["SECURE_BOOT_EN"])
    made = hardening("esp32s3", path, signer)
    before = path.read_bytes()
    refused("not-applicable", lambda: burn(made, "secure-boot"), "SECURE_BOOT_EN")
    assert path.read_bytes() == before  # no block is lost


def test_flash_encryption_with_a_longer_key(path: Path) -> None:
    chip_of("esp32s3", path).burn_efuse({"KEY_PURPOSE_1": 2})  # XTS_AES_256_KEY_1
    made = hardening("esp32s3", path)
    refused("not-applicable", lambda: burn(made, "flash-encryption"), "256 bits")


def test_no_free_key_block(path: Path, signer: Signer) -> None:
    commands = chip_of("esp32c6", path)
    commands.burn_efuse({f"KEY_PURPOSE_{number}": 5 for number in range(6)})
    made = hardening("esp32c6", path, signer)
    for step in ("root-key", "flash-encryption", "secure-boot"):
        refused("not-applicable", lambda step=step: burn(made, step), "no key block is free")


def test_a_block_with_data_is_left_alone(path: Path) -> None:
    chip_of("esp32s3", path).burn_block_data(["BLOCK_KEY0"], [_file(b"o" * 32)])
    assert hardening("esp32s3", path).plan()[0].block == "BLOCK_KEY1"


def test_a_readable_key_of_the_classic_chip_is_hidden(path: Path) -> None:
    chip_of(CLASSIC, path).burn_block_data(["BLOCK1"], [_file(b"o" * 32)])
    plain = hardening(CLASSIC, path)
    refused("not-applicable", lambda: burn(plain, "flash-encryption"), "may be known")
    burn(hardening(CLASSIC, path, adopt=True), "flash-encryption")
    assert not chip_of(CLASSIC, path).efuses["BLOCK1"].is_readable()
    assert b"o" * 32 not in path.read_bytes()


def test_flash_encryption_that_is_on(path: Path) -> None:
    chip_of("esp32s3", path).burn_efuse({"SPI_BOOT_CRYPT_CNT": 1})
    assert fuse_plan.flash_encryption(Fuses.in_file("esp32s3", path)).state == DONE


def test_a_fuse_that_is_write_protected(path: Path) -> None:
    chip_of("esp32s3", path).write_protect_efuse(["DIS_PAD_JTAG"])
    refused("not-applicable", lambda: burn(hardening("esp32s3", path), "jtag"), "DIS_PAD_JTAG")


def test_secure_boot_needs_its_key(path: Path) -> None:
    refused(
        "not-applicable", lambda: burn(hardening("esp32s3", path), "secure-boot"), "public key"
    )


@pytest.mark.parametrize("part", ["bootloader", "application"])
def test_a_part_that_is_not_signed(part: str, path: Path, signer: Signer) -> None:
    parts = {
        "bootloader": signer.sign(esp_image("esp32s3")),
        "application": signer.sign(esp_image("esp32s3", b"application!")),
    }
    parts[part] = esp_image("esp32s3", b"unsigned")
    boot = SecureBoot(
        signer.public, esp_firmware("esp32s3", parts["bootloader"], parts["application"])
    )
    fuses = Fuses.in_file("esp32s3", path)
    text = f"the {part} is not signed"
    refused("bad-firmware", lambda: Hardening(fuses, esp_board("esp32s3"), boot), text)


def test_a_firmware_of_another_signer(path: Path, signer: Signer) -> None:
    boot = SecureBoot(Signer().public, signer.firmware("esp32s3"))
    fuses = Fuses.in_file("esp32s3", path)
    refused("bad-firmware", lambda: Hardening(fuses, esp_board("esp32s3"), boot), "not signed")


NO_KEY = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("public", [b"no key", b"", NO_KEY])
def test_no_public_key(public: bytes, path: Path, signer: Signer) -> None:
    boot = SecureBoot(public, signer.firmware("esp32s3"))
    fuses = Fuses.in_file("esp32s3", path)
    refused("bad-argument", lambda: Hardening(fuses, esp_board("esp32s3"), boot), "")


def test_a_private_key_is_not_taken(path: Path, signer: Signer) -> None:
    boot = SecureBoot(signer.private, signer.firmware("esp32s3"))
    fuses = Fuses.in_file("esp32s3", path)
    refused("bad-argument", lambda: Hardening(fuses, esp_board("esp32s3"), boot), "private")


@pytest.mark.parametrize("chip", ESPRESSIF)
def test_a_key_of_ecdsa_is_for_chips_that_verify_it(chip: str, path: Path) -> None:
    """With another scheme than its boot ROM's, the chip would never start again."""
    make_ready(chip, path)
    curves = {"P-192": ec.SECP192R1(), "P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
    for name, curve in curves.items():
        signer = Signer(ec.generate_private_key(curve))
        if chip == "esp32c6" and name != "P-384":
            assert states(hardening(chip, path, signer))["secure-boot"] == OPEN
        else:
            refused(
                "bad-argument",
                lambda signer=signer: hardening(chip, path, signer),
                "does not verify",
            )


class WithFlash(Fuses):
    """A virtual chip with a flash behind it, which espefuse's has not."""

    flash = b""

    def flash_holds(self, offset: int, data: bytes) -> bool:
        return self.flash[offset:] == data


def test_secure_boot_needs_the_signed_firmware_in_the_flash(path: Path, signer: Signer) -> None:
    firmware = signer.firmware("esp32s3")
    fuses = WithFlash.in_file("esp32s3", path)
    fuses.virtual = False
    fuses.flash = firmware[:-1] + b"?"
    made = Hardening(fuses, esp_board("esp32s3"), SecureBoot(signer.public, firmware))
    before = path.read_bytes()
    refused("flash-differs", lambda: burn(made, "jtag", "secure-boot"), "signed firmware")
    assert path.read_bytes() == before
    fuses.flash = firmware
    assert burn(made, "secure-boot") == ["secure-boot"]


def test_fuses_that_do_not_take(path: Path, monkeypatch) -> None:
    made = hardening("esp32s3", path)
    monkeypatch.setattr(Fuses, "burn", lambda *_: None)
    refused("fuses-failed", lambda: burn(made, "jtag"), "jtag")


def test_a_digest_that_reads_back_differently(path: Path, signer: Signer, monkeypatch) -> None:
    made = hardening("esp32s3", path, signer)
    monkeypatch.setattr(Fuses, "burn_key", lambda *_: None)
    refused("fuses-failed", lambda: burn(made, "secure-boot"), "digest")
    assert chip_of("esp32s3", path).efuses["SECURE_BOOT_EN"].get() == 0
