"""Keep the sessions of operators at the console in a browser.

The process that talks to browsers (warden_host/web) can read no key and no password's hash: it
passes on what was typed, and each of its requests names a session. What a session may do is looked
up at each request, so that a change of roles counts at once.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from warden_host.engine.engine import Engine
from warden_host.errors import HostError
from warden_host.service.operators import Rights
from warden_host.service.web_passwords import Ask
from warden_host.store.operators import Operator
from warden_host.store.passkeys import Passkey
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin

IDLE_S = 30 * 60.0
LIFE_S = 12 * 3600.0
FRESH_S = 15 * 60.0  # a change of the own log-in takes one of so long ago at most
MOST = 256  # sessions
MOST_OF_AN_OPERATOR = 32
_TOKEN_SIZE = 32
_ID_SIZE = 8


class Login(NamedTuple):
    """What a session began with.

    mark: tells it from a log-in that replaces it. passkey: its credential ID, or None for a
    password. how: in words.
    """

    name: str
    mark: bytes
    passkey: bytes | None
    how: str

    @classmethod
    def by_password(cls, login: WebLogin) -> "Login":
        return cls(login.name, _mark(login), None, "password")

    @classmethod
    def by_passkey(cls, passkey: Passkey) -> "Login":
        how = f"passkey {passkey.label}"
        return cls(passkey.name, _passkey_mark(passkey), passkey.credential, how)


@dataclass
class _Session:
    """id: names it for its operator, and opens nothing. began, used: steady seconds."""

    login: Login
    id: str
    address: str
    began: float
    used: float


class WebSessions:
    """The sessions of browsers.

    ask: runs a question on the engine's thread. clock: steady seconds.
    """

    def __init__(self, ask: Ask, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._roles: dict[str, tuple[str, ...]] | None = None
        self._guard = threading.Lock()

    def begin(self, login: Login, address: str = "") -> str:
        """Return the token of a new session. address: of the browser, for the list."""
        token = secrets.token_urlsafe(_TOKEN_SIZE)
        now = self._clock()
        with self._guard:
            self._drop(lambda one: self._is_old(one, now))
            of_it = [key for key, one in self._sessions.items() if one.login.name == login.name]
            for key in of_it[: max(0, len(of_it) - MOST_OF_AN_OPERATOR + 1)]:
                del self._sessions[key]
            while len(self._sessions) >= MOST:
                self._sessions.popitem(last=False)
            self._sessions[_key(token)] = _Session(
                login, secrets.token_hex(_ID_SIZE), address, now, now
            )
        return token

    def rights(self, token: Any, passive: bool = False) -> tuple[Operator, Rights]:
        """Return the operator of a session and what it may do. Raises session-ended.

        passive: whether the request comes without a click, and leaves the idle time as it is.
        """
        key = _key(token)
        now = self._clock()
        with self._guard:
            session = self._sessions.get(key)
            if session is not None and self._is_old(session, now):
                session = None
            if session is not None and not passive:
                session.used = now
        operator = self._operator(session)
        if operator is None:
            with self._guard:
                self._sessions.pop(key, None)
            raise HostError("session-ended", "the session in the browser has ended")
        return operator, Rights(f"{operator.name} console", operator.roles)

    def check_fresh(self, token: Any) -> None:
        """Raise login-stale where the log-in of a session is long ago."""
        if not self.is_fresh(token):
            raise HostError("login-stale", "this needs a log-in of the last 15 minutes")

    def is_fresh(self, token: Any) -> bool:
        """Return whether a session's log-in is so new that it may change how one logs in."""
        with self._guard:
            session = self._sessions.get(_key(token))
            return session is not None and self._clock() - session.began <= FRESH_S

    def log_out(self, token: Any) -> None:
        """End a session, if it is one."""
        with self._guard:
            self._sessions.pop(_key(token), None)

    def is_over(self, token: Any, name: str, roles: tuple[str, ...] | None = None) -> bool:
        """Return whether a session of an operator has ended; asking is no use of it.

        roles: those with which something began; it is over when they have changed, by what
        note_roles() got last.
        """
        with self._guard:
            session = self._sessions.get(_key(token))
            if session is None or session.login.name != name:
                return True
            known = self._roles
            if roles is not None and known is not None and known.get(name) != roles:
                return True
            return self._is_old(session, self._clock())

    def note_roles(self, operators: list[Operator]) -> None:
        """Note the roles of now, for is_over()."""
        with self._guard:
            self._roles = {one.name: one.roles for one in operators}

    def end(self, name: str) -> None:
        """End all sessions of an operator."""
        with self._guard:
            self._drop(lambda one: one.login.name == name)

    def end_passkey(self, credential: bytes) -> None:
        """End the sessions that began with a passkey."""
        with self._guard:
            self._drop(lambda one: one.login.passkey == credential)

    def end_some(self, token: Any, name: str, id_: str) -> int:
        """End one session of an operator, or with "" all but that of the token; return how many.

        The token is of that operator.
        """
        own = _key(token)
        with self._guard:
            gone = [
                key
                for key, one in self._sessions.items()
                if one.login.name == name and (one.id == id_ if id_ else key != own)
            ]
            for key in gone:
                del self._sessions[key]
        return len(gone)

    def of_operator(self, token: Any, name: str) -> list[dict[str, Any]]:
        """Return an operator's sessions, the newest first; `own` is that of the token."""
        now, own = self._clock(), _key(token)
        with self._guard:
            return [
                {
                    "id": one.id,
                    "how": one.login.how,
                    "address": one.address,
                    "age": now - one.began,
                    "idle": now - one.used,
                    "own": key == own,
                }
                for key, one in reversed(self._sessions.items())
                if one.login.name == name and not self._is_old(one, now)
            ]

    def export(self) -> list[list[Any]]:
        """Return the sessions as JSON takes them, without tokens: for restore()."""
        with self._guard:
            return [
                [
                    *(key.hex(), one.login.name, one.login.mark.hex()),
                    None if one.login.passkey is None else one.login.passkey.hex(),
                    *(one.login.how, one.id, one.address, one.began, one.used),
                ]
                for key, one in self._sessions.items()
            ]

    def restore(self, rows: list[Any]) -> None:
        """Take up what export() gave. Each is looked up as ever when it is used first."""
        with self._guard:
            for row in rows[:MOST]:
                try:
                    key, name, mark, passkey, how, id_, address, began, used = row
                    login = Login(
                        str(name),
                        bytes.fromhex(mark),
                        None if passkey is None else bytes.fromhex(passkey),
                        str(how),
                    )
                    self._sessions[bytes.fromhex(key)] = _Session(
                        login, str(id_), str(address), float(began), float(used)
                    )
                except (TypeError, ValueError):
                    continue  # a file that was altered: its row opens nothing

    def _operator(self, session: _Session | None) -> Operator | None:
        """Return a session's operator, unless the log-in that it began with was replaced."""
        if session is None:
            return None
        login = session.login

        def find(engine: Engine) -> Operator | None:
            mark = _present_mark(engine.store, login)
            if mark is None or not hmac.compare_digest(mark, login.mark):
                return None
            return engine.store.operator(login.name)

        found: Operator | None = self._ask(find)
        return found

    def _drop(self, which: Callable[[_Session], bool]) -> None:
        for key in [key for key, one in self._sessions.items() if which(one)]:
            del self._sessions[key]

    @staticmethod
    def _is_old(session: _Session, now: float) -> bool:
        return now - session.used > IDLE_S or now - session.began > LIFE_S


def _present_mark(store: Store, login: Login) -> bytes | None:
    """Return the mark of the log-in that there is now in place of one, or None."""
    if login.passkey is None:
        found = store.web_login(login.name)
        return None if found is None else _mark(found)
    passkey = store.passkey(login.passkey)
    return None if passkey is None or passkey.cloned else _passkey_mark(passkey)


def _mark(login: WebLogin) -> bytes:
    """Return what tells a log-in from the one that replaces it, and opens nothing."""
    return hashlib.sha256(login.password.encode() + login.secret).digest()


def _passkey_mark(passkey: Passkey) -> bytes:
    return hashlib.sha256(passkey.name.encode() + b"\0" + passkey.key).digest()


def _key(token: Any) -> bytes:
    """Return what is kept of a token: its hash, which opens nothing."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else b"").digest()
