"""Handle what the API asks for: each request has a token of an application, and its rights.

The process that talks to web applications (warden_host/web/api) can verify no token: it passes on
what came. Here a token is verified, looked up, held against the scope and counted, at each
request. A command is sealed as the application's, so that the device has the last word.
"""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from warden_host import names
from warden_host.addresses import network_of_client
from warden_host.devices import app_tokens
from warden_host.engine.engine import Engine
from warden_host.engine.throttle import Throttle
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import access_token
from warden_host.protocol.access_token import Claims
from warden_host.service import web_api_streams as streams
from warden_host.service.control import Caller, Handler, Line
from warden_host.service.event_feed import EventFeed
from warden_host.service.live_state import listed_state
from warden_host.service.login_limits import Attempts
from warden_host.service.operators import AuditedSockets, Rights
from warden_host.service.request_fields import read_text
from warden_host.service.web_api_streams import OpenCalls, filtered
from warden_host.service.wrong_logins import WrongLogins
from warden_host.store.tokens import Token

PREFIX = "api-"
CALLS_A_S, CALLS_AT_ONCE = 20.0, 60.0  # of one token
MAX_TIMEOUT_S = 30.0
MOST_ROWS = 200  # devices of a page: it fits into a line of the socket
MOST_EVENTS = 200
_WRONG_BURST, _WRONG_RATE = 100.0, 20.0  # tokens that are none, of one address, and a second
_MOST_KNOWN = 256  # tokens whose signature was verified
_MAX_TEXT = 256
_LOOKS_A_S, _LOOKS_AT_ONCE = 10.0, 20.0  # at fleet.db for the origins of all tokens

Ask = Callable[[Callable[[Engine], Any]], Any]


class WebApi:
    """The requests of the API.

    ask: runs a question on the engine's thread. feed: of what happens. types: device → type.
    """

    def __init__(
        self,
        fleet: Fleet,
        sockets: AuditedSockets,
        ask: Ask,
        feed: EventFeed,
        types: Callable[[], dict[str, str]],
        wrong: WrongLogins,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._sockets = sockets
        self._ask = ask
        self._clock = clock
        self._key: Any = None
        self._known: OrderedDict[bytes, Claims] = OrderedDict()
        self._wrong = Attempts(_WRONG_BURST, _WRONG_RATE)
        self._calls = Throttle(CALLS_A_S, CALLS_AT_ONCE)
        self._guard = threading.Lock()
        self._wrong_logins = wrong
        self._live: tuple[float, frozenset[str]] = float("-inf"), frozenset()
        self._allowed: frozenset[str] = frozenset()
        self._looks = Throttle(_LOOKS_A_S, _LOOKS_AT_ONCE)
        self._feed, self._types = feed, types
        self._streams = OpenCalls("streams", streams.MOST_OF_A_TOKEN, streams.MOST)
        self._commands = OpenCalls("commands", streams.COMMANDS_OF_A_TOKEN, streams.COMMANDS)
        self._operations: dict[str, Callable[[Line, Caller, Claims], None]] = {
            "api-token": self._token,
            "api-devices": self._devices,
            "api-device": self._device,
            "api-events": self._events,
            "api-command": self._command,
            "api-watch": self._watch,
        }

    def before(self, handle: Handler) -> Handler:
        """Return a handler for the API's requests, and of others by `handle`."""

        def either(line: Line, caller: Caller) -> None:
            operation = line.get("op")
            if isinstance(operation, str) and operation.startswith(PREFIX):
                self.handle(line, caller)
            else:
                handle(line, caller)

        return either

    def handle(self, line: Line, caller: Caller) -> None:
        """Handle a request.

        Raises: address-refused, token-invalid, token-expired, token-revoked, token-scope,
        origin-refused, rate-limited, control-malformed, and what the operation does.
        """
        operation = line.get("op")
        if operation == "api-origin":  # a browser asks before it sends the token
            origin = read_text(line, "origin", limit=_MAX_TEXT)
            caller.finish({"ok": True, "allowed": origin in self._origins()})
            return
        if operation not in self._operations:
            raise HostError("control-malformed", "no such operation")
        address = read_text(line, "address", "?", _MAX_TEXT)
        if self._wrong_logins.is_refused(address):
            raise HostError("address-refused", "this address may not use the API")
        try:
            claims = self._claims(line, address)
        except HostError as error:
            if error.code != "rate-limited":
                self._sockets.refuse(f"someone at {address}", operation, error.code, "console")
            raise
        if not claims.origins:  # what a web page has, its users have: strangers, maybe
            self._wrong_logins.accepted(address, names.token_client(claims.appid, claims.id))
        with self._guard:
            admitted = self._calls.admit(claims.id, self._clock())
        if not admitted:
            raise HostError(
                "rate-limited", f"the token is used above {CALLS_A_S:g} times a second"
            )
        self._operations[operation](line, caller, claims)

    @property
    def is_watched(self) -> bool:
        """Return whether there may be streams, for which note_tokens() is to be called."""
        return len(self._streams) > 0

    def note_tokens(self, tokens: list[Token], began: float) -> None:
        """Note which tokens fleet.db has. began: steady seconds, from before they were read."""
        now = time.time()
        live = frozenset(one.id for one in tokens if one.revoked is None and one.expires > now)
        self._live = began, live

    def is_over(self, claims: Claims, since: float) -> bool:
        """Return whether a token has ended, or was revoked at the last note_tokens().

        since: when it was looked up, steady seconds. `warden serve` asks this for each open
        stream on its main thread: it waits for nothing.
        """
        began, live = self._live
        return claims.end <= time.time() or (began > since and claims.id not in live)

    # The token

    def _claims(self, line: Line, address: str) -> Claims:
        """Return what a request's token says: verified, not ended, listed, for this origin."""
        text = line.get("bearer")
        if (
            not isinstance(text, str)
            or not 0 < len(text) <= access_token.MAX_TOKEN
            or not text.isascii()
        ):
            raise self._guess(address, HostError("token-invalid", "this is no token"))
        claims = self._verified(text, address)
        if claims.end <= time.time():
            raise HostError("token-expired", "the token has ended")
        if not self._ask(lambda engine: engine.store.is_live_token(claims.id, claims.appid)):
            raise self._guess(address, HostError("token-revoked", "the token was revoked"))
        if not claims.is_for_api:
            raise HostError("token-scope", "the token is not for the API")
        origin = read_text(line, "origin", "", _MAX_TEXT)
        if origin and origin not in claims.origins:
            raise HostError("origin-refused", "the token is not for web pages of this origin")
        return claims

    def _verified(self, text: str, address: str) -> Claims:
        """Return the claims of a signed token. A known one costs no signature.

        Those that are none are counted, so that a stranger can't take the machine's time.
        """
        mark, now = hashlib.sha256(text.encode()).digest(), self._clock()
        key = network_of_client(address, neighbours_apart=False)
        with self._guard:
            found = self._known.get(mark)
            if found is not None:
                return found
            if not self._wrong.allows(key, now):
                raise HostError("rate-limited", "too many wrong tokens came from this address")
            self._wrong.spend(key, now)
        if self._key is None:
            self._key = app_tokens.verifying_key(self._fleet)
        try:
            found = access_token.verify(self._key, text)
        except HostError as error:
            if error.code != "token-expired":  # which is what a page has that stays open
                self._guess(address, error)
            raise
        with self._guard:
            self._wrong.give_back(key, now)
            self._known[mark] = found
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return found

    def _guess(self, address: str, error: HostError) -> HostError:
        """Count a wrong token as a wrong log-in, and return its error."""
        self._wrong_logins.refused(address, "the API")
        return error

    def _origins(self) -> frozenset[str]:
        """Return the origins of all tokens of the API that are neither revoked nor ended.

        Strangers ask for it: above a rate what fleet.db said last counts.
        """
        with self._guard:
            due = self._looks.admit("", self._clock())
        if due:
            tokens = self._ask(_live_tokens)
            self._allowed = frozenset(
                one for row in tokens for one in access_token.origins_of(row.scope)
            )
        return self._allowed

    # The operations

    def _token(self, _: Line, caller: Caller, claims: Claims) -> None:
        caller.finish(_about(claims))

    def _devices(self, line: Line, caller: Caller, claims: Claims) -> None:
        """Answer with a page of the devices that the token is for, by ID."""
        after = read_text(line, "after", "", _MAX_TEXT)
        count = _count(line, MOST_ROWS)

        def find(engine: Engine) -> list[Line]:
            presences, revoked = engine.presences(), engine.store.revoked()
            opened = [
                {"device": name, "type": room, "state": "open", "commands": []}
                for name, room in engine.store.open_devices().items()
                if name > after and claims.may_read(room)
            ]
            return opened + [
                {
                    "device": name,
                    "type": type_,
                    "state": listed_state(
                        presences.get(name, ("", 0.0))[0], bool(reason), name in revoked
                    ),
                    "commands": claims.commands(type_),
                }
                for name, type_, reason in engine.store.device_types()
                if name > after and claims.knows(type_)
            ]

        found = sorted(self._ask(find), key=lambda one: str(one["device"]))
        page = found[:count]
        more = page[-1]["device"] if len(found) > count else None
        caller.finish({"devices": page, "next": more})

    def _device(self, line: Line, caller: Caller, claims: Claims) -> None:
        device = self._known_device(line, claims)

        def find(engine: Engine) -> Line:
            state = engine.state(device)
            known = state.device
            mine = next((pair for pair in known.pairs if pair.appid == claims.appid), None)
            granted = set() if mine is None else set(mine.commands)
            quarantined = bool(known.mark.quarantine or known.reaction)
            revoked = known.ending is not None and known.ending.revoked
            return {
                "device": known.device,
                "type": known.type,
                "state": listed_state(state.presence, quarantined, revoked),
                "mode": known.mode,
                "session": claims.appid in state.live,
                "last_seen": known.last_seen or None,
                "commands": [one for one in claims.commands(known.type) if one in granted],
            }

        caller.finish(self._ask(find))

    def _events(self, line: Line, caller: Caller, claims: Claims) -> None:
        """Answer with a page of the events that the application has of a device, oldest first.

        before: the `next` of the page of newer ones; the newest page without it.
        """
        device, count = self._known_device(line, claims), _count(line, MOST_EVENTS)
        before = line.get("before", 1 << 53)
        if type(before) is not int or not 0 <= before <= 1 << 53:
            raise HostError(
                "bad-argument", "before is the number that the page before has as next"
            )

        def find(engine: Engine) -> tuple[str, str, list[Any]]:
            known = engine.state(device).device
            engine.write_events()
            return known.type, known.mode, engine.store.numbered_events(device)

        type_, mode, rows = self._ask(find)
        if not claims.may_read(type_):
            raise HostError("token-scope", "the token does not allow to read events of its type")
        proven = mode == "sealed"
        mine = (claims.appid,) if proven else (claims.appid, names.AUTHORITY)
        kept = [row for row in rows if row[2] in mine and row[0] < before]
        events = [
            {
                "device": device,
                "name": name,
                "body": json.loads(body),
                "time": at,
                "publisher": {"kind": "device", "id": device, "type": type_, "proven": proven},
            }
            for _, at, _, name, body in kept[-count:]
        ]
        more = kept[-count][0] if len(kept) > count else None
        caller.finish({"events": events, "next": more})

    def _command(self, line: Line, caller: Caller, claims: Claims) -> None:
        """Send a command in the application's name; the device's answer ends the call."""
        device = self._known_device(line, claims)
        command = names.check_verb(read_text(line, "command", limit=_MAX_TEXT), "command")
        type_ = self._ask(lambda engine: engine.state(device).device.type)
        if not claims.may_command(type_, command):
            raise HostError(
                "token-scope", f"the token does not allow {command} for devices of type {type_}"
            )
        timeout = line.get("timeout", 10)
        if type(timeout) not in (int, float) or not 0 < timeout <= MAX_TIMEOUT_S:
            raise HostError("bad-argument", f"a time-out is above 0 and at most {MAX_TIMEOUT_S:g}")
        self._commands.add(caller, claims)
        request: Line = {key: line[key] for key in ("args", "ttl", "timeout") if key in line}
        request |= {"op": "send", "device": device, "command": command, "app": claims.appid}
        rights = Rights(f"{claims.appid} token {claims.id}", ("command",))
        self._sockets.handle_session(request, caller, rights)

    def _watch(self, _: Line, caller: Caller, claims: Claims) -> None:
        since = self._clock()
        if not self._ask(lambda engine: engine.store.is_live_token(claims.id, claims.appid)):
            raise HostError("token-revoked", "the token was revoked")  # since it was looked up
        self._streams.add(caller, claims)
        self._feed.add(caller, shown=filtered(self._types, claims))
        caller.who = f"{claims.appid} token {claims.id}"
        caller.ends_with = lambda: self.is_over(claims, since)
        caller.send({"kind": "ready"} | _about(claims))

    def _known_device(self, line: Line, claims: Claims) -> str:
        """Return a request's device. Raises device-unknown, also for a type of no concern."""
        device = read_text(line, "device", limit=_MAX_TEXT)

        def find(engine: Engine) -> bool:
            known = engine.store.find(device)
            return known is not None and claims.knows(known.type)

        if not device.isascii() or not self._ask(find):  # an ID is ASCII
            raise HostError("device-unknown", "the token is for no device of this name")
        return device


def _about(claims: Claims) -> Line:
    return {
        "application": claims.appid,
        "id": claims.id,
        "expires": claims.end,
        "scope": sorted(access_token.rights_of(claims.words)),
    }


def _live_tokens(engine: Engine) -> list[Any]:
    now = time.time()
    return [one for one in engine.store.tokens() if one.revoked is None and one.expires > now]


def _count(line: Line, most: int) -> int:
    count = line.get("limit", most)
    if type(count) is not int or not 0 < count <= most:
        raise HostError("bad-argument", f"the limit is between 1 and {most}")
    return count
