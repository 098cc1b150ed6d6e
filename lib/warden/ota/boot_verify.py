"""Verify a slot at a start under a strict policy: the signature over the manifest beside it, by
the release keys that the vault holds now, and the hash of the whole image.

The slot record is authenticated by the root key already. This adds that the releases of a key that
was taken from the device do not start, and that what runs is what was signed, whatever wrote the
record.
"""

import hashlib

from micropython import const

from ..errors import PeerError, StoreError
from ..wire import cbor
from .romfs import BLOCK

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..vault import Vault
    from .romfs import Image
    from .slots import Slot, Slots

_HASH = const(32)
_CHUNK = const(1024)


def check_slot(
    vault: "Vault",
    slots: "Slots",
    number: int,
    slot: "Slot",
    images: "list[tuple[str, Image]]",
    feed: "Callable[[], None] | None",
) -> None:
    """Verify the signature of a slot and hash its images.

    images: (name, Image) of the components that are to be mounted
    feed: called after each 4,096 bytes, for a watchdog
    Raises: StoreError slot-unsigned; slot-damaged: a block was changed.
    """
    from .update import run_transient

    plan = run_transient(_signed_plan, vault, slots, number, slot)
    buffer = memoryview(bytearray(_CHUNK))
    files = dict(images)
    for image in plan.images:
        name = slots.names[image.component]
        size, digest, _ = slot.images[image.component]
        if (size, digest) != (image.size, image.digest):
            raise StoreError("slot-unsigned", "the slot holds another image than was signed")
        if name == slots.firmware:
            from .firmware_verify import check_firmware

            check_firmware(slots, number, slot, feed)
            continue
        whole = hashlib.sha256()
        at = 0
        while at < size:
            count = files[name].readinto(at, buffer)
            whole.update(buffer[:count])
            at += count
            if feed is not None and not at % BLOCK:
                feed()
        if whole.digest() != digest:
            raise StoreError("slot-unsigned", "the slot holds another image than was signed")


def _signed_plan(vault: "Vault", slots: "Slots", number: int, slot: "Slot") -> "Any":
    """Return the plan of the manifest beside the slot; the record must name it."""
    from ..wire import suit
    from ..wire.suit_commands import Target
    from ..wire.suit_plan import MAX_ENVELOPE
    from . import key_table
    from .update import verifiers

    release = vault.get("release")
    if release is None:
        raise StoreError("slot-unsigned", "this device has no release key")
    fields: "Any" = cbor.decode(release)
    vendor, class_id, keys = fields
    components = [(name.encode(),) for name in slots.names]
    target = Target(vendor, class_id, number, components, slot.sequence - 1)
    made = verifiers(keys)
    key_table.attach(vault, slots, made)
    file = slots.read(number, slots.names[0] + ".map")
    try:
        file.seek((slot.images[0][0] + BLOCK - 1) // BLOCK * _HASH)
        envelope = file.read(MAX_ENVELOPE + 1)
        plan = suit.process(envelope, made, target)
    except PeerError:
        raise StoreError("slot-unsigned", "no release key signed what the slot holds")
    finally:
        file.close()
    if (plan.sequence, plan.floor, plan.digest) != (slot.sequence, slot.floor, slot.manifest):
        raise StoreError("slot-unsigned", "the manifest beside the slot is another one")
    return plan
