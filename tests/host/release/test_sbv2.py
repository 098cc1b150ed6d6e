"""Verify ESP32 Secure Boot V2 images of stock `espsecure` with the device's code."""

import subprocess
import sys
from pathlib import Path
from typing import IO

import espsecure
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS / "cpython"))

import both  # noqa: E402  (the path must be set first)

IMAGE = bytes(range(256)) * 20  # 5,120 bytes: padded to 8,192
BLOCK = 1216
P256 = "p256"


class Signer:
    """Stock espsecure, and keys made for this run. digest[name]: what the chip's fuses would
    hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digest: dict[str, bytes] = {}
        for name in ("rsa", "rsa2"):
            self._keep(name, rsa.generate_private_key(65537, 3072))
        curves = ((P256, ec.SECP256R1()), ("p192", ec.SECP192R1()), ("p384", ec.SECP384R1()))
        for name, curve in curves:
            self._keep(name, ec.generate_private_key(curve))

    def _keep(self, name: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
        file = self.folder / f"{name}.pem"
        # What `espsecure generate-signing-key` writes.
        form = PrivateFormat.TraditionalOpenSSL
        file.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))
        out = self.folder / f"{name}.digest"
        with file.open("rb") as opened:
            espsecure.digest_sbv2_public_key(opened, str(out))
        self.digest[name] = out.read_bytes()

    def by_command(self, name: str) -> bytes:
        """As people do it."""
        out = self.folder / "by_command.bin"
        (self.folder / "plain.bin").write_bytes(IMAGE)
        key = self.folder / f"{name}.pem"
        tool = Path(sys.executable).with_name("espsecure")
        words = ["sign-data", "-v", "2", "--keyfile", key, "--output", out]
        words.append(self.folder / "plain.bin")
        done = subprocess.run([tool, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return out.read_bytes()

    def sign(self, *names: str, image: bytes = IMAGE, padded: bool = True) -> bytes:
        """Signed with each of the keys, one block after the other; by the program's own function,
        which saves its start."""
        for number, name in enumerate(names):
            out = self.folder / "signed.bin"
            with (self.folder / f"{name}.pem").open("rb") as key:
                espsecure.sign_data(
                    version="2",
                    keyfile=[key],
                    output=str(out),
                    append_signatures=number > 0,
                    hsm=False,
                    hsm_config=None,
                    pub_key=[],
                    signature=[],
                    datafile=self._file(image),
                    skip_padding=not padded,
                )
            image = out.read_bytes()
        return image

    def _file(self, data: bytes) -> IO[bytes]:
        path = self.folder / "image.bin"
        path.write_bytes(data)
        return path.open("rb")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("sbv2"))


def ask(micropython: str, image: bytes, *digests: bytes, step: int = 1024) -> str:
    line = both.line("sbv2", image, b"".join(digests), step.to_bytes(2, "big"))
    (said,) = both.port(micropython, [line])
    assert [said] == both.here([line])
    return said


def altered(image: bytes, at: int, new: bytes) -> bytes:
    """at: counted from the beginning of the signature sector."""
    at += len(image) - 4096
    return image[:at] + new + image[at + len(new) :]


@pytest.mark.parametrize("name", ["rsa", P256])
def test_stock_signatures_are_taken(micropython: str, signer: Signer, name: str) -> None:
    image = signer.by_command(name)
    assert len(image) == 8192 + 4096
    for step in (1, 1000, 1024, 4096, 12288):
        assert ask(micropython, image, signer.digest[name], step=step) == "valid"
    assert ask(micropython, image, bytes(32), signer.digest[name]) == "valid"
    # Padded to 64 KB, as `esptool elf2image --secure-pad-v2` does.
    large = signer.sign(name, image=IMAGE.ljust(65536, b"\xff"))
    assert ask(micropython, large, signer.digest[name]) == "valid"


def test_up_to_three_blocks(micropython: str, signer: Signer) -> None:
    names = ["rsa", P256, "rsa2"]
    image = signer.sign(*names)
    for name in names:
        assert ask(micropython, image, signer.digest[name]) == "valid"
    assert ask(micropython, image, bytes(32)) == "error firmware-key"
    assert ask(micropython, image) == "error firmware-key"
    sector = image[-4096:]
    # A block that is not there, one too many, a gap, and a signature of each key in the other's
    # block.
    for made, said in (
        (sector[: 2 * BLOCK].ljust(4096, b"\xff"), "valid"),
        (sector[:BLOCK].ljust(4096, b"\0"), "firmware-unsigned"),
        (b"\xff" * 4096, "firmware-unsigned"),
        (bytes(4096), "firmware-unsigned"),
        (sector[: 3 * BLOCK] + sector[: 4096 - 3 * BLOCK], "firmware-unsigned"),
        (b"\xff" * BLOCK + sector[BLOCK:], "firmware-unsigned"),
        (sector[:BLOCK] + b"\xff" * BLOCK + sector[2 * BLOCK :], "firmware-unsigned"),
        (sector[BLOCK : 2 * BLOCK].ljust(4096, b"\xff"), "firmware-key"),
    ):
        want = said if said == "valid" else "error " + said
        assert ask(micropython, image[:-4096] + made, signer.digest["rsa"]) == want


def test_the_blocks_before_and_behind_do_not_matter(micropython: str, signer: Signer) -> None:
    """One good block of a trusted key is enough, wherever it stands; a bad signature of another
    trusted key beside it is what the chip allows."""
    image = signer.sign("rsa", "rsa2")
    bad = bytearray(image)
    at = len(image) - 4096
    bad[at + 812] ^= 1
    bad[at + 1196 : at + 1200] = crc(bytes(bad[at : at + 1196]))
    both_keys = (signer.digest["rsa"], signer.digest["rsa2"])
    assert ask(micropython, bytes(bad), *both_keys) == "valid"
    assert ask(micropython, bytes(bad), signer.digest["rsa"]) == "error tampered"


def crc(data: bytes) -> bytes:
    import zlib

    return zlib.crc32(data).to_bytes(4, "little")


@pytest.mark.parametrize("name", ["rsa", P256])
def test_each_field(micropython: str, signer: Signer, name: str) -> None:
    """With the checksum made right again, so that what it stands before is looked at, too."""
    image = signer.sign(name)
    sector = image[-4096:]
    fields = [
        (0, b"\xe6", "firmware-unsigned"),
        (1, b"\1", "firmware-unsigned"),
        (1, b"\4", "firmware-unsigned"),
        (2, b"\1", "firmware-unsigned"),
        (3, b"\1", "firmware-unsigned"),
        (4, bytes([sector[4] ^ 1]), "tampered"),
        (35, bytes([sector[35] ^ 1]), "tampered"),
        (1200, b"\1", "firmware-unsigned"),
        (1215, b"\1", "firmware-unsigned"),
        (1216, b"\xfe", "firmware-unsigned"),
        (1216, b"\xe7", "firmware-unsigned"),
        (4095, b"\0", "firmware-unsigned"),
    ]
    if name == "rsa":
        key, signature = (36, 419, 420, 423, 424, 807, 808, 811), (812, 1195)
    else:
        key, signature = (37, 68, 69, 100), (101, 132, 133, 164)
        fields += [(36, b"\1", "firmware-unsigned"), (36, b"\3", "firmware-unsigned")]
        fields += [(165, b"\1", "firmware-unsigned"), (1195, b"\1", "firmware-unsigned")]
    fields += [(at, bytes([sector[at] ^ 1]), "firmware-key") for at in key]
    fields += [(at, bytes([sector[at] ^ 1]), "tampered") for at in signature]
    images = []
    for at, new, _ in fields:
        made = altered(image, at, new)
        images.append(altered(made, 1196, crc(made[-4096:][:1196])))
    for at in range(1196, 1200):
        images.append(altered(image, at, bytes([sector[at] ^ 1])))
        fields.append((at, b"", "firmware-unsigned"))
    lines = [both.line("sbv2", made, signer.digest[name], b"\4\0") for made in images]
    answers = both.port(micropython, lines)
    assert answers == both.here(lines)
    for (at, _, said), answer in zip(fields, answers, strict=True):
        assert answer == "error " + said, at


@pytest.mark.parametrize("name", ["rsa", P256])
def test_every_byte_flipped(micropython: str, signer: Signer, name: str) -> None:
    """None is accepted: of the image, its padding, the block and the sector."""
    image = signer.sign(name, image=IMAGE[:200])
    line = both.line("sbv2flips", image, signer.digest[name], b"\x01")
    (said,) = both.port(micropython, [line])
    words = said.split()
    counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    print(name, counts)
    assert set(counts) <= {"firmware-unsigned", "tampered"}
    assert sum(counts.values()) == len(image) == 8192
    assert counts["tampered"] >= 4096


def test_sizes_and_curves(micropython: str, signer: Signer) -> None:
    image = signer.sign(P256)
    digest = signer.digest[P256]
    for made in (image[:-1], image[:-4096], image[-4096:], b"", image + image[:1]):
        assert ask(micropython, made, digest) == "error firmware-unsigned", len(made)
    assert ask(micropython, image + image[-4096:], digest) == "error tampered"
    # P-192 is a curve of Secure Boot V2, and too weak: refused, trusted or not.
    other = signer.sign("p192")
    assert ask(micropython, other, signer.digest["p192"]) == "error firmware-unsigned"
    # P-384 signs a SHA-384, in a block of another layout, which the device can't check to the
    # byte: one such block refuses the image, whatever stands beside it.
    for names in (("p384",), (P256, "p384"), ("p384", P256), ("rsa", "p384")):
        keys = [signer.digest[one] for one in names]
        assert ask(micropython, signer.sign(*names), *keys) == "error firmware-unsigned", names
    # Not padded, which espsecure does when told: the chip would look for the signature elsewhere.
    for size in (5120, 5121):
        unpadded = signer.sign(P256, image=(IMAGE * 2)[:size], padded=False)
        assert len(unpadded) == size + 4096
        assert ask(micropython, unpadded, digest) == "error firmware-unsigned"
    # Of another image.
    assert ask(micropython, b"\1" + image[1:], digest) == "error tampered"
