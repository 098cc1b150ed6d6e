"""Makes SUIT envelopes with cbor2 and cryptography: nothing of the device's code, so that each
checks the other."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

VENDOR = bytes(range(16))
CLASS = bytes(range(16, 32))
APP = [b"app"]

IMAGE = bytes(range(256)) * 20


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def pack(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)


def digest(data: bytes) -> list[Any]:
    return [-16, sha256(data)]


def sequence(*commands: Any) -> bytes:
    """command, argument, command, argument, …"""
    return pack(list(commands))


def image_parameters(image: bytes = IMAGE) -> dict[int, Any]:
    return {3: pack(digest(image)), 14: len(image)}


def device_parameters(vendor: bytes = VENDOR, class_id: bytes = CLASS) -> dict[int, Any]:
    return {1: vendor, 2: class_id}


def shared(*more: Any) -> bytes:
    return sequence(20, device_parameters() | image_parameters(), 1, 15, 2, 15, *more)


def install(*more: Any, uri: str = "mqtt:app") -> bytes:
    return sequence(20, {21: uri}, 21, 2, 3, 15, *more)


def manifest(number: int = 1, **changes: Any) -> dict[int, Any]:
    """A good one; changes: m23=… sets member 23, None removes it."""
    made: dict[int, Any] = {
        1: 1,
        2: number,
        3: pack({2: [APP], 4: changes.pop("shared", shared())}),
        7: sequence(3, 15),
        9: sequence(23, 2),
        20: changes.pop("install", install()),
    }
    for name, value in changes.items():
        made[int(name[1:])] = value
    return {label: value for label, value in made.items() if value is not None}


def ecdsa(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def pss(key: rsa.RSAPrivateKey) -> Callable[[bytes], bytes]:
    def sign(data: bytes) -> bytes:
        return key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())

    return sign


def envelope(
    members: dict[int, Any],
    sign: Callable[[bytes], bytes],
    alg: int = -7,
    beside: dict[Any, Any] | None = None,
    blocks: int = 1,
    header: dict[int, Any] | None = None,
) -> bytes:
    """The whole envelope. beside: severed elements and whatever else stands in it."""
    body = pack(members)
    signed = pack(digest(pack(body)))
    protected = pack({1: alg} | (header or {}))
    signature = sign(pack(["Signature1", protected, b"", signed]))
    block = pack(cbor2.CBORTag(18, [protected, {}, None, signature]))
    wrapper = pack([signed, *[block] * blocks])
    return pack(cbor2.CBORTag(107, {2: wrapper, 3: body} | (beside or {})))


def public_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    if isinstance(numbers, rsa.RSAPublicNumbers):
        return numbers.n.to_bytes(key.key_size // 8, "big")
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def components(*names: Sequence[bytes]) -> bytes:
    return pack([list(name) for name in (names or (APP,))])
