"""Check the command sequences of a manifest as a device does before it runs any."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from warden_client.protocol import strictcbor

from warden_host import jsontext
from warden_host.errors import HostError
from warden_host.release import manifest as suit
from warden_host.release import payload

_DEEPEST = 3  # sequences inside sequences
MOST_COMMANDS = 128  # in one manifest, and again as often as they run
_MOST_BRANCHES = 8
_MOST_POLICY = 15  # suit-reporting-bits: four of them
_UUID, _HASH = 16, 32
_MAX_NUMBER = (1 << 32) - 1
_MAX_ENCRYPTION = 64
# The directive that one sequence alone may hold.
_OWN = {suit.INSTALL: suit.FETCH, suit.INVOKE: suit.DO_INVOKE}
_CONDITIONS = (suit.IF_VENDOR, suit.IF_CLASS, suit.IF_IMAGE, suit.IF_SLOT)
_WORDS = {
    suit.IF_VENDOR: "vendor is right",
    suit.IF_CLASS: "class is right",
    suit.IF_IMAGE: "image matches",
    suit.IF_SLOT: "slot is right",
    suit.FETCH: "fetch",
    suit.DO_INVOKE: "invoke",
}


@dataclass(frozen=True)
class Command:
    """A command of a checked sequence.

    argument: component indices (12), parameters by label (20), branches, None for nil (15), else
    the reporting policy. Digests are bare, URIs are text.
    """

    label: int
    argument: Any  # its type follows from the label


Sequence = tuple[Command, ...]


class Checker:
    """Check the sequences of one manifest, which share one limit of commands."""

    def __init__(self, components: int) -> None:
        self._components = components
        self._count = 0

    def sequence(self, content: Any, label: int = 0) -> Sequence:
        """Return the commands of a sequence.

        label: its member of the manifest, 0 for the shared one.

        Raises suit-malformed, suit-unsupported, suit-limit, cbor-….
        """
        return self._sequence(content, _OWN.get(label, 0), 0)

    def _sequence(self, content: Any, own: int, depth: int) -> Sequence:
        if depth > _DEEPEST:
            raise HostError("suit-limit", "sequences nested too deeply")
        items = decoded(content, list, "no sequence of commands")
        if len(items) % 2:
            raise malformed("a command without an argument")
        found = []
        for label, argument in zip(items[::2], items[1::2], strict=True):
            self._count += 1
            if self._count > MOST_COMMANDS:
                raise HostError("suit-limit", "too many commands")
            found.append(Command(label, self._argument(label, argument, own, depth)))
        return tuple(found)

    def _argument(self, label: Any, argument: Any, own: int, depth: int) -> Any:
        if type(label) is not int:
            raise malformed("a command that is no number")
        if label == suit.SET_COMPONENT:
            return self._indices(argument)
        if label == suit.OVERRIDE:
            if not isinstance(argument, dict):
                raise malformed("parameters of another form")
            return {key: _parameter(key, value) for key, value in argument.items()}
        if label == suit.TRY_EACH:
            return self._branches(argument, own, depth)
        if label not in _CONDITIONS and (not own or label != own):
            raise HostError("suit-unsupported", "a command that is not used here")
        if number(argument, "a reporting policy of another form") > _MOST_POLICY:
            raise malformed("a reporting policy out of range")
        return argument

    def _branches(self, argument: Any, own: int, depth: int) -> tuple[Sequence | None, ...]:
        if not isinstance(argument, list):
            raise malformed("branches of another form")
        if not 2 <= len(argument) <= _MOST_BRANCHES:
            raise HostError("suit-limit", "too few or too many branches")
        nil = argument[-1] is None
        found: list[Sequence | None] = [
            self._sequence(one, own, depth + 1) for one in (argument[:-1] if nil else argument)
        ]
        return (*found, None) if nil else tuple(found)

    def _indices(self, argument: Any) -> tuple[int, ...]:
        """Return component indices of an IndexArg: a number, several, or true for all."""
        if argument is True:
            return tuple(range(self._components))
        indices = argument if isinstance(argument, list) else [argument]
        if not 1 <= len(indices) <= suit.MAX_COMPONENTS:
            raise HostError("suit-limit", "too many components, or none")
        if any(
            number(index, "a component index of another form") >= self._components
            for index in indices
        ):
            raise malformed("a component that is not there")
        return tuple(indices)


def values_of(sequences: "Iterator[Sequence] | list[Sequence]", label: int) -> set[Any]:
    """Return all values that override-parameters set for a parameter, branches included."""
    found: set[Any] = set()
    for sequence in sequences:
        for one in sequence:
            if one.label == suit.OVERRIDE and label in one.argument:
                found.add(one.argument[label])
            elif one.label == suit.TRY_EACH:
                found |= values_of([branch for branch in one.argument if branch], label)
    return found


def lines(sequence: Sequence, components: tuple[str, ...]) -> list[str]:
    """Return a sequence for people, a line for each command and parameter."""
    found: list[str] = []
    for one in sequence:
        if one.label == suit.SET_COMPONENT:
            found.append("component " + ", ".join(components[index] for index in one.argument))
        elif one.label == suit.OVERRIDE:
            found += [f"  {_shown(label, value)}" for label, value in one.argument.items()]
        elif one.label == suit.TRY_EACH:
            found.append("one of:")
            for place, branch in enumerate(one.argument, 1):
                inside = ["nothing"] if branch is None else lines(branch, components)
                found += [f"  {place}: {line}" for line in inside]
        else:
            found.append(_WORDS[one.label])
    return found


def _parameter(label: Any, value: Any) -> Any:
    if type(label) is not int:
        raise malformed("a parameter that is no number")
    if label in (suit.VENDOR_ID, suit.CLASS_ID):
        if not isinstance(value, bytes) or len(value) != _UUID:
            raise malformed("an identifier of another form")
        return value
    if label == suit.DIGEST:
        return digest(decoded(value, list, "a digest of another form"))
    if label in (suit.SLOT, suit.SIZE, suit.FLOOR):
        if number(value, "a parameter of another form") > _MAX_NUMBER:
            raise HostError("suit-limit", "a number out of range")
        return value
    if label == suit.URI:
        return uri(value)
    if label == suit.ENCRYPTION:
        if not isinstance(value, bytes):
            raise malformed("a parameter of another form")
        if len(value) > _MAX_ENCRYPTION:
            raise HostError("suit-limit", "too much about the encryption")
        return value
    raise HostError("suit-unsupported", "a parameter that is not used here")


def _shown(label: int, value: Any) -> str:
    if label in (suit.VENDOR_ID, suit.CLASS_ID):
        return f"{'vendor' if label == suit.VENDOR_ID else 'class'} = {value.hex()}"
    if label == suit.DIGEST:
        return f"digest = sha256 {value.hex()}"
    if label == suit.URI:
        return f"uri = {jsontext.printable(value)}"
    if label == suit.ENCRYPTION:
        kid = payload.key_name(value)
        return f"encrypted, key {kid.hex()}" if kid else f"encrypted in another way: {value.hex()}"
    return f"{ {suit.SLOT: 'slot', suit.SIZE: 'size', suit.FLOOR: 'floor'}[label] } = {value}"


# What the members of a manifest share with its commands. True is no number here, and 1.0 neither.


def malformed(text: str) -> HostError:
    return HostError("suit-malformed", text)


def number(value: Any, otherwise: str) -> int:
    """Return an unsigned integer, of at most 64 bits as strictcbor decodes it."""
    if type(value) is not int or value < 0:
        raise malformed(otherwise)
    return value


def uri(value: Any) -> str:
    if not isinstance(value, str):
        raise malformed("an address that is no text")
    if len(value.encode()) > suit.MAX_URI:
        raise HostError("suit-limit", "an address is too long")
    return value


def digest(value: Any) -> bytes:
    """Return the bytes of a SUIT_Digest, which must be SHA-256's."""
    if not isinstance(value, list) or len(value) != 2 or type(value[0]) is not int:
        raise malformed("a digest of another form")
    if value[0] != suit.SHA_256:
        raise HostError("suit-unsupported", "a digest other than SHA-256")
    if not isinstance(value[1], bytes) or len(value[1]) != _HASH:
        raise malformed("a digest of another length")
    return value[1]


def decoded(value: Any, kind: type[Any], otherwise: str) -> Any:
    """Return the item inside a byte string, which must be of this kind."""
    if not isinstance(value, bytes):
        raise malformed(otherwise)
    found = strictcbor.decode(value)
    if not isinstance(found, kind):
        raise malformed(otherwise)
    return found
