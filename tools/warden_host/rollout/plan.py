"""Who gets a release, and in which order: no clock, no network. docs/update.md, Rollouts."""

import hashlib
import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from warden_host.errors import HostError

# In the words of the device where it is the device's: docs/update.md.
WAITING, AWAY = "Waiting", "Away"
DOWNLOADING, VERIFYING, INSTALLING, TESTING = "Downloading", "Verifying", "Installing", "Testing"
ACCEPTED, REJECTED, ABORTED = "Accepted", "Rejected", "Aborted"
LOST, SUPERSEDED = "Lost", "Superseded"
# Nothing follows by itself; one that was lost may come back all the same, and is asked then.
FINAL = frozenset({ACCEPTED, REJECTED, ABORTED, SUPERSEDED})
FAILED = frozenset({REJECTED, ABORTED, LOST})
BUSY = frozenset({WAITING, DOWNLOADING, VERIFYING, INSTALLING, TESTING})
STATES = (
    *(WAITING, DOWNLOADING, VERIFYING, INSTALLING, TESTING),
    *(ACCEPTED, REJECTED, ABORTED, LOST, AWAY, SUPERSEDED),
)
_SHARE = re.compile(r"([0-9]{1,3})%\Z")
_PIN = re.compile(r"[0-9a-f]{64}\Z")
MAX_WAVES = 20


@dataclass(frozen=True)
class Plan:
    """waves: per cent of the devices that are reached with each, rising to 100. max_failures: per cent of those reached, or so many.
    at_once: how many download at a time. trial_s: how long a device may take from its restart to its word. web: whether devices may
    fetch from a web server what the release has there; web_pins: its pins in hex, none where it has the broker's."""

    waves: tuple[int, ...] = (100,)
    max_failures: int = 10
    in_percent: bool = True
    at_once: int = 20
    trial_s: int = 1800
    web: bool = True
    web_pins: tuple[str, ...] = ()

    def allowed(self, reached: int) -> int:
        """How many of the devices that were reached so far may fail. A share below one device is none."""
        return reached * self.max_failures // 100 if self.in_percent else self.max_failures

    def record(self) -> dict[str, Any]:
        return asdict(self)


def read_plan(record: dict[str, Any]) -> Plan:
    """Out of fleet.db. Raises database-damaged."""
    try:
        pins = tuple(record.get("web_pins", ()))
        return Plan(**(record | {"waves": tuple(record["waves"]), "web_pins": pins}))
    except (TypeError, KeyError):
        raise HostError("database-damaged", "fleet.db: a rollout of another form") from None


def parse_waves(text: str) -> tuple[int, ...]:
    """Of "10%,50%,100%"; 100% at the end goes without saying. Raises bad-argument."""
    shares = [_SHARE.match(part.strip()) for part in text.split(",")]
    numbers = [int(share[1]) for share in shares if share is not None]
    if numbers and numbers[-1] < 100:
        numbers.append(100)
    rising = all(a < b for a, b in zip([0, *numbers], numbers, strict=False))
    if None in shares or not rising or numbers[-1] != 100 or len(numbers) > MAX_WAVES:
        raise HostError("bad-argument", f"--wave {text[:60]}: rising shares, such as 10%,50%,100%")
    return tuple(numbers)


def parse_failures(text: str) -> tuple[int, bool]:
    """(number, whether per cent) of "10%" or "3". Raises bad-argument."""
    share = _SHARE.match(text)
    if share is not None and int(share[1]) <= 100:
        return int(share[1]), True
    if text.isascii() and text.isdigit() and len(text) < 7:
        return int(text), False
    raise HostError("bad-argument", f"--max-failures {text[:20]}: a share or a number: 10% or 3")


def parse_pins(texts: list[str]) -> tuple[str, ...]:
    """Pins of a web server as a device takes them: none, or two to four, the live one's and a backup's. Raises bad-argument."""
    good = all(_PIN.match(text) for text in texts) and len(set(texts)) == len(texts)
    if not good or (texts and not 2 <= len(texts) <= 4):
        raise HostError(
            "bad-argument", "--web-pin: two to four different ones, 64 hex digits each"
        )
    return tuple(texts)


def shuffle(release: str, devices: list[str]) -> list[str]:
    """Another order for each release, so that it is not always the same devices that go first; the same one each time it is asked for."""

    def rank(device: str) -> bytes:
        return hashlib.sha256(f"{release}:{device}".encode()).digest()

    return sorted(devices, key=rank)


def first_share(devices: list[str], percent: int) -> list[str]:
    """The first so many per cent, one at least."""
    return devices[: max(1, math.ceil(len(devices) * percent / 100))] if devices else []


def assign(waves: tuple[int, ...], devices: list[str]) -> dict[str, int]:
    """Device → wave, from 0. Each wave reaches so many per cent of all, rounded up."""
    found: dict[str, int] = {}
    for number, percent in enumerate(waves):
        for device in first_share(devices, percent):
            found.setdefault(device, number)
    return found
