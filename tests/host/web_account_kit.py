"""The authority's side of the console, without a process and without a browser."""

from types import SimpleNamespace
from typing import Any

from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.relying_party import RelyingParty
from warden_host.service.control import Caller
from warden_host.service.login_limits import LoginLimits
from warden_host.service.operators import AuditedSockets
from warden_host.service.passkeys import Passkeys
from warden_host.service.web_account import WebAccount
from warden_host.service.web_passwords import totp
from warden_host.service.web_requests import WebRequests
from warden_host.service.web_sessions import Login, WebSessions
from warden_host.service.wrong_logins import WrongLogins
from warden_host.store.operators import Operator
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin
from web_kit import HASH, PASSWORD, SECRET

ORIGIN = "http://localhost:8080"
STEP = 100
CODE = totp(SECRET, STEP).decode()


class Bans:
    """Notes what the watch over addresses is told."""

    def __init__(self) -> None:
        self.attempts: list[Any] = []
        self.out: set[str] = set()

    def attempt(self, attempt: Any) -> None:
        self.attempts.append(attempt)

    def keeps_out(self, address: str) -> bool:
        return address in self.out


class Account:
    """An operator alice with a password, whose code may be used again."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = 0.0
        self.shown: list[FleetEvent] = []
        self.done: list[str] = []
        self.bans = Bans()
        for name in ("alice", "bob"):
            store.put_operator(Operator(name, None, "", ("look",)))
            store.put_web_login(WebLogin(name, HASH, SECRET))
        engine = SimpleNamespace(store=store)
        ask = lambda question: question(engine)  # noqa: E731
        self.sockets = AuditedSockets(self._do, lambda code, text: None)
        self.sockets.authority = SimpleNamespace(ask=ask, do=ask)  # type: ignore[assignment]
        self.limits = LoginLimits(lambda: self.now)
        self.sessions = WebSessions(ask, lambda: self.now)
        self.passkeys = Passkeys(ask, "home", lambda: self.now, lambda: self.now)
        self.passkeys.party = RelyingParty("localhost", ORIGIN)
        wrong = WrongLogins(self.bans, self.shown.append)  # type: ignore[arg-type]
        parts = self.sockets, self.sessions, self.passkeys, self.limits, wrong
        self.account = WebAccount(ask, *parts, self.shown.append)
        self.account._passwords._wall = lambda: STEP * 30.0
        self.requests = WebRequests(self.sockets, self.sessions, self.account)

    def _do(self, line: dict[str, Any], caller: Caller) -> None:
        self.done.append(line["op"])

    def ask(self, op: str, caller: Caller | None = None, **fields: Any) -> dict[str, Any]:
        """Return the answer. Raises what it is refused with."""
        caller = caller or Caller()
        self.requests.handle({"op": op, "address": "192.0.2.7", **fields}, caller)
        found = caller.next_line(1)
        assert found is not None
        return found

    def log_in(self, name: str = "alice", password: str = PASSWORD, **fields: Any) -> dict:
        self.store._do("UPDATE web_logins SET step = 0")
        line = {"name": name, "password": password, "code": CODE} | fields
        return self.ask("login", **line)

    def fails(self, op: str, **fields: Any) -> str:
        """Return the code with which a request is refused."""
        try:
            self.log_in(**fields) if op == "login" else self.ask(op, **fields)
        except HostError as error:
            return error.code
        return ""

    def begin(self, name: str = "alice") -> str:
        """Return the token of a session that a password began."""
        login = self.store.web_login(name)
        assert login is not None
        return self.sessions.begin(Login.by_password(login))
