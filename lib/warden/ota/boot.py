"""Chooses the slot that runs, and mounts it: before any network, and with as little code as that takes.

    outcome = boot(vault, slots, attempts)

Order: the record, authenticated by the vault → the attempt of a trial, committed and read back → the firmware, where the slot has one and another
one runs → the maps of all components → the signature and the whole image once more, where the policy is strict → the mount. So a
trial that crashes, hangs or cuts the power has counted, and after `attempts` of them the slot before boots again. A slot whose map or header is
not what was verified is marked as failed, and the other one is tried. One that can't be read is passed over at this start, and stays what it is.
"""

import vfs
from micropython import const

from .. import unload
from ..errors import PeerError, StoreError
from ..wire import cbor
from .romfs import Image, RomFS
from .slots import CONFIRMED, EMPTY, FAILED, STAGED, TRIAL, SlotRecord

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..vault import Vault
    from .slots import Slot, Slots


class BootResult:
    """mode: "application", a slot is mounted; "factory", no update was ever confirmed, the application that was provisioned runs; "recovery",
    neither slot can run: the agent starts without an application, and takes an update; "switch": the board has to start anew, with another
    firmware. slot: the one that is mounted. trial: whether it still has to be confirmed. failed: the sequence number that was given up at this
    start, or 0, and reason why: trial-failed or an error's code. granted: this trial passes the gate without a code."""

    def __init__(self, mode: str, slot: "int | None", trial: bool, failed: int) -> None:
        self.mode = mode
        self.slot = slot
        self.trial = trial
        self.failed = failed
        self.reason = ""
        self.granted = False
        self.slots: "Any" = None  # the board's, for the next update
        self.order: "Any" = (
            None  # update.Update, whose manifest this start verified (ota/deferred.py)
        )


# What this start made of the board's slots; None where it has none.
present: "BootResult | None" = None


def begin(
    vault: "Vault",
    slots: "Any",
    attempts: int,
    on_damage: "Callable[[int], None]",
    feed: "Callable[[], None] | None",
) -> BootResult:
    """A board's start: boot(), kept as `present`, then the judgement of an update that waits for it (ota/deferred.py)."""
    global present
    outcome = present = boot(vault, slots, attempts, on_damage, feed=feed)
    outcome.slots = slots
    if outcome.mode != "switch" and "parked0" in vault.names():
        try:
            from . import deferred
        except (ImportError, MemoryError):
            return outcome  # the application has nothing to do with it, and starts
        if feed is not None:
            feed()  # a signature may take most of the time that there is
        outcome.order = deferred.unpark(vault, slots, outcome.slot)
        unload("warden.ota.deferred")
    return outcome


def advance(vault: "Vault") -> int:
    """The number of this start, committed. ota/deferred.py may have raised it already: that counts once, for a second agent of the same start raises it again. And for this
    vault: one that was provisioned meanwhile counts from the beginning, and would come to the same number later."""
    order = None if present is None else present.order
    if order is not None:
        number, order.boot = order.boot, 0
        if number and number == vault.counter("boot"):
            return number
    return vault.advance("boot")


def boot(
    vault: "Vault",
    slots: "Slots",
    attempts: int,
    on_damage: "Callable[[int], None] | None" = None,
    mount: "Callable[[Any, str], Any]" = vfs.mount,
    feed: "Callable[[], None] | None" = None,
) -> BootResult:
    """Mount the components of the slot that the record says, each as /NAME. on_damage(slot) is called when a block is found changed while the
    application runs; the error goes to whoever read it. feed() is called a few times a second while much is read, for a watchdog."""
    record = SlotRecord(vault)
    if record.unused:
        return BootResult("factory", None, False, 0)
    # Where slots have a firmware, one try may take two counts: the order to start it, and its start.
    most = attempts * 2 if slots.firmware else attempts
    failed, reason = 0, ""
    unread: "list[int]" = []
    # What was started as often as it may be, and that nobody confirmed; or whose firmware does not start.
    for number, slot in enumerate(record.slots):
        if slot.attempts >= most and (
            slot.state == TRIAL or (slots.firmware and slot.state == CONFIRMED)
        ):
            failed, reason = slot.sequence, "trial-failed"
            _fail(vault, record, slots, number)
    while True:
        chosen = record.choose(most, unread)
        if chosen is None:
            # Until an update was confirmed, what was provisioned is the application to fall back to; after that it is an old one.
            mode = "recovery" if record.mark else "factory"
            if _is_left_over(record, slots):
                mode = "switch"
            outcome = BootResult(mode, None, False, failed)
            outcome.reason = reason
            return outcome
        slot = record.slots[chosen]
        trial = slot.state in (STAGED, TRIAL)
        switch = slots.engaged is not None and slots.engaged != chosen
        if trial:
            try:
                record.attempt(chosen)
            except StoreError as error:
                if error.code != "vault-limit":
                    raise
                # Uncounted it may not start, and nobody else would make room: a trial that filled the flash has failed.
                failed, reason = slot.sequence, error.code
                _fail_and_clear(vault, record, slots, chosen)
                continue
        elif switch or (slots.firmware and slot.attempts):
            record.tally(chosen, switch)
        try:
            if switch:
                from .firmware_verify import check

                check(slots, chosen, slot, feed)
                _start_firmware(slots, chosen)
                return BootResult("switch", chosen, trial, failed)
            mounts = _open(vault, slots, chosen, slot, on_damage, feed)
        except (StoreError, OSError) as error:
            reason = error.code if isinstance(error, StoreError) else "filesystem"
            if reason == "filesystem" and not slots.firmware:
                # The flash's fault, and perhaps for once: but what can't be read must not keep the other slot from starting, nor an update from coming.
                # With firmware it is given up, or each start would order the other one's.
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
            outcome = BootResult("application", chosen, trial, failed)
            outcome.reason, outcome.granted = reason, trial and slot.granted
            return outcome
        failed = slot.sequence
        _fail(vault, record, slots, chosen)


def _fail(vault: "Vault", record: SlotRecord, slots: "Slots", number: int) -> None:
    try:
        record.fail(number)
    except StoreError as error:
        if error.code != "vault-limit":
            raise
        _fail_and_clear(vault, record, slots, number)


def _fail_and_clear(vault: "Vault", record: SlotRecord, slots: "Slots", number: int) -> None:
    """On a flash that is full: what the slot held is worth nothing any more, and makes room for saying so."""
    for name in slots.names:
        if name != slots.firmware:
            slots.remove(number, name)
    vault.open()  # a commit that fails closes it
    record.fail(number)


def _is_left_over(record: SlotRecord, slots: "Slots") -> bool:
    """Whether the firmware that runs is one that failed, and the one that was provisioned is still beside it: then that is to start."""
    engaged = slots.engaged
    if engaged is None or record.slots[engaged].state != FAILED:
        return False
    if record.slots[1 - engaged].state != EMPTY or record.pending is not None:
        return False
    try:
        _start_firmware(slots, 1 - engaged)
    except StoreError:
        return False  # nothing is there that starts
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
    images = []
    for name, (size, _, root) in zip(slots.names, slot.images):  # noqa: B905  (not in MicroPython)
        if name != slots.firmware:  # the chip has started that one
            tell = None if on_damage is None else _teller(on_damage, number)
            map_file = slots.read(number, name + ".map")
            images.append((name, Image(slots.read(number, name), map_file, size, root, tell)))
    if _is_strict(vault):
        from .boot_verify import check

        check(vault, slots, number, slot, images, feed)
    return [(name, RomFS(image)) for name, image in images]


def _is_strict(vault: "Vault") -> bool:
    """Policies of version 1 are not. Anything but a plain no is a yes."""
    data = vault.get("policy")
    if data is None:
        return False
    fields: "Any" = cbor.decode(data)
    return fields.get("strict", False) is not False


def _teller(on_damage: "Callable[[int], None]", number: int) -> "Callable[[], None]":
    return lambda: on_damage(number)
