"""A SUIT manifest processor (draft-ietf-suit-manifest-37) for two slots, sans-IO.

    plan = process(envelope, keys, target)

Gates, in this order: size, form of the envelope, authenticity, version and form of the manifest,
sequence number, severed elements, then the commands. Nothing of the manifest is parsed before a
release key's signature is verified.

All command sequences are checked before one command runs, those in branches that are not taken
too: an unknown command is refused wherever it is, never skipped. Commands are counted and nesting
is bounded.

suit-malformed     not an envelope or a manifest, or a value of the wrong type or range
suit-unsupported   well-formed, but with something that this processor does not do
suit-limit         too large, too many, too deep
suit-digest        a digest that is not that of the manifest or of a severed element
suit-condition     a condition failed, or an image to fetch has no digest, size or address
wrong-device       the vendor's or the class's condition failed or is missing, or another is named
old-manifest       its sequence number is not above the least one wanted
tampered           no release key made the signature; cose-malformed, cose-algorithm: nor could one
"""

import hashlib

from micropython import const

from ..errors import PeerError
from . import cbor, cose, suit_labels
from .cbor_reader import BYTES, TEXT
from .suit_commands import MAX_COMPONENTS, SEQUENCE_MAX, Machine, Reader, Target, digest, uri
from .suit_plan import MAX_ENVELOPE, Plan

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Sequence, Union

    from .cose import Verifier

    Buffer = Union[bytes, bytearray, memoryview]

_MOST_PARTS = const(4)  # of a component's identifier


def process(envelope: "Buffer", keys: "Sequence[Verifier]", target: Target) -> Plan:
    """Verify and run a manifest; return the plan.

    envelope: bytes as received. keys: the release keys. target: this device and the slot to write.

    Raises PeerError with one of the codes above, or cbor-malformed, cbor-not-canonical,
    cbor-limit.
    """
    if len(envelope) > MAX_ENVELOPE:
        raise PeerError("suit-limit", "the envelope is too large")
    elements = _elements(envelope)
    signed = _authenticate(elements, keys)
    manifest = _map(elements[suit_labels.MANIFEST][1])
    if _uint(manifest.pop(suit_labels.VERSION, None), 255) != 1:
        raise PeerError("suit-unsupported", "another version of the manifest")
    plan = Plan()
    plan.digest, plan.slot = signed, target.slot
    plan.sequence = _uint(manifest.pop(suit_labels.SEQUENCE_NUMBER, None), SEQUENCE_MAX)
    plan.images, plan.floor, plan.invoke = [], 0, None
    if plan.sequence <= target.must_exceed:
        raise PeerError("old-manifest", "it is not newer than what this device knows")
    components, shared = _common(manifest.pop(suit_labels.COMMON, None), target)
    sequences = _sequences(manifest, elements)
    Machine(plan, target, components).run(shared, sequences)
    # A part of the components alone would leave a slot that mixes two releases.
    if len(plan.images) != len(target.components):
        raise PeerError("suit-component", "it does not bring every component")
    if plan.floor > plan.sequence:
        raise PeerError("suit-malformed", "a floor above the manifest itself")
    return plan


def _elements(envelope: "Buffer") -> "dict[int, tuple[memoryview, memoryview]]":
    """Return label → (the element with its head, its content) of the envelope.

    An unknown label is refused: nothing authenticates it.
    """
    view = memoryview(envelope)
    if bytes(view[:2]) != suit_labels.ENVELOPE_TAG:
        raise PeerError("suit-malformed", "not a SUIT envelope")
    reader = Reader(view[2:])
    found = {}
    previous = None
    for _ in range(reader.mapping()):
        start = reader.at
        if reader.peek() == TEXT:
            raise PeerError("suit-unsupported", "an integrated payload")
        label = reader.integer()
        previous = cbor.key_order(previous, reader.view[start : reader.at])
        if label not in (
            suit_labels.AUTHENTICATION,
            suit_labels.MANIFEST,
            suit_labels.INSTALL,
            suit_labels.TEXT,
        ):
            raise PeerError("suit-unsupported", "an element that is not used here")
        start = reader.at
        content = reader.byte_string()
        found[label] = (reader.view[start : reader.at], content)
    reader.end()
    if suit_labels.AUTHENTICATION not in found or suit_labels.MANIFEST not in found:
        raise PeerError("suit-malformed", "no manifest or no signature")
    return found


def _authenticate(
    elements: "dict[int, tuple[memoryview, memoryview]]", keys: "Sequence[Verifier]"
) -> bytes:
    """Return the manifest's digest, once a release key has signed it."""
    reader = Reader(elements[suit_labels.AUTHENTICATION][1])
    # Exactly one signature: a second one that we can't check would be unauthenticated bytes.
    if reader.array() != 2:
        raise PeerError("suit-unsupported", "not exactly one signature")
    signed = reader.byte_string()
    block = reader.byte_string()
    reader.end()
    wanted = digest(Reader(signed))
    if bytes(block[:1]) != suit_labels.SIGN1_TAG:
        raise PeerError("suit-unsupported", "another authentication than COSE_Sign1")
    parsed = cose.parse_sign1(block[1:])
    # The digest first: it is cheap, and says more than a signature that fails.
    if hashlib.sha256(elements[suit_labels.MANIFEST][0]).digest() != wanted:
        raise PeerError("suit-digest", "the manifest is not the one that was signed")
    usable = [key for key in keys if parsed.alg in key.algorithms]
    if not usable:
        raise PeerError("cose-algorithm", "no release key is for this algorithm")
    for key in usable:
        try:
            cose.verify_sign1(parsed, key, signed)
            return wanted
        except PeerError as error:
            if error.code != "tampered":
                raise
    raise PeerError("tampered", "no release key made this signature")


def _map(content: memoryview) -> "dict[int, memoryview]":
    """Return label → the item's bytes, of a map with integer keys."""
    reader = Reader(content)
    found = {}
    previous = None
    for _ in range(reader.mapping()):
        start = reader.at
        label = reader.integer()
        previous = cbor.key_order(previous, reader.view[start : reader.at])
        found[label] = reader.skip(4)
    reader.end()
    return found


def _uint(item: "memoryview | None", most: int) -> int:
    if item is None:
        raise PeerError("suit-malformed", "a number is missing")
    value = Reader(item).uint()
    if value > most:
        raise PeerError("suit-limit", "a number out of range")
    return value


def _severable(
    item: "memoryview | None", severed: "tuple[memoryview, memoryview] | None"
) -> "memoryview | None":
    """Return a member's content, from the manifest or, by its digest, from the envelope."""
    if item is None:
        if severed is not None:
            raise PeerError("suit-digest", "an element that the manifest does not know")
        return None
    reader = Reader(item)
    if reader.peek() == BYTES:
        if severed is not None:
            raise PeerError("suit-digest", "an element that the manifest has itself")
        return reader.byte_string()
    wanted = digest(reader)
    if severed is None:
        return None
    if hashlib.sha256(severed[0]).digest() != wanted:
        raise PeerError("suit-digest", "a severed element was exchanged")
    return severed[1]


def _common(item: "memoryview | None", target: Target) -> "tuple[list[int], memoryview | None]":
    """Return the components, as indices of the device's own, and the shared sequence or None."""
    if item is None:
        raise PeerError("suit-malformed", "no common part")
    common = _map(Reader(item).byte_string())
    listed = common.pop(suit_labels.COMPONENTS, None)
    shared = common.pop(suit_labels.SHARED_SEQUENCE, None)
    if common or listed is None:
        raise PeerError("suit-unsupported", "dependencies, or no components")
    reader = Reader(listed)
    count = reader.array()
    if not 1 <= count <= MAX_COMPONENTS:
        raise PeerError("suit-limit", "too many components, or none")
    components: "list[int]" = []
    own = list(target.components)
    for _ in range(count):
        parts = reader.array()
        if parts > _MOST_PARTS:
            raise PeerError("suit-limit", "a component's identifier is too long")
        found = tuple([bytes(reader.byte_string()) for _ in range(parts)])
        if found not in own or own.index(found) in components:
            raise PeerError("suit-component", "a component twice, or none of this device's")
        components.append(own.index(found))
    return components, None if shared is None else Reader(shared).byte_string()


def _sequences(
    manifest: "dict[int, memoryview]", elements: "dict[int, tuple[memoryview, memoryview]]"
) -> "dict[int, memoryview]":
    """Return label → command sequence of the remaining members; refuse every other member."""
    if suit_labels.REFERENCE_URI in manifest:
        uri(Reader(manifest.pop(suit_labels.REFERENCE_URI)))
    found = {}
    for label in (suit_labels.INSTALL, suit_labels.TEXT):
        content = _severable(manifest.pop(label, None), elements.get(label))
        if content is not None and label == suit_labels.INSTALL:
            found[label] = content
    for label in (suit_labels.VALIDATE, suit_labels.LOAD, suit_labels.INVOKE):
        item = manifest.pop(label, None)
        if item is not None:
            found[label] = Reader(item).byte_string()
    if manifest:
        raise PeerError("suit-unsupported", "a member of the manifest that is not used here")
    return found
