"""Proofs of a device's counters, and the check that detects a flash that was rolled back."""

from dataclasses import dataclass
from typing import NamedTuple


class Proof(NamedTuple):
    """The counters of a device's hello, proven by its ready."""

    boot: int
    connect: int
    vault_gen: int

    @property
    def hello(self) -> tuple[int, int]:
        return self.boot, self.connect


NOTHING_PROVEN = Proof(-1, -1, 0)


@dataclass(slots=True)
class DeviceMark:
    """The highest counters that a device proved to any application; shared by its sessions.

    (boot, connect) orders all hellos of a device, since connect counts those to every application.
    """

    boot: int = 0
    connect: int = 0
    vault_gen: int = 0
    quarantine: str = ""

    def raise_to(self, proof: Proof) -> None:
        """Raise the mark to the proof's counters; none goes down."""
        self.boot, self.connect = max((self.boot, self.connect), (proof.boot, proof.connect))
        self.vault_gen = max(self.vault_gen, proof.vault_gen)

    def reset(self) -> None:
        """Forget counters and quarantine: the owner vouches for the device as it is now."""
        self.boot, self.connect, self.vault_gen, self.quarantine = 0, 0, 0, ""


def is_rollback(proof: Proof, last: Proof, floor: DeviceMark) -> bool:
    """Return whether a live device shows lower counters than before: its flash was rolled back.

    last: the session's last proof. floor: the mark at the moment when the welcome was made, since
    a ready that the broker held back while the device restarted is only late. vault_gen is
    compared in the order of hellos: it may have risen between this hello and a later one that was
    proven first.
    """
    later = proof.hello > (floor.boot, floor.connect)
    return (
        proof.boot < floor.boot
        or proof.vault_gen < last.vault_gen
        or (later and proof.vault_gen < floor.vault_gen)
    )
