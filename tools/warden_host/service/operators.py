"""Decide what an operator may do at the operators' socket, and keep the audit log of both sockets.

The owner's own socket allows everything; the log has the owner's actions too.
"""

import pwd
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from warden_host import jsontext
from warden_host.engine.engine import Engine
from warden_host.engine.throttle import Throttle
from warden_host.errors import HostError
from warden_host.names import is_authority_command
from warden_host.service.authority import Authority
from warden_host.service.control import Caller, Handler, Line

# What pages of the console show (service/web_pages.py, web_acts.py).
PAGES = (
    *("device-page", "history", "telemetry", "otp", "incidents", "alarms", "ban-page"),
    *("rollouts", "rollout-page", "releases", "groups", "group-page", "meanings"),
)
# Operation → the role that it takes.
_ROLE_OF = {
    "watch": "look",
    "online": "look",
    "devices": "look",
    "rollout-watch": "look",
    "bans": "look",
    "show": "look",
    "log": "look",
    **dict.fromkeys(PAGES, "look"),
    "audit": "own",
    "send": "command",
    "unlock": "command",
    "clear": "command",
    "ban": "command",
    "lift": "command",
    "codes": "command",
    "code": "command",
    "rollout": "update",
    "rollout-stop": "update",
    "rollout-resume": "update",
    "group": "update",
    "wifi": "own",
    "clock": "own",
    "policy": "own",
    "develop": "own",
    "address-list": "own",
    "activate-list": "own",
    "alarms-test": "own",
}
# Commands that have the name of their operation behind `warden_`.
_PREFIXED = ("warden_unlock", "warden_clock")
# Operations that change nothing, and those with which the owner's tool follows up its own change.
_UNRECORDED = frozenset(
    (
        *("watch", "online", "devices", "rollout-watch", "bans", "readmitted"),
        *("show", "log", "audit"),
        *PAGES,
        *("reload", "reload_certificates", "apps", "dropped", "operator", "bans-apply"),
    )
)
# What the log shows of a request. Other keys can hold a password or what only a device may know.
_SHOWN = (
    *("device", "command", "app", "forge", "release", "type", "group", "devices", "rollout"),
    *("list", "networks", "removed", "remove", "time"),
)
_REFUSALS_A_S, _REFUSALS_AT_ONCE = 0.1, 20.0
T = TypeVar("T")
OPERATORS_MODE = 0o666  # anyone may call; the kernel says who does
MOST_OF_A_USER = 8  # open calls at the operators' socket
_STRANGERS = ""  # one bucket for all users who are no operators: there may be 65536 of them


class Rights(NamedTuple):
    """who: for the audit log. roles: of the operator, or None for the owner."""

    who: str
    roles: tuple[str, ...] | None

    def check(self, operation: str, line: Line) -> None:
        """Raise role-missing unless the roles allow the operation."""
        if self.roles is None:
            return
        role = _role_for(operation, line)
        if role == "look" or (role and ("own" in self.roles or role in self.roles)):
            return
        needed = f"takes the role {role}" if role else "is for the fleet's owner alone"
        raise HostError(
            "role-missing", f"{operation} {needed}; {self.who} has: {', '.join(self.roles)}"
        )


def _role_for(operation: str, line: Line) -> str:
    """Return the role that a request takes, or "" where it is for the owner alone.

    A command of the authority's own takes the same role by `send` as by its own operation: a
    device obeys the authority, which is who sends it.
    """
    if operation != "send":
        return _ROLE_OF.get(operation, "")
    command = line.get("command")
    if isinstance(command, str) and is_authority_command(command):
        name = command.removeprefix("warden_") if command in _PREFIXED else command
        role = _ROLE_OF.get(name, "")
    else:
        role = "command"
    return "own" if role and line.get("forge") else role


class AuditedSockets:
    """Handle the requests of both sockets: who calls, what the roles allow, the audit log."""

    def __init__(self, handle: Handler, announce: Callable[[str, str], None]) -> None:
        """handle: carries a request out. announce(code, text): shows a refused call."""
        self.authority: Authority | None = None
        self._handle = handle
        self._announce = announce
        self._refusals = Throttle(_REFUSALS_A_S, _REFUSALS_AT_ONCE)
        self._calls = Throttle()
        self._guard = threading.Lock()

    def handle_owner(self, line: Line, caller: Caller) -> None:
        """Handle a request of the fleet's owner."""
        self._run(line, caller, Rights(f"owner {user_name(caller.uid)}", None))

    def handle_operator(self, line: Line, caller: Caller) -> None:
        """Handle a request of another user. Raises operator-unknown, role-missing."""
        user = user_name(caller.uid)
        operator = self._ask(lambda engine: engine.store.operator_of(caller.uid))
        if operator is None:
            self.refuse(f"user {user}", "?", "operator-unknown", _STRANGERS)
            raise HostError("operator-unknown", f"user {user} is no operator of this fleet")
        if not self._admit(self._calls, operator.name):
            raise HostError("not-serving", f"operator {operator.name} calls too often: try again")
        self._run(line, caller, Rights(f"{operator.name} {user}", operator.roles))

    def handle_session(self, line: Line, caller: Caller, rights: Rights) -> None:
        """Handle a request of a session in a browser. Raises role-missing, not-serving."""
        if not self._admit(self._calls, rights.who):
            raise HostError("not-serving", f"{rights.who} calls too often: try again")
        caller.who = rights.who
        self._run(line, caller, rights)

    def _run(self, line: Line, caller: Caller, rights: Rights) -> None:
        operation = line.get("op")
        name = operation if isinstance(operation, str) else ""
        try:
            rights.check(name, line)
        except HostError as error:
            self.refuse(rights.who, describe(name, line), error.code, rights.who)
            raise
        if name not in _UNRECORDED:
            self._record(rights.who, describe(name, line), caller, durable=name != "send")
        self._handle(line, caller)

    def _record(self, who: str, action: str, caller: Caller, durable: bool) -> None:
        """Append the action before it is carried out, and its outcome when it is known."""
        started = self._ask(lambda engine: engine.store.add_audit(who, action, durable=durable))
        authority = self._serving()

        def finish(outcome: str) -> None:
            authority.do(lambda engine: _append(engine, who, action, outcome, started))

        caller.on_finish = finish

    def refuse(self, who: str, action: str, code: str, counted: str) -> None:
        """Announce and record a refused call; a caller that repeats it fills no disk.

        counted: with whose calls it is counted.
        """
        if self._admit(self._refusals, counted):
            self._announce(code, f"refused {who}")
            self._ask(lambda engine: engine.store.add_audit(who, action, code, durable=False))

    def record_done(self, who: str, action: str) -> None:
        """Append an action that is done already."""
        self._ask(lambda engine: engine.store.add_audit(who, action, "ok"))

    def _admit(self, throttle: Throttle, who: str) -> bool:
        with self._guard:  # each call is on a thread of its own
            return throttle.admit(who, time.monotonic())

    def _ask(self, question: Callable[[Engine], T]) -> T:
        answer: T = self._serving().ask(question)
        return answer

    def _serving(self) -> Authority:
        if self.authority is None:
            raise HostError("not-serving", "`warden serve` is about to start or to end")
        return self.authority


def describe(operation: str, line: Line) -> str:
    """Return a request for the audit log: its target, and the names of a command's arguments."""
    words = [jsontext.slug(operation.replace("_", "-"))]
    for key in _SHOWN:
        value = line.get(key)
        if value in (None, "", []):
            continue
        shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"{key}={jsontext.printable(shown)[:100]}")
    args = line.get("args")
    if isinstance(args, dict) and args:
        words.append("args=" + ",".join(jsontext.printable(str(name))[:32] for name in args)[:100])
    return " ".join(words)


def user_name(uid: int) -> str:
    """Return the name of a Unix user, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _append(engine: Engine, who: str, action: str, outcome: str, started: int) -> None:
    engine.store.add_audit(who, action, outcome, started, durable=False)
