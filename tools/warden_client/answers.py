"""What a program gets of its devices: events, and verdicts on its commands."""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """An authentic event of a device. time: unix seconds when it arrived."""

    device: str
    type: str
    name: str
    body: dict[str, Any]
    time: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Reply:
    """A device's verdict on a command: ok with a result, or a code of docs/errors.md."""

    device: str
    command: str
    ok: bool
    result: Any = None
    error: str = ""
