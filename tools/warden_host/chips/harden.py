"""Burn the chosen steps of a plan, one after the other; a repeat continues where it was cut."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from warden_host.chips import fuse_plan, signed
from warden_host.chips.chip import Board
from warden_host.chips.fuse_plan import DONE, OPEN, REFUSED, Step
from warden_host.chips.fuses import Fuses
from warden_host.errors import HostError

_KEY_BYTES = 32


@dataclass(frozen=True)
class SecureBoot:
    """public_key: PEM. firmware: the whole signed image, as it lies in flash."""

    public_key: bytes
    firmware: bytes


class Hardening:
    """The plan for one chip. boot: for secure boot. off: end the download mode.

    adopt: hide and use a key that software could read until now.

    Raises wrong-board where the chip is not the board's; bad-firmware where the firmware is not
    signed by the key.
    """

    def __init__(
        self,
        fuses: Fuses,
        board: Board,
        boot: SecureBoot | None = None,
        off: bool = False,
        adopt: bool = False,
    ) -> None:
        if fuses.chip != board.chip:
            raise HostError(
                "wrong-board",
                f"the chip is an {fuses.chip}, and {board.name} has an {board.chip}",
                "name the board that is at this port",
            )
        self._fuses = fuses
        self._board = board
        self._boot = boot
        self._off = off
        self._adopt = adopt
        self._digest = None
        if boot is not None:
            self._digest = signed.digest(boot.public_key, board.chip)
            signed.check(boot.firmware, boot.public_key, board)

    def plan(self) -> list[Step]:
        """Return all steps, in the order in which they are burnt."""
        return fuse_plan.plan(self._fuses, self._digest, self._off, self._adopt)

    def check(self, names: Sequence[str]) -> list[Step]:
        """Return the steps of these names that are open. Raises not-applicable, flash-differs."""
        chosen = [step for step in self.plan() if step.name in names]
        for step in chosen:
            if step.state == REFUSED:
                raise HostError("not-applicable", f"{step.name}: {step.says}")
        left = [step for step in chosen if step.state == OPEN]
        if any(step.name == "secure-boot" for step in left) and not self._fuses.virtual:
            self._check_flash()
        return left

    def burn(self, names: Sequence[str], report: Callable[[Step], None]) -> list[str]:
        """Burn the steps of these names that are open; return their names.

        report: called with each step after it is burnt and read back.
        Raises as check(); fuses-failed.
        """
        burnt = []
        for name in [step.name for step in self.check(names)]:
            # Planned again: a step before this one may have taken the block.
            step = next(one for one in self.plan() if one.name == name)
            self._burn(step)
            last = name == "download-mode"
            if not last or self._fuses.virtual:  # a restricted chip tells nothing more
                step = next(one for one in self.plan() if one.name == name)
                if step.state != DONE:
                    raise HostError("fuses-failed", f"{name}: the chip does not say it is burnt")
            report(step)
            burnt.append(name)
        return burnt

    def _burn(self, step: Step) -> None:
        fuses = self._fuses
        if step.name == "secure-boot":
            self._burn_secure_boot(step)
        elif step.name == "download-mode":
            *first, last = step.values
            fuses.burn(dict(first))
            fuses.burn(dict([last]))
        elif step.name == "jtag":
            fuses.burn(dict(step.values))
        else:
            self._burn_hidden_key(step)

    def _burn_hidden_key(self, step: Step) -> None:
        """Burn a key that is made here, and is nowhere else afterwards."""
        fuses = self._fuses
        purpose = fuse_plan.ROOT if step.name == "root-key" else fuse_plan.ENCRYPTION
        if fuses.readable(step.block):
            if any(fuses.data(step.block)):
                fuses.hide(step.block)
            else:
                fuses.burn_key(step.block, purpose, secrets.token_bytes(_KEY_BYTES))
        fuses.burn(dict(step.values))

    def _burn_secure_boot(self, step: Step) -> None:
        """Burn the digest, read it back, and only then switch secure boot on."""
        fuses, digest = self._fuses, self._digest
        if digest is not None and fuses.data(step.block) != digest:
            fuses.burn_key(step.block, fuse_plan.DIGEST, digest)
            if fuses.data(step.block) != digest:
                raise HostError("fuses-failed", "the chip gives back another digest of the key")
        fuses.burn(dict(step.values))
        fuses.keep("RD_DIS")

    def _check_flash(self) -> None:
        at = self._board.facts.firmware_at
        if self._boot is not None and not self._fuses.flash_holds(at, self._boot.firmware):
            raise HostError(
                "flash-differs",
                "the flash does not hold this signed firmware: the chip would not start again",
            )
