"""`warden inspect` and `warden verify` on releases that are right, wrong and hostile."""

import json
import random
import sys
from pathlib import Path

import cbor2
import pytest
import suit_kit as kit
from cli_kit import fails
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from host_kit import refused
from release_kit import Maker, cheap
from warden_client.protocol import strictcbor
from warden_host.cli import main
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.release import inspect, manifest, manifest_reader, release, signing_key

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
KEY = ec.derive_private_key(0x1234567, ec.SECP256R1())
SIGN = kit.ecdsa(KEY)


@pytest.fixture
def maker(tmp_path, monkeypatch):
    cheap(monkeypatch)
    made = Maker(tmp_path)
    yield made
    made.store.close()


def made(sign=SIGN, alg: int = -7, beside=None, blocks: int = 1, header=None, **changes) -> bytes:
    return kit.envelope(kit.manifest(**changes), sign, alg, beside, blocks, header)


def test_the_drafts_own_examples():
    """Draft -37, appendix B: examples 1, 3 and 5, with the key given there."""
    key = signing_key.load_public(VECTORS / "suit_key.pem")
    one, three, five = (
        manifest_reader.parse(bytes.fromhex(text))
        for text in (VECTORS / "suit_examples.txt").read_text().split()
    )
    assert inspect.signed_by(one, key)
    assert inspect.signed_by(three, key)
    assert [(image.size, image.uri) for image in one.images] == [
        (34768, "http://example.com/file.bin")
    ]
    # An image for each slot: there is no one that every device fetches.
    assert [plan.images[0].uri[-9:] for _, plan in three.plans] == ["file1.bin", "file2.bin"]
    with refused("suit-unsupported"):
        _ = three.images
    assert [(image.component, image.size) for image in five.images] == [
        ("00", 34768),
        ("01", 76834),
    ]
    assert "  2:   uri = http://example.com/file2.bin" in three.commands["install"]


def test_another_encoders_manifests_are_read(tmp_path):
    big = rsa.generate_private_key(65537, 2048)
    for sign, alg, key in ((SIGN, -7, KEY), (SIGN, -9, KEY), (kit.pss(big), -37, big)):
        parsed = manifest_reader.parse(made(sign, alg, header={4: b"8 bytes!"}))
        assert inspect.signed_by(parsed, key.public_key())
        assert (parsed.vendor, parsed.class_id) == (kit.VENDOR, kit.CLASS)
        assert parsed.images[0].digest == kit.sha256(kit.IMAGE)
    assert not inspect.signed_by(manifest_reader.parse(made(alg=-37)), KEY.public_key())
    with refused("cose-algorithm"):
        manifest_reader.parse(made(alg=-8))
    install = kit.install()
    severed = [-16, kit.sha256(kit.pack(install))]
    parsed = manifest_reader.parse(made(install=severed, beside={20: install}))
    assert parsed.images[0].uri == "mqtt:app"
    # The envelope that travels holds the same, and its signature.
    carried = manifest_reader.parse(
        manifest_reader.carried(made(install=severed, beside={20: install}))
    )
    assert inspect.signed_by(carried, KEY.public_key())
    assert carried.images == parsed.images


WRONG = {
    "suit-limit": [
        b"\xd8\x6b" + bytes(8191),
        made(shared=kit.sequence(*[1, 15] * 129)),
        made(m2=1 << 32),
        made(m3=kit.pack({2: [], 4: kit.shared()})),
        made(install=kit.sequence(15, [kit.sequence()])),
        made(install=kit.sequence(20, {21: "x" * 257})),
    ],
    "suit-malformed": [
        b"",
        made()[2:],
        b"\xd8\x6b\x80",
        b"\xd8\x6b" + kit.pack({2: 1, 3: b""}),
        b"\xd8\x6b" + kit.pack({2: b"\x80", 3: b""}),
        b"\xd8\x6b" + kit.pack({2: b"\x80"}),
        b"\xd8\x6b" + kit.pack({3: b"\xa0"}),
        kit.envelope(kit.manifest() | {"x": 1}, SIGN),
        made(m2=-1),
        made(m2=True),
        made(m3=None),
        made(m3=kit.pack({2: [["app"]], 4: kit.shared()})),
        made(m3=kit.pack({2: b"app", 4: kit.shared()})),
        made(install=kit.sequence(21)),
        made(install=kit.sequence(20, {"21": "mqtt:app"})),
        made(install=kit.sequence("x", 2)),
        made(install=kit.sequence(12, 1)),
        made(install=kit.sequence(12, False)),
        made(install=kit.sequence(21, 16)),
        made(m7=1),
    ],
    "suit-unsupported": [
        made(beside={"#app": b"x"}),
        made(beside={99: b"x"}),
        made(blocks=2),
        made(m1=2),
        made(m5=b""),
        made(m3=kit.pack({1: {}, 2: [kit.APP], 4: kit.shared()})),
        made(m3=kit.pack({4: kit.shared()})),
        made(install=kit.sequence(99, 15)),
        made(install=kit.sequence(20, {99: 1})),
        made(install=kit.sequence(20, {19: b"x", 21: ""}, 21, 2)),
        made(shared=kit.sequence(20, {3: kit.pack([-15, bytes(32)])})),
    ],
    "suit-component": [made(m3=kit.pack({2: [[b"app"]] * 2, 4: kit.shared()}))],
    "suit-digest": [
        made()[:-20] + bytes([made()[-20] ^ 1]) + made()[-19:],
        made(beside={23: b"\xa0"}),
        made(beside={20: kit.install()}, m20=None),
        made(install=[-16, bytes(32)], beside={20: kit.install()}),
        made(m23=[-16, bytes(32)], beside={23: b"\xa0"}),
    ],
    "cose-malformed": [
        made(header={5: b""}),
    ],
    "cbor-malformed": [made()[:-1], made() + b"x", b"\xd8\x6b\xbf\xff"],
    "cbor-not-canonical": [b"\xd8\x6b\xb8\x01\x02\x41\x00"],
    "cbor-limit": [b"\xd8\x6b" + b"\x81" * 100],
}


@pytest.mark.parametrize("code", WRONG)
def test_each_fault_has_its_code(code):
    for number, envelope in enumerate(WRONG[code]):
        try:
            manifest_reader.parse(envelope)
        except HostError as error:
            assert error.code == code, (number, error)
        else:
            pytest.fail(f"{number} was read")


def nested(depth: int) -> bytes:
    inside = kit.sequence(1, 15)
    for _ in range(depth):
        inside = kit.sequence(15, [inside, None])
    return inside


def test_sequences_nest_so_deep_and_no_deeper():
    manifest_reader.parse(made(m8=nested(3)))
    with refused("suit-limit"):
        manifest_reader.parse(made(m8=nested(4)))


def test_hostile_bytes_are_named_and_none_of_them_verifies(maker):
    good = (maker.make().folder / release.SIGNED).read_bytes()
    key = maker.key.public
    assert inspect.signed_by(manifest_reader.parse(good), key)
    read = 0
    rng = random.Random(5)
    for at in range(len(good)):
        for changed in (
            good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :],
            good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :],
            good[:at],
        ):
            try:
                parsed = manifest_reader.parse(changed)
            except HostError:
                continue
            read += 1
            assert not inspect.signed_by(parsed, key), at
    assert read > 0  # flips of the signature itself are read, and do not verify


def test_texts_are_made_printable(maker):
    """Tags build numbers of any size out of a few bytes; a signer is trusted for images, not
    for this."""
    bombs = [
        cbor2.dumps(cbor2.CBORTag(5, [1 << 60, 3])),
        bytes.fromhex("c4821b7fffffffffffffff01"),
        b"\x9f" * 500,
        bytes.fromhex("bf62656ea18143617070a10663312e30ff"),  # a good one, but of no stated length
        cbor2.dumps({"en": cbor2.CBORTag(99, {1: {6: "1.0"}})}),
        b"\xff",
        b"\xa1\x62en\xa1\x81\x43app\xa1\x06\x1a\x00\x00\x00\x01",
    ]
    for bomb in bombs:
        digest = [-16, kit.sha256(kit.pack(bomb))]
        assert manifest_reader.parse(made(m23=digest, beside={23: bomb})).version == ""
    steering = cbor2.dumps({"en": {(b"app",): {6: "\x1b[31m1.0" + "x" * 100}}}, canonical=True)
    digest = [-16, kit.sha256(kit.pack(steering))]
    version = manifest_reader.parse(made(m23=digest, beside={23: steering})).version
    assert "\x1b" not in version
    assert len(version) == 64


def test_verify_names_what_is_wrong(maker, tmp_path):
    one = maker.make()
    keys = [maker.key.public]
    path = one.folder / "app.img"
    data = path.read_bytes()
    assert inspect.verify(one.folder, keys).sequence == 1
    assert inspect.verify(one.folder / release.SIGNED, keys).sequence == 1
    with refused("tampered"):
        inspect.verify(one.folder, [KEY.public_key()])
    with refused("release-key"):
        inspect.verify(one.folder, [])
    for at in (0, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with refused("image-mismatch"):
            inspect.verify(one.folder, keys)
    for other in (data[:-1], data + b"x", b""):
        path.write_bytes(other)
        with refused("image-mismatch"):
            inspect.verify(one.folder, keys)
    path.unlink()
    with refused("release-missing"):
        inspect.verify(one.folder, keys)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(data)
    path.symlink_to(elsewhere)
    with refused("release-missing"):
        inspect.verify(one.folder, keys)
    with refused("release-missing"):
        inspect.verify(tmp_path / "nothing", keys)


def test_a_component_names_no_path(tmp_path):
    """Its name comes out of the manifest: whatever its signer, it opens nothing but a file beside
    the envelope."""
    for name in (b"../../etc/passwd", b"a/b", b".."):
        common = kit.pack({2: [[name]], 4: kit.shared()})
        path = tmp_path / "manifest.suit"
        path.write_bytes(made(m3=common))
        with refused("suit-unsupported"):
            inspect.verify(path, [KEY.public_key()])


# The command line


def test_inspect_and_verify_on_the_command_line(folder, capsys, tmp_path, monkeypatch):
    path = tmp_path / "manifest.suit"
    path.write_bytes(made())
    (tmp_path / "app.img").write_bytes(kit.IMAGE)
    pem = tmp_path / "key.pem"
    pem.write_bytes(signing_key.public_pem(KEY.public_key()))
    assert main.run(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "NOT VERIFIED: ES256, by a key that is not known here" in out
    assert "app: 5,120 bytes, from mqtt:app" in out
    signing_key.add(Fleet(folder), "theirs", KEY.public_key())
    assert main.run(["inspect", str(path)]) == 0
    assert "signed by theirs of this fleet (ES256)" in capsys.readouterr().out
    assert main.run(["verify", str(path)]) == 0
    assert "signature good" in capsys.readouterr().out
    # By its name, too.
    named = folder / "releases" / "lock-1"
    named.mkdir(parents=True)
    (named / "manifest.suit").write_bytes(path.read_bytes())
    (named / "app.img").write_bytes(kit.IMAGE)
    for command in ("inspect", "verify"):
        assert main.run([command, "lock-1"]) == 0
        capsys.readouterr()
        fails(capsys, "release-missing", command, "lock-2")
    # Neither needs a fleet.
    monkeypatch.delenv("WARDEN_FLEET")
    monkeypatch.chdir(tmp_path / "umqtt")
    assert main.run(["inspect", str(path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["signed"], record["signed_by"], record["sequence"]) == (True, None, 1)
    assert main.run(["verify", str(path), "--key", str(pem), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    fails(capsys, "fleet-missing", "verify", str(path))
    path.write_bytes(b"\xd8\x6b")
    fails(capsys, "cbor-malformed", "inspect", str(path))
    fails(capsys, "release-missing", "inspect", str(tmp_path / "nothing"))
    path.write_bytes(kit.envelope(kit.manifest(m4="\x1b[31m"), SIGN))
    assert main.run(["inspect", str(path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "manifest.suit"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with refused("suit-limit"):
        inspect.inspect(path)
    assert len(release.read_envelope(path)) == manifest.MAX_ENVELOPE + 1
    assert strictcbor.MAX_BYTES > manifest.MAX_ENVELOPE
    assert sys.getsizeof(release.read_envelope(path)) < 10_000
