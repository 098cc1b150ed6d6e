"""Results of a received message: what to publish and what to report, in both modes."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from warden_client.protocol.freshness import Proof


@dataclass(frozen=True, slots=True)
class Send:
    """Publish data as this command, QoS 1."""

    command: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SessionUp:
    """A session is up at the application's end: commands may be sent.

    diverged: the device's policy is not the fleet's. development: its console is open.
    """

    proof: Proof
    diverged: bool
    development: bool = False


class Received(NamedTuple):
    """An authentic event.

    id: of a reply the command's, of an event in the device's outbox its number, else 0.
    previous: the number of the event before that in the outbox, or None.
    """

    event: str
    id: int
    body: dict[str, Any]
    previous: int | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The device goes into quarantine."""

    reason: str


# What a genuine hello is that was refused as stale.
REPEATED = "repeated"  # the bytes of one that was proven
OLD = "old"  # recorded, or of a device with lower counters
LIVE = "live"  # no recording: it answers our nonce, or has the counters of another one


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that was refused, and the error's code and text.

    hello: REPEATED, OLD or LIVE of a stale hello, else "".
    """

    event: str
    code: str
    text: str
    hello: str = ""


Outcome = Send | SessionUp | Received | Quarantined | Refused
