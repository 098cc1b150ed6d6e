"""Codes for the person at the device: made, hashed, judged once. Sans-IO: rows of the store and a time in, what to do out.

A code has 20 to 33 bits, so a hash that anybody can compute would give it away: the hash is HMAC-SHA-256 under the
fleet's pepper, a file of its own beside the database. A slow hash would add nothing: whoever has both files has the
keys K as well, and opens the gate with the authority's own order.
"""

import hashlib
import hmac
import math
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warden_host import secretfile
from warden_host.errors import HostError
from warden_host.otp.settings import PEPPER, Limits
from warden_host.protocol import strictcbor
from warden_host.protocol.session import Instant
from warden_host.store.otp import Code
from warden_host.store.store import Store

HOUR_S = 3600
DAY_S = 86400
MIN_LEFT_S = 30  # less, and nobody types it in time; the device takes no shorter validity
_DOUBLED_S = 5.0
REQ = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)
TYPED = re.compile(r"[0-9]{1,16}\Z", re.ASCII)


@dataclass(frozen=True)
class Issue:
    """validity: seconds that are left. code: None when the owner was told already, for this very request."""

    validity: int
    code: str | None = field(default=None, repr=False)
    duress: str | None = field(default=None, repr=False)
    owners: tuple[str, ...] = ()


@dataclass(frozen=True)
class Denied:
    """No code is made, and no answer is given. why: the incident's code."""

    why: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """valid and late are the answer's flags. why: "" for the right code, else the incident's code."""

    valid: bool
    late: bool
    why: str = ""
    duress: bool = False


def pepper(keys: Path) -> bytes:
    """The fleet's key for hashes of codes; made when it is first needed. Raises key-permissions, key-damaged."""
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
    """Evenly from all numbers of so many digits, those with zeros in front among them."""
    return f"{secrets.randbelow(10**digits):0{digits}}"


class Codes:
    """One thread's. gate is the policy's `otp`, owners are whom the code would go to; the owner "" is never too many."""

    def __init__(self, store: Store, key: bytes, limits: Limits) -> None:
        self._store = store
        self._key = key
        self._limits = limits
        self._deadlines: dict[str, tuple[str, float]] = {}  # device → request, steady seconds
        self._judged: dict[str, tuple[bytes, float, Verdict]] = {}

    def ask(
        self, device: str, gate: dict[str, Any], req: str, owners: tuple[str, ...], now: Instant
    ) -> Issue | Denied:
        """A request of the device. The code before it counts no more."""
        known = self._store.code(device)
        if known is not None and req == known.req:
            left = self._left(known, now)
            if known.digest is None or left < MIN_LEFT_S:
                return Denied("otp-replayed", "a request that is over")
            return Issue(left)  # our answer was lost; the owner has the code
        past = known.past if known is not None else ()
        if req in past:
            return Denied("otp-replayed", "a request that a newer one cancelled")
        denied = self._too_often(device, now.unix)
        if denied is not None:
            return denied
        reached = tuple(owner for owner in owners if self._may_reach(owner, now.unix))
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
            self._store.add_count(_asked(device), now.unix, HOUR_S)
            for owner in filter(None, reached):
                self._store.add_count(_told(owner), now.unix, HOUR_S)
        self._deadlines[device] = (req, now.steady + validity)
        return Issue(validity, code, other if gate["duress"] else None, reached)

    def judge_plain(
        self, device: str, gate: dict[str, Any], req: str, typed: str, now: Instant
    ) -> Verdict:
        """As judge(), where nothing tells a message that the network doubled: it gets the verdict of the first."""
        given = self._digest(device, req, typed)
        last, when, verdict = self._judged.get(device, (b"", 0.0, Verdict(False, True)))
        if not hmac.compare_digest(given, last) or now.steady - when > _DOUBLED_S:
            verdict = self.judge(device, gate, req, typed, now)
            self._judged[device] = (given, now.steady, verdict)
        return verdict

    def judge(
        self, device: str, gate: dict[str, Any], req: str, typed: str, now: Instant
    ) -> Verdict:
        """What was typed. The attempt is on disk before it is looked at."""
        if self._worn(device, now.unix):
            return Verdict(
                False, True, "otp-limit"
            )  # nothing is looked at, and a flood costs no disk
        with self._store.transaction():
            known = self._store.begin_try(device, req)
            self._store.add_count(_tried(device), now.unix, DAY_S)
        if known is None or known.digest is None:
            return Verdict(False, True, "otp-replayed")
        if known.tries > gate["retries"]:
            return Verdict(False, True, "otp-limit")
        if self._left(known, now) <= 0:
            return Verdict(False, True, "otp-late")
        given = self._digest(device, req, typed)
        right = hmac.compare_digest(given, known.digest)
        duress = hmac.compare_digest(given, known.duress or secrets.token_bytes(len(given)))
        if not right and not duress:
            return Verdict(False, False, "otp-wrong")
        with self._store.transaction():
            self._store.spend_code(device, req)
            self._store.clear_counts(_tried(device))
        return Verdict(True, False, "duress" if duress else "", duress)

    def _too_often(self, device: str, now: int) -> Denied | None:
        if self._store.count_otp(_asked(device), now, HOUR_S) >= self._limits.requests_device:
            return Denied("otp-limit", "it asked for too many codes in an hour")
        if self._worn(device, now):
            return Denied("otp-limit", "too many wrong codes were typed in a day")
        return None

    def _worn(self, device: str, now: int) -> bool:
        return self._store.count_otp(_tried(device), now, DAY_S) >= self._limits.attempts_device

    def _may_reach(self, owner: str, now: int) -> bool:
        return (
            owner == ""
            or self._store.count_otp(_told(owner), now, HOUR_S) < self._limits.requests_owner
        )

    def _left(self, code: Code, now: Instant) -> int:
        """Seconds. By the steady clock where this process made the code; else by the date, and a date before its making is none."""
        req, deadline = self._deadlines.get(code.device, ("", 0.0))
        if req == code.req:
            return math.ceil(deadline - now.steady)
        age = now.unix - code.made
        return code.validity - age if age >= 0 else 0

    def _digest(self, device: str, req: str, code: str) -> bytes:
        """Bound to the device and the request: a code of another opens nothing."""
        said = strictcbor.encode(["warden otp 1", device, req, code])
        return hmac.new(self._key, said, hashlib.sha256).digest()


def forgive(store: Store, device: str) -> None:
    """The owner looked at the device: its requests and attempts are counted anew."""
    with store.transaction():
        store.clear_counts(_asked(device))
        store.clear_counts(_tried(device))


def _asked(device: str) -> str:
    return f"asked {device}"


def _told(owner: str) -> str:
    return f"told {owner}"


def _tried(device: str) -> str:
    return f"tried {device}"
