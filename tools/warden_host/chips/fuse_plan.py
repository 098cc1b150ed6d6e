"""Plan which fuses to burn, from what the chip says is burnt already.

Sources: Espressif's technical reference manuals (eFuse Controller), and the programming guide's
chapters Secure Boot v2, Flash Encryption and Security Features Enablement Workflows.
"""

from dataclasses import dataclass
from typing import Protocol

# In the order in which they are burnt. Secure boot ends the hiding of keys, and after the
# restriction of the download mode no fuse can be burnt any more.
STEPS = ("root-key", "flash-encryption", "jtag", "secure-boot", "download-mode")

DONE = "done"
OPEN = "open"
REFUSED = "refused"

# The classic ESP32 has other blocks and names than its successors.
CLASSIC = "esp32"
V3 = 300  # revision 3.0, the first with secure boot v2 and without UART download mode
# The first revision with secure boot v2; other chips have it from the beginning.
_SECURE_BOOT_FROM = {CLASSIC: V3, "esp32c3": 3}
DIGEST = "SECURE_BOOT_DIGEST0"
ENCRYPTION = "XTS_AES_128_KEY"
ROOT = "HMAC_UP"

_JTAG = {
    CLASSIC: {"JTAG_DISABLE": 1},
    "esp32s2": {"HARD_DIS_JTAG": 1},
    "esp32s3": {"DIS_PAD_JTAG": 1, "DIS_USB_JTAG": 1},
    "esp32c3": {"DIS_PAD_JTAG": 1, "DIS_USB_JTAG": 1},
    "esp32c6": {"DIS_PAD_JTAG": 1, "DIS_USB_JTAG": 1},
}
# What the download mode may still do with an encrypted flash, and how the chip could start
# without a look at the bootloader's signature.
_DOWNLOAD = {
    CLASSIC: {
        "DISABLE_DL_ENCRYPT": 1,
        "DISABLE_DL_DECRYPT": 1,
        "DISABLE_DL_CACHE": 1,
        "CONSOLE_DEBUG_DISABLE": 1,
    },
    "esp32s2": {
        "DIS_DOWNLOAD_ICACHE": 1,
        "DIS_DOWNLOAD_DCACHE": 1,
        "DIS_DOWNLOAD_MANUAL_ENCRYPT": 1,
    },
    "esp32s3": {
        "DIS_DOWNLOAD_ICACHE": 1,
        "DIS_DOWNLOAD_DCACHE": 1,
        "DIS_DOWNLOAD_MANUAL_ENCRYPT": 1,
    },
    "esp32c3": {"DIS_DOWNLOAD_ICACHE": 1, "DIS_DOWNLOAD_MANUAL_ENCRYPT": 1},
    "esp32c6": {"DIS_DOWNLOAD_ICACHE": 1, "DIS_DOWNLOAD_MANUAL_ENCRYPT": 1},
}
_BOOT = {
    "esp32s2": {"DIS_LEGACY_SPI_BOOT": 1},
    "esp32s3": {"DIS_DIRECT_BOOT": 1},
    "esp32c3": {"DIS_DIRECT_BOOT": 1},
    "esp32c6": {"DIS_DIRECT_BOOT": 1},
}


class FuseReader(Protocol):
    """What a plan reads of a chip: `fuses.Fuses`."""

    chip: str
    revision: int

    def number(self, name: str) -> int:
        """Return the value of a number or a bit."""

    def data(self, block: str) -> bytes:
        """Return a key block's bytes: zeros where reading is disabled."""

    def purpose(self, key: int) -> str:
        """Return the purpose of key block 0 to 5."""

    def readable(self, name: str) -> bool:
        """Return whether software can read the fuse."""

    def writable(self, name: str) -> bool:
        """Return whether the fuse can still be burnt."""


@dataclass(frozen=True)
class Step:
    """A step of the plan.

    state: DONE, OPEN or REFUSED. says: what it does, or why it is done or refused.
    forever: what can't be undone. block: of a key, "" for none. values: of fuses.
    """

    name: str
    state: str
    says: str
    forever: str = ""
    block: str = ""
    values: tuple[tuple[str, int], ...] = ()


def plan(
    fuses: FuseReader, digest: bytes | None = None, off: bool = False, adopt: bool = False
) -> list[Step]:
    """Return all steps for this chip, in order.

    digest: of the public key for secure boot, None where no key was given.
    off: end the download mode instead of restricting it. adopt: use a key that software could
    read until now.
    """
    return [
        root_key(fuses, adopt),
        flash_encryption(fuses, adopt),
        jtag(fuses),
        secure_boot(fuses, digest),
        download_mode(fuses, off),
    ]


# -- keys -----------------------------------------------------------------------------------------


def key_block(key: int) -> str:
    """Return the name of key block 0 to 5."""
    return f"BLOCK_KEY{key}"


def root_key(fuses: FuseReader, adopt: bool = False) -> Step:
    """Plan a random key of the purpose HMAC_UP, which lib/warden/hal/rootkey_efuse.py uses."""
    name = "root-key"
    if fuses.chip == CLASSIC:
        return Step(
            name,
            REFUSED,
            "the classic ESP32 has no HMAC peripheral; a secure element is its way to a root key",
        )
    words = "burns a random root key for the chip's HMAC peripheral"
    step = _hidden_key(fuses, name, ROOT, words, adopt)
    if step.block and step.state != REFUSED:
        key = int(step.block[-1])
        line = f'board.py: ROOT_KEY = ("efuse", "{fuses.chip}", {key})'
        return Step(name, step.state, f"{step.says}; {line}", step.forever, step.block)
    return step


def flash_encryption(fuses: FuseReader, adopt: bool = False) -> Step:
    """Plan a random key for flash encryption, which the board's bootloader then switches on."""
    name = "flash-encryption"
    counter = "FLASH_CRYPT_CNT" if fuses.chip == CLASSIC else "SPI_BOOT_CRYPT_CNT"
    if fuses.number(counter).bit_count() % 2:
        return Step(name, DONE, "flash encryption is on")
    words = "burns a random key for flash encryption"
    later = "; a bootloader that was built with flash encryption switches it on at its first start"
    if fuses.chip != CLASSIC:
        if any(fuses.purpose(key).startswith("XTS_AES_256") for key in range(6)):
            return Step(name, REFUSED, "the chip has a key of 256 bits for it: not this command's")
        step = _hidden_key(fuses, name, ENCRYPTION, words, adopt)
        return Step(name, step.state, step.says + later, step.forever, step.block)
    block, values = "BLOCK1", (("FLASH_CRYPT_CONFIG", 0xF),)
    if not fuses.readable(block):
        complete = fuses.number("FLASH_CRYPT_CONFIG") == 0xF
        says = f"{block} holds a hidden key{later}"
        return Step(name, DONE if complete else OPEN, says, _FOREVER_KEY, block, values)
    if any(fuses.data(block)):
        step = _readable_key(name, block, adopt)
        return Step(name, step.state, step.says + later, step.forever, block, values)
    return Step(name, OPEN, f"{words} into {block}{later}", _FOREVER_KEY, block, values)


_FOREVER_KEY = "the block can't be burnt again, and its key can't be read by anybody"


def _readable_key(name: str, block: str, adopt: bool) -> Step:
    """Plan what to do with a key that software can read: its value may be known already."""
    if adopt:
        says = (
            f"hides the key in {block}, which anyone at this chip could read or choose until now"
        )
        return Step(name, OPEN, says, _FOREVER_KEY, block)
    says = f"{block} holds a key that software can read: its value may be known"
    return Step(name, REFUSED, f"{says}; {ADOPT_HINT}", block=block)


ADOPT_HINT = "only if a burn of your own was cut short there, hide and use it: adopt it"


def _hidden_key(fuses: FuseReader, name: str, purpose: str, words: str, adopt: bool) -> Step:
    """Plan a key that no software may read; continue a burn that was cut short."""
    for key in range(6):
        block = key_block(key)
        if fuses.purpose(key) != purpose:
            continue
        if not fuses.readable(block):
            return Step(name, DONE, f"key block {key} holds a hidden key", block=block)
        if not fuses.writable("RD_DIS"):
            return Step(name, REFUSED, _NOT_HIDDEN)
        if any(fuses.data(block)):
            return _readable_key(name, block, adopt)
        return Step(name, OPEN, f"{words} into key block {key}", _FOREVER_KEY, block)
    free = free_block(fuses)
    if free is None:
        return Step(name, REFUSED, "no key block is free")
    if not fuses.writable("RD_DIS"):
        return Step(name, REFUSED, _NOT_HIDDEN)
    return Step(name, OPEN, f"{words} into key block {free}", _FOREVER_KEY, block=key_block(free))


_NOT_HIDDEN = "this chip hides no more keys: its secure boot has ended that (RD_DIS)"


def free_block(fuses: FuseReader) -> int | None:
    """Return the first key block without purpose and data, or None.

    A block with data and no purpose may be a burn that was cut short: it is left alone.
    """
    for key in range(6):
        block = key_block(key)
        unused = fuses.purpose(key) == "USER" and fuses.writable(f"KEY_PURPOSE_{key}")
        if unused and fuses.readable(block) and fuses.writable(block):
            if not any(fuses.data(block)):
                return key
    return None


# -- secure boot ----------------------------------------------------------------------------------

_FOREVER_BOOT = (
    "the chip starts nothing but what this key signed; if the key is lost, so is the board"
)


def secure_boot(fuses: FuseReader, digest: bytes | None) -> Step:
    """Plan secure boot v2: the digest of a public key, then the fuse that switches it on."""
    name = "secure-boot"
    switch = "ABS_DONE_1" if fuses.chip == CLASSIC else "SECURE_BOOT_EN"
    first = _SECURE_BOOT_FROM.get(fuses.chip, 0)
    if fuses.revision < first:
        says = f"secure boot v2 needs a chip of revision {first // 100}.{first % 100} or newer"
        return Step(name, REFUSED, says)
    found = _digest_block(fuses, digest)
    values = boot_values(fuses.chip)
    if fuses.number(switch):
        if digest is not None and found is None:
            return Step(name, REFUSED, "secure boot is on, with another key than the one given")
        complete = _burnt(fuses, values) and not fuses.writable("RD_DIS")
        if complete or found is None:
            return Step(name, DONE, "secure boot is on")
        return Step(name, OPEN, "completes secure boot", _FOREVER_BOOT, found, values)
    if digest is None:
        return Step(name, REFUSED, "secure boot needs the public key and the signed firmware")
    if fuses.chip != CLASSIC and fuses.number("SECURE_BOOT_KEY_REVOKE0"):
        says = "the place of the digest is revoked: the chip would accept no key"
        return Step(name, REFUSED, says)
    if locked := _locked(fuses, values):
        return Step(name, REFUSED, locked)
    if found is None:
        if fuses.chip == CLASSIC:
            if any(fuses.data("BLOCK2")) or not fuses.writable("BLOCK2"):
                return Step(name, REFUSED, "BLOCK2 holds something else than this key's digest")
            found = "BLOCK2"
        else:
            taken = [key for key in range(6) if fuses.purpose(key) == DIGEST]
            free = free_block(fuses)
            if taken or free is None:
                says = "another key's digest is burnt" if taken else "no key block is free"
                return Step(name, REFUSED, says)
            found = key_block(free)
    says = f"burns the key's digest into {found}, switches secure boot on, and hides no more keys"
    return Step(name, OPEN, says, _FOREVER_BOOT, found, values)


def boot_values(chip: str) -> tuple[tuple[str, int], ...]:
    """Return the fuses of secure boot, its switch first; unused places of digests are revoked."""
    if chip == CLASSIC:
        return (("ABS_DONE_1", 1),)
    revoked = {"SECURE_BOOT_KEY_REVOKE1": 1, "SECURE_BOOT_KEY_REVOKE2": 1}
    return tuple({"SECURE_BOOT_EN": 1, **revoked, **_BOOT[chip]}.items())


def _digest_block(fuses: FuseReader, digest: bytes | None) -> str | None:
    """Return the block that holds this digest, without one any digest."""
    if fuses.chip == CLASSIC:
        blocks = ["BLOCK2"]
    else:
        blocks = [key_block(key) for key in range(6) if fuses.purpose(key) == DIGEST]
    for block in blocks:
        data = fuses.data(block)
        if any(data) and digest in (None, data):
            return block
    return None


# -- JTAG and download mode -----------------------------------------------------------------------


def jtag(fuses: FuseReader) -> Step:
    """Plan the end of JTAG, on pins and USB; the serial console over USB stays."""
    return _bits(
        fuses,
        "jtag",
        _JTAG[fuses.chip],
        "disables JTAG",
        "this chip can never be debugged with JTAG again",
    )


def download_mode(fuses: FuseReader, off: bool) -> Step:
    """Plan the restriction of the download mode, or its end."""
    name, values = "download-mode", dict(_DOWNLOAD[fuses.chip])
    if fuses.chip == CLASSIC:
        if not off:
            forever = "the boot ROM no longer handles an encrypted flash, and its BASIC is gone"
            return _bits(fuses, name, values, "restricts the download mode", forever)
        if fuses.revision < V3:
            return Step(name, REFUSED, "only revision 3.0 or newer can end the download mode")
        values["UART_DOWNLOAD_DIS"] = 1
    else:
        values["DIS_DOWNLOAD_MODE" if off else "ENABLE_SECURITY_DOWNLOAD"] = 1
    if off:
        says = "ends the download mode"
        forever = "no cable writes or erases this chip's flash again, and no fuse can be burnt"
    else:
        says = "restricts the download mode: it writes flash, but reads no memory and no fuse"
        forever = "no fuse of this chip can be read or burnt again, also not by this command"
    return _bits(fuses, name, values, says, forever)


def _bits(fuses: FuseReader, name: str, values: dict[str, int], says: str, forever: str) -> Step:
    pairs = tuple(values.items())
    if _burnt(fuses, pairs):
        return Step(name, DONE, says)
    if locked := _locked(fuses, pairs):
        return Step(name, REFUSED, locked)
    return Step(name, OPEN, says, forever, values=pairs)


def _locked(fuses: FuseReader, values: tuple[tuple[str, int], ...]) -> str:
    """Return why these fuses can't get their values, or ""."""
    for fuse, value in values:
        if fuses.number(fuse) != value and not fuses.writable(fuse):
            return f"the fuse {fuse} can't be burnt any more"
    return ""


def _burnt(fuses: FuseReader, values: tuple[tuple[str, int], ...]) -> bool:
    return all(fuses.number(name) == value for name, value in values)
