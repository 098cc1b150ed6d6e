"""Log operators in at the console in a browser: a password (argon2id) and a code (TOTP, RFC 6238).

The process that talks to browsers (warden_host/web) can read no key and no password's hash: it
passes on what was typed, and each of its requests names a session. What a session may do is looked
up at each request, so that a change of roles counts at once.
"""

import base64
import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from warden_host.engine.engine import Engine
from warden_host.errors import HostError
from warden_host.service.operators import Rights
from warden_host.store.operators import Operator
from warden_host.store.web_logins import WebLogin

STEP_S = 30
DIGITS = 6
SKEW_STEPS = 1  # a phone's clock may differ by so many steps
SECRET_SIZE = 20
MIN_PASSWORD, MAX_PASSWORD = 10, 128  # characters
IDLE_S = 30 * 60.0
LIFE_S = 12 * 3600.0
MOST = 256  # sessions
_TOKEN_SIZE = 32
_HASHES_AT_ONCE = 2  # each takes 64 MiB
_HASH_WAIT_S = 10.0
# Wrong log-ins that are looked at: of one name, of one address, of all together.
_NAME_BURST, _NAME_RATE = 5.0, 1 / 60
_ADDRESS_BURST, _ADDRESS_RATE = 20.0, 1 / 20
_ALL_BURST, _ALL_RATE = 100.0, 2.0
_MAX_KEYS = 1024


@dataclass
class _Session:
    name: str
    began: float
    used: float


class Attempts:
    """Token buckets for wrong log-ins. The oldest of more than _MAX_KEYS keys is forgotten."""

    def __init__(self, burst: float, rate: float) -> None:
        """rate: tokens a second."""
        self._burst, self._rate = burst, rate
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, key: str, now: float) -> bool:
        """Return whether another try is looked at."""
        return self._tokens(key, now) >= 1

    def spend(self, key: str, now: float) -> None:
        """Count a wrong one."""
        self._left[key] = (self._tokens(key, now) - 1, now)
        self._left.move_to_end(key)
        if len(self._left) > _MAX_KEYS:
            self._left.popitem(last=False)

    def _tokens(self, key: str, now: float) -> float:
        tokens, at = self._left.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self._rate)


class WebSessions:
    """The sessions of browsers; they end with `warden serve`.

    ask: runs a question on the engine's thread. clock, wall: steady seconds, and unix seconds.
    """

    def __init__(
        self,
        ask: Callable[[Callable[[Engine], Any]], Any],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        from argon2 import PasswordHasher

        self._ask = ask
        self._clock, self._wall = clock, wall
        self._hasher = PasswordHasher()
        # Of no operator's password: an unknown name takes as long as a known one.
        self._nobody = WebLogin("", self._hasher.hash(secrets.token_hex(16)), bytes(SECRET_SIZE))
        self._hashing = threading.Semaphore(_HASHES_AT_ONCE)
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._guard = threading.Lock()
        self._names = Attempts(_NAME_BURST, _NAME_RATE)
        self._addresses = Attempts(_ADDRESS_BURST, _ADDRESS_RATE)
        self._all = Attempts(_ALL_BURST, _ALL_RATE)

    def log_in(self, name: str, password: str, code: str, address: str) -> str:
        """Return the token of a new session.

        address: of the browser, for the count of wrong log-ins and the report.
        Raises: login-refused, the same for an unknown name, a wrong password and a wrong or used
        code; login-paused after too many of them, also for the right ones.
        """
        self._check_pause(name, address)
        login = self._ask(lambda engine: engine.store.web_login(name)) or self._nobody
        right = self._is_password(login, password)
        step = self._step_of(login, code)
        used = bool(right and step and login.name) and self._ask(
            lambda engine: engine.store.use_web_step(name, step)
        )
        if not used:
            self._count(name, address)
            raise HostError("login-refused", "the name, the password or the code is wrong")
        return self._begin(name)

    def rights(self, token: Any) -> tuple[Operator, Rights]:
        """Return the operator of a session and what it may do. Raises session-ended."""
        key = _key(token)
        now = self._clock()
        with self._guard:
            session = self._sessions.get(key)
            if session is not None and self._is_old(session, now):
                del self._sessions[key]
                session = None
            if session is not None:
                session.used = now
        operator = None
        if session is not None:
            name = session.name
            operator = self._ask(lambda engine: engine.store.operator(name))
        if session is None or operator is None:
            raise HostError("session-ended", "the session in the browser has ended")
        return operator, Rights(f"{operator.name} console", operator.roles)

    def log_out(self, token: Any) -> None:
        """End a session, if it is one."""
        with self._guard:
            self._sessions.pop(_key(token), None)

    def is_over(self, token: Any, name: str) -> bool:
        """Return whether a session of an operator has ended; asking is no use of it."""
        with self._guard:
            session = self._sessions.get(_key(token))
            return session is None or session.name != name or self._is_old(session, self._clock())

    def end(self, name: str) -> None:
        """End all sessions of an operator."""
        with self._guard:
            for key in [key for key, one in self._sessions.items() if one.name == name]:
                del self._sessions[key]

    def _begin(self, name: str) -> str:
        token = secrets.token_urlsafe(_TOKEN_SIZE)
        now = self._clock()
        with self._guard:
            for key in [key for key, one in self._sessions.items() if self._is_old(one, now)]:
                del self._sessions[key]
            while len(self._sessions) >= MOST:
                self._sessions.popitem(last=False)
            self._sessions[_key(token)] = _Session(name, now, now)
        return token

    @staticmethod
    def _is_old(session: _Session, now: float) -> bool:
        return now - session.used > IDLE_S or now - session.began > LIFE_S

    def _check_pause(self, name: str, address: str) -> None:
        now = self._clock()
        with self._guard:
            allowed = (
                self._names.allows(name, now)
                and self._addresses.allows(address, now)
                and self._all.allows("", now)
            )
        if not allowed:
            raise HostError("login-paused", "there were too many wrong log-ins")

    def _count(self, name: str, address: str) -> None:
        now = self._clock()
        with self._guard:
            for attempts, key in (
                (self._names, name),
                (self._addresses, address),
                (self._all, ""),
            ):
                attempts.spend(key, now)

    def _is_password(self, login: WebLogin, password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        if not self._hashing.acquire(timeout=_HASH_WAIT_S):
            raise HostError("login-paused", "there are too many log-ins at once")
        try:
            return self._hasher.verify(login.password, password)
        except (VerificationError, InvalidHashError):
            return False
        finally:
            self._hashing.release()

    def _step_of(self, login: WebLogin, code: str) -> int:
        """Return the time step whose code was typed, or 0. All are compared, in the same time."""
        now = int(self._wall()) // STEP_S
        found = 0
        for step in range(now - SKEW_STEPS, now + SKEW_STEPS + 1):
            if hmac.compare_digest(totp(login.secret, step), code.encode()):
                found = step
        return found


def totp(secret: bytes, step: int) -> bytes:
    """Return the code of a time step, as authenticators show it (RFC 6238, SHA-1, 6 digits)."""
    import pyotp

    generator = pyotp.TOTP(base64.b32encode(secret).decode(), digits=DIGITS, interval=STEP_S)
    return generator.generate_otp(step).encode()


def uri(login: WebLogin, fleet: str) -> str:
    """Return the otpauth:// URI that authenticators scan."""
    import pyotp

    generator = pyotp.TOTP(base64.b32encode(login.secret).decode(), digits=DIGITS, interval=STEP_S)
    return generator.provisioning_uri(name=login.name, issuer_name=f"Warden {fleet}")


def hash_password(password: str) -> str:
    """Return a password's argon2id hash. Raises bad-argument for one that is too short or long."""
    from argon2 import PasswordHasher

    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise HostError(
            "bad-argument", f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters"
        )
    return PasswordHasher().hash(password)


def _key(token: Any) -> bytes:
    """Return what is kept of a token: its hash, which opens nothing."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else b"").digest()
