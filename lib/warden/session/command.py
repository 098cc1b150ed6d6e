"""Deny-by-default dispatch on (application, command).

An application may give a command only if the vault's record of it says so, and only if the device's maker registered a handler. What the
authority alone may do can't be granted to anybody else, whatever a vault says.
"""

from micropython import const

from ..errors import PeerError, UsageError, ensure
from ..wire.names import is_word

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    Handler = Callable[[dict[str, Any]], Any]

# The authority's own, and the protocol's: never an application's, never a handler's.
AUTHORITY_ONLY = ("update", "policy", "rotate", "wipe", "unlock")
# Those of them that the device has an answer to.
_ORDERS = const(("rotate", "wipe", "update", "unlock"))
PROTOCOL = (
    "welcome",
    "ack",
    "wake",
    "server_uid_response",
    "server_otp_response",
    "server_otp_validate",
)


class Commands:
    """Who may do what (grants), and what then happens (handlers)."""

    def __init__(self) -> None:
        self._handlers: "dict[str, Handler]" = {}
        self._grants: "dict[str, tuple[str, ...]]" = {}
        self._authority = ""
        self._order: "Any" = None

    def register(self, command: str, handler: "Handler") -> None:
        """UsageError bad-name for a name that is malformed, reserved or taken."""
        ensure(is_word(command), "bad-name", "a command's name is 1 to 32 of a-z 0-9 _")
        if command in AUTHORITY_ONLY or command in PROTOCOL:
            raise UsageError("bad-name", "the command %s belongs to Warden" % command)
        if command in self._handlers:
            raise UsageError("bad-name", "the command %s has a handler already" % command)
        self._handlers[command] = handler

    def grant(self, appid: str, commands: "tuple[str, ...]") -> None:
        """What this application may do, from the vault's record of it."""
        self._grants[appid] = commands

    def obey(self, appid: str, handler: "Callable[[str, dict[str, Any]], Any]") -> None:
        """This application is the authority: what it alone may order goes to handler(command, args)."""
        self._authority, self._order = appid, handler

    def find(self, appid: str, command: str) -> "Handler":
        """The handler, if this application may use it. PeerError not-allowed, unknown-command."""
        if command in _ORDERS and self._order is not None and appid == self._authority:
            return lambda args: self._order(command, args)
        if command in AUTHORITY_ONLY or command not in self._grants.get(appid, ()):
            raise PeerError("not-allowed")
        handler = self._handlers.get(command)
        if handler is None:
            raise PeerError("unknown-command")
        return handler
