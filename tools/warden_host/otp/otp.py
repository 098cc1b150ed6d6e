"""Make, hash and verify codes. Sans-IO: rows of the store and a time in, a decision out.

A code has 20 to 33 bits, so a plain hash would reveal it: the hash is HMAC-SHA-256 under the
fleet's pepper, a file beside the database. A slow hash would add nothing: an attacker with both
files has the keys K as well, and opens the gate with the authority's own order.
"""

import hashlib
import hmac
import math
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warden_client import secretfile
from warden_client.protocol import strictcbor
from warden_client.protocol.session import Instant

from warden_host.errors import HostError
from warden_host.otp.settings import PEPPER, Limits
from warden_host.store.otp import Code
from warden_host.store.store import Store

HOUR_S = 3600
DAY_S = 86400
MIN_LEFT_S = 30  # less is too short to type it; the device takes no shorter validity
_DOUBLED_S = 5.0
REQ = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)
TYPED = re.compile(r"[0-9]{1,16}\Z", re.ASCII)


@dataclass(frozen=True)
class Issue:
    """An answer to a request.

    validity: seconds left.
    code: None when the owner has it already, for this very request.
    """

    validity: int
    code: str | None = field(default=None, repr=False)
    duress: str | None = field(default=None, repr=False)
    owners: tuple[str, ...] = ()


@dataclass(frozen=True)
class Denied:
    """No code is made, and no answer is sent. why: the incident's code."""

    why: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """The answer to a typed code. valid and late are its flags.

    why: "" for the right code, else the incident's code.
    """

    valid: bool
    late: bool
    why: str = ""
    duress: bool = False


def pepper(keys: Path) -> bytes:
    """Return the fleet's key for hashes of codes, made on first use.

    Raises key-permissions, key-damaged.
    """
    path = keys / PEPPER
    if not path.exists():
        secretfile.write(path, secrets.token_bytes(32))
    key = secretfile.read(path)
    if len(key) != 32:
        raise HostError(
            "key-damaged", f"{PEPPER} is not 32 bytes", "remove it: codes that are out end with it"
        )
    return key


def draw(digits: int) -> str:
    """Draw a code evenly from all numbers of so many digits, leading zeros included."""
    return f"{secrets.randbelow(10**digits):0{digits}}"


class Codes:
    """Issue and verify codes, on one thread.

    gate: the policy's `otp`.
    owners: where the code would go; the owner "" has no limit.
    """

    def __init__(self, store: Store, key: bytes, limits: Limits) -> None:
        self._store = store
        self._key = key
        self._limits = limits
        self._deadlines: dict[str, tuple[str, float]] = {}  # device → request, steady seconds
        self._verdicts: dict[str, tuple[bytes, float, Verdict]] = {}

    def ask(
        self, device: str, gate: dict[str, Any], req: str, owners: tuple[str, ...], now: Instant
    ) -> Issue | Denied:
        """Answer a request of the device. Its earlier code becomes void."""
        known = self._store.code(device)
        if known is not None and req == known.req:
            left = self._seconds_left(known, now)
            if known.digest is None or left < MIN_LEFT_S:
                return Denied("otp-replayed", "a request that is over")
            return Issue(left)  # our answer was lost; the owner has the code
        past = known.past if known is not None else ()
        if req in past:
            return Denied("otp-replayed", "a request that a newer one cancelled")
        denied = self._over_limit(device, now.unix)
        if denied is not None:
            return denied
        reached = tuple(owner for owner in owners if self._owner_below_limit(owner, now.unix))
        if not reached:
            return Denied("otp-limit", "its owner was sent too many codes in an hour")
        digits = gate["digits"]
        code = draw(digits)
        other = draw(digits)
        while other == code:
            other = draw(digits)
        validity = gate["validity_s"]
        kept = Code(
            device,
            req,
            self._digest(device, req, code),
            self._digest(device, req, other) if gate["duress"] else None,
            now.unix,
            validity,
            0,
            past if known is None else (*past, known.req),
        )
        with self._store.transaction():
            self._store.put_code(kept)
            self._store.add_count(_requests_key(device), now.unix, HOUR_S)
            for owner in filter(None, reached):
                self._store.add_count(_sent_key(owner), now.unix, HOUR_S)
        self._deadlines[device] = (req, now.steady + validity)
        return Issue(validity, code, other if gate["duress"] else None, reached)

    def verify_plain(
        self, device: str, gate: dict[str, Any], req: str, typed: str, now: Instant
    ) -> Verdict:
        """Verify as verify() does, but give a duplicate of a message the first verdict.

        In plain mode nothing else tells a duplicate of the network from a second attempt.
        """
        typed_digest = self._digest(device, req, typed)
        last, when, verdict = self._verdicts.get(device, (b"", 0.0, Verdict(False, True)))
        if not hmac.compare_digest(typed_digest, last) or now.steady - when > _DOUBLED_S:
            verdict = self.verify(device, gate, req, typed, now)
            self._verdicts[device] = (typed_digest, now.steady, verdict)
        return verdict

    def verify(
        self, device: str, gate: dict[str, Any], req: str, typed: str, now: Instant
    ) -> Verdict:
        """Verify a typed code. The attempt is stored before the code is compared."""
        if self._out_of_attempts(device, now.unix):
            return Verdict(
                False, True, "otp-limit"
            )  # nothing is looked at, and a flood costs no disk
        with self._store.transaction():
            known = self._store.count_try(device, req)
            self._store.add_count(_attempts_key(device), now.unix, DAY_S)
        if known is None or known.digest is None:
            return Verdict(False, True, "otp-replayed")
        if known.tries > gate["retries"]:
            return Verdict(False, True, "otp-limit")
        if self._seconds_left(known, now) <= 0:
            return Verdict(False, True, "otp-late")
        typed_digest = self._digest(device, req, typed)
        right = hmac.compare_digest(typed_digest, known.digest)
        duress = hmac.compare_digest(
            typed_digest, known.duress or secrets.token_bytes(len(typed_digest))
        )
        if not right and not duress:
            return Verdict(False, False, "otp-wrong")
        with self._store.transaction():
            self._store.spend_code(device, req)
            self._store.clear_counts(_attempts_key(device))
        return Verdict(True, False, "duress" if duress else "", duress)

    def standing(self, device: str, now: Instant) -> tuple[Code, int] | None:
        """Return the record of the device's latest code, and the seconds that it is valid for."""
        known = self._store.code(device)
        return None if known is None else (known, self._seconds_left(known, now))

    def _over_limit(self, device: str, now: int) -> Denied | None:
        if (
            self._store.count_otp(_requests_key(device), now, HOUR_S)
            >= self._limits.requests_device
        ):
            return Denied("otp-limit", "it asked for too many codes in an hour")
        if self._out_of_attempts(device, now):
            return Denied("otp-limit", "too many wrong codes were typed in a day")
        return None

    def _out_of_attempts(self, device: str, now: int) -> bool:
        return (
            self._store.count_otp(_attempts_key(device), now, DAY_S)
            >= self._limits.attempts_device
        )

    def _owner_below_limit(self, owner: str, now: int) -> bool:
        return (
            owner == ""
            or self._store.count_otp(_sent_key(owner), now, HOUR_S) < self._limits.requests_owner
        )

    def _seconds_left(self, code: Code, now: Instant) -> int:
        """Return the seconds left.

        By the steady clock where this process made the code; else by the date, where a date before
        the making leaves none.
        """
        req, deadline = self._deadlines.get(code.device, ("", 0.0))
        if req == code.req:
            return math.ceil(deadline - now.steady)
        age = now.unix - code.made
        return code.validity - age if age >= 0 else 0

    def _digest(self, device: str, req: str, code: str) -> bytes:
        """Return the hash, bound to the device and the request: other codes open nothing."""
        data = strictcbor.encode(["warden otp 1", device, req, code])
        return hmac.new(self._key, data, hashlib.sha256).digest()


def reset_counts(store: Store, device: str) -> None:
    """Reset the counts of requests and attempts, after the owner inspected the device."""
    with store.transaction():
        store.clear_counts(_requests_key(device))
        store.clear_counts(_attempts_key(device))


def _requests_key(device: str) -> str:
    return f"asked {device}"


def _sent_key(owner: str) -> str:
    return f"told {owner}"


def _attempts_key(device: str) -> str:
    return f"tried {device}"
