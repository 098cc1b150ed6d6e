"""Check an operator's password (argon2id) and code (TOTP, RFC 6238) for the console."""

import base64
import contextlib
import functools
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from warden_host.engine.engine import Engine
from warden_host.errors import HostError
from warden_host.service.login_limits import LoginLimits, known_browser
from warden_host.store.web_logins import WebLogin

STEP_S = 30
DIGITS = 6
SKEW_STEPS = 1  # a phone's clock may differ by so many steps
SECRET_SIZE = 20
MIN_PASSWORD, MAX_PASSWORD = 10, 128  # characters
_WAITING = 8
_WAIT_S = 10.0

Ask = Callable[[Callable[[Engine], Any]], Any]


class HashRoom:
    """Admit one check of a password at a time: each takes 64 MiB and a processor.

    _WAITING wait for it, at most _WAIT_S; more are turned away at once.
    """

    def __init__(self) -> None:
        self._slot = threading.Lock()
        self._guard = threading.Lock()
        self._inside = 0

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Hold the place. Raises login-paused."""
        with self._guard:
            if self._inside > _WAITING:
                raise _crowded()
            self._inside += 1
        try:
            if not self._slot.acquire(timeout=_WAIT_S):
                raise _crowded()
            try:
                yield
            finally:
                self._slot.release()
        finally:
            with self._guard:
                self._inside -= 1


class PasswordCheck:
    """Look at names, passwords and codes. Browsers that logged in before have a room of their own.

    ask: runs a question on the engine's thread. wall: unix seconds.
    """

    def __init__(
        self, ask: Ask, limits: LoginLimits, wall: Callable[[], float] = time.time
    ) -> None:
        from argon2 import PasswordHasher

        self._ask = ask
        self._limits = limits
        self._wall = wall
        self._hasher = PasswordHasher()
        self._nobody = _nobody()
        self._strangers, self._known = HashRoom(), HashRoom()

    def check(self, name: str, password: str, code: str, address: str, cookie: str) -> WebLogin:
        """Return the log-in of the operator.

        cookie: that an earlier log-in gave the browser, or "".
        Raises: login-refused, the same for an unknown name, a wrong password and a wrong or used
        code; login-paused after too many of them, also for the right ones.
        """
        login = self._ask(lambda engine: engine.store.web_login(name)) or self._nobody
        browser = known_browser(login, cookie) if cookie else ""
        counted = self._limits.count_password(name, address, browser)
        with (self._known if browser else self._strangers).enter():
            right = self._is_password(login, password)
        step = self._step_of(login, code)
        used = bool(right and step and login.name) and self._ask(
            lambda engine: engine.store.use_web_step(name, step)
        )
        if not used:
            raise HostError("login-refused", "the name, the password or the code is wrong")
        self._limits.give_back(counted)
        found: WebLogin = login
        return found

    def _is_password(self, login: WebLogin, password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            return self._hasher.verify(login.password, password)
        except (VerificationError, InvalidHashError):
            return False

    def _step_of(self, login: WebLogin, code: str) -> int:
        """Return the time step whose code was typed, or 0. All are compared, in the same time."""
        now = int(self._wall()) // STEP_S
        found = 0
        for step in range(now - SKEW_STEPS, now + SKEW_STEPS + 1):
            if hmac.compare_digest(totp(login.secret, step), code.encode()):
                found = step
        return found


@functools.cache
def _nobody() -> WebLogin:
    """Return a log-in of no operator: an unknown name takes as long as a known one."""
    from argon2 import PasswordHasher

    return WebLogin("", PasswordHasher().hash(secrets.token_hex(16)), bytes(SECRET_SIZE))


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
            "bad-argument",
            f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters",
            "choose another one: several words are long, and easy to remember",
        )
    return PasswordHasher().hash(password)


def _crowded() -> HostError:
    return HostError("login-paused", "there are too many log-ins at once")
