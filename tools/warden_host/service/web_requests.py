"""Handle what the console in a browser asks for: log-in, and each request under its session."""

import threading

from warden_host import names
from warden_host.engine.engine import Engine
from warden_host.engine.request import FORGERIES
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.numerals import decimal
from warden_host.service import device_view, live_state, past
from warden_host.service.control import Caller, Handler, Line
from warden_host.service.operators import AuditedSockets
from warden_host.service.request_fields import read_text
from warden_host.service.web_account import WebAccount
from warden_host.service.web_passwords import Ask
from warden_host.service.web_sessions import WebSessions
from warden_host.store.store import Store

_NEWEST = 50  # entries of a device's log
_MAX_ROWS = 500  # of the audit log, and of the fleet's log, in one answer
_HIGHEST_ROW = 1 << 53  # of the audit log: beyond all that there are
_MOST_STREAMS = 16  # that pages of one operator have open
_STREAMS = ("watch", "rollout-watch")  # that a page has open
# A page that is left open asks for them by itself.
_PASSIVE = (*_STREAMS, "whoami", "otp", "telemetry")


class WebRequests:
    """The requests of the web socket: log-ins, those under a session, those of the dispatcher."""

    def __init__(
        self, sockets: AuditedSockets, sessions: WebSessions, account: WebAccount
    ) -> None:
        self._sockets = sockets
        self._sessions = sessions
        self._account = account
        self._streams: dict[str, list[Caller]] = {}
        self._guard = threading.Lock()

    def handle(self, line: Line, caller: Caller) -> None:
        """Handle a request. Raises login-refused, session-ended, role-missing.

        "passive": true says that no person asked: it is no use of the session.
        """
        operation = line.get("op")
        if isinstance(operation, str) and operation in self._account.entries:
            self._account.entries[operation](line, caller)
            return
        session = line.get("session")
        passive = operation in _PASSIVE or line.get("passive") is True
        operator, rights = self._sessions.rights(session, passive)
        caller.who = rights.who
        caller.ends_with = lambda: self._sessions.is_over(session, operator.name, operator.roles)
        if operation == "logout":
            self._sessions.log_out(session)
            caller.finish({"ok": True})
        elif operation == "whoami":
            forgeries = sorted(FORGERIES)
            roles = list(operator.roles)
            caller.finish({"operator": operator.name, "roles": roles, "forgeries": forgeries})
        elif isinstance(operation, str) and operation in self._account.own:
            self._account.own[operation](line, caller, operator)
        else:
            if operation in _STREAMS:
                self._count_stream(operator.name, caller)
            own = ("session", "passive")
            request = {key: value for key, value in line.items() if key not in own}
            self._sockets.handle_session(request, caller, rights)

    def _count_stream(self, name: str, caller: Caller) -> None:
        """Keep one operator from taking all calls. Raises not-serving."""
        with self._guard:
            opened = [one for one in self._streams.get(name, []) if not one.gone.is_set()]
            if len(opened) >= _MOST_STREAMS:
                raise HostError("not-serving", f"{name} has {len(opened)} pages open: close some")
            self._streams[name] = [*opened, caller]


def look_ups(fleet: Fleet, ask: Ask) -> dict[str, Handler]:
    """Return the operations that show what fleet.db keeps: show, log, audit.

    The two logs answer with a line for each row, the newest first, and then {"ok", "next"}: what
    the next page gives as `begin`, or "" where there is none.
    """

    def show(line: Line, caller: Caller) -> None:
        device = names.check_id(read_text(line, "device"), "device ID")
        ask(Engine.write_events)  # what was announced is in the answer, what comes is announced
        live = live_state.read(ask(live_state.of_engine))
        with Store(fleet.database) as store:
            found = device_view.collect(fleet, store, device, live, _NEWEST)
        caller.finish(device_view.record(found))

    def log(line: Line, caller: Caller) -> None:
        begin = read_text(line, "begin", "", past.MAX_PLACE)
        ask(Engine.write_events)
        with Store(fleet.database) as store:
            page = past.page(fleet, store, begin=begin, most=_count(line))
        for entry in page.rows:
            caller.send(past.record(entry))
        caller.finish({"ok": True, "next": page.following})

    def audit(line: Line, caller: Caller) -> None:
        begin, count = read_text(line, "begin", ""), _count(line)
        highest = decimal(begin, _HIGHEST_ROW) if begin else _HIGHEST_ROW
        if highest is None:
            raise HostError("control-malformed", "this is no row of the audit log")
        with Store(fleet.database) as store:
            rows = store.audit_rows_from(highest, count + 1)
        for row in rows[:count]:
            caller.send(row._asdict() | {"hash": row.hash.hex()})
        caller.finish({"ok": True, "next": str(rows[count].id) if len(rows) > count else ""})

    return {"show": show, "log": log, "audit": audit}


def _count(line: Line) -> int:
    count = line.get("count", _MAX_ROWS)
    if type(count) is not int or not 0 < count <= _MAX_ROWS:
        raise HostError("control-malformed", f"count is out of range: 1 to {_MAX_ROWS}")
    return count
