"""Chooses the slot that runs, and mounts it: before any network, and with as little code as that takes.

    outcome = boot(vault, slots, attempts)

Order: the record, authenticated by the vault → the attempt of a trial, committed and read back → the maps of all components → the mount. So a
trial that crashes, hangs or cuts the power has counted, and after `attempts` of them the slot before boots again. A slot whose map or header is
not what was verified is marked as failed, and the other one is tried.
"""

import vfs
from micropython import const

from .errors import StoreError
from .romfs import Image, RomFS
from .slots import STAGED, TRIAL, SlotRecord

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable, Protocol

    from .vault import Vault

    class Slots(Protocol):
        names: "tuple[str, ...]"

        def lock(self, slot: int) -> None: ...
        def size(self, slot: int, part: str) -> int: ...
        def read(self, slot: int, part: str) -> "Any": ...


class Outcome:
    """mode: "application", a slot is mounted; "factory", no update was ever confirmed, the application that was provisioned runs; "recovery",
    neither slot can run: the agent starts without an application, and takes an update. slot: the one that is mounted. trial: whether it still has to
    be confirmed. failed: the sequence number that was given up at this start, or 0."""

    def __init__(self, mode: str, slot: "int | None", trial: bool, failed: int) -> None:
        self.mode = mode
        self.slot = slot
        self.trial = trial
        self.failed = failed
        self.slots: "Any" = None  # the board's, for the next update


# What this start made of the board's slots; None where it has none.
present: "Outcome | None" = None


def boot(
    vault: "Vault",
    slots: "Slots",
    attempts: int,
    on_damage: "Callable[[int], None] | None" = None,
    mount: "Callable[[Any, str], Any]" = vfs.mount,
) -> Outcome:
    """Mount the components of the slot that the record says, each as /NAME. on_damage(slot) is called when a block is found changed while the
    application runs; the error goes to whoever read it."""
    record = SlotRecord(vault)
    if record.unused:
        return Outcome("factory", None, False, 0)
    failed = 0
    # A trial that was started as often as it may be, and that nobody confirmed.
    for number, slot in enumerate(record.slots):
        if slot.state == TRIAL and slot.attempts >= attempts:
            failed = slot.sequence
            record.fail(number)
    while True:
        chosen = record.choose(attempts)
        if chosen is None:
            # Until an update was confirmed, what was provisioned is the application to fall back to; after that it is an old one.
            return Outcome("recovery" if record.mark else "factory", None, False, failed)
        slot = record.slots[chosen]
        trial = slot.state in (STAGED, TRIAL)
        if trial:
            record.attempt(chosen)
        try:
            mounts = _open(slots, chosen, slot.images, on_damage)
        except StoreError as error:
            if error.code != "slot-damaged":
                raise
            failed = slot.sequence
            record.fail(chosen)
            continue
        slots.lock(chosen)
        for name, filesystem in mounts:
            mount(filesystem, "/" + name)
        return Outcome("application", chosen, trial, failed)


def _open(
    slots: "Slots",
    number: int,
    images: "list[tuple[int, bytes, bytes]]",
    on_damage: "Callable[[int], None] | None",
) -> "list[tuple[str, RomFS]]":
    if len(images) != len(slots.names):
        raise StoreError("slot-damaged", "the slot has other components than this device")
    mounts = []
    for name, (size, _, root) in zip(slots.names, images):  # noqa: B905  (not in MicroPython)
        tell = None if on_damage is None else _teller(on_damage, number)
        image = Image(
            slots.read(number, name), slots.read(number, name + ".map"), size, root, tell
        )
        mounts.append((name, RomFS(image)))
    return mounts


def _teller(on_damage: "Callable[[int], None]", number: int) -> "Callable[[], None]":
    return lambda: on_damage(number)
