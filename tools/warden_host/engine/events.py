"""Describe what happens in the fleet: `serve` shows it, `watch` prints it, jobs wait for it."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

from warden_host.names import AUTHORITY, is_authority_command

# came: the first genuine message of a device since we serve, or since it left.
# left: it sent goodbye, or the broker sent its last will, which is not authenticated.
# session: a session is up. command: we sent one. event, reply: the device sent one.
# incident: the device reports that it refused something. refused: we refused a message of the
# device, which fleet.db keeps among its incidents, with the source "host".
# quarantined, diverged, development: docs/protocol.md.
# reaction: what the fleet does about a code by itself; name: alert, quarantine or de-register.
# login: the broker refused a log-in.
# open: a device of an open room sent it, or anyone in its name: nothing proves it.
# otp: about a code at the keypad, never the code itself.
# notice: about the authority.
KINDS = (
    "came",
    "left",
    "session",
    "command",
    "event",
    "reply",
    "incident",
    "refused",
    "quarantined",
    "diverged",
    "development",
    "reaction",
    "login",
    "open",
    "otp",
    "notice",
)

SESSION = "session"  # it opened under the keys of this very device's session
ACCOUNT = "account"  # of a plain device: the broker checked its log-in, and nothing else is known


_SHOWN = ("ok", "error")  # of the reply to a command of the authority's own


@dataclass  # frozen, it would take as long to make as a message to open; no code changes one
class FleetEvent:
    """One event. kind: of KINDS. Fields that a kind has no use for are empty.

    proof: what proves that the device sent it, SESSION or ACCOUNT. room: of an open device.
    """

    kind: str
    device: str = ""
    app: str = ""
    name: str = ""  # of the event, or of the command that was sent, answered or refused
    code: str = ""
    id: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    proof: str = ""
    room: str = ""
    time: float = field(default_factory=time.time)

    def shown(self) -> "FleetEvent":
        """Return the event as every role may see it.

        Replies to the authority's own commands can tell where a home is, such as its networks:
        they are for the one who gave the command, as its arguments are.
        """
        if self.kind != "reply" or self.app != AUTHORITY or not is_authority_command(self.name):
            return self
        return replace(self, body={key: self.body[key] for key in _SHOWN if key in self.body})

    def record(self) -> dict[str, Any]:
        """Return the event for JSON, without empty fields."""
        always = ("kind", "time")
        return {key: value for key, value in vars(self).items() if value or key in always}
