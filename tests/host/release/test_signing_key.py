"""Release keys: made, kept under a passphrase, added from elsewhere, told to devices."""

import base64
import io
import json
import subprocess
import sys

import cbor2
import pytest
import suit_kit
from cli_kit import fails
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from host_kit import new_fleet, refused
from release_kit import PASSPHRASE, cheap
from warden_host.cli import keys as cli_keys
from warden_host.cli import main
from warden_host.fleet import sealed_pem
from warden_host.release import signing_key
from warden_host.store.store import Store

WRONG = b"correct horse batterz"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    cheap(monkeypatch)


@pytest.fixture
def fleet(tmp_path):
    return new_fleet(tmp_path)


@pytest.mark.parametrize(("kind", "algorithm"), [("p256", "ES256"), ("rsa", "PS256")])
def test_a_key_lies_under_its_passphrase(fleet, kind, algorithm):
    made = signing_key.make(fleet, "release", kind, PASSPHRASE)
    path = fleet.keys / "release" / "release.key"
    pem = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    private = signing_key.open_private(fleet, made, PASSPHRASE)
    assert private.public_key() == made.public
    der = private.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    assert der[-40:] not in serialization_body(pem)
    assert (made.algorithm, made.here) == (algorithm, True)
    assert signing_key.listed(fleet) == [made]
    with refused("passphrase-wrong"):
        signing_key.open_private(fleet, made, WRONG)
    signature = signing_key.sign(private, b"data")
    assert signing_key.verifies(made.public, signature, b"data")
    assert not signing_key.verifies(made.public, signature, b"date")
    # Another way to write the same numbers is no signature.
    for other in (signature[:-1], signature + b"\0", signature[:32] + b"\0" + signature[32:]):
        assert not signing_key.verifies(made.public, other, b"data")


def serialization_body(pem: bytes) -> bytes:
    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))


def test_the_file_is_what_openssl_reads(fleet, monkeypatch):
    monkeypatch.undo()  # at its real cost
    signing_key.make(fleet, "release", "p256", PASSPHRASE)
    path = fleet.keys / "release" / "release.key"
    asked = ["openssl", "pkey", "-in", str(path), "-passin", "stdin", "-pubout"]
    said = subprocess.run(asked, input=PASSPHRASE, capture_output=True, check=True).stdout
    assert said == (fleet.keys / "release" / "release.pub").read_bytes()
    shown = subprocess.run(
        ["openssl", "asn1parse", "-in", str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert "scrypt" in shown
    assert "PBKDF2" not in shown
    assert "INTEGER           :4000" in shown  # N = 2^14


@pytest.mark.parametrize("passphrase", [b"", b"nine byte", b"x" * 1025])
def test_a_passphrase_has_a_length(fleet, passphrase):
    with refused("passphrase-wrong"):
        signing_key.make(fleet, "release", "p256", passphrase)
    assert signing_key.listed(fleet) == []
    assert not (fleet.keys / "release" / "release.key").exists()


def test_a_key_that_is_not_protected_is_none(fleet):
    made = signing_key.make(fleet, "release", "p256", PASSPHRASE)
    path = fleet.keys / "release" / "release.key"
    bare = signing_key.open_private(fleet, made, PASSPHRASE).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(bare)
    with refused("key-damaged"):
        signing_key.open_private(fleet, made, PASSPHRASE)
    path.chmod(0o644)
    with refused("key-permissions"):
        signing_key.open_private(fleet, made, PASSPHRASE)
    path.unlink()
    with refused("release-key"):
        signing_key.open_private(fleet, signing_key.find(fleet, "release"), PASSPHRASE)


def test_a_private_part_of_another_key(fleet):
    one = signing_key.make(fleet, "one", "p256", PASSPHRASE)
    signing_key.make(fleet, "two", "p256", PASSPHRASE)
    folder = fleet.keys / "release"
    (folder / "one.key").write_bytes((folder / "two.key").read_bytes())
    with refused("key-damaged"):
        signing_key.open_private(fleet, one, PASSPHRASE)


def test_four_keys_each_once(fleet):
    made = signing_key.make(fleet, "a", "p256", PASSPHRASE)
    with refused("release-key"):
        signing_key.make(fleet, "a", "p256", PASSPHRASE)
    with refused("release-key"):
        signing_key.add(fleet, "again", made.public)
    for name in ("b", "c", "d"):
        signing_key.add(fleet, name, ec.generate_private_key(ec.SECP256R1()).public_key())
    with refused("release-key"):
        signing_key.add(fleet, "e", ec.generate_private_key(ec.SECP256R1()).public_key())
    with refused("bad-name"):
        signing_key.add(fleet, "../e", made.public)
    assert [(key.name, key.here) for key in signing_key.listed(fleet)] == [
        ("a", True),
        ("b", False),
        ("c", False),
        ("d", False),
    ]
    assert signing_key.find(fleet).name == "a"  # the only one that can sign here
    for name in ("e", "b2"):
        with refused("release-key"):
            signing_key.find(fleet, name)
    signing_key.remove(fleet, "a")
    assert not (fleet.keys / "release" / "a.key").exists()
    with refused("release-key"):
        signing_key.find(fleet)


def test_two_that_could_sign_want_a_name(fleet):
    signing_key.make(fleet, "a", "p256", PASSPHRASE)
    signing_key.make(fleet, "b", "p256", PASSPHRASE)
    with refused("release-key"):
        signing_key.find(fleet)


def test_only_keys_that_a_device_can_use(fleet, tmp_path):
    path = tmp_path / "key.pem"
    odd = rsa.RSAPublicNumbers(
        3, rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    )
    for key in (
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        rsa.generate_private_key(65537, 1024).public_key(),
        odd.public_key(),
    ):
        path.write_bytes(signing_key.public_pem(key))
        with refused("key-damaged"):
            signing_key.load_public(path)
    for garbage in (b"", b"-----BEGIN PUBLIC KEY-----\n", b"x" * 10000):
        path.write_bytes(garbage)
        with refused("key-damaged"):
            signing_key.load_public(path)
    path.unlink()
    with refused("key-missing"):
        signing_key.load_public(path)


P256, UNKNOWN = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d03017f")


def on_an_unknown_curve(der: bytes) -> bytes:
    assert der.count(P256) == 1
    return der.replace(P256, UNKNOWN)


def test_a_key_on_an_unknown_curve(fleet, tmp_path):
    """cryptography has an exception of its own for it, which is no ValueError."""
    real = ec.generate_private_key(ec.SECP256R1())
    public = real.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    path = tmp_path / "key.pem"
    text = base64.encodebytes(on_an_unknown_curve(public))
    path.write_bytes(b"-----BEGIN PUBLIC KEY-----\n" + text + b"-----END PUBLIC KEY-----\n")
    with refused("key-damaged"):
        signing_key.load_public(path)

    class Odd:
        def private_bytes(self, *arguments):
            return on_an_unknown_curve(real.private_bytes(*arguments))

    with refused("key-damaged"):
        sealed_pem.unseal(sealed_pem.seal(Odd(), PASSPHRASE), PASSPHRASE)


def test_release_keys_of_the_bundle(fleet):
    with Store(fleet.database) as store:
        vendor = store.vendor()
        assert store.vendor() == vendor
        assert signing_key.record(fleet, vendor, "relay") is None
        elliptic = signing_key.make(fleet, "release", "p256", PASSPHRASE)
        big = rsa.generate_private_key(65537, 2048)
        signing_key.add(fleet, "backup", big.public_key())
        told = signing_key.record(fleet, vendor, "relay")
    class_id = signing_key.class_id(vendor, "relay")
    private = signing_key.open_private(fleet, elliptic, PASSPHRASE)
    assert told == [vendor, class_id, [suit_kit.public_of(big), suit_kit.public_of(private)]]
    assert len(vendor) == len(class_id) == 16
    assert signing_key.class_id(vendor, "lock") != class_id


# The command line


def test_keys_on_the_command_line(folder, capsys, tmp_path):
    secret = tmp_path / "passphrase"
    secret.write_bytes(PASSPHRASE + b"\n")
    secret.chmod(0o644)
    fails(capsys, "key-permissions", "keys", "make", "release", "--passphrase-file", str(secret))
    secret.chmod(0o600)
    assert main.run(["keys", "make", "--passphrase-file", str(secret)]) == 0
    out = capsys.readouterr().out
    assert "keep it elsewhere" in out
    assert PASSPHRASE.decode() not in out
    assert main.run(["keys", "list", "--json"]) == 0
    [record] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (record["name"], record["algorithm"], record["here"]) == ("release", "ES256", True)
    public = serialization.load_pem_public_key(record["public"].encode())
    assert record["fingerprint"] == signing_key.fingerprint(public)
    pem = tmp_path / "hsm.pem"
    pem.write_bytes(signing_key.public_pem(ec.generate_private_key(ec.SECP256R1()).public_key()))
    assert main.run(["keys", "add", "hsm", str(pem)]) == 0
    fails(capsys, "release-key", "keys", "add", "hsm2", str(pem))
    assert main.run(["keys", "list"]) == 0
    assert "private part elsewhere" in capsys.readouterr().out
    assert main.run(["keys", "remove", "hsm", "--json"]) == 0
    fails(capsys, "release-key", "keys", "remove", "hsm")


def test_new_devices_know_the_keys_and_get_their_slots(folder, capsys, tmp_path):
    assert main.run(["provision", "D1", "--sim"]) == 0
    root = folder / "sim" / "D1" / "root"
    assert "release" not in cbor2.loads((root / "bundle").read_bytes()[4:])
    assert "SLOTS" not in [
        line.split(" ")[0] for line in (root / "lib/board.py").read_text().split("\n")
    ]
    secret = tmp_path / "passphrase"
    secret.write_bytes(PASSPHRASE)
    secret.chmod(0o600)
    capsys.readouterr()
    assert main.run(["keys", "make", "--passphrase-file", str(secret)]) == 0
    assert "provisioned before, so without it: D1" in capsys.readouterr().out
    assert main.run(["provision", "D2", "--sim"]) == 0
    root = folder / "sim" / "D2" / "root"
    vendor, class_id, keys = cbor2.loads((root / "bundle").read_bytes()[4:])["release"]
    assert (len(vendor), len(class_id), [len(key) for key in keys]) == (16, 16, [64])
    assert '\nSLOTS = ("file", "/slots", ("app",), 2)\n' in (root / "lib/board.py").read_text()


class Typed(io.StringIO):
    def __init__(self, terminal: bool, data: bytes = b"") -> None:
        super().__init__()
        self.terminal = terminal
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return self.terminal


def test_where_a_passphrase_comes_from(folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Typed(False, PASSPHRASE + b"\r\n"))
    assert cli_keys.read_passphrase("-", new=True) == PASSPHRASE
    with refused("bad-argument"):
        cli_keys.read_passphrase(None, new=False)
    asked = []

    def prompt(text, **how):
        asked.append(how)
        return PASSPHRASE.decode()

    monkeypatch.setattr(sys, "stdin", Typed(True))
    monkeypatch.setattr(cli_keys.click, "prompt", prompt)
    for new in (True, False):
        assert cli_keys.read_passphrase(None, new) == PASSPHRASE
    # Hidden, and asked twice where a typing error would not show later.
    assert [(how["hide_input"], how["confirmation_prompt"]) for how in asked] == [
        (True, True),
        (True, False),
    ]
    monkeypatch.setattr(sys, "stdin", Typed(False, b"short\n"))
    with refused("passphrase-wrong"):
        cli_keys.read_passphrase("-", new=True)
    assert sealed_pem.MIN_PASSPHRASE == 10
    # No option takes the passphrase itself.
    for command in (
        main.command("release"),
        *main.command("keys").commands.values(),
    ):
        options = [name for one in command.params for name in one.opts]
        assert "--passphrase" not in options
