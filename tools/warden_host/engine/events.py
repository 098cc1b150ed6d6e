"""Something that happened in the fleet, as `serve` shows it, `watch --json` prints it, jobs wait for it."""

import time
from dataclasses import dataclass, field
from typing import Any

# came: first word of a device since we serve, or since it left. left: it said goodbye, or the broker lost it (its last
# will, which nothing authenticates). session: commands may go. command: we gave it one. event,
# reply: it spoke.
# incident: it refused something. refused: we refused something of it. quarantined, diverged: see
# docs/protocol.md. otp: a code at the keypad, never the code itself. notice: about ourselves.
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
    "otp",
    "notice",
)


@dataclass(frozen=True)
class FleetEvent:
    kind: str
    device: str = ""
    app: str = ""
    name: str = ""  # the event's; the command that was given, answered, or refused as an incident
    code: str = ""
    id: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    time: float = field(default_factory=time.time)

    def record(self) -> dict[str, Any]:
        """Without the fields that say nothing."""
        always = ("kind", "time")
        return {key: value for key, value in vars(self).items() if value or key in always}
