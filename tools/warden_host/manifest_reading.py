"""What the members of a manifest say. The bytes are hostile until their signature was checked, and so is every number in them."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import cbor2

from warden_host import jsontext, strictcbor
from warden_host import manifest as suit
from warden_host.errors import HostError
from warden_host.manifest import Draft, Image

_DEEPEST = 3
_MOST_COMMANDS = 128
_CONDITIONS = {
    suit.IF_VENDOR: "vendor is right",
    suit.IF_CLASS: "class is right",
    suit.IF_IMAGE: "image matches",
    suit.IF_SLOT: "slot is right",
    suit.FETCH: "fetch",
    suit.DO_INVOKE: "invoke",
}
_KNOWN = {suit.VERSION, suit.SEQUENCE_NUMBER, suit.COMMON, suit.REFERENCE_URI, suit.TEXT}


_ELEMENTS = (suit.AUTHENTICATION, suit.MANIFEST, suit.INSTALL, suit.TEXT)


@dataclass(frozen=True)
class Parsed:
    """What an envelope says; nothing of it is true before its signature was checked. components: names, or hex where they are no text.
    images: what the fetches outside of branches ask for. commands: sequence → its lines, for people."""

    draft: Draft
    protected: bytes
    algorithm: int
    signature: bytes
    sequence: int
    components: tuple[str, ...]
    images: tuple[Image, ...]
    vendor: bytes
    class_id: bytes
    floor: int
    version: str
    commands: dict[str, list[str]] = field(default_factory=dict)


def parse(data: bytes) -> Parsed:
    """Raises suit-limit, suit-malformed, suit-unsupported, suit-digest, cbor-…, cose-malformed."""
    if len(data) > suit.MAX_ENVELOPE:
        raise HostError(
            "suit-limit", f"more than {suit.MAX_ENVELOPE} bytes are no envelope of ours"
        )
    if data[:2] != suit.ENVELOPE_TAG:
        raise HostError(
            "suit-malformed", "not a SUIT envelope", "name a release, its folder or manifest.suit"
        )
    elements = strictcbor.decode(data[2:])
    _want(isinstance(elements, dict), "the envelope is no map")
    if any(type(key) is not int or key not in _ELEMENTS for key in elements):
        raise HostError("suit-unsupported", "the envelope holds an element that is not used here")
    body, text = elements.get(suit.MANIFEST), elements.get(suit.TEXT, b"")
    _want(
        isinstance(body, bytes) and isinstance(text, bytes),
        "no manifest, or a text of another kind",
    )
    made = Draft(body, text)
    signed = _authentication(elements.get(suit.AUTHENTICATION), made)
    return _read(made, signed, elements.get(suit.INSTALL))


def _authentication(wrapper: Any, made: Draft) -> tuple[bytes, int, bytes]:
    """(protected headers, algorithm, signature), all nothing where there is none."""
    _want(isinstance(wrapper, bytes), "no authentication")
    parts = strictcbor.decode(wrapper)
    _want(
        isinstance(parts, list) and bool(parts) and all(isinstance(one, bytes) for one in parts),
        "an authentication of another form",
    )
    if len(parts) > 2:
        raise HostError("suit-unsupported", "more than one signature")
    signed = strictcbor.decode(parts[0])
    _want(isinstance(signed, list) and len(signed) == 2, "a digest of another form")
    if signed != strictcbor.decode(made.signed):
        raise HostError("suit-digest", "the manifest is not the one that was signed")
    if len(parts) == 1:
        return b"", 0, b""
    if parts[1][:1] != suit.SIGN1_TAG:
        raise HostError("suit-unsupported", "another authentication than COSE_Sign1")
    block = strictcbor.decode(parts[1][1:])
    if not (
        isinstance(block, list)
        and len(block) == 4
        and isinstance(block[0], bytes)
        and block[1:3] == [{}, None]
        and isinstance(block[3], bytes)
    ):
        raise HostError(
            "cose-malformed", "not a detached COSE_Sign1 with all its headers protected"
        )
    headers = strictcbor.decode(block[0])
    if not isinstance(headers, dict) or type(headers.get(1)) is not int or set(headers) - {1, 4}:
        raise HostError("cose-malformed", "protected headers of another form")
    return block[0], headers[1], block[3]


def _want(condition: bool, text: str) -> None:
    if not condition:
        raise HostError("suit-malformed", text)


def _read(made: Draft, signed: tuple[bytes, int, bytes], severed: Any) -> Parsed:
    """severed: the envelope's install element, or None. Raises as parse()."""
    members = strictcbor.decode(made.manifest)
    if not isinstance(members, dict) or members.get(suit.VERSION) != 1:
        raise HostError("suit-unsupported", "no manifest, or one of another version")
    if any(type(key) is not int for key in members) or set(members) - _KNOWN - set(suit.SEQUENCES):
        raise HostError("suit-unsupported", "a member of the manifest that is not used here")
    sequence = members.get(suit.SEQUENCE_NUMBER)
    if not strictcbor.is_u32(sequence):
        raise HostError("suit-malformed", "no sequence number")
    common = _decoded(members.get(suit.COMMON), dict, "no common part")
    if set(common) - {suit.COMPONENTS, suit.SHARED}:
        raise HostError("suit-unsupported", "dependencies")
    components = _components(common.get(suit.COMPONENTS))
    listing = _Listing(components)
    commands = {}
    if suit.SHARED in common:
        commands["shared"] = listing.lines(common[suit.SHARED])
    install = members.get(suit.INSTALL)
    if isinstance(install, list):
        if severed is not None:
            _same(install, severed)
        install = severed
    elif severed is not None:
        raise HostError("suit-digest", "a severed element that the manifest does not know")
    for label, name in suit.SEQUENCES.items():
        content = install if label == suit.INSTALL else members.get(label)
        if content is not None:
            commands[name] = listing.lines(content)
    return Parsed(
        draft=made,
        protected=signed[0],
        algorithm=signed[1],
        signature=signed[2],
        sequence=sequence,
        components=components,
        images=tuple(listing.images()),
        vendor=listing.one(suit.VENDOR_ID),
        class_id=listing.one(suit.CLASS_ID),
        floor=listing.floor,
        version=_version(members.get(suit.TEXT), made.text),
        commands=commands,
    )


class _Listing:
    """Goes through sequences as the device does, and writes down what it meets. Branches are only listed."""

    def __init__(self, components: tuple[str, ...]) -> None:
        self._components = components
        self._parameters: list[dict[int, Any]] = [{} for _ in components]
        self._fetched: list[int] = []
        self._current: tuple[int, ...] = (0,)
        self._count = 0
        self.floor = 0

    def lines(self, content: Any, depth: int = 0) -> list[str]:
        if depth > _DEEPEST:
            raise HostError("suit-limit", "sequences nested too deeply")
        commands = _decoded(content, list, "no sequence of commands")
        if len(commands) % 2:
            raise HostError("suit-malformed", "a command without an argument")
        self._current = (0,) if depth == 0 else self._current
        found: list[str] = []
        for command, argument in zip(commands[::2], commands[1::2], strict=True):
            self._count += 1
            if self._count > _MOST_COMMANDS:
                raise HostError("suit-limit", "too many commands")
            found += self._command(command, argument, depth)
        return found

    def _command(self, command: Any, argument: Any, depth: int) -> list[str]:
        if type(command) is not int:
            raise HostError("suit-malformed", "a command that is no number")
        if command == suit.SET_COMPONENT:
            self._current = self._indices(argument)
            names = ", ".join(self._components[index] for index in self._current)
            return [f"component {names}"]
        if command == suit.OVERRIDE:
            return self._override(argument, depth)
        if command == suit.TRY_EACH:
            if not isinstance(argument, list) or not 2 <= len(argument) <= 8:
                raise HostError("suit-malformed", "too few or too many branches")
            current, found = self._current, ["one of:"]
            for number, branch in enumerate(argument):
                inside = ["nothing"] if branch is None else self.lines(branch, depth + 1)
                self._current = current
                found += [f"  {number + 1}: {line}" for line in inside]
            return found
        if command not in _CONDITIONS or not strictcbor.is_u32(argument) or argument > 15:
            raise HostError("suit-unsupported", "a command that is not used here")
        if command == suit.FETCH and depth == 0:
            self._fetched += self._current
        return [_CONDITIONS[command]]

    def _override(self, argument: Any, depth: int) -> list[str]:
        if not isinstance(argument, dict):
            raise HostError("suit-malformed", "parameters of another form")
        found = []
        for label, value in argument.items():
            shown, kept = _parameter(label, value)
            found.append(f"  {shown}")
            if depth == 0:
                for index in self._current:
                    self._parameters[index][label] = kept
                if label == suit.FLOOR:
                    self.floor = kept
        return found

    def _indices(self, argument: Any) -> tuple[int, ...]:
        count = len(self._components)
        if argument is True:
            return tuple(range(count))
        indices = argument if isinstance(argument, list) else [argument]
        if not 1 <= len(indices) <= suit.MAX_COMPONENTS:
            raise HostError("suit-malformed", "too many components, or none")
        if not all(strictcbor.is_u32(index) and index < count for index in indices):
            raise HostError("suit-malformed", "a component that is not there")
        return tuple(indices)

    def images(self) -> list[Image]:
        if len(set(self._fetched)) != len(self._fetched):
            raise HostError("suit-unsupported", "two images for one component")
        return [
            Image(
                self._components[index],
                values[suit.DIGEST],
                values[suit.SIZE],
                values[suit.URI],
                values.get(suit.ENCRYPTION, b""),
            )
            for index in self._fetched
            for values in [self._parameters[index]]
            if {suit.DIGEST, suit.SIZE, suit.URI} <= set(values)
        ]

    def one(self, label: int) -> bytes:
        """The one value that all components have; none, or several, is nothing."""
        values = {values.get(label, b"") for values in self._parameters}
        return bytes(values.pop()) if len(values) == 1 else b""


def _parameter(label: Any, value: Any) -> tuple[str, Any]:
    """(for people, to be kept)."""
    if label in (suit.VENDOR_ID, suit.CLASS_ID) and isinstance(value, bytes) and len(value) == 16:
        return f"{'vendor' if label == suit.VENDOR_ID else 'class'} = {value.hex()}", value
    if label == suit.DIGEST:
        digest = _digest(_decoded(value, list, "a digest of another form"))
        return f"digest = sha256 {digest.hex()}", digest
    if label in (suit.SLOT, suit.SIZE, suit.FLOOR) and strictcbor.is_u32(value):
        return (
            f"{ {suit.SLOT: 'slot', suit.SIZE: 'size', suit.FLOOR: 'floor'}[label] } = {value}",
            value,
        )
    if label == suit.URI and isinstance(value, str) and len(value.encode()) <= suit.MAX_URI:
        return f"uri = {jsontext.printable(value)}", value
    if label == suit.ENCRYPTION and isinstance(value, bytes) and value[:1] == suit.ENCRYPT0_TAG:
        return f"encrypted, key {_key_name(value).hex()}", value
    raise HostError("suit-unsupported", "a parameter that is not used here")


def _key_name(value: bytes) -> bytes:
    """The kid of a COSE_Encrypt0."""
    block = strictcbor.decode(value[1:])
    if not isinstance(block, list) or len(block) != 3 or block[1:] != [{}, None]:
        raise HostError("cose-malformed", "not a detached COSE_Encrypt0")
    headers = _decoded(block[0], dict, "protected headers of another form")
    kid = headers.get(4)
    if set(headers) != {1, 4} or not isinstance(kid, bytes):
        raise HostError("cose-malformed", "protected headers of another form")
    return kid


def _components(listed: Any) -> tuple[str, ...]:
    if not isinstance(listed, list) or not 1 <= len(listed) <= suit.MAX_COMPONENTS:
        raise HostError("suit-malformed", "no components, or too many")
    found = []
    for parts in listed:
        if (
            not isinstance(parts, list)
            or not parts
            or not all(isinstance(p, bytes) for p in parts)
        ):
            raise HostError("suit-malformed", "a component of another form")
        found.append("/".join(_name(part) for part in parts))
    if len(set(found)) != len(found):
        raise HostError("suit-malformed", "a component twice")
    return tuple(found)


def _name(part: bytes) -> str:
    text = part.decode("ascii", "replace")
    return text if text.isprintable() and text.isascii() else part.hex()


def _version(digest: Any, text: bytes) -> str:
    """What the release calls itself; "" when it says nothing of the kind. Text is for people: no other part of it counts."""
    if digest is None:
        if text:
            raise HostError("suit-digest", "a text that the manifest does not know")
        return ""
    if isinstance(digest, list):
        if text:
            _same(digest, text)
    else:
        raise HostError("suit-unsupported", "a text inside the manifest")
    try:
        # Its keys are lists, which strictcbor.decode has no place for; tags and sizes are what a decoder can be hurt with.
        strictcbor.scan(text or b"\xa0", canonical=False)
        found = cbor2.loads(text or b"\xa0", max_depth=strictcbor.MAX_DEPTH)
    except (HostError, cbor2.CBORError, ValueError, TypeError, RecursionError, MemoryError):
        return ""
    for languages in _values(found):
        for component in _values(languages):
            version = component.get(6) if isinstance(component, dict) else None
            if isinstance(version, str):
                return jsontext.printable(version[:64])
    return ""


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []


def _same(digest: list[Any], content: Any) -> None:
    wanted = _digest(digest)
    if not isinstance(content, bytes):
        raise HostError("suit-malformed", "a severed element of another form")
    if hashlib.sha256(strictcbor.encode(content)).digest() != wanted:
        raise HostError("suit-digest", "a severed element was exchanged")


def _digest(value: list[Any]) -> bytes:
    if len(value) != 2 or value[0] != suit.SHA_256:
        raise HostError("suit-unsupported", "a digest other than SHA-256")
    if not isinstance(value[1], bytes) or len(value[1]) != 32:
        raise HostError("suit-malformed", "a digest of another length")
    return value[1]


def _decoded(value: Any, kind: type[Any], otherwise: str) -> Any:
    if not isinstance(value, bytes):
        raise HostError("suit-malformed", otherwise)
    found = strictcbor.decode(value)
    if not isinstance(found, kind):
        raise HostError("suit-malformed", otherwise)
    return found


def carried(data: bytes) -> bytes:
    """The envelope as a device gets it: the text is for people, and a message has only so much room. Raises as parse()."""
    parse(data)
    elements = strictcbor.decode(data[2:])
    elements.pop(suit.TEXT, None)
    return suit.ENVELOPE_TAG + strictcbor.encode(elements)
