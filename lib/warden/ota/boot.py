"""Choose the slot that runs, and mount it: before any network, and with as little code as that
takes.

    result = start(vault, slots, attempts, access, feed)     called by board/slots.py

Order:
  1. SlotRecord.choose() (ota/slots.py) names the slot, by the record that the vault authenticates
  2. the attempt of a trial is committed and read back
  3. where the slot has a firmware and another one runs: the board restarts with the slot's own
  4. the maps of all components are checked
  5. where the policy is strict: the signature and the whole image are verified once more
  6. the components are mounted

So a trial that crashes, hangs or cuts the power has counted, and after `attempts` of them the slot
before boots again. A slot whose map or header is not what was verified is marked as failed, and
the other slot is tried. A slot that can't be read is passed over at this start, and keeps its
state.

This module is let go of once an agent was built; the result lives on (ota/result.py).
"""

import gc

import vfs
from micropython import const

from .. import unload
from ..errors import PeerError, StoreError
from ..wire import cbor
from . import result as kept
from .result import BootResult
from .slots import CONFIRMED, EMPTY, FAILED, STAGED, TRIAL, SlotRecord

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..vault import Vault
    from .romfs import RomFS
    from .slots import Slot, Slots


def start(
    vault: "Vault",
    slots: "Slots",
    attempts: int,
    access: "Any",
    feed: "Callable[[], None] | None",
) -> BootResult:
    """Run boot(), keep its result, and verify an update that deferred.py kept.

    access: board/slot_access.py
    """
    result = kept.boot_result = boot(vault, slots, attempts, access.give_up, feed=feed)
    result.open_slots = access.open
    if result.mode != "switch" and "parked0" in vault.names():
        try:
            from . import deferred
        except (ImportError, MemoryError):
            return result  # the application does not depend on it, and starts
        if feed is not None:
            feed()  # a signature may take most of the watchdog's time
        result.update = deferred.load(vault, slots, result.slot)
        unload("warden.ota.deferred")
        gc.collect()  # else the agent lies in pieces between what that code left
    return result


def boot(
    vault: "Vault",
    slots: "Slots",
    attempts: int,
    on_damage: "Callable[[int], None] | None" = None,
    mount: "Callable[[Any, str], Any]" = vfs.mount,
    feed: "Callable[[], None] | None" = None,
) -> BootResult:
    """Mount the components of the slot that the record names, each as /NAME.

    attempts: how often a trial may start
    on_damage: called with the slot when a block is found changed while the application runs; the
      error is raised to the reader
    mount: vfs.mount or a test's
    feed: called a few times a second while much is read, for a watchdog
    """
    record = SlotRecord(vault)
    if record.unused:
        return BootResult("factory", None, False, 0)
    # Where slots have a firmware, one try may take two counts: the order to start it, and its
    # start.
    most = attempts * 2 if slots.firmware else attempts
    failed, reason = 0, ""
    unread: "list[int]" = []
    # Started as often as it may be and never confirmed; or its firmware does not start.
    for number, slot in enumerate(record.slots):
        if slot.attempts >= most and (
            slot.state == TRIAL or (slots.firmware and slot.state == CONFIRMED)
        ):
            failed, reason = slot.sequence, "trial-failed"
            _fail(record, slots, number)
    while True:
        chosen = record.choose(most, unread)
        if chosen is None:
            # Until an update was confirmed, the application that was provisioned is the one to
            # fall back to; afterwards it is an old one.
            mode = "recovery" if record.confirmed else "factory"
            if _is_left_over(record, slots):
                mode = "switch"
            result = BootResult(mode, None, False, failed)
            result.reason = reason
            return result
        slot = record.slots[chosen]
        trial = slot.state in (STAGED, TRIAL)
        switch = slots.engaged is not None and slots.engaged != chosen
        if trial:
            try:
                record.attempt(chosen)
            except StoreError as error:
                if error.code != "vault-limit":
                    raise
                # A trial may not start uncounted, and nothing else would make room: one that
                # filled the flash has failed.
                failed, reason = slot.sequence, error.code
                _fail_and_clear(record, slots, chosen)
                continue
        elif switch or (slots.firmware and slot.attempts):
            record.count_firmware_start(chosen, switch)
        try:
            if switch:
                from .firmware_verify import check_firmware

                check_firmware(slots, chosen, slot, feed)
                _start_firmware(slots, chosen)
                return BootResult("switch", chosen, trial, failed)
            mounts = _open(vault, slots, chosen, slot, on_damage, feed)
        except (StoreError, OSError) as error:
            reason = error.code if isinstance(error, StoreError) else "filesystem"
            if reason == "filesystem" and not slots.firmware:
                # The flash failed, perhaps once: what can't be read must keep neither the other
                # slot from starting nor an update from coming. With firmware the slot is given up,
                # or each start would switch to the other slot's.
                unread.append(chosen)
                continue
            if reason not in ("slot-damaged", "slot-unsigned", "filesystem"):
                raise
        else:
            slots.lock(chosen)
            if not trial:
                slots.settle()
            for name, filesystem in mounts:
                mount(filesystem, "/" + name)
            result = BootResult("application", chosen, trial, failed)
            result.reason, result.granted = reason, trial and slot.granted
            return result
        failed = slot.sequence
        _fail(record, slots, chosen)


def _fail(record: SlotRecord, slots: "Slots", number: int) -> None:
    try:
        record.fail(number)
    except StoreError as error:
        if error.code != "vault-limit":
            raise
        _fail_and_clear(record, slots, number)


def _fail_and_clear(record: SlotRecord, slots: "Slots", number: int) -> None:
    """Remove the images of a failed slot from a full flash, to make room for its record."""
    for name in slots.names:
        if name != slots.firmware:
            slots.remove(number, name)
    record.fail(number)


def _is_left_over(record: SlotRecord, slots: "Slots") -> bool:
    """Return whether the firmware that runs failed and the provisioned one was told to start."""
    engaged = slots.engaged
    if engaged is None or record.slots[engaged].state != FAILED:
        return False
    if record.slots[1 - engaged].state != EMPTY or record.pending is not None:
        return False
    try:
        _start_firmware(slots, 1 - engaged)
    except StoreError:
        return False  # the other partition holds no firmware that starts
    return True


def _start_firmware(slots: "Slots", number: int) -> None:
    try:
        slots.activate(number)
    except PeerError:
        raise StoreError("slot-damaged", "the chip's own check refuses the firmware")


def _open(
    vault: "Vault",
    slots: "Slots",
    number: int,
    slot: "Slot",
    on_damage: "Callable[[int], None] | None",
    feed: "Callable[[], None] | None",
) -> "list[tuple[str, RomFS]]":
    if len(slot.images) != len(slots.names):
        raise StoreError("slot-damaged", "the slot has other components than this device")
    from .romfs import Image, RomFS

    images = []
    for name, (size, _, root) in zip(slots.names, slot.images):  # noqa: B905  (not in MicroPython)
        if name != slots.firmware:  # the chip has started that one
            map_file = slots.read(number, name + ".map")
            damage = None if on_damage is None else (on_damage, number)
            images.append((name, Image(slots.read(number, name), map_file, size, root, damage)))
    if _is_strict(vault):
        from .boot_verify import check_slot

        check_slot(vault, slots, number, slot, images, feed)
        del check_slot
        unload("warden.ota.boot_verify")
    return [(name, RomFS(image)) for name, image in images]


def _is_strict(vault: "Vault") -> bool:
    """Return whether the policy is strict: not in version 1, and on any value but a plain no."""
    data = vault.get("policy")
    if data is None:
        return False
    fields: "Any" = cbor.decode(data)
    return fields.get("strict", False) is not False
