"""Make a release: images, a manifest that names them, a signature, and the folder of them all.

releases/TYPE-VERSION/manifest.suit      the signed envelope
                      COMPONENT.img      an image, encrypted where the manifest says so
                      manifest.unsigned  instead, until an external signature is attached
                      to-be-signed.bin   the COSE Sig_structure to sign externally

The complete folder appears by one rename.
"""

import contextlib
import fcntl
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from warden_client import secretfile

from warden_host import names
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.sealed_pem import PrivateKey
from warden_host.release import image, manifest, manifest_reader, payload, signing_key
from warden_host.release.manifest_reader import Parsed
from warden_host.release.signing_key import ALGORITHMS
from warden_host.store.releases import MAX_SEQUENCE
from warden_host.store.store import Store

SIGNED, UNSIGNED, TO_BE_SIGNED = "manifest.suit", "manifest.unsigned", "to-be-signed.bin"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+]{0,31}\Z", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,79}\Z", re.ASCII)
MAX_SIGNATURE = 1024


@dataclass(frozen=True)
class Order:
    """The options of a new release.

    components: name → folder or file, `app` first.
    sequence: None for the next number.
    base: URL where web servers show the releases, "" for none.
    compiled: see image.build().
    """

    type: str
    version: str
    components: dict[str, Path]
    sequence: int | None = None
    floor: int = 0
    base: str = ""
    compiled: str | None = None
    encrypted: bool = False


@dataclass(frozen=True)
class Made:
    """A release in its folder."""

    name: str
    folder: Path
    parsed: Parsed


def folder_of(fleet: Fleet, name: str) -> Path:
    """Return the folder for a release of this name. Raises bad-name for one that is a path."""
    if not _NAME.match(name):
        raise HostError("bad-name", f"{name[:80]!a} is no name of a release")
    return fleet.root / "releases" / name


def make(
    fleet: Fleet, store: Store, order: Order, private: PrivateKey | None, algorithm: str
) -> Made:
    """Make a release and return it. A refused order uses no sequence number.

    private: the signing key; None leaves the release unsigned, for an external signature.
    Of two orders for one name the first wins.
    Raises image-failed, release-exists, old-manifest, bad-argument, bad-name, suit-limit.
    """
    name = _check(order)
    folder = folder_of(fleet, name)
    _free(folder, name)
    plain = {
        component: image.build(source, component == "app", order.compiled)
        for component, source in order.components.items()
    }
    for component, data in plain.items():
        if not data:
            raise HostError("image-failed", f"the image of {component} is empty")
    with _alone(folder.parent):
        _free(folder, name)
        cek = payload.new_key() if order.encrypted else None
        images = [_image(order, name, component, data, cek) for component, data in plain.items()]
        if order.floor > _expected(store, order):
            raise HostError(
                "bad-argument", f"the floor {order.floor} is above the release's own number"
            )
        # A number is used only for what can be made: try with the widest number and the longest
        # signature first.
        if private is not None:
            algorithm = signing_key.algorithm_of(private.public_key())
        widest = _draft(store, order, images, MAX_SEQUENCE)
        signature = bytes(signing_key.SIGNATURE_BYTES[algorithm])
        manifest_reader.parse(widest.envelope(ALGORITHMS[algorithm], signature))
        sequence = store.reserve_sequence(
            name, order.type, order.version, order.sequence, cek
        ).sequence
        draft = _draft(store, order, images, sequence)
        fresh = folder.with_name(f".{name}.new")
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        for component, data in plain.items():
            stream = io.BytesIO(data)
            if cek is not None:
                digest = hashlib.sha256(data).digest()
                pieces = payload.encrypt(cek, sequence, component, len(data), digest, stream)
                data = b"".join(pieces)
            secretfile.write(fresh / f"{component}.img", data)
        if private is None:
            secretfile.write(fresh / TO_BE_SIGNED, draft.to_be_signed(ALGORITHMS[algorithm]))
            secretfile.write(fresh / UNSIGNED, draft.envelope())
        else:
            secretfile.write(fresh / SIGNED, _signed(draft, private))
        fresh.rename(folder)
        return Made(name, folder, load(folder, unsigned=private is None))


def attach(fleet: Fleet, name: str, signature: bytes, public: signing_key.PublicKey) -> Made:
    """Attach an external signature to a release.

    Raises release-missing, release-key, tampered.
    """
    folder = folder_of(fleet, name)
    with _alone(folder.parent):
        return _attach(fleet, name, folder, signature, public)


def _attach(
    fleet: Fleet, name: str, folder: Path, signature: bytes, public: signing_key.PublicKey
) -> Made:
    draft = load(folder, unsigned=True).draft
    known = [signing_key.material(key.public) for key in signing_key.listed(fleet)]
    if signing_key.material(public) not in known:
        raise HostError(
            "release-key",
            "no device of this fleet knows this key",
            "`warden keys add NAME PEM` first, then provision or rotate the devices",
        )
    algorithm = ALGORITHMS[signing_key.algorithm_of(public)]
    data = draft.to_be_signed(algorithm)
    if data != secretfile.read(folder / TO_BE_SIGNED):
        raise HostError(
            "release-key", "the release was prepared for another algorithm than this key's"
        )
    signature = signature_of(public, signature, data)
    secretfile.write(folder / SIGNED, draft.envelope(algorithm, signature))
    (folder / UNSIGNED).unlink()
    (folder / TO_BE_SIGNED).unlink()
    return Made(name, folder, load(folder))


def signature_of(public: signing_key.PublicKey, signature: bytes, data: bytes) -> bytes:
    """Return a verified signature in COSE's form, from that form or from DER.

    Raises tampered.
    """
    forms = [signature]
    try:
        forms.append(signing_key.raw_signature(signature))
    except ValueError:
        pass
    for form in forms:
        if signing_key.verifies(public, form, data):
            return form
    raise HostError(
        "tampered",
        "this is not that key's signature over the release's to-be-signed.bin",
        "ES256: over its SHA-256, DER or r and s; PS256: PSS with SHA-256 and a salt of 32 bytes",
    )


def load(folder: Path, unsigned: bool = False) -> Parsed:
    """Parse the envelope of a release without verifying it.

    Raises release-missing, and as manifest_reader.parse().
    """
    path = folder / (UNSIGNED if unsigned else SIGNED)
    return manifest_reader.parse(read_envelope(path))


def read_envelope(path: Path) -> bytes:
    """Return at most one byte more than an envelope may have. Raises release-missing."""
    try:
        with image.opened(path, path.name) as file:
            return open(file, "rb", closefd=False).read(manifest.MAX_ENVELOPE + 1)
    except HostError as error:
        text, hint = error.text, "`warden releases` lists them; `warden release` makes one"
        if path.name in (SIGNED, UNSIGNED) and not path.exists():
            text = f"there is no release in {path.parent}"
        if path.name == SIGNED and path.with_name(UNSIGNED).exists():
            hint = "it waits for its signature: attach that first"
        raise HostError("release-missing", text, hint) from None


def _check(order: Order) -> str:
    names.check_id(order.type, "device type")
    if not _VERSION.match(order.version):
        raise HostError(
            "bad-name",
            f"version {order.version[:40]!a} is outside the alphabet",
            "1 to 32 of A-Z a-z 0-9 . _ +, such as 1.4.0",
        )
    if not 1 <= len(order.components) <= manifest.MAX_COMPONENTS:
        raise HostError("bad-argument", f"1 to {manifest.MAX_COMPONENTS} components")
    for component in order.components:
        names.check_id(component, "component")
    if order.floor < 0 or (order.sequence is not None and order.sequence < 1):
        raise HostError("bad-argument", "sequence numbers and floors begin at 1")
    return f"{order.type}-{order.version}"


@contextlib.contextmanager
def _alone(releases: Path) -> Iterator[None]:
    """Hold the lock of the releases folder, so that one process at a time makes or signs.

    The lock is on the folder itself and ends with its process.
    """
    releases.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(releases, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _free(folder: Path, name: str) -> None:
    if folder.exists():
        raise HostError("release-exists", f"there is a release {name}", "choose the next version")


def _expected(store: Store, order: Order) -> int:
    """Return the lowest sequence number that the release can get."""
    if order.sequence is not None:
        return order.sequence
    return 1 + max((one.sequence for one in store.releases()), default=0)


def _draft(
    store: Store, order: Order, images: list[manifest.Image], sequence: int
) -> manifest.Draft:
    vendor = store.vendor()
    class_id = signing_key.class_id(vendor, order.type)
    return manifest.draft(sequence, vendor, class_id, images, order.floor, order.version)


def _image(
    order: Order, name: str, component: str, data: bytes, cek: bytes | None
) -> manifest.Image:
    uri = f"{order.base.rstrip('/')}/{name}/{component}.img" if order.base else f"mqtt:{component}"
    if len(uri.encode(errors="surrogatepass")) > manifest.MAX_URI:
        raise HostError("bad-argument", f"an address has at most {manifest.MAX_URI} bytes")
    info = None if cek is None else payload.encryption_info(cek)
    return manifest.Image(component, hashlib.sha256(data).digest(), len(data), uri, info)


def _signed(draft: manifest.Draft, private: PrivateKey) -> bytes:
    algorithm = ALGORITHMS[signing_key.algorithm_of(private.public_key())]
    signature = signing_key.sign(private, draft.to_be_signed(algorithm))
    return draft.envelope(algorithm, signature)


def folder_exists(fleet: Fleet, name: str) -> bool:
    """Return whether the folder exists; a number whose making failed has none."""
    return _NAME.match(name) is not None and folder_of(fleet, name).is_dir()
