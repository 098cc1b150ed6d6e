"""Parse the members of a manifest.

Every byte and number is hostile until the signature is verified.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import cbor2
from warden_client import values
from warden_client.protocol import strictcbor

from warden_host import jsontext
from warden_host.errors import HostError
from warden_host.release import manifest as suit
from warden_host.release import manifest_plan
from warden_host.release.manifest import Draft, Image
from warden_host.release.manifest_commands import (
    Checker,
    decoded,
    digest,
    lines,
    malformed,
    number,
    uri,
)
from warden_host.release.manifest_plan import Plan, Program, Target

_ELEMENTS = (suit.AUTHENTICATION, suit.MANIFEST, suit.INSTALL, suit.TEXT)
_MEMBERS = {suit.VERSION, suit.SEQUENCE_NUMBER, suit.COMMON, suit.REFERENCE_URI, suit.TEXT}
_MOST_PARTS = 4  # of a component's identifier
_ALG, _CRIT, _KID = 1, 2, 4
_KID_BYTES = 8
_MOST_CRITICAL = 8


@dataclass(frozen=True)
class Parsed:
    """The contents of an envelope, not trusted before its signature is verified.

    components: names, or hex where a name is no text.
    plans: what each kind of device that accepts it does, never empty.
    commands: sequence → its lines, for people.
    """

    draft: Draft
    protected: bytes
    algorithm: int
    signature: bytes
    sequence: int
    components: tuple[str, ...]
    plans: tuple[tuple[Target, Plan], ...]
    version: str
    commands: dict[str, list[str]] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """Return the plan that all devices share. Raises suit-unsupported where plans differ."""
        first = self.plans[0][1]
        if any(plan != first for _, plan in self.plans):
            raise HostError(
                "suit-unsupported",
                "what it installs depends on the device or its free slot; nothing was checked",
                "`warden inspect` shows each; make a release with one image for each component",
            )
        return first

    @property
    def images(self) -> tuple[Image, ...]:
        """Return the images of plan; raises as it does."""
        return self.plan.images

    @property
    def floor(self) -> int:
        """Return the lowest sequence number that may boot; raises as plan does."""
        return self.plan.floor

    @property
    def vendor(self) -> bytes:
        """Return the vendor whose devices accept it; b"" for several."""
        found = {target.vendor for target, _ in self.plans}
        return found.pop() if len(found) == 1 else b""

    @property
    def class_id(self) -> bytes:
        """Return the class whose devices accept it; b"" for several."""
        found = {target.class_id for target, _ in self.plans}
        return found.pop() if len(found) == 1 else b""

    @property
    def slots(self) -> tuple[int, ...]:
        """Return the free slots with which devices accept it."""
        return tuple(sorted({target.slot for target, _ in self.plans}))


def parse(data: bytes) -> Parsed:
    """Parse an envelope, signed or not, and refuse what a device refuses apart from the signature.

    Raises the codes of a device that has no manifest yet: suit-…, wrong-device, old-manifest,
    payload-key, cbor-…, cose-malformed, cose-algorithm.
    """
    if len(data) > suit.MAX_ENVELOPE:
        raise HostError(
            "suit-limit", f"more than {suit.MAX_ENVELOPE} bytes are no envelope of ours"
        )
    if data[:2] != suit.ENVELOPE_TAG:
        raise HostError(
            "suit-malformed", "not a SUIT envelope", "name a release, its folder or manifest.suit"
        )
    elements = strictcbor.decode(data[2:])
    if not isinstance(elements, dict):
        raise malformed("the envelope is no map")
    if any(type(key) is not int or key not in _ELEMENTS for key in elements):
        raise HostError("suit-unsupported", "the envelope holds an element that is not used here")
    if not all(isinstance(content, bytes) for content in elements.values()):
        raise malformed("an element of another form")
    if suit.AUTHENTICATION not in elements or suit.MANIFEST not in elements:
        raise malformed("no manifest or no authentication")
    made = Draft(elements[suit.MANIFEST], elements.get(suit.TEXT, b""))
    signed = _authentication(elements[suit.AUTHENTICATION], made)
    return _read(made, signed, elements)


def _authentication(wrapper: bytes, made: Draft) -> tuple[bytes, int, bytes]:
    """Return (protected headers, algorithm, signature), all empty for a draft."""
    parts = decoded(wrapper, list, "an authentication of another form")
    if not parts or not all(isinstance(one, bytes) for one in parts):
        raise malformed("an authentication of another form")
    if len(parts) > 2:
        raise HostError("suit-unsupported", "more than one signature")
    if digest(strictcbor.decode(parts[0])) != made.digest:
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
    return block[0], _algorithm(strictcbor.decode(block[0])), block[3]


def _algorithm(headers: Any) -> int:
    """Return the algorithm of protected headers, by the device's strict profile."""
    if not (
        isinstance(headers, dict)
        and all(type(label) is int for label in headers)
        and set(headers) <= {_ALG, _CRIT, _KID}
        and type(headers.get(_ALG)) is int
        and _is_kid(headers.get(_KID, bytes(_KID_BYTES)))
        and _is_critical(headers.get(_CRIT, [_ALG]), headers)
    ):
        raise HostError("cose-malformed", "protected headers of another form")
    algorithm: int = headers[_ALG]
    if algorithm not in suit.ALGORITHM_NAMES:
        raise HostError("cose-algorithm", "an algorithm that is not used here")
    return algorithm


def _is_kid(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == _KID_BYTES


def _is_critical(value: Any, headers: dict[int, Any]) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= _MOST_CRITICAL
        and all(type(label) is int and label in headers for label in value)
    )


def _read(made: Draft, signed: tuple[bytes, int, bytes], elements: dict[int, bytes]) -> Parsed:
    """Read the manifest's members.

    elements: of the envelope, where severed members are. Raises as parse().
    """
    members = decoded(made.manifest, dict, "no manifest")
    if any(type(key) is not int for key in members):
        raise malformed("a member that is no number")
    if number(members.get(suit.VERSION), "no version") != 1:
        raise HostError("suit-unsupported", "another version of the manifest")
    if set(members) - _MEMBERS - set(suit.SEQUENCES):
        raise HostError("suit-unsupported", "a member of the manifest that is not used here")
    sequence = number(members.get(suit.SEQUENCE_NUMBER), "no sequence number")
    if not strictcbor.is_u32(sequence):
        raise HostError("suit-limit", "a number out of range")
    if not sequence:
        raise HostError("old-manifest", "its number is 0, above which every device is")
    if suit.REFERENCE_URI in members:
        uri(members[suit.REFERENCE_URI])
    common = decoded(members.get(suit.COMMON), dict, "no common part")
    if set(common) - {suit.COMPONENTS, suit.SHARED}:
        raise HostError("suit-unsupported", "dependencies")
    components = _components(common.get(suit.COMPONENTS))
    contents = {
        label: members[label]
        for label in suit.SEQUENCES
        if label in members and label != suit.INSTALL
    } | _severable(members, elements, suit.INSTALL)
    text = _severable(members, elements, suit.TEXT).get(suit.TEXT)
    checker = Checker(len(components))
    shared = checker.sequence(common[suit.SHARED]) if suit.SHARED in common else ()
    sequences = {label: checker.sequence(one, label) for label, one in contents.items()}
    commands = {"shared": lines(shared, components)} if shared else {}
    for label, name in suit.SEQUENCES.items():
        if label in sequences:
            commands[name] = lines(sequences[label], components)
    return Parsed(
        draft=made,
        protected=signed[0],
        algorithm=signed[1],
        signature=signed[2],
        sequence=sequence,
        components=components,
        plans=manifest_plan.plans_of(Program(sequence, components, shared, sequences)),
        version=_version(text),
        commands=commands,
    )


def _severable(
    members: dict[int, Any], elements: dict[int, bytes], label: int
) -> dict[int, bytes]:
    """Return {label: content of the member}; empty where the member is absent.

    The content is in the manifest, or in the envelope when the manifest holds its digest.
    """
    severed = elements.get(label)
    if label not in members:
        if severed is not None:
            raise HostError("suit-digest", "a severed element that the manifest does not know")
        return {}
    if isinstance(members[label], bytes):
        if severed is not None:
            raise HostError("suit-digest", "a severed element that the manifest has itself")
        return {label: members[label]}
    wanted = digest(members[label])
    if severed is None:
        return {}
    if hashlib.sha256(strictcbor.encode(severed)).digest() != wanted:
        raise HostError("suit-digest", "a severed element was exchanged")
    return {label: severed}


def _components(listed: Any) -> tuple[str, ...]:
    if listed is None:
        raise HostError("suit-unsupported", "no components")
    if not isinstance(listed, list):
        raise malformed("components of another form")
    if not 1 <= len(listed) <= suit.MAX_COMPONENTS:
        raise HostError("suit-limit", "too many components, or none")
    for parts in listed:
        if not isinstance(parts, list) or not all(isinstance(part, bytes) for part in parts):
            raise malformed("a component of another form")
        if len(parts) > _MOST_PARTS:
            raise HostError("suit-limit", "a component's identifier is too long")
    found = tuple("/".join(_name(part) for part in parts) for parts in listed)
    if "" in found or len(set(found)) != len(found):
        raise HostError("suit-component", "a component twice, or without a name")
    return found


def _name(part: bytes) -> str:
    text = part.decode("ascii", "replace")
    return text if text.isprintable() and text.isascii() else part.hex()


def _version(text: bytes | None) -> str:
    """Return the version text of the release, for people only; "" where there is none."""
    try:
        # Its keys are lists, which strictcbor.decode refuses; tags and sizes are what can hurt a
        # decoder.
        strictcbor.scan(text or b"\xa0", canonical=False)
        found = cbor2.loads(text or b"\xa0", max_depth=values.MAX_DEPTH)
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


def carried(data: bytes) -> bytes:
    """Return the envelope as devices get it: without the text, to fit in a message.

    Raises as parse().
    """
    parse(data)
    elements = strictcbor.decode(data[2:])
    elements.pop(suit.TEXT, None)
    return suit.ENVELOPE_TAG + strictcbor.encode(elements)
