"""The fuses of one Espressif chip, at a port or as espefuse's virtual chip in a file."""

import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import espefuse  # type: ignore[import-untyped]
import esptool  # type: ignore[import-untyped]

from warden_host.chips.chip import CHIPS
from warden_host.chips.espressif import guarded
from warden_host.chips.fuse_plan import ENCRYPTION
from warden_host.errors import HostError

_CONNECT_HINT = (
    "put the board into its boot loader (hold BOOT, press RESET), and look at the cable and at "
    "the rights to the port"
)
_BURN_HINT = "give the same command again: it continues with what is not burnt yet"


class Fuses:
    """commands: espefuse's for this chip. virtual: there is no flash behind the fuses.

    port: what releases the chip's port; taken over.
    """

    def __init__(
        self, commands: Any, virtual: bool, port: contextlib.ExitStack | None = None
    ) -> None:
        self._commands = commands
        self._esp = commands.esp
        self.virtual = virtual
        self.chip = _short(self._esp.CHIP_NAME)
        self.revision = int(self._esp.get_chip_revision())  # 301 is v3.1
        self._port = port.pop_all() if port else contextlib.ExitStack()

    @classmethod
    def at_port(cls, port: str) -> Self:
        """Connect to the chip at a serial port. Raises unreachable, not-applicable."""
        with guarded("unreachable", _CONNECT_HINT), contextlib.ExitStack() as stack:
            esp = stack.enter_context(esptool.detect_chip(port))
            if esp.secure_download_mode:
                raise HostError(
                    "not-applicable",
                    "this chip is in secure download mode: its fuses can't be read or burnt",
                    "nothing is left to do for the fuses of this chip",
                )
            commands = espefuse.init_commands(esp=esp, do_not_confirm=True)
            return cls(commands, False, stack)

    @classmethod
    def in_file(cls, chip: str, path: Path) -> Self:
        """Open espefuse's virtual chip, which a file keeps; a new file is an unburnt chip.

        Raises bad-argument for any other file: espefuse would write over it.
        """
        with path.open("ab") as file:  # nothing is written
            status = os.fstat(file.fileno())
        size = espefuse.get_esp(chip=chip, virt=True).REGS.EFUSE_MEM_SIZE
        if not stat.S_ISREG(status.st_mode) or status.st_size not in (0, size):
            raise HostError(
                "bad-argument",
                f"{path} holds something else than a virtual chip of this kind",
                "name a new file, or one that this command made for the same board",
            )
        with guarded("fuses-failed"):
            return cls(
                espefuse.init_commands(
                    chip=chip, virt=True, virt_efuse_file=str(path), do_not_confirm=True
                ),
                True,
            )

    @property
    def address(self) -> str:
        """Return the chip's own MAC address, such as a0:b7:65:00:11:22."""
        return str(self._field("MAC").get()).split(" ")[0]

    def close(self) -> None:
        """Start the board, which the connection put into its boot loader; release its port."""
        if not self.virtual:
            # The burnt fuses are what counts: its RESET button starts a board as well.
            with contextlib.suppress(Exception), guarded("unreachable"):
                esptool.reset_chip(self._esp, "hard-reset")
        self._port.close()

    # -- read -------------------------------------------------------------------------------------

    def number(self, name: str) -> int:
        """Return the value of a fuse that is a number or a bit."""
        return int(self._field(name).get_raw())

    def data(self, block: str) -> bytes:
        """Return the bytes of a key block: zeros where reading it is disabled."""
        return bytes(self._field(block).get_bitstring().bytes[::-1])

    def purpose(self, key: int) -> str:
        """Return the purpose of key block 0 to 5, such as USER or HMAC_UP."""
        return str(self._field(f"KEY_PURPOSE_{key}").get())

    def readable(self, name: str) -> bool:
        """Return whether software can read the fuse."""
        return bool(self._field(name).is_readable())

    def writable(self, name: str) -> bool:
        """Return whether the fuse can still be burnt."""
        return bool(self._field(name).is_writeable())

    def flash_holds(self, offset: int, data: bytes) -> bool:
        """Return whether the chip's flash holds these bytes; False for a virtual chip."""
        if self.virtual:
            return False
        with guarded("unreachable", _CONNECT_HINT):
            esptool.attach_flash(self._esp)
            found = str(self._esp.flash_md5sum(offset, len(data)))
        return found == hashlib.md5(data, usedforsecurity=False).hexdigest()

    # -- burn -------------------------------------------------------------------------------------

    def burn(self, values: dict[str, int]) -> None:
        """Burn fuses; those that have their value already stay as they are."""
        left = {name: value for name, value in values.items() if self.number(name) != value}
        if left:
            self._run(lambda: self._commands.burn_efuse(left))

    def burn_key(self, block: str, purpose: str, data: bytes) -> None:
        """Burn a key and its purpose; espefuse protects it as the purpose asks for."""
        if self.chip == "esp32":
            # By this name espefuse turns the bytes round and hides the key.
            name = "flash_encryption" if purpose == ENCRYPTION else block
            self._run(lambda: self._commands.burn_key([name], [io.BytesIO(data)]))
        else:
            self._run(lambda: self._commands.burn_key([block], [io.BytesIO(data)], [purpose]))

    def hide(self, block: str) -> None:
        """Disable reading and writing of a key block."""
        if self.readable(block):
            self._run(lambda: self._commands.read_protect_efuse([block]))
        if self.writable(block):
            self._run(lambda: self._commands.write_protect_efuse([block]))

    def keep(self, name: str) -> None:
        """Disable writing of a fuse."""
        if self.writable(name):
            self._run(lambda: self._commands.write_protect_efuse([name]))

    # -- inside -----------------------------------------------------------------------------------

    def _field(self, name: str) -> Any:
        return self._commands.efuses[name]

    def _run(self, burn: Callable[[], None]) -> None:
        with guarded("fuses-failed", _BURN_HINT):
            burn()


def _short(name: str) -> str:
    short = name.lower().replace("-", "")
    if short not in CHIPS:
        raise HostError("wrong-board", f"the chip is a {name}, which no board of Warden has")
    return short
