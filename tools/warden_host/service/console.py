"""Run the console in a browser: a process of its own, and the socket through which it asks.

The process (warden_host/web) parses what browsers send, so it is given no database and no key but
that of its certificate. It can do what the sessions of its browsers may do, and nothing else.
"""

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.servers import check_name
from warden_host.relying_party import relying_party
from warden_host.service import kept_sessions
from warden_host.service.authority import Authority
from warden_host.service.background import notices
from warden_host.service.console_process import ConsoleProcess
from warden_host.service.control import ControlServer, Line
from warden_host.service.event_feed import EventFeed
from warden_host.service.login_limits import LoginLimits
from warden_host.service.operators import AuditedSockets
from warden_host.service.passkeys import Passkeys
from warden_host.service.web_account import WebAccount
from warden_host.service.web_api import WebApi
from warden_host.service.web_requests import WebRequests
from warden_host.service.web_sessions import WebSessions
from warden_host.service.wrong_logins import WrongLogins
from warden_host.store.store import Store

SOCKET = "web.sock"
MOST_CALLS = 128  # open at once, of all browsers
_MODULES = ("argon2", "jinja2", "starlette", "uvicorn", "webauthn", "websockets")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LOOK_S = 5.0  # between looks at the roles
_LOOK_AT_TOKENS_S = 0.5  # while there are streams


@dataclass(frozen=True)
class WebAddress:
    """Where browsers connect: without TLS on loopback alone.

    host: that browsers use. listen: where to listen, "" for the host; they differ where a NAT is
    in between.
    """

    host: str
    port: int
    listen: str = ""

    def __post_init__(self) -> None:
        """Raise bad-argument for an address without TLS that others reach."""
        if not self.tls and self.listen not in ("", *_LOOPBACK):
            raise HostError(
                "bad-argument",
                f"{self.host} has no TLS, so only this machine may reach it",
                "give the host name under which browsers reach it",
            )

    @property
    def tls(self) -> bool:
        return self.host not in _LOOPBACK


def check_modules() -> None:
    """Raise web-missing where the packages of `warden[web]` are not installed."""
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise HostError(
            "web-missing", f"the console needs packages that are missing: {missing[0]}"
        )


@contextlib.contextmanager
def console(
    fleet: Fleet,
    address: WebAddress,
    sockets: AuditedSockets,
    watchers: EventFeed,
    authority: Authority,
    announce: Callable[[FleetEvent], None],
    wrong: WrongLogins,
) -> Iterator["Console"]:
    """Serve browsers while the context lasts. Raises web-missing, web-failed, bad-argument."""
    check_modules()
    if address.tls:
        check_name(fleet, address.host, "browsers")
    watchers.retains = True
    sessions, limits = WebSessions(authority.ask), LoginLimits(time.monotonic)
    passkeys = Passkeys(authority.ask, fleet.root.resolve().name)
    account = WebAccount(authority.ask, sockets, sessions, passkeys, limits, wrong, announce)
    path = fleet.root / SOCKET
    api = WebApi(fleet, sockets, authority.ask, watchers, lambda: authority.known.all_types, wrong)
    server = ControlServer(
        path,
        api.before(WebRequests(sockets, sessions, account).handle),
        watchers=watchers,
        most_of_a_user=MOST_CALLS,
        most=MOST_CALLS,
        tell=notices(announce),
    )
    sessions.restore(kept_sessions.pop(fleet.root))
    try:
        with server, contextlib.closing(Console(fleet, address, path, announce)) as running:
            running.server, running.sessions, running.api = server, sessions, api
            passkeys.party = relying_party(address.host, running.port, address.tls)
            if address.tls:
                wrong.guard_console(running.port)
            yield running
    finally:
        kept_sessions.put(fleet.root, sessions.export())


class Console:
    """What `warden serve` knows of the console: its process, its socket, its sessions."""

    server: ControlServer
    sessions: WebSessions
    api: WebApi

    def __init__(
        self,
        fleet: Fleet,
        address: WebAddress,
        path: Path,
        announce: Callable[[FleetEvent], None],
    ) -> None:
        """Start it, and wait until it listens. Raises web-failed."""
        argv = [sys.executable, "-m", "warden_host.web", str(path)]
        argv += [address.listen or address.host, address.host]
        more = [fleet.root.resolve().name]
        if address.tls:
            more += [str(fleet.keys / "server.crt"), str(fleet.keys / "server.key")]
        self._address = address
        self.process = ConsoleProcess(
            lambda port: [*argv, str(port), *more], address.port, announce
        )
        self._looked = self._looked_at_tokens = float("-inf")
        self._database = fleet.database

    @property
    def port(self) -> int:
        return self.process.port

    @property
    def url(self) -> str:
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        return f"{'https' if self._address.tls else 'http'}://{host}:{self.port}/"

    def check(self) -> None:
        """End what sessions that have ended left open; start the process again if it ended.

        Call it on the main thread.
        """
        if time.monotonic() >= self._looked + _LOOK_S:
            self._looked = time.monotonic()
            # Not by the engine: a flood that it is busy with must not hold the main thread up.
            with contextlib.suppress(HostError), Store(self._database) as store:
                self.sessions.note_roles(store.operators())
        now = time.monotonic()
        if self.api.is_watched and now >= self._looked_at_tokens + _LOOK_AT_TOKENS_S:
            self._looked_at_tokens = now
            with contextlib.suppress(HostError), Store(self._database) as store:
                self.api.note_tokens(store.tokens(), now)
        self.server.drop(lambda caller: caller.ends_with is not None and caller.ends_with())
        self.process.check()

    def end_operator(self, line: Line) -> None:
        """End the sessions of an operator whose log-in changed, the live pages of new roles."""
        name, changed = line.get("name"), line.get("roles_of")
        if isinstance(name, str):
            self.sessions.end(name)
        if isinstance(changed, str):
            self.server.drop(lambda caller: caller.who == f"{changed} console")

    def close(self) -> None:
        """End the process."""
        self.process.close()
