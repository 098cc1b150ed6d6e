"""The keys of one device and one application, and of one session (docs/protocol.md, Keys)."""

import functools
import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from warden_client.names import Address, Topic
from warden_client.protocol import strictcbor

VERSION = 1


@dataclass(frozen=True, slots=True)
class PairKeys:
    """Keys for hello, welcome and wake, derived from K alone."""

    hello: bytes = field(repr=False)
    welcome: bytes = field(repr=False)
    kid: bytes


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Keys, IVs and the ID of one session, derived from K, its hello and its welcome."""

    up_key: bytes = field(repr=False)
    up_iv: bytes = field(repr=False)
    down_key: bytes = field(repr=False)
    down_iv: bytes = field(repr=False)
    sid: bytes


def pair_keys(address: Address, k: bytes) -> PairKeys:
    """Return the keys of one device and one application. k: their sealing key, 32 bytes."""

    def derive(purpose: str, length: int) -> bytes:
        return HKDF(SHA256(), length, salt=None, info=_info(address, purpose)).derive(k)

    return PairKeys(derive("hello", 32), derive("welcome", 32), derive("kid", 8))


def session_keys(address: Address, k: bytes, hello: bytes, welcome: bytes) -> SessionKeys:
    """Return the keys of one session.

    Both whole messages are in the salt, so a hello can't be spliced to another hello's welcome.
    """
    salt = hashlib.sha256(hello).digest() + hashlib.sha256(welcome).digest()
    prk = hmac.digest(salt, k, "sha256")  # HKDF-Extract, RFC 5869 §2.2

    def expand(purpose: str, length: int) -> bytes:
        return HKDFExpand(SHA256(), length, _info(address, purpose)).derive(prk)

    return SessionKeys(
        expand("up key", 32),
        expand("up iv", 13),
        expand("down key", 32),
        expand("down iv", 13),
        expand("sid", 8),
    )


@functools.lru_cache(1024)  # a device sends few kinds of events again and again
def external_aad(kind: str, topic: Topic) -> bytes:
    """Return the associated data that binds a message to its kind and its topic."""
    return strictcbor.encode([kind, str(topic)])


def _info(address: Address, purpose: str) -> bytes:
    return strictcbor.encode(["warden1", purpose, VERSION, *address])
