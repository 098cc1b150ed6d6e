"""Log operators in at the console in a browser: a password (argon2id) and a code (TOTP, RFC 6238).

The process that talks to browsers (warden_host/web) can read no key and no password's hash: it
passes on what was typed, and each of its requests names a session. What a session may do is looked
up at each request, so that a change of roles counts at once.
"""

import base64
import hashlib
import hmac
import ipaddress
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
    """login: the mark of what its operator logged in with."""

    name: str
    login: bytes
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

    def give_back(self, key: str, now: float) -> None:
        """Count one that was spent no more: it was right."""
        if key in self._left:
            self._left[key] = (min(self._burst, self._tokens(key, now) + 1), now)

    def spend(self, key: str, now: float) -> None:
        """Count a try."""
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
        keys = self._count_try(name, address)
        login = self._ask(lambda engine: engine.store.web_login(name)) or self._nobody
        right = self._is_password(login, password)
        step = self._step_of(login, code)
        used = bool(right and step and login.name) and self._ask(
            lambda engine: engine.store.use_web_step(name, step)
        )
        if not used:
            raise HostError("login-refused", "the name, the password or the code is wrong")
        self._give_back(keys)
        return self._begin(login)

    def rights(self, token: Any, passive: bool = False) -> tuple[Operator, Rights]:
        """Return the operator of a session and what it may do. Raises session-ended.

        passive: whether the request comes without a click, and leaves the idle time as it is.
        """
        key = _key(token)
        now = self._clock()
        with self._guard:
            session = self._sessions.get(key)
            if session is not None and self._is_old(session, now):
                del self._sessions[key]
                session = None
            if session is not None and not passive:
                session.used = now
        operator = self._operator(session)
        if operator is None:
            with self._guard:
                self._sessions.pop(key, None)
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

    def _operator(self, session: _Session | None) -> Operator | None:
        """Return a session's operator, unless the log-in that it began with was replaced."""
        if session is None:
            return None

        def find(engine: Engine) -> Operator | None:
            login = engine.store.web_login(session.name)
            if login is None or not hmac.compare_digest(_mark(login), session.login):
                return None
            return engine.store.operator(session.name)

        found: Operator | None = self._ask(find)
        return found

    def _begin(self, login: WebLogin) -> str:
        token = secrets.token_urlsafe(_TOKEN_SIZE)
        now = self._clock()
        with self._guard:
            for key in [key for key, one in self._sessions.items() if self._is_old(one, now)]:
                del self._sessions[key]
            while len(self._sessions) >= MOST:
                self._sessions.popitem(last=False)
            self._sessions[_key(token)] = _Session(login.name, _mark(login), now, now)
        return token

    @staticmethod
    def _is_old(session: _Session, now: float) -> bool:
        return now - session.used > IDLE_S or now - session.began > LIFE_S

    def _count_try(self, name: str, address: str) -> tuple[str, str]:
        """Count a log-in before it is looked at, so that those at the same moment count too.

        Return the keys that it counts for. Raises login-paused.
        """
        now = self._clock()
        keys = name, _network(address)
        with self._guard:
            counts = self._counts(keys)
            if not all(attempts.allows(key, now) for attempts, key in counts):
                raise HostError("login-paused", "there were too many wrong log-ins")
            for attempts, key in counts:
                attempts.spend(key, now)
        return keys

    def _give_back(self, keys: tuple[str, str]) -> None:
        with self._guard:
            for attempts, key in self._counts(keys):
                attempts.give_back(key, self._clock())

    def _counts(self, keys: tuple[str, str]) -> tuple[tuple[Attempts, str], ...]:
        name, network = keys
        return (self._names, name), (self._addresses, network), (self._all, "")

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


def _mark(login: WebLogin) -> bytes:
    """Return what tells a log-in from the one that replaces it, and opens nothing."""
    return hashlib.sha256(login.password.encode() + login.secret).digest()


def _network(address: str) -> str:
    """Return what counts as one address: of IPv6 the /64 network, which one machine has whole."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.IPv6Network((int(found), 64), strict=False))


def _key(token: Any) -> bytes:
    """Return what is kept of a token: its hash, which opens nothing."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else b"").digest()
