"""Deny-by-default dispatch on (application, command).

An application may give a command only where the vault's record of it grants the command and the
device's program registered a handler. The authority's own commands can't be granted, whatever a
vault says. They begin with `warden_`, but for those of former versions, which keep their names;
an application may have an `unlock`, since a lock's program is likely to.
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
    "wifi",
    "develop",
    "token",
    "apps",
)
_PREFIX = const("warden_")
_UNLOCK = const("unlock")  # the gate's, from an authority that is not granted an application's
_PREFIXED = const(("warden_unlock", "warden_clock"))
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
    "busy cbor-limit command-failed device-locked expired gate-shut not-allowed old-session "
    "unknown-command"
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
        if command in AUTHORITY_ONLY or command in PROTOCOL or command.startswith(_PREFIX):
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

    def is_own(self, appid: str, command: str) -> bool:
        """Return whether a command, from this application, is one of Warden's own."""
        if command == _UNLOCK:
            return command not in self._grants.get(appid, ())
        return command in AUTHORITY_ONLY or command.startswith(_PREFIX)

    def find(self, appid: str, command: str) -> "tuple[Handler, bool | None]":
        """Return the handler of a command and whether it takes the call; None: Warden's own.

        PeerError not-allowed, unknown-command.
        """
        if self.is_own(appid, command):
            if self._run is None or appid != self._authority:
                raise PeerError("not-allowed")
            if command == "warden_unlock":
                command = _UNLOCK
            elif command.startswith(_PREFIX) and command not in _PREFIXED:
                raise PeerError("unknown-command")
            return lambda args: self._run(command, args), None
        if command not in self._grants.get(appid, ()):
            raise PeerError("not-allowed")
        handler = self._handlers.get(command)
        if handler is None:
            raise PeerError("unknown-command")
        return handler
