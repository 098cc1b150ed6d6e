"""The command sequences of a SUIT manifest: check them, and run them to a plan.

suit.py reads what surrounds them.
"""

from micropython import const

from ..errors import PeerError
from . import cbor, cbor_reader, suit_labels
from .cbor_reader import ARRAY, TEXT
from .suit_plan import Image

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    from .suit_plan import Plan

    Identifier = tuple[bytes, ...]

MAX_COMPONENTS = 4
SEQUENCE_MAX = (1 << 32) - 1

_DEEPEST = const(3)  # sequences inside sequences
_MOST_COMMANDS = const(128)  # in one manifest, counted as often as they run
_MOST_BRANCHES = const(8)
_MOST_URI = const(256)
_UUID = const(16)
_HASH = const(32)
_MOST_INFO = const(64)

# Bits of Machine._held: identifier conditions that held.
_VENDOR_HELD = const(1)
_CLASS_HELD = const(2)
_ALL_HELD = const(3)


class Reader(cbor_reader.Reader):
    """Read the items of a manifest; one of another type is suit-malformed."""

    code = "suit-malformed"


class Target:
    """The device and the slot that a manifest is checked against.

    vendor, class_id: 16 bytes each. slot: the one to write. components: the device's identifiers,
    in its order. must_exceed: what the sequence number must be above. holds(component, digest):
    whether the slot to write holds this image already.
    """

    def __init__(
        self,
        vendor: bytes,
        class_id: bytes,
        slot: int,
        components: "Sequence[Identifier]",
        must_exceed: int,
        holds: "Callable[[int, bytes], bool] | None" = None,
    ) -> None:
        self.vendor = vendor
        self.class_id = class_id
        self.slot = slot
        self.components = components
        self.must_exceed = must_exceed
        self.holds = holds


class Machine:
    """Runs the sequences of one manifest into `plan`.

    components: index in the manifest → index in the device. `_parameters` has those of each
    component.
    """

    def __init__(self, plan: "Plan", target: Target, components: "list[int]") -> None:
        self._plan = plan
        self._target = target
        self._components = components
        self._current: "tuple[int, ...]" = (0,)
        self._count = 0
        self._held = 0
        self._parameters: "list[dict[int, object]]" = [{} for _ in components]

    def run(self, shared: "memoryview | None", sequences: "dict[int, memoryview]") -> None:
        """Run the shared sequence before each of the others."""
        own = {
            suit_labels.INSTALL: suit_labels.DO_FETCH,
            suit_labels.INVOKE: suit_labels.DO_INVOKE,
        }
        order = (suit_labels.INSTALL, suit_labels.VALIDATE, suit_labels.LOAD, suit_labels.INVOKE)
        # All of it is looked at before any of it is obeyed.
        if shared is not None:
            self._check(shared, 0, 0)
        for label in order:
            if label in sequences:
                self._check(sequences[label], own.get(label, 0), 0)
        self._count = 0
        for label in order:
            if label in sequences:
                for sequence in (shared, sequences[label]):
                    if sequence is not None:
                        self._current = (0,)
                        self._run(sequence)

    # -- what may stand in a sequence ---------------------------------------------------------

    def _check(self, sequence: memoryview, own: int, depth: int) -> None:
        """Check a sequence. own: the directive that this sequence alone may hold."""
        if depth > _DEEPEST:
            raise PeerError("suit-limit", "sequences nested too deeply")
        reader = Reader(sequence)
        count = reader.array()
        if count & 1:
            raise PeerError("suit-malformed", "a command without an argument")
        for _ in range(count >> 1):
            self._tally()
            command = reader.integer()
            if command == suit_labels.SET_COMPONENT_INDEX:
                self._indices(reader)
            elif command == suit_labels.OVERRIDE_PARAMETERS:
                _parameters(reader)
            elif command == suit_labels.TRY_EACH:
                branches = reader.array()
                if not 2 <= branches <= _MOST_BRANCHES:
                    raise PeerError("suit-limit", "too few or too many branches")
                for branch in range(branches):
                    if reader.is_null() and branch == branches - 1:
                        reader.null()
                    else:
                        self._check(reader.byte_string(), own, depth + 1)
            elif (
                command
                in (
                    suit_labels.IF_VENDOR,
                    suit_labels.IF_CLASS,
                    suit_labels.IF_IMAGE_MATCH,
                    suit_labels.IF_COMPONENT_SLOT,
                )
                or own
                and command == own
            ):
                if reader.uint() > 15:  # suit-reporting-bits: four of them
                    raise PeerError("suit-malformed", "a reporting policy out of range")
            else:
                raise PeerError("suit-unsupported", "a command that is not used here")
        reader.end()

    def _tally(self) -> None:
        self._count += 1
        if self._count > _MOST_COMMANDS:
            raise PeerError("suit-limit", "too many commands")

    def _indices(self, reader: Reader) -> "tuple[int, ...]":
        """Return the component indices of an IndexArg: a number, several, or true for all."""
        major = reader.peek()
        if major == ARRAY:
            count = reader.array()
            if not 1 <= count <= MAX_COMPONENTS:
                raise PeerError("suit-limit", "too many components, or none")
            found = tuple([reader.uint() for _ in range(count)])
        elif major == 7:
            if not reader.boolean():
                raise PeerError("suit-malformed", "a component index of false")
            found = tuple(range(len(self._components)))
        else:
            found = (reader.uint(),)
        for index in found:
            if index >= len(self._components):
                raise PeerError("suit-malformed", "a component that is not there")
        return found

    # -- running ------------------------------------------------------------------------------

    def _run(self, sequence: memoryview) -> None:
        """Run a sequence that _check() passed."""
        reader = Reader(sequence)
        for _ in range(reader.array() >> 1):
            self._tally()
            command = reader.integer()
            if command == suit_labels.SET_COMPONENT_INDEX:
                self._current = self._indices(reader)
            elif command == suit_labels.OVERRIDE_PARAMETERS:
                values = _parameters(reader)
                for index in self._current:
                    self._parameters[index].update(values)
                self._plan.floor = values.get(suit_labels.WARDEN_FLOOR, self._plan.floor)
            elif command == suit_labels.TRY_EACH:
                branches = []
                for _ in range(reader.array()):
                    branches.append(None if reader.is_null() else reader.byte_string())
                    if branches[-1] is None:
                        reader.null()
                # With several components, each goes through the branches by itself.
                current = self._current
                for index in current:
                    self._current = (index,)
                    self._try(branches)
                self._current = current
            else:
                reader.uint()
                for index in self._current:
                    self._do(command, index)

    def _try(self, branches: "list[memoryview | None]") -> None:
        """Run the first branch whose conditions hold. A failed branch leaves no trace."""
        current = self._current
        for branch in branches:
            if branch is None:
                return
            before = [dict(one) for one in self._parameters]
            images, floor, invoke = len(self._plan.images), self._plan.floor, self._plan.invoke
            held = self._held
            try:
                self._run(branch)
                return
            except PeerError as error:
                if error.code not in ("suit-condition", "wrong-device"):
                    raise
            self._parameters, self._current, self._held = before, current, held
            self._plan.floor, self._plan.invoke = floor, invoke
            del self._plan.images[images:]
        raise PeerError("suit-condition", "no branch fits")

    def _do(self, command: int, index: int) -> None:
        values = self._parameters[index]
        target = self._target
        if command == suit_labels.IF_VENDOR:
            if values.get(suit_labels.VENDOR_ID) != target.vendor:
                raise PeerError("wrong-device", "made for another vendor's devices")
            self._held |= _VENDOR_HELD
        elif command == suit_labels.IF_CLASS:
            if values.get(suit_labels.CLASS_ID) != target.class_id:
                raise PeerError("wrong-device", "made for another class of devices")
            self._held |= _CLASS_HELD
        elif command == suit_labels.IF_COMPONENT_SLOT:
            if values.get(suit_labels.COMPONENT_SLOT) != target.slot:
                raise PeerError("suit-condition", "another slot than the free one")
        elif command == suit_labels.IF_IMAGE_MATCH:
            self._match(values.get(suit_labels.IMAGE_DIGEST), self._components[index])
        elif command == suit_labels.DO_FETCH:
            self._fetch(values, self._components[index])
        else:
            self._plan.invoke = self._components[index]

    def _match(self, digest: object, component: int) -> None:
        """Compare an image to fetch with this digest: the updater verifies it before a boot."""
        for image in self._plan.images:
            if image.component == component:
                if image.digest != digest:
                    raise PeerError("suit-condition", "another image than the one to fetch")
                return
        holds = self._target.holds
        if not isinstance(digest, bytes) or holds is None or not holds(component, digest):
            raise PeerError("suit-condition", "the image is not there")

    def _fetch(self, values: "dict[int, object]", component: int) -> None:
        # All components are this device's, so a condition that held for one holds for each. One
        # that names another vendor or class is refused although no condition compares it.
        target = self._target
        if (
            self._held != _ALL_HELD
            or values.get(suit_labels.VENDOR_ID, target.vendor) != target.vendor
            or values.get(suit_labels.CLASS_ID, target.class_id) != target.class_id
        ):
            raise PeerError("wrong-device", "it does not say that it is for this device")
        wanted, size = values.get(suit_labels.IMAGE_DIGEST), values.get(suit_labels.IMAGE_SIZE)
        address = values.get(suit_labels.URI)
        if not (
            isinstance(wanted, bytes) and isinstance(size, int) and isinstance(address, bytes)
        ):
            raise PeerError("suit-condition", "an image without digest, size or address")
        if values.get(suit_labels.COMPONENT_SLOT, target.slot) != target.slot:
            raise PeerError("suit-condition", "an image for another slot")
        for image in self._plan.images:
            if image.component == component:
                raise PeerError("suit-unsupported", "two images for one component")
        encryption: "Any" = values.get(suit_labels.ENCRYPTION_INFO)
        image = Image()
        image.component, image.digest, image.size = component, wanted, size
        image.uri, image.encryption = address, encryption
        self._plan.images.append(image)


def _parameters(reader: Reader) -> "dict":
    """Return the map of an override-parameters."""
    values: "dict" = {}
    previous = None
    count = reader.mapping()
    for _ in range(count):
        start = reader.at
        label = reader.integer()
        previous = cbor.key_order(previous, reader.view[start : reader.at])
        if label in (suit_labels.VENDOR_ID, suit_labels.CLASS_ID):
            value = bytes(reader.byte_string())
            if len(value) != _UUID:
                raise PeerError("suit-malformed", "an identifier of another length")
            values[label] = value
        elif label == suit_labels.IMAGE_DIGEST:
            values[label] = digest(Reader(reader.byte_string()))
        elif label in (
            suit_labels.COMPONENT_SLOT,
            suit_labels.IMAGE_SIZE,
            suit_labels.WARDEN_FLOOR,
        ):
            values[label] = reader.uint()
            if values[label] > SEQUENCE_MAX:
                raise PeerError("suit-limit", "a number out of range")
        elif label == suit_labels.URI:
            values[label] = uri(reader)
        elif label == suit_labels.ENCRYPTION_INFO:
            # Opened by ota/payload.py, which a plain image does not need.
            view = reader.byte_string()
            if len(view) > _MOST_INFO:
                raise PeerError("suit-limit", "too much about the encryption")
            values[label] = bytes(view)
        else:
            raise PeerError("suit-unsupported", "a parameter that is not used here")
    return values


def uri(reader: Reader) -> bytes:
    start = reader.at
    reader.skip(0)
    view = Reader(reader.view[start : reader.at])
    major, size = view.head()
    if major != TEXT:
        raise PeerError("suit-malformed", "an address that is no text")
    if size > _MOST_URI:
        raise PeerError("suit-limit", "an address is too long")
    return bytes(view.read(size))


def digest(reader: Reader) -> bytes:
    if reader.array() != 2:
        raise PeerError("suit-malformed", "a digest of another form")
    if reader.integer() != suit_labels.SHA_256:
        raise PeerError("suit-unsupported", "a digest other than SHA-256")
    value = bytes(reader.byte_string())
    if len(value) != _HASH:
        raise PeerError("suit-malformed", "a digest of another length")
    reader.end()
    return value
