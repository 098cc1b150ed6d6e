"""Check with espsecure that a firmware is signed for secure boot v2."""

import io
import tempfile
from pathlib import Path

import espsecure  # type: ignore[import-untyped]
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from warden_host.chips import image
from warden_host.chips.chip import Board
from warden_host.chips.espressif import guarded
from warden_host.errors import HostError

_HINT = "sign bootloader and application with espsecure, with the key of this public key"


# Chips whose boot ROM verifies ECDSA too, and on which curves; the others verify RSA-3072 alone.
_CURVES = {"esp32c6": ("secp192r1", "secp256r1")}


def digest(public_key: bytes, chip: str) -> bytes:
    """Return the digest of a public key (PEM) that the fuses hold.

    chip: in esptool's words. Raises bad-argument, also for a key that this chip can't use.
    """
    if b"PRIVATE KEY" in public_key:
        raise HostError(
            "bad-argument",
            "the key is a private one, which has no place here",
            "give its public half: espsecure extract-public-key",
        )
    with guarded("bad-argument", "give a public key for secure boot v2 as PEM"):
        with tempfile.TemporaryDirectory() as folder:
            key = io.BytesIO(public_key)
            key.name = "public key"
            out = Path(folder) / "digest"
            try:
                espsecure.digest_sbv2_public_key(key, str(out))
            except ValueError:
                raise HostError("bad-argument", "the public key is no PEM file") from None
            made = out.read_bytes()
    key_type = serialization.load_pem_public_key(public_key)
    curve = key_type.curve.name if isinstance(key_type, ec.EllipticCurvePublicKey) else ""
    if curve and curve not in _CURVES.get(chip, ()):
        raise HostError(
            "bad-argument",
            f"the boot ROM of an {chip} does not verify ECDSA on {curve}: it would never start",
            "sign with RSA-3072",
        )
    return made


def check(firmware: bytes, public_key: bytes, board: Board) -> None:
    """Raise bad-firmware unless bootloader and applications are signed by this key."""
    parts = image.read(firmware, board.chip, board.facts, board.flash)
    named = [("bootloader", parts.bootloader)]
    named += [("application", one) for one in parts.apps]
    for what, data in named:
        with guarded("bad-firmware", _HINT):
            try:
                espsecure.verify_signature_v2(
                    False, None, io.BytesIO(public_key), io.BytesIO(data)
                )
            except HostError:
                raise
            except Exception:  # noqa: BLE001  (esptool's or cryptography's, by the key's kind)
                text = f"the {what} is not signed by this key"
                raise HostError("bad-firmware", text, _HINT) from None
