"""Read the images of a release during a rollout, from files verified once and kept open."""

import os
from dataclasses import dataclass, field

from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.names import AUTHORITY, Address
from warden_host.release import inspect as inspecting
from warden_host.release import manifest_reader, payload, release, signing_key
from warden_host.release.manifest_reader import Parsed
from warden_host.store.store import Store

MAX_CHUNK = 1024


@dataclass
class OpenRelease:
    """A verified release whose files are open until close().

    name: of the release.
    envelope: as devices get it.
    sizes: component → bytes of its file.
    """

    name: str
    parsed: Parsed
    envelope: bytes = field(repr=False)
    sizes: dict[str, int]
    cek: bytes | None = field(repr=False)
    files: dict[str, int]

    @property
    def sequence(self) -> int:
        return self.parsed.sequence

    @property
    def total(self) -> int:
        """Return the bytes of all files."""
        return sum(self.sizes.values())

    @property
    def by_web(self) -> bool:
        """Return whether web servers have the images."""
        return any(one.uri.startswith("https://") for one in self.parsed.images)

    def read(self, component: str, offset: int, length: int) -> bytes:
        """Return the chunk that a device requests. Raises bad-body, image-mismatch.

        The chunk is read from the file for each request: no image is held in memory.
        """
        size = self.sizes.get(component, -1)
        if not (0 <= offset < size and 0 < length <= MAX_CHUNK and offset + length <= size):
            raise HostError("bad-body", "a chunk that no image has")
        data = os.pread(self.files[component], length, offset)
        if len(data) != length:
            raise HostError("image-mismatch", f"the file of {component} was cut short")
        return data

    def done(self, component: str, offset: int) -> int:
        """Return how many bytes of the release a device has when it requests this chunk.

        Devices fetch the images in the order of the manifest.
        """
        done = offset
        for one in self.parsed.images:
            if one.component == component:
                break
            done += self.sizes[one.component]
        return done

    def key_for(self, type_: str, device: str, k: bytes) -> bytes | None:
        """Return the content key wrapped for this device; None for a plain release."""
        if self.cek is None:
            return None
        return payload.wrap(
            self.cek, k, Address(type_, device, AUTHORITY), self.parsed.draft.digest
        )

    def close(self) -> None:
        """Close the files."""
        for file in self.files.values():
            os.close(file)
        self.files.clear()


def open_release(fleet: Fleet, store: Store, name: str) -> OpenRelease:
    """Open a release after verifying it as a device does: signature first, then the images.

    What is verified is what is served: the envelope is read once, and each image's file stays open
    after its verification, whatever gets its name later.
    Raises release-missing, release-key, tampered, image-mismatch, and as manifest_reader.parse().
    """
    folder = release.folder_of(fleet, name)
    known = store.release(name)
    keys = [key.public for key in signing_key.listed(fleet)]
    cek = known.cek if known is not None else None
    signed = release.read_envelope(folder / release.SIGNED)
    parsed = inspecting.authentic(signed, keys)
    encrypted = any(one.encryption for one in parsed.images)
    if encrypted and cek is None:
        raise HostError(
            "release-missing", f"the key of {name} is not in fleet.db", "restore it from a backup"
        )
    sizes = {one.component: inspecting.stored_size(one) for one in parsed.images}
    envelope = manifest_reader.carried(signed)
    made = OpenRelease(name, parsed, envelope, sizes, cek if encrypted else None, {})
    try:
        for one in parsed.images:
            with inspecting.opened(folder, one) as file:
                inspecting.check_image(file, parsed, one, cek)
                made.files[one.component] = os.dup(file)
    except BaseException:
        made.close()
        raise
    return made
