"""Work out what a device does with a manifest, by running its sequences as a device does.

The parameters in force at each directive count. A branch that fails leaves no trace.
Nothing here is shared with the device: tests run the same manifests on both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from warden_host.errors import HostError
from warden_host.release import manifest as suit
from warden_host.release import payload
from warden_host.release.manifest import Image
from warden_host.release.manifest_commands import (
    MOST_COMMANDS,
    Command,
    Sequence,
    malformed,
    values_of,
)

_ORDER = (suit.INSTALL, suit.VALIDATE, suit.LOAD, suit.INVOKE)
_SLOTS = (0, 1)
_MOST_IDENTITIES = 16
_CONDITION_FAILED = ("suit-condition", "wrong-device")


@dataclass(frozen=True)
class Target:
    """A device as a manifest sees it. vendor, class_id: 16 bytes each. slot: the free one."""

    vendor: bytes
    class_id: bytes
    slot: int


@dataclass(frozen=True)
class Plan:
    """What one device does.

    images: in the order of fetching. floor: 0 for none. invoke: a component.
    """

    images: tuple[Image, ...]
    floor: int
    invoke: str | None


@dataclass(frozen=True)
class Program:
    """The checked commands of a manifest. sequences: by the labels of manifest.SEQUENCES."""

    sequence: int
    components: tuple[str, ...]
    shared: Sequence
    sequences: Mapping[int, Sequence]


def plans_of(program: Program) -> tuple[tuple[Target, Plan], ...]:
    """Return the plan of each kind of device that accepts the manifest, by identity and free slot.

    A device refuses a manifest that does not name its vendor and class, so no other kind accepts
    it.
    Raises the refusal of the first kind where each kind refuses; suit-unsupported for too many
    kinds.
    """
    parts = [program.shared, *program.sequences.values()]
    vendors = sorted(values_of(parts, suit.VENDOR_ID)) or [b""]
    classes = sorted(values_of(parts, suit.CLASS_ID)) or [b""]
    if len(vendors) * len(classes) > _MOST_IDENTITIES:
        raise HostError("suit-unsupported", "it is for too many kinds of devices")
    found: list[tuple[Target, Plan]] = []
    refusal: HostError | None = None
    for vendor, class_id, slot in product(vendors, classes, _SLOTS):
        target = Target(vendor, class_id, slot)
        try:
            found.append((target, plan_for(program, target)))
        except HostError as error:
            refusal = refusal or error
    if refusal is not None and not found:
        raise refusal
    return tuple(found)


def plan_for(program: Program, target: Target) -> Plan:
    """Return what a device of this kind does.

    Raises the code with which the device refuses: wrong-device, suit-condition, suit-unsupported,
    suit-limit, suit-component, suit-malformed, payload-key.
    """
    machine = _Machine(program, target)
    machine.run()
    state = machine.state
    if len(state.images) != len(program.components):
        raise HostError("suit-component", "it does not bring every component")
    if state.floor > program.sequence:
        raise malformed("a floor above the manifest itself")
    images = tuple(state.images.values())
    if any(not one.size for one in images):
        raise HostError("suit-condition", "an empty image")
    names = {payload.key_name(one.encryption) for one in images if one.encryption is not None}
    if None in names:
        raise HostError("suit-unsupported", "encrypted in a way that is not known here")
    if len(names) > 1:
        raise HostError("payload-key", "two images under two keys")
    invoke = None if state.invoke is None else program.components[state.invoke]
    return Plan(images, state.floor, invoke)


@dataclass(frozen=True)
class _State:
    """The state of a run.

    parameters: of each component. held: identifier conditions that held. images: by component.
    """

    parameters: tuple[Mapping[int, Any], ...]
    held: frozenset[int] = frozenset()
    images: Mapping[int, Image] = field(default_factory=dict)
    floor: int = 0
    invoke: int | None = None


class _Machine:
    """Run the sequences for one target. Its state is replaced whole, so a branch can be undone."""

    def __init__(self, program: Program, target: Target) -> None:
        self._program = program
        self._target = target
        self._current: tuple[int, ...] = (0,)
        self._count = 0
        self.state = _State(tuple({} for _ in program.components))

    def run(self) -> None:
        """Run each sequence after the shared one."""
        for label in _ORDER:
            if label in self._program.sequences:
                for sequence in (self._program.shared, self._program.sequences[label]):
                    self._current = (0,)
                    self._run(sequence)

    def _run(self, sequence: Sequence) -> None:
        for command in sequence:
            self._count += 1
            if self._count > MOST_COMMANDS:
                raise HostError("suit-limit", "too many commands")
            if command.label == suit.SET_COMPONENT:
                self._current = command.argument
            elif command.label == suit.OVERRIDE:
                self._override(command.argument)
            elif command.label == suit.TRY_EACH:
                # Each component goes through the branches by itself.
                current = self._current
                for index in current:
                    self._try(index, command.argument)
                self._current = current
            else:
                for index in self._current:
                    self._do(command, index)

    def _override(self, values: Mapping[int, Any]) -> None:
        parameters = list(self.state.parameters)
        for index in self._current:
            parameters[index] = {**parameters[index], **values}
        floor = values.get(suit.FLOOR, self.state.floor)
        self.state = replace(self.state, parameters=tuple(parameters), floor=floor)

    def _try(self, index: int, branches: tuple[Sequence | None, ...]) -> None:
        """Run the first branch whose conditions hold; nil always does."""
        before = self.state
        for branch in branches:
            self._current = (index,)
            try:
                return self._run(branch or ())
            except HostError as error:
                if error.code not in _CONDITION_FAILED:
                    raise
            self.state = before
        raise HostError("suit-condition", "no branch fits")

    def _do(self, command: Command, index: int) -> None:
        values, target = self.state.parameters[index], self._target
        if command.label == suit.IF_VENDOR:
            if values.get(suit.VENDOR_ID) != target.vendor:
                raise HostError("wrong-device", "made for another vendor's devices")
            self.state = replace(self.state, held=self.state.held | {suit.IF_VENDOR})
        elif command.label == suit.IF_CLASS:
            if values.get(suit.CLASS_ID) != target.class_id:
                raise HostError("wrong-device", "made for another class of devices")
            self.state = replace(self.state, held=self.state.held | {suit.IF_CLASS})
        elif command.label == suit.IF_SLOT:
            if values.get(suit.SLOT) != target.slot:
                raise HostError("suit-condition", "another slot than the free one")
        elif command.label == suit.IF_IMAGE:
            # The free slot holds nothing before the fetch.
            image = self.state.images.get(index)
            if image is None or image.digest != values.get(suit.DIGEST):
                raise HostError("suit-condition", "another image than the one to fetch")
        elif command.label == suit.FETCH:
            self._fetch(values, index)
        else:
            self.state = replace(self.state, invoke=index)

    def _fetch(self, values: Mapping[int, Any], index: int) -> None:
        target = self._target
        if (
            len(self.state.held) != 2
            or values.get(suit.VENDOR_ID, target.vendor) != target.vendor
            or values.get(suit.CLASS_ID, target.class_id) != target.class_id
        ):
            raise HostError("wrong-device", "it does not say for which devices it is")
        if not {suit.DIGEST, suit.SIZE, suit.URI} <= set(values):
            raise HostError("suit-condition", "an image without digest, size or address")
        if values.get(suit.SLOT, target.slot) != target.slot:
            raise HostError("suit-condition", "an image for another slot")
        if index in self.state.images:
            raise HostError("suit-unsupported", "two images for one component")
        image = Image(
            self._program.components[index],
            values[suit.DIGEST],
            values[suit.SIZE],
            values[suit.URI],
            values.get(suit.ENCRYPTION),
        )
        self.state = replace(self.state, images={**self.state.images, index: image})
