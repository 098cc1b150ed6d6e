"""Take pins from a signed file: for a device that no server of its pins is left for.

Rules and form: docs/protocol.md, Pins by a file. agent/link_failure.py loads it behind a refused
connection, and unloads it again.
"""

import os

from micropython import const

from ..errors import PeerError, StoreError
from ..vault import records
from ..wire import cbor, cose
from .rotation import Rotation, check_record

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..agent.interface import Agent

    Verifiers = Callable[[list[bytes]], list[Any]]

_NAME = const("pins.cose")
_FOLDERS = const(("/", "/sd/"))
_LABEL = const("warden pins")  # no signed manifest begins so: it is a list of number and digest
_FORMAT = const(1)
_MOST = const(5120)  # bytes: the largest record, and a signature of the largest RSA key


def apply_found(agent: "Agent", verifiers: "Verifiers") -> bool:
    """Apply the pins of a file that lies on this board; return whether there are new ones.

    A file that was applied, or refused, is removed. verifiers: makes what verifies signatures of
    the release keys.
    """
    for folder in _FOLDERS:
        try:
            with open(folder + _NAME, "rb") as file:
                data = file.read(_MOST + 1)
        except OSError:
            continue
        try:
            apply(agent, data, verifiers)
        except PeerError as error:
            agent.log(error.code, folder + _NAME + ": " + error.text)
            agent.report(error.code, "pins")
            _remove(folder + _NAME)
        except StoreError as error:
            agent.log(error.code, error.text)
            return False
        else:
            agent.log("rotated", "trust")
            agent.report("pins-replaced", "pins")
            _remove(folder + _NAME)
            return True
    return False


def apply(agent: "Agent", data: bytes, verifiers: "Verifiers") -> None:
    """Check a file whole, then put its CAs and pins into the vault by one commit.

    PeerError cbor-…, cose-…, tampered, bad-body, wrong-device, old-pins; StoreError
    not-provisioned for a device without release keys, and others.
    """
    vault = agent.vault
    vendor, _, keys = records.load(vault, "release")
    if len(data) > _MOST:
        raise PeerError("cbor-limit", "the file is too large")
    made, trust = _open(data, vendor, verifiers(keys))
    mark = vault.counter("time") - records.clock_shift(vault)
    if made <= max(vault.counter("pins"), mark):
        raise PeerError("old-pins", "made before the pins that this device has were confirmed")
    check_record(trust, "trust")
    changes: "dict[str, bytes | None]" = {"trust": cbor.encode(trust)}
    if "rotation" in vault.names():
        changes["rotation"] = Rotation(vault).without_trust()
    vault.commit(changes, {"pins": made})
    agent.trust.cas, agent.trust.pins = trust
    secrets: "Any" = getattr(agent.rotation, "secrets", None)
    if secrets is not None:
        secrets.trust = None
        if not secrets.pending():
            agent.rotation = None


def _open(data: bytes, vendor: bytes, keys: "list[Any]") -> "tuple[int, Any]":
    """Verify a file; return when it was made, unix seconds, and its CAs and pins."""
    parts: "Any" = cbor.decode(data)
    if not isinstance(parts, list) or [type(part) for part in parts] != [bytes, bytes]:
        raise PeerError("cose-malformed", "no pins with a signature")
    payload, signature = parts
    verify_signature(signature, keys, payload)
    fields: "Any" = cbor.decode(payload)
    if not isinstance(fields, list) or len(fields) != 5 or fields[:2] != [_LABEL, _FORMAT]:
        raise PeerError("bad-body", "signed, and no pins of a form that is known")
    if fields[2] != vendor:
        raise PeerError("wrong-device", "the pins of another fleet")
    made = fields[3]
    if type(made) is not int or not 0 < made < 1 << 40:
        raise PeerError("bad-body", "signed, and made at no time")
    return made, fields[4]


def verify_signature(signature: bytes, keys: "list[Any]", payload: bytes) -> None:
    """Verify a COSE_Sign1 with a detached payload. PeerError cose-…, cbor-…, tampered."""
    parsed = cose.parse_sign1(signature)
    for key in keys:
        try:
            return cose.verify_sign1(parsed, key, payload)
        except PeerError:
            continue  # perhaps another key signed it
    raise PeerError("tampered", "none of this device's release keys signed it")


def _remove(path: str) -> None:
    try:
        os.remove(path)
    except OSError:
        pass  # on a card that can't be written: refused as old when it is seen again
