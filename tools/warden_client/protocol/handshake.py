"""hello, welcome and wake: their bytes and their checks (docs/protocol.md, Sealed mode)."""

import hashlib
from dataclasses import dataclass
from typing import Any

from warden_client.errors import HostError
from warden_client.names import SEALED, Address, Topic
from warden_client.protocol import cose, strictcbor
from warden_client.protocol.keyschedule import VERSION, PairKeys, external_aad

NONCE = 16
MAX_HELLO = 512  # a hello takes about 150 bytes


@dataclass(frozen=True, slots=True)
class Hello:
    boot: int
    connect: int
    vault_gen: int
    policy_hash: bytes
    wake_nonce: bytes | None
    development: bool = False  # the device's console is open


def event_topic(address: Address, event: str) -> Topic:
    """Return the topic of a sealed event of this device."""
    return Topic(address.type, address.device, "evt", event, SEALED)


def command_topic(address: Address, command: str) -> Topic:
    """Return the topic of a sealed command to this device."""
    return Topic(address.type, address.device, "cmd", command, SEALED)


def open_hello(address: Address, keys: PairKeys, data: bytes) -> Hello:
    """Return the fields of an authentic hello.

    Raises, in this order of gates: mqtt-too-large, cbor-…, cose-…, wrong-application,
    tampered, bad-body.
    """
    if len(data) > MAX_HELLO:
        raise HostError("mqtt-too-large", f"a hello of {len(data)} bytes")
    message = cose.parse_mac0(data)
    if message.kid != keys.kid:
        raise HostError("wrong-application", "the hello is for another application")
    payload = cose.verify_mac0(
        keys.hello, message, external_aad("hello", event_topic(address, "hello"))
    )
    fields = strictcbor.decode(payload)
    if not isinstance(fields, list) or len(fields) not in (7, 8) or fields[0] != VERSION:
        raise HostError("bad-body", "not a hello of version 1")
    if len(fields) == 8 and fields[7] is not True:
        raise HostError("bad-body", "what follows in the hello is no sign of development mode")
    _version, nonce, boot, vault_gen, policy_hash, connect, wake_nonce = fields[:7]
    if not all(strictcbor.is_u32(number) for number in (fields[0], boot, vault_gen, connect)):
        raise HostError("bad-body", "a number in the hello is out of range")
    if not (_octets(nonce, NONCE) and _octets(policy_hash, 32)):
        raise HostError("bad-body", "a nonce or hash in the hello has the wrong length")
    if not (wake_nonce is None or _octets(wake_nonce, NONCE)):
        raise HostError("bad-body", "the hello's wake nonce has the wrong length")
    return Hello(boot, connect, vault_gen, policy_hash, wake_nonce, len(fields) == 8)


def seal_welcome(
    address: Address, keys: PairKeys, hello: bytes, nonce: bytes, unix_time: int, policy: bytes
) -> bytes:
    """Return the welcome to a hello. unix_time: seconds. policy: the policy record's hash."""
    payload = [VERSION, hashlib.sha256(hello).digest(), nonce, unix_time, policy]
    return _seal(address, keys, "welcome", payload)


def seal_wake(address: Address, keys: PairKeys, nonce: bytes) -> bytes:
    """Return a wake with this nonce, which the device's next hello repeats."""
    return _seal(address, keys, "wake", [VERSION, nonce])


def _seal(address: Address, keys: PairKeys, kind: str, payload: list[Any]) -> bytes:
    aad = external_aad(kind, command_topic(address, kind))
    return cose.seal_mac0(keys.welcome, keys.kid, aad, strictcbor.encode(payload))


def _octets(value: Any, length: int) -> bool:
    return isinstance(value, bytes) and len(value) == length
