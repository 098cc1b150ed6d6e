"""Show a stream of the API what happens in the fleet, within its token's scope.

Who published a message is what the engine found when the message opened, and stands beside the
body: nothing that a device or a client sends gets there.
"""

import json
import threading
from collections.abc import Callable
from typing import Any

from warden_host import jsontext
from warden_host.engine.events import ACCOUNT, SESSION
from warden_host.errors import HostError
from warden_host.names import AUTHORITY
from warden_host.protocol.access_token import Claims
from warden_host.service.control import Caller, Line
from warden_host.service.event_feed import Entry

# Calls that stay open, of a token and of all tokens: the console's own pages need calls, too.
MOST_OF_A_TOKEN, MOST = 8, 64  # streams
COMMANDS_OF_A_TOKEN, COMMANDS = 16, 40
_STATES = {"came": "online", "session": "online", "left": "offline", "quarantined": "quarantined"}


class OpenCalls:
    """Count calls that stay open: neither a token nor all of them take every call.

    what: such as "streams". most: of all tokens.
    """

    def __init__(self, what: str, most_of_a_token: int, most: int) -> None:
        self._what, self._most_of_a_token, self._most = what, most_of_a_token, most
        self._calls: dict[Caller, str] = {}
        self._guard = threading.Lock()

    def __len__(self) -> int:
        with self._guard:
            return sum(not one.gone.is_set() for one in self._calls)

    def add(self, caller: Caller, claims: Claims) -> None:
        """Count one until its caller is gone. Raises rate-limited."""
        with self._guard:
            self._calls = {one: id_ for one, id_ in self._calls.items() if not one.gone.is_set()}
            of_it = sum(id_ == claims.id for id_ in self._calls.values())
            if of_it >= self._most_of_a_token or len(self._calls) >= self._most:
                raise HostError(
                    "rate-limited",
                    f"{of_it} {self._what} of the token are open, {len(self._calls)} of all tokens",
                )
            self._calls[caller] = claims.id


def shown(entry: Entry, types: dict[str, str], claims: Claims) -> bytes:
    """Return what a token's stream gets of an event, b"" for nothing.

    types: device → type, of all devices; of an open one, its room.
    """
    type_ = types.get(entry.device, "")
    if not claims.knows(type_):
        return b""
    found = message(json.loads(entry.data), type_, claims)
    return b"" if found is None else jsontext.dump(found).encode()


def message(line: Line, type_: str, claims: Claims) -> Line | None:
    """Return what a token may be told of an event of a device that it is for, None for nothing.

    line: of FleetEvent.record().
    """
    kind = line["kind"]
    head: dict[str, Any] = {"kind": kind, "device": line["device"], "time": line["time"]}
    if kind == "open":
        publisher = {"kind": "open", "id": head["device"], "type": type_, "proven": False}
        shown_body = {"name": line["name"], "body": line.get("body", {}), "publisher": publisher}
        return head | {"kind": "event"} | shown_body if claims.may_read(type_) else None
    if kind in _STATES:
        if kind == "session" and line.get("app") not in (claims.appid, AUTHORITY):
            return None
        return head | {"kind": "state", "type": type_, "state": _STATES[kind]}
    # The authority takes a plain message in, for all applications of the type.
    mine = (claims.appid, AUTHORITY) if line.get("proof") == ACCOUNT else (claims.appid,)
    if line.get("app") not in mine or not claims.may_read(type_):
        return None
    head |= {"name": line.get("name", ""), "body": line.get("body", {})}
    if kind in ("event", "reply"):
        proven = line.get("proof") == SESSION
        publisher = {"kind": "device", "id": head["device"], "type": type_, "proven": proven}
        return head | {"publisher": publisher}
    if kind == "command" and not line.get("text"):  # no forgery
        # The authority itself sealed it, for the application that the token or `warden` named.
        publisher = {"kind": "application", "id": claims.appid, "type": "", "proven": True}
        return head | {"publisher": publisher}
    return None


def filtered(types: Callable[[], dict[str, str]], claims: Claims) -> Callable[[Entry], bytes]:
    """Return a reader's `shown`."""
    return lambda entry: shown(entry, types(), claims)
