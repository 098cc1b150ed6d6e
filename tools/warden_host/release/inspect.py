"""Read an envelope for `warden inspect`, and verify a release for `warden verify`."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag

from warden_host.errors import HostError
from warden_host.release import image, manifest_reader, payload, release, signing_key
from warden_host.release.manifest import ALGORITHM_NAMES, Image
from warden_host.release.manifest_plan import Plan, Target
from warden_host.release.manifest_reader import Parsed
from warden_host.release.signing_key import ALGORITHMS, PublicKey

_BLOCK = 1 << 16
Progress = Callable[[str, int, int], None]


def envelope_path(path: Path) -> Path:
    """Return the envelope of a release's folder, signed or not; else the path itself."""
    if path.is_dir():
        signed = path / release.SIGNED
        return path / release.UNSIGNED if not signed.exists() else signed
    return path


def inspect(
    path: Path, keys: Sequence[signing_key.ReleaseKey] = ()
) -> tuple[Parsed, dict[str, Any]]:
    """Return the contents of an envelope, parsed and as a record for scripts. Nothing is trusted.

    keys: only `signed_by` is verified, against these.
    Raises release-missing, and as manifest_reader.parse().
    """
    parsed = manifest_reader.parse(release.read_envelope(envelope_path(path)))
    signer = next((key for key in keys if signed_by(parsed, key.public)), None)
    return parsed, {
        "sequence": parsed.sequence,
        "version": parsed.version,
        "digest": parsed.draft.digest,
        "algorithm": algorithm_name(parsed),
        "signed": bool(parsed.signature),
        "signed_by": signer and {"name": signer.name, "fingerprint": signer.fingerprint},
        "vendor": parsed.vendor,
        "class": parsed.class_id,
        "floor": max(plan.floor for _, plan in parsed.plans),
        "components": list(parsed.components),
        "images": [
            _image(one) for one in dict.fromkeys(one for _, p in parsed.plans for one in p.images)
        ],
        "plans": [
            {
                "slots": [target.slot for target in targets],
                "vendor": targets[0].vendor,
                "class": targets[0].class_id,
                "floor": plan.floor,
                "images": [_image(one) for one in plan.images],
                "invoke": plan.invoke,
            }
            for targets, plan in by_kind(parsed)
        ],
        "commands": parsed.commands,
    }


def by_kind(parsed: Parsed) -> list[tuple[list[Target], Plan]]:
    """Return each plan with the targets that share it.

    The targets of one plan have one vendor and class, and differ in the free slot.
    """
    found: dict[tuple[bytes, bytes, Plan], list[Target]] = {}
    for target, plan in parsed.plans:
        found.setdefault((target.vendor, target.class_id, plan), []).append(target)
    return [(targets, plan) for (_, _, plan), targets in found.items()]


def _image(one: Image) -> dict[str, Any]:
    return {
        "component": one.component,
        "size": one.size,
        "sha256": one.digest,
        "uri": one.uri,
        "encrypted": one.encryption is not None,
    }


def algorithm_name(parsed: Parsed) -> str:
    """Return the name of the signature algorithm."""
    if not parsed.signature:
        return ""
    return ALGORITHM_NAMES[parsed.algorithm]


def signed_by(parsed: Parsed, key: PublicKey) -> bool:
    """Return whether this key signed the envelope."""
    name = signing_key.algorithm_of(key)
    algorithms = {ALGORITHMS[name], -9} if name == "ES256" else {ALGORITHMS[name]}
    if not parsed.signature or parsed.algorithm not in algorithms:
        return False
    data = parsed.draft.sig_structure(parsed.protected)
    return signing_key.verifies(key, parsed.signature, data)


def verify(
    path: Path,
    keys: Sequence[PublicKey],
    cek: bytes | None = None,
    progress: Progress = lambda *_: None,
) -> Parsed:
    """Verify the signature by one of these keys, then the images beside the envelope, in blocks.

    cek: the content key, where it is known.
    Raises tampered, release-key, image-mismatch, release-missing, and as manifest_reader.parse();
    suit-unsupported where devices fetch different images, which one file a component can't hold.
    """
    found = envelope_path(path)
    parsed = authentic(release.read_envelope(found), keys)
    for one in parsed.images:
        with opened(found.parent, one) as descriptor:
            check_image(descriptor, parsed, one, cek, progress)
    return parsed


def authentic(envelope: bytes, keys: Sequence[PublicKey]) -> Parsed:
    """Return the contents of an envelope that one of these keys signed.

    Raises tampered, release-key, and as manifest_reader.parse().
    """
    parsed = manifest_reader.parse(envelope)
    if not parsed.signature:
        raise HostError("tampered", "it bears no signature", "attach its signature")
    if not keys:
        raise HostError(
            "release-key", "there is no key to verify with", "name the file of the key"
        )
    if not any(signed_by(parsed, key) for key in keys):
        raise HostError("tampered", "none of these keys made its signature")
    return parsed


@contextlib.contextmanager
def opened(folder: Path, one: Image) -> Iterator[int]:
    """Return a descriptor of an image's file beside the envelope. Raises release-missing."""
    path = image_path(folder, one)
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(image.opened(path, path.name))
        except HostError as error:
            raise HostError("release-missing", error.text) from None
        yield descriptor


def check_image(
    descriptor: int,
    parsed: Parsed,
    one: Image,
    cek: bytes | None,
    progress: Progress = lambda *_: None,
) -> None:
    """Verify size and digest of one image in an open file.

    cek: without it only the length of an encrypted image is verified.
    Raises image-mismatch.
    """
    try:
        with open(descriptor, "rb", closefd=False) as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size != stored_size(one):
                raise _mismatch(one, f"has {size} bytes where {stored_size(one)} are signed")
            if one.encryption and cek is None:
                return
            if cek is not None and one.encryption not in (None, payload.encryption_info(cek)):
                raise _mismatch(one, "is encrypted under another key than this fleet's")
            pieces: Iterator[bytes] = iter(lambda: file.read(_BLOCK), b"")
            if cek is not None and one.encryption:
                named = (parsed.sequence, one.component, one.size, one.digest)
                pieces = payload.decrypt(cek, *named, file)
            if _digest(pieces, one, progress) != one.digest:
                raise _mismatch(one, "is not the one that was signed")
    except InvalidTag:
        raise _mismatch(one, "does not decrypt: it was changed") from None


def image_path(folder: Path, one: Image) -> Path:
    """Return the path of an image beside its envelope.

    The manifest names the component, which is hostile: the name never becomes part of a path.
    """
    if (
        not one.component.replace("-", "").replace("_", "").isalnum()
        or not one.component.isascii()
    ):
        raise HostError("suit-unsupported", "a component whose name is none of ours")
    return folder / f"{one.component}.img"


def stored_size(one: Image) -> int:
    """Return the bytes of the file: of the plain image, or of its ciphertext."""
    return payload.length(one.size) if one.encryption else one.size


def _digest(pieces: Iterator[bytes], one: Image, progress: Progress) -> bytes:
    sha, done = hashlib.sha256(), 0
    for piece in pieces:
        sha.update(piece)
        done += len(piece)
        progress(one.component, done, one.size)
    return sha.digest()


def _mismatch(one: Image, why: str) -> HostError:
    return HostError("image-mismatch", f"the image of {one.component} {why}")
