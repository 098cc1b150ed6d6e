"""One-time passwords that the device verifies itself: HOTP (RFC 4226) and TOTP (RFC 6238).

gate/machine.py counts an attempt, then calls Codes.verify() here. Where the policy's source is the
authority, the authority compares the code, and this module is not loaded.

Authenticator apps use HMAC-SHA-1; its known weakness is in collisions, on which an HMAC does not
depend (RFC 6194 §3.3). SHA-256 is for apps that have it. A code is compared with every counter of
its window, the larger one of resynchronisation included, under both secrets, match or not: so the
time it takes shows neither which secret it was nor which counter.
"""

import hashlib

from micropython import const

from ..crypto.ct import equal
from ..crypto.kdf import hmac_sha256
from ..errors import UsageError
from ..vault import records

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault

_BLOCK = const(64)
# How far an app's counter may be ahead: codes that were shown and not typed (RFC 4226 §7.4).
_AHEAD = const(10)
# How far two codes in a row may be ahead: resynchronisation (RFC 4226 §7.4).
_RESYNC = const(100)
# Steps that a code may be early or late: the app's clock, and the time to type (RFC 6238 §5.2).
_DRIFT = const(1)


def code(secret: bytes, counter: int, digits: int, algorithm: str = "sha1") -> bytes:
    """Return a counter's code, ASCII digits (RFC 4226 §5.3). algorithm: "sha1" or "sha256"."""
    text = counter.to_bytes(8, "big")
    mac = hmac_sha256(secret, text) if algorithm == "sha256" else _hmac_sha1(secret, text)
    at = mac[-1] & 15
    number = int.from_bytes(mac[at : at + 4], "big") & 0x7FFFFFFF
    return b"%0*d" % (digits, number % 10**digits)


def _hmac_sha1(key: bytes, text: bytes) -> bytes:
    try:
        sha1 = hashlib.sha1
    except AttributeError:
        raise UsageError("no-board", "this firmware has no SHA-1: enrol with SHA-256")
    if len(key) > _BLOCK:
        key = sha1(key).digest()  # RFC 2104 §2
    k = int.from_bytes(key + bytes(_BLOCK - len(key)), "big")
    inner = sha1((k ^ int.from_bytes(b"\x36" * _BLOCK, "big")).to_bytes(_BLOCK, "big"))
    inner.update(text)
    outer = sha1((k ^ int.from_bytes(b"\x5c" * _BLOCK, "big")).to_bytes(_BLOCK, "big"))
    outer.update(inner.digest())
    return outer.digest()


class Codes:
    """The secrets of the vault's record `otp`.

    Each has a counter of the vault: the first HOTP counter, or TOTP step, that is still valid. An
    order that set the clock back left a shift of the steps, and steps that stay refused for ever.
    duress: the policy accepts the second secret.
    """

    def __init__(self, vault: "Vault", duress: bool = True) -> None:
        fields = records.load(vault, "otp")
        self._vault = vault
        self._secret, self._digits, self._step_s, self._duress = fields[:4]
        self._algorithm = fields[4] if len(fields) > 4 else "sha1"
        if not duress:
            self._duress = None
        self._set_back: "dict[str, Any]" = {}
        if self._step_s and "otp_clock" in vault.names():
            self._set_back = records.load(vault, "otp_clock")[1]
        # Codes past the window that the next attempt may hold: (the counter's name, counter).
        self._expected: "list[tuple[str, int]]" = []
        # A firmware without SHA-1 must fail at the start, not at the first code.
        code(self._secret, 0, self._digits, self._algorithm)

    def needs_time(self, unix_time: "int | None") -> bool:
        """Return whether no code can be verified: TOTP without a proven time."""
        return self._step_s > 0 and unix_time is None

    def verify(
        self, typed: "bytes | bytearray", unix_time: "int | None"
    ) -> "tuple[str, int] | None":
        """Return (counter's name, its new value) for a right code, None for a wrong one.

        typed: as many digits as the record says. unix_time: proven seconds, for TOTP. The name is
        `otp_duress` for a code of the second secret. The caller counts the attempt before the
        call, and commits the value after it.

        A HOTP code past the window is wrong, and the code after it right, if that is the next
        attempt. The display shows both kinds of wrong alike: a code that is known to be ahead
        opens the gate once the window reaches it.
        """
        found = None
        expected, self._expected = self._expected, []
        for name, secret in (("otp_step", self._secret), ("otp_duress", self._duress)):
            if not secret:
                continue
            shift, barred = self._set_back.get(name, (0, ()))
            counter = self._vault.counter(name) - shift
            near, last = counter + _AHEAD, counter + _RESYNC
            if self._step_s:
                # Without a time there is no step to compare with: an empty window.
                now = -_DRIFT - 1 if unix_time is None else unix_time // self._step_s
                counter, near = max(counter, now - _DRIFT), now + _DRIFT + 1
                last = near
            while counter < last:  # range() refuses numbers of more than a word
                right = equal(code(secret, counter, self._digits, self._algorithm), typed)
                if right and not any([first <= counter < end for first, end in barred]):
                    if counter >= near and (name, counter) not in expected:
                        self._expected.append((name, counter + 1))
                    elif found is None:
                        found = name, counter + 1 + shift
                counter += 1
        return found
