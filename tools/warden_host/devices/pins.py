"""The pins that devices are given: over the link, or in a signed file that a person carries.

The file is for a device that can't connect, because none of its pins is the server's any more. Its
form: docs/protocol.md, Pins by a file.
"""

import time
from typing import Any

from warden_client.protocol import strictcbor

from warden_host.errors import HostError
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.sealed_pem import PrivateKey
from warden_host.release import signing_key
from warden_host.store.store import Store

FILE = "pins.cose"  # its name on a device
MAX_FILE = 5120
_LABEL, _FORMAT = "warden pins", 1
_DIGEST = 32
MIN_END_S, MAX_END_S = 60, 365 * 24 * 3600


def check_end(seconds: int | None) -> None:
    """Raise bad-argument for an end that is out of bounds. None: the pin has none."""
    if seconds is not None and not MIN_END_S <= seconds <= MAX_END_S:
        raise HostError(
            "bad-argument", f"a pin ends after {MIN_END_S} to {MAX_END_S} seconds, not {seconds}"
        )


def current(fleet: Fleet, live_ends: float | None = None) -> list[list[bytes]]:
    """Return [[CA], [pin of the server's key, pin of the backup key]].

    live_ends: when devices are to refuse the server's present key, unix seconds; None: never.
    """
    live, backup = pki.load_pins(fleet.keys)
    if live_ends is not None:
        live += int(live_ends).to_bytes(8, "big")
    return [[pki.ca_der(fleet.keys)], [live, backup]]


def digests(trust: list[list[bytes]]) -> list[bytes]:
    """Return the digests of the pins, without their ends."""
    return [pin[:_DIGEST] for pin in trust[1]]


def alike(first: list[list[bytes]], second: list[list[bytes]]) -> bool:
    """Return whether CAs and pins are the same, and the same pins end, at any time."""
    shapes = [[(pin[:_DIGEST], len(pin)) for pin in each[1]] for each in (first, second)]
    return first[0] == second[0] and shapes[0] == shapes[1]


def sign(fleet: Fleet, store: Store, private: PrivateKey, live_ends_s: int | None = None) -> bytes:
    """Return a file with the fleet's present CA and pins, signed by a release key.

    live_ends_s: as check_end() has it. Raises bad-argument.
    """
    check_end(live_ends_s)
    now = time.time()
    trust = current(fleet, None if live_ends_s is None else now + live_ends_s)
    payload = strictcbor.encode([_LABEL, _FORMAT, store.vendor(), int(now), trust])
    return strictcbor.encode([payload, signing_key.sign_payload(private, payload)])


def read(data: bytes, keys: list[signing_key.ReleaseKey]) -> dict[str, Any]:
    """Return what a file says: {"made", "signed_by", "vendor", "cas", "pins"}.

    signed_by: the name of the one of these keys that signed it, or None.
    pins: [{"pin": hex, "ends": unix seconds or None}, …]. Raises pins-malformed.
    """
    try:
        if len(data) > MAX_FILE:
            raise ValueError
        payload, block = strictcbor.decode(data)
        protected, _, _, signature = strictcbor.decode(block)
        label, form, vendor, made, (cas, pins) = strictcbor.decode(payload)
        blobs = vendor, protected, signature
        if (label, form) != (_LABEL, _FORMAT) or not all(type(one) is bytes for one in blobs):
            raise ValueError
        record = {
            "made": _moment(made),
            "vendor": vendor.hex(),
            "cas": len(cas),
            "pins": [_shown(pin) for pin in pins],
        }
    except (ValueError, TypeError, AttributeError, HostError):
        raise HostError("pins-malformed", "not a file with pins, or a damaged one") from None
    text = signing_key.sign1_structure(protected, payload)
    found = [key.name for key in keys if signing_key.verifies(key.public, signature, text)]
    return record | {"signed_by": found[0] if found else None}


def _moment(value: object) -> int:
    """Return unix seconds. Raises ValueError."""
    if type(value) is not int or not 0 < value < 1 << 40:
        raise ValueError
    return value


def _shown(pin: bytes) -> dict[str, Any]:
    if len(pin) not in (_DIGEST, _DIGEST + 8):
        raise ValueError
    ends = _moment(int.from_bytes(pin[_DIGEST:], "big")) if len(pin) > _DIGEST else None
    return {"pin": pin[:_DIGEST].hex(), "ends": ends}
