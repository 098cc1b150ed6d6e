"""Plan a rollout: which devices get a release, in which order. docs/update.md, Rollouts."""

import hashlib
import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from warden_host.errors import HostError
from warden_host.numerals import decimal

# States of a device in a rollout; those that a device reports have its words: docs/update.md.
WAITING, AWAY = "Waiting", "Away"
DOWNLOADING, VERIFYING, INSTALLING, TESTING = "Downloading", "Verifying", "Installing", "Testing"
ACCEPTED, REJECTED, ABORTED = "Accepted", "Rejected", "Aborted"
LOST, SUPERSEDED = "Lost", "Superseded"
# No step follows. LOST is not among them: a device that comes back is queried again.
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
    """The settings of a rollout.

    waves: per cent of the devices that have their turn by the end of each wave, rising to 100.
    max_failures: failures allowed, in per cent of the devices reached if in_percent.
    at_once: how many devices download at a time.
    trial_s: seconds from a device's restart until it must report.
    web: whether devices may fetch what the release has on a web server.
    web_pins: pins of that server, in hex; empty where the broker's pins hold.
    """

    waves: tuple[int, ...] = (100,)
    max_failures: int = 10
    in_percent: bool = True
    at_once: int = 20
    trial_s: int = 1800
    web: bool = True
    web_pins: tuple[str, ...] = ()

    def allowed(self, reached: int) -> int:
        """Return how many of the `reached` devices may fail; shares are rounded down."""
        return reached * self.max_failures // 100 if self.in_percent else self.max_failures

    def record(self) -> dict[str, Any]:
        """Return the plan as fleet.db keeps it."""
        return asdict(self)


def read_plan(record: dict[str, Any]) -> Plan:
    """Return the plan of a record from fleet.db. Raises database-damaged."""
    try:
        pins = tuple(record.get("web_pins", ()))
        return Plan(**(record | {"waves": tuple(record["waves"]), "web_pins": pins}))
    except (TypeError, KeyError):
        raise HostError("database-damaged", "fleet.db: a rollout of another form") from None


def parse_waves(text: str) -> tuple[int, ...]:
    """Return the waves of a text such as "10%,50%": a last 100% is added. Raises bad-argument."""
    shares = [_SHARE.match(part.strip()) for part in text.split(",")]
    numbers = [int(share[1]) for share in shares if share is not None]
    if numbers and numbers[-1] < 100:
        numbers.append(100)
    rising = all(a < b for a, b in zip([0, *numbers], numbers, strict=False))
    if None in shares or not rising or numbers[-1] != 100 or len(numbers) > MAX_WAVES:
        raise HostError("bad-argument", f"waves {text[:60]}: give rising shares: 10%,50%,100%")
    return tuple(numbers)


def parse_failures(text: str) -> tuple[int, bool]:
    """Return (number, whether it is per cent) of "10%" or "3". Raises bad-argument."""
    share = _SHARE.match(text)
    if share is not None and int(share[1]) <= 100:
        return int(share[1]), True
    number = decimal(text, 999_999)
    if number is not None:
        return number, False
    raise HostError("bad-argument", f"failures {text[:20]}: give a share or a number: 10% or 3")


def parse_pins(texts: list[str]) -> tuple[str, ...]:
    """Return pins of a web server: none, or two to four, with a backup. Raises bad-argument.

    texts: SHA-256 digests in hex.
    """
    good = all(_PIN.match(text) for text in texts) and len(set(texts)) == len(texts)
    if not good or (texts and not 2 <= len(texts) <= 4):
        raise HostError(
            "bad-argument", "web pins: give two to four different ones, 64 hex digits each"
        )
    return tuple(texts)


def shuffle(release: str, devices: list[str]) -> list[str]:
    """Return the devices in an order that depends on the release's name alone.

    Each release starts with other devices, and a repeated call gives the same order.
    """

    def rank(device: str) -> bytes:
        return hashlib.sha256(f"{release}:{device}".encode()).digest()

    return sorted(devices, key=rank)


def first_share(devices: list[str], percent: int) -> list[str]:
    """Return the first `percent` of the devices, rounded up."""
    return devices[: max(1, math.ceil(len(devices) * percent / 100))] if devices else []


def assign(waves: tuple[int, ...], devices: list[str]) -> dict[str, int]:
    """Return the wave of each device, from 0.

    waves: per cent of the devices up to the end of each wave, rounded up.
    """
    found: dict[str, int] = {}
    for number, percent in enumerate(waves):
        for device in first_share(devices, percent):
            found.setdefault(device, number)
    return found
