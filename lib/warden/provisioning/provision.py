"""Provisioning, on the device: read the bundle from the console and seal it.

The bundle comes over standard input (4-byte big-endian length, then the bytes): never on a command
line, where other processes can read it, and never as a file that would have to be erased again.
Where the root key needs a PIN, that follows in the same form. The answer is one line of JSON,
without secrets.

Over a board's REPL the host calls provision(), state(), erase() and self_test() itself
(docs/boards.md).
"""

import binascii
import hashlib
import json
import sys

import micropython
from micropython import const

from ..board.load import board_vault, check
from ..crypto import ccm, kdf, rand
from ..errors import PeerError, StoreError, UsageError, WardenError
from ..wire import cbor
from .bundle import MAX_BUNDLE, install

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


_MAX_PIN = const(128)
_KEY_WANTED = const(b"certificate key")
_QUIET_MS = const(500)


def _read(stream: "Any", count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = stream.read(count - len(data))
        if not part:
            raise UsageError("bad-bundle", "the bundle, or the PIN behind it, is cut short")
        data += part
    return data


def _read_framed(stream: "Any", most: int) -> bytes:
    size = int.from_bytes(_read(stream, 4), "big")
    if not 0 < size <= most:
        raise UsageError("bad-bundle", "the length of the bundle or of the PIN is out of range")
    return _read(stream, size)


# What certificate_key() made: private key d, and x ‖ y.
_own_key: "list[bytes]" = []


def certificate_key() -> "dict[str, str]":
    """Make the key of the certificate that the bundle will hold, whose key is null then.

    It is in memory until the bundle comes. Return {"key": x ‖ y in hex}. StoreError randomness,
    vault-unwritten.
    """
    from ..crypto.p256_key import new_key

    _own_key[:] = new_key()
    return {"key": binascii.hexlify(_own_key[1]).decode()}


def provision(stream: "Any") -> None:
    """Read one bundle from a binary stream and install it.

    A frame before it may ask for certificate_key(), which is printed then.
    UsageError bad-bundle, bad-policy, no-board, no-network; StoreError already-provisioned and
    others.
    """
    bundle = _read_framed(stream, MAX_BUNDLE)
    if bundle == _KEY_WANTED:
        print(json.dumps(certificate_key()))
        bundle = _read_framed(stream, MAX_BUNDLE)
    check()
    board, vault = board_vault(lambda: _read_framed(stream, _MAX_PIN))
    wifi = "wifi" in (board.NETWORK, board.NETWORK[0])
    try:
        install(vault, bundle, wifi, _own_key)
    except StoreError as error:
        if error.code != "wiped":
            raise
        from ..vault.wipe import finish

        finish(vault.store)  # the power failed during a wipe
        install(vault, bundle, wifi, _own_key)
    del _own_key[:]
    vault.close()


def main() -> int:
    """Provision and return 0, or 1; print {"ok": true} or {"ok": false, "error": …, "text": …}.

    The bundle may contain the byte of Ctrl-C, which interrupts again afterwards.
    """
    micropython.kbd_intr(-1)
    try:
        provision(sys.stdin.buffer)
    except WardenError as error:
        _drain()
        print(json.dumps({"ok": False, "error": error.code, "text": error.text}))
        return 1
    finally:
        micropython.kbd_intr(3)
    print(json.dumps({"ok": True}))
    return 0


def _drain() -> None:
    """Read what follows a refused bundle until nothing came for a while: a REPL would run it."""
    import select

    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    while poll.poll(_QUIET_MS):
        if not sys.stdin.buffer.read(1):
            return


def state(challenge: bytes, pin: bytes = b"") -> "dict[str, Any]":
    """Return {"vault": "none", "open" or an error's code, "identity": …, "proof": …}.

    identity: [type, device] of an open vault. proof: in hex, what only a fleet that holds the
    authority's key of this very vault can compute from the challenge. No part of it is secret.
    pin: where the root key needs one.
    """
    _, vault = board_vault(lambda: pin)
    if vault.store.read("commit", MAX_BUNDLE) is None:
        return {"vault": "none"}
    try:
        vault.open()
        found: "dict[str, Any]" = {
            "vault": "open",
            "identity": cbor.decode(vault.get("identity") or b""),
        }
        for name in vault.names():
            if name.startswith("app_"):
                app: "Any" = cbor.decode(vault.get(name) or b"")
                if app[1]:
                    proof = kdf.hkdf(app[0], b"warden provisioned" + challenge, 16)
                    found["proof"] = binascii.hexlify(proof).decode()
        return found
    except StoreError as error:
        return {"vault": error.code}
    finally:
        vault.close()


def erase() -> None:
    """Destroy the vault, whole or damaged, so that the board can be provisioned again.

    UsageError no-board; StoreError vault-unwritten and others.
    """
    from ..vault.wipe import wipe

    wipe(board_vault(lambda: b"")[1])


def self_test(key: bytes, text: bytes, point: bytes, signature: bytes) -> "dict[str, Any]":
    """Return what this chip computes, for the host to compare with its own results.

    key: 32 bytes, no device's. text: at least 32 bytes. point: of a P-256 key, signature: of the
    text's SHA-256 under it.
    Returns: HMAC; the text sealed by AES-CCM under a nonce of zeros; whether it opens again and
    opens when it is changed; whether the signature is valid, and valid for another digest, or
    nothing where the board has no code for it; random bytes. StoreError randomness.
    """
    nonce, size = bytes(13), len(text)
    message = bytearray(text) + bytes(16)
    ccm.CCM(key).seal(nonce, message, size, key)
    found: "dict[str, Any]" = {
        "hmac": binascii.hexlify(kdf.hmac_sha256(key, text)).decode(),
        "sealed": binascii.hexlify(message).decode(),
        "random": binascii.hexlify(rand.random_bytes(16)).decode(),
        "opens": [],
        "valid": [],
    }
    for change in (0, 1):
        copy = bytearray(message)
        copy[1] ^= change
        try:
            ccm.CCM(key).open(nonce, copy, size, key)
            found["opens"].append(copy[:size] == text)
        except PeerError:
            found["opens"].append(False)
    try:
        from ..crypto import p256
    except (ImportError, AttributeError):  # the latter from the package's own __getattr__
        return found  # a board without updates
    for digest in (hashlib.sha256(text).digest(), key):
        found["valid"].append(p256.verify(point, digest, signature))
    return found
