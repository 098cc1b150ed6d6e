"""Log operators in at the console, and handle what they do with their own log-in there."""

from collections.abc import Callable
from typing import Any

from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.service.control import Caller, Line
from warden_host.service.login_limits import MAX_COOKIE, LoginLimits, browser_cookie
from warden_host.service.operators import AuditedSockets
from warden_host.service.passkeys import MAX_LABEL, Passkeys, code_hash
from warden_host.service.request_fields import read_text
from warden_host.service.web_passwords import MAX_PASSWORD, Ask, PasswordCheck
from warden_host.service.web_sessions import Login, WebSessions
from warden_host.service.wrong_logins import WrongLogins
from warden_host.store.operators import Operator

_MAX_NAME = 32
_MAX_CODE = 32
_MAX_ADDRESS = 64
_MAX_BOUND = 64
_MAX_CREDENTIAL = 1023  # bytes of an ID


OfOperator = Callable[[Line, Caller, Operator], None]


class WebAccount:
    """The operations without a session, `entries`, and those about the session's own operator."""

    def __init__(
        self,
        ask: Ask,
        sockets: AuditedSockets,
        sessions: WebSessions,
        passkeys: Passkeys,
        limits: LoginLimits,
        wrong: WrongLogins,
        announce: Callable[[FleetEvent], None],
    ) -> None:
        """announce: shows a notice, which is an alarm, too."""
        self._ask = ask
        self._sockets = sockets
        self._sessions = sessions
        self._passkeys = passkeys
        self._limits = limits
        self._wrong = wrong
        self._announce = announce
        self._passwords = PasswordCheck(ask, limits)
        self.entries: dict[str, Callable[[Line, Caller], None]] = {
            "admit": self._admit,
            "login": self._log_in,
            "passkey-ask": self._ask_login,
            "passkey-login": self._log_in_by_passkey,
            "passkey-code": self._ask_by_code,
            "passkey-add-by-code": self._add_by_code,
        }
        changes: dict[str, OfOperator] = {
            "passkey-new": self._ask_new,
            "passkey-add": self._add,
            "passkey-remove": self._remove,
            "sessions-end": self._end_sessions,
        }
        self.own: dict[str, OfOperator] = {"account": self._show} | {
            operation: self._fresh(handler) for operation, handler in changes.items()
        }

    def _fresh(self, handler: OfOperator) -> OfOperator:
        """Return a handler of a change of the own log-in. It raises login-stale.

        A browser that is left open must give no lasting way in, and take none away.
        """

        def handle(line: Line, caller: Caller, operator: Operator) -> None:
            self._sessions.check_fresh(line.get("session"))
            handler(line, caller, operator)

        return handle

    def _admit(self, line: Line, caller: Caller) -> None:
        address = read_text(line, "address", limit=_MAX_ADDRESS)
        caller.finish({"admitted": not self._wrong.is_refused(address)})

    def _log_in(self, line: Line, caller: Caller) -> None:
        address = self._address(line)
        name = read_text(line, "name", limit=_MAX_NAME)
        password = read_text(line, "password", limit=MAX_PASSWORD)
        code = read_text(line, "code", limit=_MAX_CODE)
        browser = read_text(line, "browser", "", limit=MAX_COOKIE)
        try:
            login = self._passwords.check(name, password, code, address, browser)
        except HostError as error:
            self._refuse(address, error)
            raise
        self._begin(line, Login.by_password(login), caller, browser_cookie(login))

    def _ask_login(self, line: Line, caller: Caller) -> None:
        self._address(line)
        options = self._passkeys.ask_login(read_text(line, "bound", limit=_MAX_BOUND))
        caller.finish({"options": options})

    def _log_in_by_passkey(self, line: Line, caller: Caller) -> None:
        address = self._address(line)
        bound = read_text(line, "bound", limit=_MAX_BOUND)
        counted = self._count(address)
        try:
            passkey = self._passkeys.check_login(line.get("credential"), bound)
        except HostError as error:
            if error.code == "passkey-cloned":
                self._report_clone(line, error)
            self._refuse(address, error)
            raise
        self._limits.give_back(counted)
        self._begin(line, Login.by_passkey(passkey), caller, "")

    def _ask_by_code(self, line: Line, caller: Caller) -> None:
        name, code, _ = self._check_code(line)
        caller.finish({"options": self._passkeys.ask_new(name, code.hex())})

    def _add_by_code(self, line: Line, caller: Caller) -> None:
        name, code, address = self._check_code(line)
        label = read_text(line, "label", "", limit=MAX_LABEL)
        made = self._passkeys.add(name, line.get("credential"), label, code.hex(), code)
        self._sockets.record_done(
            f"{name} console", f"passkey add {made.label} by code from {address}"
        )
        caller.finish({"ok": True, "label": made.label})

    def _check_code(self, line: Line) -> tuple[str, bytes, str]:
        """Return name, hash of the code, and address. Raises login-refused, login-paused."""
        address = self._address(line)
        name = read_text(line, "name", limit=_MAX_NAME)
        code = code_hash(read_text(line, "code", limit=_MAX_CODE))
        counted = self._count(address)
        now = self._passkeys.now()
        if not self._ask(lambda engine: engine.store.is_passkey_code(name, code, now)):
            error = HostError("login-refused", "the name or the code is wrong, or it was used")
            self._refuse(address, error)
            raise error
        self._limits.give_back(counted)
        return name, code, address

    def _show(self, line: Line, caller: Caller, operator: Operator) -> None:
        passkeys = self._ask(lambda engine: engine.store.passkeys(operator.name))
        caller.finish(
            {
                "sessions": self._sessions.of_operator(line.get("session"), operator.name),
                "passkeys": [
                    {
                        "id": one.credential.hex(),
                        "label": one.label,
                        "made": one.made,
                        "used": one.used,
                        "cloned": one.cloned,
                    }
                    for one in passkeys
                ],
                "unavailable": self._passkeys.party is None,
                "fresh": self._sessions.is_fresh(line.get("session")),
            }
        )

    def _ask_new(self, line: Line, caller: Caller, operator: Operator) -> None:
        options = self._passkeys.ask_new(operator.name, str(line.get("session")))
        caller.finish({"options": options})

    def _add(self, line: Line, caller: Caller, operator: Operator) -> None:
        label = read_text(line, "label", "", limit=MAX_LABEL)
        bound = str(line.get("session"))
        made = self._passkeys.add(operator.name, line.get("credential"), label, bound)
        self._sockets.record_done(f"{operator.name} console", f"passkey add {made.label}")
        caller.finish({"ok": True, "label": made.label})

    def _remove(self, line: Line, caller: Caller, operator: Operator) -> None:
        id_ = read_text(line, "id", limit=2 * _MAX_CREDENTIAL)
        try:
            credential = bytes.fromhex(id_)
        except ValueError:
            raise HostError("control-malformed", "id is no passkey's") from None
        if not self._ask(lambda engine: engine.store.remove_passkey(operator.name, credential)):
            raise HostError("not-applicable", "this passkey is gone already")
        self._sessions.end_passkey(credential)
        self._sockets.record_done(f"{operator.name} console", f"passkey remove {id_[:16]}")
        caller.finish({"ok": True})

    def _end_sessions(self, line: Line, caller: Caller, operator: Operator) -> None:
        id_ = read_text(line, "id", "", limit=_MAX_NAME)
        ended = self._sessions.end_some(line.get("session"), operator.name, id_)
        self._sockets.record_done(f"{operator.name} console", f"sessions end {ended}")
        caller.finish({"ok": True, "ended": ended})

    def _address(self, line: Line) -> str:
        """Return the browser's address. Raises address-refused, before anything is looked at."""
        address = read_text(line, "address", limit=_MAX_ADDRESS)
        if self._wrong.is_refused(address):
            raise HostError("address-refused", "this address may not log in")
        return address

    def _count(self, address: str) -> Any:
        try:
            return self._limits.count_passkey(address)
        except HostError as error:
            self._refuse(address, error)
            raise

    def _begin(self, line: Line, login: Login, caller: Caller, browser: str) -> None:
        """Begin a session in place of the one that the browser has."""
        address = read_text(line, "address", limit=_MAX_ADDRESS)
        self._sessions.log_out(line.get("before"))
        token = self._sessions.begin(login, address)
        self._wrong.right(address, login.name)
        self._sockets.record_done(f"{login.name} console", f"login by {login.how} from {address}")
        caller.finish({"ok": True, "session": token, "browser": browser})

    def _refuse(self, address: str, error: HostError) -> None:
        """Record a wrong log-in. Not the name: people type a password there."""
        self._sockets.refuse(f"someone at {address}", "login", error.code, "console")
        # A paused log-in was not looked at, and a question that ended is no guess.
        if error.code == "login-refused":
            self._wrong.refused(address)

    def _report_clone(self, line: Line, error: HostError) -> None:
        credential = line.get("credential")
        id_ = credential.get("id") if isinstance(credential, dict) else ""
        self._sessions.end_passkey(self._passkeys.credential_of(id_))
        self._announce(FleetEvent("notice", code=error.code, text=error.text))
