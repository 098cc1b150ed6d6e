"""Keep the slot record: the content and the state of both slots, as one authenticated record of
the vault. Sans-IO.

A change of state is one commit of the vault, so a cut leaves the old or the new one. Which slot
boots follows from the record alone (choose(), and the table in docs/update.md).

record `slots`   CBOR [2, failed, pending, [slot, slot]]
failed           the highest sequence number that was tried and failed, or brought an image that
                 did not match
pending          null, or [digest of the manifest that is being installed, how often its image did
                 not match]
slot             [state, attempts, sequence, floor, [[size, digest, root], …], manifest, granted]:
                 an image for each component, the digest of the manifest that brought them, and
                 whether its trial passes the gate that asks for a code. Version 1 lacks the last
                 two
counters         `sequence`: the highest that was ever confirmed; `floor`: nothing below boots
"""

from micropython import const

from ..errors import LinkError, OutOfMemory, PeerError, StoreError, UsageError, WardenError
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable, Protocol, Sequence

    from ..vault import Vault
    from ..wire.suit_plan import Image

    class Slots(Protocol):
        """Two slots, each with a part for each component, NAME, and its map, NAME.map.

        names: the components; firmware: the one that is the firmware itself, None for none
        engaged: the slot whose firmware runs, None for neither
        make_check: (size) → a check of the firmware beside its digest, with update() and finish()
        """

        names: "tuple[str, ...]"
        firmware: "str | None"
        engaged: "int | None"
        make_check: "Callable[[int], Any] | None"

        def lock(self, slot: int) -> None: ...
        def size(self, slot: int, part: str) -> int: ...
        def read(self, slot: int, part: str) -> "Any": ...
        def write(self, slot: int, part: str, resume: bool = False) -> "Any": ...
        def remove(self, slot: int, part: str) -> None: ...
        def room(self, part: str) -> int: ...
        def activate(self, slot: int) -> None: ...
        def settle(self) -> None: ...


# States. The numbers are on flash: a retired one is never used again.
EMPTY = 0
STAGED = 1
TRIAL = 2
CONFIRMED = 3
FAILED = 4

ATTEMPTS_MAX = 255
MAX_TRIES = 3  # of one manifest whose image does not match

_FORMAT = const(2)
_LEAST = const(128)
_ENOSPC = const(28)  # not in the errno module of stock firmware


class Slot:
    """One slot's entry.

    images: (size, digest, root of the block hashes) for each component
    manifest: digest of the manifest that brought them; granted: whether it came with a grant.
      Version 1 of the record lacks both
    """

    def __init__(self, fields: "Sequence[Any]" = (EMPTY, 0, 0, 0, ())) -> None:
        self.state, self.attempts, self.sequence, self.floor, self.images = fields[:5]
        self.manifest: bytes = fields[5] if len(fields) > 5 else b""
        self.granted: bool = len(fields) > 5 and fields[6]

    def fields(self) -> "list[Any]":
        held = [self.state, self.attempts, self.sequence, self.floor, self.images]
        return held + [self.manifest, self.granted]

    def holds(self, image: "Image") -> bool:
        """Return whether the slot holds this very image, by the record."""
        held = self.images[image.component : image.component + 1]
        return [list(one[:2]) for one in held] == [[image.size, image.digest]]


class SlotRecord:
    """The record of an open vault.

    A method that changes it returns after the change was read back from the flash.
    """

    def __init__(self, vault: "Vault") -> None:
        self._vault = vault
        self.failed = 0
        self.pending: "list[Any] | None" = None
        self.slots = (Slot(), Slot())
        self.unused = True
        data = vault.get("slots")
        if data is None:
            return
        try:
            fields: "Any" = cbor.decode(data)
        except PeerError as error:
            if error.code == "cbor-limit":
                raise MemoryError()  # it authenticated, and this device wrote it
            raise StoreError("vault-damaged", "the slot record is malformed")
        # It authenticated, so another form means another version of Warden, not an attack.
        if not isinstance(fields, list) or len(fields) != 4 or fields[0] not in (1, _FORMAT):
            raise StoreError(
                "vault-damaged", "the slots were written by another version of Warden"
            )
        self.unused = False
        _, self.failed, self.pending, slots = fields
        self.slots = (Slot(slots[0]), Slot(slots[1]))

    @property
    def confirmed(self) -> int:
        """Return the highest sequence number that was ever confirmed.

        It rises at a confirmation only, so that an update which never worked does not bar the next
        one.
        """
        return self._vault.counter("sequence")

    @property
    def must_exceed(self) -> int:
        """Return the number that the sequence number of an update must exceed."""
        return max(self.confirmed, self.failed)

    @property
    def floor(self) -> int:
        """Return the sequence number below which no slot boots.

        It is not `confirmed`: falling back to the release before must work.
        """
        return self._vault.counter("floor")

    # -- which slot ---------------------------------------------------------------------------

    def choose(self, attempts: int, unread: "Sequence[int]" = ()) -> "int | None":
        """Return the slot that is to boot, None for neither.

        attempts: how often a trial may start
        unread: slots that could not be read at this start
        """
        best = None
        for number, slot in enumerate(self.slots):
            if slot.sequence < self.floor or number in unread:
                continue
            if slot.state == STAGED or (slot.state == TRIAL and slot.attempts < attempts):
                return number
            if slot.state == CONFIRMED:
                if best is None or slot.sequence > self.slots[best].sequence:
                    best = number
        return best

    def spare(self, running: "int | None", engaged: "int | None" = None) -> int:
        """Return the slot that an update may overwrite.

        running: the slot whose application runs; engaged: the one whose firmware runs; None for
          neither
        Raises: LinkError update-state: the running slot is on trial, and the other slot the way
          back.
        """
        if running is not None:
            if self.slots[running].state != CONFIRMED:
                raise LinkError("update-state", "a slot on trial has no spare beside it")
            return 1 - running
        if engaged is not None:
            return 1 - engaged
        # Nothing runs: a slot that no start would choose, then the older one.
        first, second = self.slots
        if (first.state == CONFIRMED) != (second.state == CONFIRMED):
            return 1 if first.state == CONFIRMED else 0
        return 0 if first.sequence <= second.sequence else 1

    # -- changes ------------------------------------------------------------------------------

    def resumes(self, number: int, manifest: bytes) -> bool:
        """Return whether the slot holds the beginning of this manifest's images."""
        pending = self.pending
        return pending is not None and pending[0] == manifest and self.slots[number].state == EMPTY

    def clear(self, number: int, manifest: bytes) -> None:
        """Empty the slot's entry: no start chooses it, and what it will hold is of this manifest.

        Its files are removed before: after a cut, old bytes would look like the beginning of the
        new ones.
        """
        self._set(number, Slot())
        self.pending = [manifest, 0]
        self._commit()

    def mismatched(self, sequence: int) -> bool:
        """Count an image that is not the manifest's; return whether that refuses it for good."""
        if self.pending is not None:
            self.pending[1] += 1
            if self.pending[1] >= MAX_TRIES:
                self.failed = max(self.failed, sequence)
                self.pending = None
            self._commit()
        return self.pending is None

    def stage(
        self,
        number: int,
        sequence: int,
        floor: int,
        images: "list[tuple[int, bytes, bytes]]",
        granted: bool = False,
    ) -> None:
        """Let the next start try the slot, whose images were read back.

        granted: its trial passes the gate without a code; in the same commit, so that no grant is
          kept without the manifest that it is for
        """
        manifest = self.pending[0] if self.pending is not None else b""
        entries = [list(one) for one in images]
        self._set(number, Slot((STAGED, 0, sequence, floor, entries, manifest, granted)))
        self.pending = None
        self._commit()

    def attempt(self, number: int) -> None:
        """Count one start of a trial.

        The count is written before the slot is touched, so that a trial that hangs has counted,
        too.
        """
        slot = self.slots[number]
        slot.state = TRIAL
        slot.attempts += 1
        self._commit()

    def count_firmware_start(self, number: int, switch: bool) -> None:
        """Count a switch to a confirmed slot's firmware, or clear the count once it started.

        switch: the board is about to restart with it. The count is written before that: a firmware
          that never starts must not be started for ever
        """
        slot = self.slots[number]
        slot.attempts = slot.attempts + 1 if switch else 0
        self._commit()

    def confirm(self, number: int) -> None:
        """Confirm the slot on trial; the counters rise in the same commit."""
        slot = self.slots[number]
        if slot.state != TRIAL:
            raise UsageError("bad-argument", "there is no trial to confirm")
        slot.state, slot.attempts, slot.granted = CONFIRMED, 0, False
        rises = {}
        if slot.sequence > self.confirmed:
            rises["sequence"] = slot.sequence
        if slot.floor > self.floor:
            rises["floor"] = slot.floor
        self._commit(rises)

    def give_up(self, number: int) -> None:
        """End a trial; the next start marks the slot as failed, and reports it once the link is
        up.
        """
        self.slots[number].attempts, self.slots[number].granted = ATTEMPTS_MAX, False
        self._commit()

    def fail(self, number: int) -> None:
        """Mark a slot as failed: it never boots again, and what it held is not installed again."""
        slot = self.slots[number]
        self.failed = max(self.failed, slot.sequence)
        slot.state, slot.granted = FAILED, False
        self._commit()

    # -- inside -------------------------------------------------------------------------------

    def _set(self, number: int, slot: Slot) -> None:
        self.slots = (slot, self.slots[1]) if number == 0 else (self.slots[0], slot)

    def _commit(self, counters: "dict[str, int] | None" = None) -> None:
        slots = [slot.fields() for slot in self.slots]
        data = cbor.encode([_FORMAT, self.failed, self.pending, slots])
        self._vault.commit({"slots": data}, counters)
        if self._vault.get("slots") != data:
            raise StoreError("vault-unwritten", "the flash did not keep the slots' states")
        self.unused = False


def make_buffer() -> memoryview:
    """Return a buffer of 128 to 1,024 bytes to read the flash, as large as the heap allows.

    Raises: MemoryError: there is no piece of 128 bytes.
    """
    size = 1024
    while True:
        try:
            return memoryview(bytearray(size))
        except MemoryError:
            if size == _LEAST:
                raise
            size >>= 1


def update_error(error: "OSError | MemoryError | WardenError") -> WardenError:
    """Return the error that ends an update, as one of Warden."""
    if isinstance(error, WardenError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemory("out-of-memory", "not enough memory for the update")
    full = error.errno == _ENOSPC
    return StoreError("slot-full" if full else "filesystem", "can't write the slot")
