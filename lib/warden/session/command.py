"""Deny-by-default dispatch on (application, command).

An application may give a command only where the vault's record of it grants the command and the
device's program registered a handler. The authority's own commands can't be granted, whatever a
vault says.
"""

from micropython import const

from ..errors import PeerError, UsageError, ensure
from ..wire.names import is_word

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    Handler = Callable[..., Any]  # (args), or (args, call)

# Never an application's, never a handler's: commands of the authority, and of the protocol.
AUTHORITY_ONLY = (
    "update",
    "policy",
    "rotate",
    "wipe",
    "unlock",
    "wifi",
    "develop",
    "token",
    "apps",
)
PROTOCOL = (
    "welcome",
    "ack",
    "wake",
    "server_uid_response",
    "server_otp_response",
    "server_otp_validate",
)
# Codes with which Warden itself answers an application's command.
_OWN_CODES = const(
    "busy cbor-limit command-failed expired gate-shut not-allowed old-session unknown-command"
)


class Refused(Exception):
    """A handler's refusal, for a reason of the application: `raise Refused("door-open")`.

    code: 1 to 32 of a-z 0-9 -, sent to the command's sender. UsageError bad-name for any other
    text, and for a code with which Warden answers commands: a sender must know who refused.
    """

    def __init__(self, code: str) -> None:
        ensure(
            isinstance(code, str)
            and "_" not in code
            and is_word(code.replace("-", "_"))
            and code not in _OWN_CODES.split(),
            "bad-name",
            "a refusal's code is 1 to 32 of a-z 0-9 - and none of Warden's own",
        )
        super().__init__(code)
        self.code = code


class Commands:
    """The commands' handlers, and which application may give which command."""

    def __init__(self) -> None:
        self._handlers: "dict[str, tuple[Handler, bool]]" = {}
        self._grants: "dict[str, tuple[str, ...]]" = {}
        self._authority = ""
        self._run: "Any" = None  # runs the authority's commands

    def register(self, command: str, handler: "Handler", call: bool = False) -> None:
        """Set the handler of a command. call: the handler takes the call as a second argument.

        UsageError bad-name for a name that is malformed, reserved or registered.
        """
        ensure(is_word(command), "bad-name", "a command's name is 1 to 32 of a-z 0-9 _")
        if command in AUTHORITY_ONLY or command in PROTOCOL:
            raise UsageError("bad-name", "the command %s belongs to Warden" % command)
        if command in self._handlers:
            raise UsageError("bad-name", "the command %s has a handler already" % command)
        self._handlers[command] = handler, call

    def grant(self, appid: str, commands: "tuple[str, ...]") -> "tuple[str, ...]":
        """Set the commands that an application may give, and return those that it could.

        commands: of the vault's record; none for an application that was removed.
        """
        before = self._grants.pop(appid, ())
        if commands:
            self._grants[appid] = commands
        return before

    def set_authority(self, appid: str, handler: "Callable[[str, dict[str, Any]], Any]") -> None:
        """Let one application give the authority's commands, to handler(command, args)."""
        self._authority, self._run = appid, handler

    def find(self, appid: str, command: str) -> "tuple[Handler, bool]":
        """Return the handler of a command and whether it takes the call.

        PeerError not-allowed, unknown-command.
        """
        if command in AUTHORITY_ONLY and self._run is not None and appid == self._authority:
            return lambda args: self._run(command, args), False
        if command in AUTHORITY_ONLY or command not in self._grants.get(appid, ()):
            raise PeerError("not-allowed")
        handler = self._handlers.get(command)
        if handler is None:
            raise PeerError("unknown-command")
        return handler
