"""The beginning and the end of each image of an update. Loaded for them, so that its memory is free while the chunks come (ota/download.py).

The updater hands itself over: this is its own code.
"""

import hashlib

from micropython import const

from ..errors import LinkError, StoreError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Iterator

    from ..wire.suit_plan import Plan
    from .download import Slots, Updater
    from .order import Order
    from .slots import SlotRecord

# A peer that sends each chunk in the last moment must not keep an update open for ever.
_LONGEST_MS = const(6 * 3600 * 1000)


def take(updater: "Updater", order: "Order", now_ms: int) -> None:
    plan = order.plan
    if updater._plan is not None or plan is None:
        raise LinkError("update-state", "an update is under way: abort it first")
    updater.sequence, updater.reason = plan.sequence, ""
    updater._key, order.key = order.key, None
    record, slots = updater._record, updater._slots
    try:
        if not record.resumes(plan.slot, plan.digest):
            # Before the record names the manifest: after a cut, old bytes would look like the beginning of its images.
            for name in slots.names:
                slots.remove(plan.slot, name)
                slots.remove(plan.slot, name + ".map")
            record.begin(plan.slot, plan.digest)
    except StoreError as error:
        updater._end("Aborted", error.code)
        raise
    except MemoryError:
        updater._end("Aborted", "out-of-memory")  # and the key is wiped
        raise
    updater._plan, updater._envelope, updater._grant = plan, order.envelope, order.granted
    updater.state = "Downloading"
    updater._image = updater._number = updater._asked = updater._requests = 0
    updater._last = now_ms + _LONGEST_MS
    updater._came = now_ms
    updater._work = opened(updater)


def hand_over(updater: "Updater") -> "tuple[SlotRecord, Slots, Plan, Any, bool]":
    plan = updater._plan
    if plan is None or updater.state != "Verifying":
        raise LinkError("update-state", "there is nothing to verify yet")
    parts = updater._record, updater._slots, plan, updater._envelope, updater._grant
    updater._end("Verifying", "")
    return parts


def opened(updater: "Updater") -> "Iterator[None]":
    """Ready the file of the present image; hash again what a cut download left of it."""
    plan, slots = updater._plan, updater._slots
    if plan is None:
        return
    image = plan.images[updater._image]
    name = slots.names[image.component]
    updater._sha = hashlib.sha256()
    have = slots.size(plan.slot, name)
    if have > image.size:
        have = 0
    updater._left = image.size - have
    half = image.size - image.size // 2
    updater._half = half if updater._left > half else -1
    if image.encryption is not None and updater._key is not None:
        from .payload import Segments

        updater._segments = Segments(updater._key, plan.sequence, name, image)
        updater._segments.start(have)
    if have:
        from .reuse import copy

        file = slots.read(plan.slot, name)
        if not (yield from copy(file, 0, have, None, updater._sha)):
            raise StoreError("slot-damaged", "the slot is shorter than it was")
    if updater._left:
        updater._file = slots.write(plan.slot, name, updater._left < image.size)
        slot = updater._source
        if slot is not None and updater._record.slots[slot].holds(image):
            from .reuse import copy

            at, updater._left, updater._copied = image.size - updater._left, 0, True
            file = slots.read(slot, name)
            yield from copy(file, at, image.size, updater._file, updater._sha)
    updater._next()


def fetched(updater: "Updater") -> "Iterator[None]":
    """An image is there whole: is it the manifest's? Then the next one, or the verification of all."""
    plan, slots = updater._plan, updater._slots
    if plan is None:
        return
    image = plan.images[updater._image]
    if updater._file is not None:
        file, updater._file = updater._file, None
        file.close()
    updater._close_segments()
    yield
    copied, updater._copied = updater._copied, False
    if updater._sha.digest() != image.digest:
        if copied:
            # Not the peer's fault: from now on all of it is fetched.
            updater._source = None
            slots.remove(plan.slot, slots.names[image.component])
            updater._work = opened(updater)
        else:
            # Fetched anew when the manifest comes again, up to three times.
            slots.remove(plan.slot, slots.names[image.component])
            updater._refuse("image-mismatch")
        return
    updater._image += 1
    if updater._image < len(plan.images):
        updater._work = opened(updater)
    else:
        updater.state = "Verifying"
