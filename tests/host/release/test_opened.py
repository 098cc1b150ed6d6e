"""The shelf of a release that is being rolled out: what was checked is what devices get."""

import os

import pytest
from host_kit import refused
from release_kit import Maker, cheap
from warden_host.errors import HostError
from warden_host.release import inspect as inspecting
from warden_host.release import manifest_reader, release, signing_key
from warden_host.release.opened import MAX_CHUNK, open_release


@pytest.fixture
def maker(tmp_path, monkeypatch):
    cheap(monkeypatch)
    made = Maker(tmp_path)
    yield made
    made.store.close()


def opened(maker: Maker, name: str = "relay-1.0"):
    return open_release(maker.fleet, maker.store, name)


def content(shelf, component: str = "app") -> bytes:
    size = shelf.sizes[component]
    return b"".join(
        shelf.read(component, at, min(MAX_CHUNK, size - at)) for at in range(0, size, MAX_CHUNK)
    )


def put(path, data: bytes) -> None:
    """As an editor or an attacker puts a file in another's place."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(data)
    os.replace(fresh, path)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_file_that_is_exchanged_after_it_was_checked(maker, monkeypatch, encrypted):
    made = maker.make(encrypted=encrypted)
    folder, image = made.folder, (made.folder / "app.img").read_bytes()
    envelope = (folder / release.SIGNED).read_bytes()
    other = maker.make("2.0").folder / release.SIGNED
    checked = []
    authentic, check = inspecting.authentic, inspecting.check_image

    def first(data, keys):
        parsed = authentic(data, keys)
        put(folder / release.SIGNED, other.read_bytes())
        checked.append("envelope")
        return parsed

    def then(file, parsed, one, cek):
        check(file, parsed, one, cek)
        put(folder / f"{one.component}.img", bytes(len(image)))
        checked.append(one.component)

    monkeypatch.setattr(inspecting, "authentic", first)
    monkeypatch.setattr(inspecting, "check_image", then)
    shelf = opened(maker)
    assert checked == ["envelope", "app"]
    assert shelf.envelope == manifest_reader.carried(envelope)
    assert shelf.parsed == made.parsed
    assert content(shelf) == image
    shelf.close()


def test_two_components_are_checked_each_in_its_file(maker, tmp_path):
    (tmp_path / "firmware.bin").write_bytes(b"\xe9" * 3000)
    made = maker.make(components={"app": maker.app(), "firmware": tmp_path / "firmware.bin"})
    shelf = opened(maker)
    for name in ("app", "firmware"):
        assert content(shelf, name) == (made.folder / f"{name}.img").read_bytes()
    shelf.close()
    put(made.folder / "firmware.img", b"\xe8" * 3000)
    before = len(os.listdir("/proc/self/fd"))
    with refused("image-mismatch"):
        opened(maker)
    assert len(os.listdir("/proc/self/fd")) == before  # app's was open already


def test_releases_that_are_not_opened(maker):
    made = maker.make(encrypted=True)
    path = made.folder / "app.img"
    image = path.read_bytes()
    for data in (image[:-1], image + b"\0", bytes(len(image))):
        put(path, data)
        with refused("image-mismatch"):
            opened(maker)
    path.unlink()
    with refused("release-missing"):
        opened(maker)
    path.symlink_to("/dev/zero")
    with refused("release-missing"):
        opened(maker)
    path.unlink()
    put(path, image)
    opened(maker).close()
    with maker.store.transaction():
        maker.store._do("UPDATE releases SET cek = NULL")
    with refused("release-missing"):
        opened(maker)
    with refused("release-missing"):
        opened(maker, "relay-9")


def test_only_what_a_key_of_the_fleet_signed(maker):
    made = maker.make()
    signed = made.folder / release.SIGNED
    data = signed.read_bytes()
    for at in (len(data) // 2, 40):
        changed = bytearray(data)
        changed[at] ^= 1
        put(signed, changed)
        with pytest.raises(HostError):
            opened(maker)
    put(signed, data)
    opened(maker).close()
    signing_key.remove(maker.fleet, "release")
    with refused("release-key"):
        opened(maker)
    signing_key.make(maker.fleet, "another", "p256", b"a passphrase")
    with refused("tampered"):
        opened(maker)
