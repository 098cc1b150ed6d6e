"""Limit wrong log-ins at the console, so that a stranger can't pause an operator's own.

A browser that logged in before has a cookie and a count of its own (OWASP, device cookies). Other
browsers are counted by name and address together, by address, by name, and all of them.
"""

import base64
import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable

from warden_host.addresses import network_of_client
from warden_host.errors import HostError
from warden_host.store.web_logins import WebLogin

# Tries that are looked at: at once, and a second.
_OF_NAME_AND_ADDRESS = 5.0, 1 / 60
_OF_ADDRESS = 20.0, 1 / 20
_OF_NAME = 50.0, 1 / 10
_OF_ALL = 100.0, 2.0
_OF_BROWSER = 5.0, 1 / 60
_OF_PASSKEYS = 30.0, 1 / 3  # of one address: a signature costs little
_MAX_KEYS = 1024
_NONCE_SIZE = 16
MAX_COOKIE = 128


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


Counted = tuple[tuple[Attempts, str], ...]


class LoginLimits:
    """Count tries before they are looked at, so that those at the same moment count too."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: steady seconds."""
        self._clock = clock
        self._guard = threading.Lock()
        self._places = Attempts(*_OF_NAME_AND_ADDRESS)
        self._addresses = Attempts(*_OF_ADDRESS)
        self._names = Attempts(*_OF_NAME)
        self._all = Attempts(*_OF_ALL)
        self._browsers = Attempts(*_OF_BROWSER)
        self._passkeys = Attempts(*_OF_PASSKEYS)

    def count_password(self, name: str, address: str, browser: str) -> Counted:
        """Count a try of a name, and return what it counted for. Raises login-paused.

        browser: what known_browser() said.
        """
        network = network_of_client(address, neighbours_apart=False)
        if browser:
            return self._count(((self._browsers, browser),))
        return self._count(
            (
                (self._places, f"{name} {network}"),
                (self._addresses, network),
                (self._names, name),
                (self._all, ""),
            )
        )

    def count_passkey(self, address: str) -> Counted:
        """Count a try by passkey, or by the code that registers one. Raises login-paused."""
        return self._count(((self._passkeys, network_of_client(address, neighbours_apart=False)),))

    def give_back(self, counted: Counted) -> None:
        """Count a right log-in no more."""
        now = self._clock()
        with self._guard:
            for attempts, key in counted:
                attempts.give_back(key, now)

    def _count(self, counted: Counted) -> Counted:
        now = self._clock()
        with self._guard:
            if not all(attempts.allows(key, now) for attempts, key in counted):
                raise HostError("login-paused", "there were too many wrong log-ins")
            for attempts, key in counted:
                attempts.spend(key, now)
        return counted


def browser_cookie(login: WebLogin) -> str:
    """Return the cookie of a browser in which an operator logged in. It opens nothing."""
    nonce = secrets.token_bytes(_NONCE_SIZE)
    return base64.urlsafe_b64encode(nonce + _seal(login, nonce)).decode()


def known_browser(login: WebLogin, cookie: str) -> str:
    """Return what the browser's tries are counted for, or "" where the cookie is not its own.

    The cookie is the operator's, and ends with the password.
    """
    try:
        data = base64.b64decode(cookie[:MAX_COOKIE], b"-_", validate=True)
    except ValueError:
        return ""
    nonce, seal = data[:_NONCE_SIZE], data[_NONCE_SIZE:]
    return nonce.hex() if hmac.compare_digest(_seal(login, nonce), seal) else ""


def _seal(login: WebLogin, nonce: bytes) -> bytes:
    key = hashlib.sha256(b"warden browser" + login.password.encode() + login.secret).digest()
    return hmac.new(key, login.name.encode() + nonce, hashlib.sha256).digest()
