"""Results of a received message: what to publish and what to report, in both modes."""

from dataclasses import dataclass, field
from typing import Any

from warden_host.protocol.freshness import Proof


@dataclass(frozen=True, slots=True)
class Send:
    """Publish data as this command, QoS 1."""

    command: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SessionUp:
    """A session is up at the application's end: commands may be sent.

    diverged: the device's policy is not the fleet's.
    """

    proof: Proof
    diverged: bool


@dataclass(frozen=True, slots=True)
class Received:
    """An authentic event. id: the command's that it replies to, else 0."""

    event: str
    id: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The device goes into quarantine."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that was refused, and the error's code and text."""

    event: str
    code: str
    text: str


Outcome = Send | SessionUp | Received | Quarantined | Refused
