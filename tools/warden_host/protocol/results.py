"""What comes of a message: what to send, and what to tell. Shared by sealed and plain mode."""

from dataclasses import dataclass, field
from typing import Any

from warden_host.protocol.freshness import Proof


@dataclass(frozen=True)
class Send:
    """Publish data as this command, QoS 1."""

    command: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class SessionUp:
    """The session stands at our end: commands may go."""

    proof: Proof
    diverged: bool


@dataclass(frozen=True)
class Received:
    event: str
    id: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Quarantined:
    reason: str


@dataclass(frozen=True)
class Refused:
    event: str
    code: str
    text: str


Outcome = Send | SessionUp | Received | Quarantined | Refused
