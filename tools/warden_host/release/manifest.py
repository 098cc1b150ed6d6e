"""Write the SUIT manifests (draft-ietf-suit-manifest-37) that Warden's devices install.

manifest_reader parses them, manifest_commands checks their sequences, and manifest_plan works out
what a device does with them. The device has its own processor, described in docs/update.md;
nothing here is shared with it.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import cbor2
from warden_client.protocol import strictcbor

from warden_host.errors import HostError

MAX_ENVELOPE = 8192
MAX_COMPONENTS = 4
MAX_URI = 256
ENVELOPE_TAG, SIGN1_TAG, ENCRYPT0_TAG = b"\xd8\x6b", b"\xd2", b"\xd0"
SHA_256 = -16
# COSE's names; -9 is ES256 for P-256 alone, the same signature.
ALGORITHM_NAMES = {-7: "ES256", -9: "ESP256", -37: "PS256"}

# The envelope and the manifest.
AUTHENTICATION, MANIFEST = 2, 3
VERSION, SEQUENCE_NUMBER, COMMON, REFERENCE_URI = 1, 2, 3, 4
VALIDATE, LOAD, INVOKE, INSTALL, TEXT = 7, 8, 9, 20, 23
COMPONENTS, SHARED = 2, 4
SEQUENCES = {VALIDATE: "validate", LOAD: "load", INVOKE: "invoke", INSTALL: "install"}
# Commands.
IF_VENDOR, IF_CLASS, IF_IMAGE, IF_SLOT = 1, 2, 3, 5
SET_COMPONENT, TRY_EACH, OVERRIDE, FETCH, DO_INVOKE = 12, 15, 20, 21, 23
# Parameters; -1 is Warden's own.
VENDOR_ID, CLASS_ID, DIGEST, SLOT, SIZE, ENCRYPTION, URI, FLOOR = 1, 2, 3, 5, 14, 19, 21, -1
# Reporting policies: record each result of a condition, and the failures of a directive.
_ALWAYS, _ON_FAILURE = 15, 2
_COMPONENT_VERSION = 6  # suit-text-component-version
_LANGUAGE = "en"


@dataclass(frozen=True)
class Image:
    """An image of one component.

    digest, size: of the plain image.
    encryption: COSE_Encrypt0 that names the content key; None for a plain image.
    """

    component: str
    digest: bytes
    size: int
    uri: str
    encryption: bytes | None = None


@dataclass(frozen=True)
class Draft:
    """A manifest without its signature. manifest, text: contents of their byte strings."""

    manifest: bytes
    text: bytes = b""

    @property
    def signed(self) -> bytes:
        """Return the SUIT_Digest of the manifest, which is signed and names the manifest."""
        return suit_digest(strictcbor.encode(self.manifest))

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the manifest."""
        return hashlib.sha256(strictcbor.encode(self.manifest)).digest()

    def to_be_signed(self, algorithm: int) -> bytes:
        """Return the Sig_structure (RFC 9052 §4.4); its headers name the algorithm alone."""
        return self.sig_structure(_protected(algorithm))

    def sig_structure(self, protected: bytes) -> bytes:
        """Return the Sig_structure under these protected headers."""
        return strictcbor.encode(["Signature1", protected, b"", self.signed])

    def envelope(self, algorithm: int = 0, signature: bytes = b"") -> bytes:
        """Return the envelope. Without a signature it is a draft that no device installs."""
        wrapper = [self.signed]
        if signature:
            block = strictcbor.encode([_protected(algorithm), {}, None, signature])
            wrapper.append(SIGN1_TAG + block)
        elements: dict[int, bytes] = {
            AUTHENTICATION: strictcbor.encode(wrapper),
            MANIFEST: self.manifest,
        }
        if self.text:
            elements[TEXT] = self.text
        made = ENVELOPE_TAG + strictcbor.encode(elements)
        if len(made) > MAX_ENVELOPE:
            raise HostError("suit-limit", f"the envelope has {len(made)} bytes of {MAX_ENVELOPE}")
        return made


def draft(
    sequence: int,
    vendor: bytes,
    class_id: bytes,
    images: list[Image],
    floor: int = 0,
    version: str = "",
) -> Draft:
    """Return the manifest that installs these images and invokes the first one's component."""
    shared: list[Any] = []
    install: list[Any] = []
    for index, image in enumerate(images):
        parameters: dict[int, Any] = {
            VENDOR_ID: vendor,
            CLASS_ID: class_id,
            DIGEST: strictcbor.encode([SHA_256, image.digest]),
            SIZE: image.size,
        }
        if floor and index == 0:
            parameters[FLOOR] = floor
        shared += [SET_COMPONENT, index, OVERRIDE, parameters]
        shared += [IF_VENDOR, _ALWAYS, IF_CLASS, _ALWAYS]
        where: dict[int, Any] = {URI: image.uri}
        if image.encryption:
            where[ENCRYPTION] = image.encryption
        install += [SET_COMPONENT, index, OVERRIDE, where]
        install += [FETCH, _ON_FAILURE, IF_IMAGE, _ALWAYS]
    components = [[image.component.encode()] for image in images]
    members: dict[int, Any] = {
        VERSION: 1,
        SEQUENCE_NUMBER: sequence,
        COMMON: strictcbor.encode({COMPONENTS: components, SHARED: strictcbor.encode(shared)}),
        VALIDATE: strictcbor.encode([SET_COMPONENT, True, IF_IMAGE, _ALWAYS]),
        INVOKE: strictcbor.encode([SET_COMPONENT, 0, DO_INVOKE, _ON_FAILURE]),
        INSTALL: strictcbor.encode(install),
    }
    text = b""
    if version:
        # Severed: people read it in the release's file, and devices need not carry it.
        component = tuple(components[0])
        text = cbor2.dumps({_LANGUAGE: {component: {_COMPONENT_VERSION: version}}}, canonical=True)
        members[TEXT] = [SHA_256, hashlib.sha256(strictcbor.encode(text)).digest()]
    return Draft(strictcbor.encode(members), text)


def suit_digest(data: bytes) -> bytes:
    """Return the SUIT_Digest of the data, with SHA-256."""
    return strictcbor.encode([SHA_256, hashlib.sha256(data).digest()])


def _protected(algorithm: int) -> bytes:
    return strictcbor.encode({1: algorithm})
