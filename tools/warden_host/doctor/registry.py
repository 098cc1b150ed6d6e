"""The checks of `warden doctor`: what one finds, and the list of all of them.

A check is a generator function of its area's facts. It yields a Finding for each weakness; what
yields nothing is fine.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

from warden_host.errors import HostError, filesystem_error


class Grade(Enum):
    SERIOUS = "serious"  # an attacker, a failure or a date can use it
    WORTH = "worth-doing"  # makes the fleet safer, or easier to keep


@dataclass(frozen=True)
class Finding:
    """One weakness.

    text: what is weak, one sentence. mend: the command that mends it, or what to do; `DEVICE` in
    it stands for the device's name. devices: that have it; () for what is no device's.
    """

    grade: Grade
    text: str
    mend: str
    devices: tuple[str, ...] = ()
    check: str = ""  # the name of the check that found it

    @property
    def command(self) -> str:
        """Return what mends it, for the device where it is one."""
        return (
            self.mend.replace("DEVICE", self.devices[0]) if len(self.devices) == 1 else self.mend
        )


class Check(NamedTuple):
    """name: a slug. about: what it looks at, one phrase. find: the function."""

    name: str
    about: str
    find: Callable[[Any], Iterable[Finding]]


# Area (fleet, device, broker, backup, board) → its checks, in the order of the report.
CHECKS: dict[str, list[Check]] = {}


def check(area: str, name: str, about: str) -> Callable[..., Callable[[Any], Iterator[Finding]]]:
    """Register the decorated function as a check."""

    def register(find: Callable[[Any], Iterator[Finding]]) -> Callable[[Any], Iterator[Finding]]:
        CHECKS.setdefault(area, []).append(Check(name, about, find))
        return find

    return register


def serious(text: str, mend: str) -> Finding:
    """Return a serious finding."""
    return Finding(Grade.SERIOUS, text, mend)


def worth(text: str, mend: str) -> Finding:
    """Return a finding that is worth doing."""
    return Finding(Grade.WORTH, text, mend)


def run(one: Check, facts: Any) -> list[Finding]:
    """Return what a check finds. What keeps it from looking is a serious finding."""
    found = []
    try:
        found += [replace(each, check=one.name) for each in one.find(facts)]
    except HostError as error:
        found.append(_unchecked(one, error))
    except OSError as error:
        found.append(_unchecked(one, filesystem_error(error)))
    return found


def _unchecked(one: Check, error: HostError) -> Finding:
    mend = error.hint or f"`warden explain {error.code}`"
    return Finding(Grade.SERIOUS, f"{error.code}: {error.text}", mend, check=one.name)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, serious ones first; what several devices have in common is one."""
    kept: dict[tuple[str, Grade, str, str], Finding] = {}
    for one in findings:
        key = (one.check, one.grade, one.text, one.mend)
        known = kept.get(key)
        kept[key] = one if known is None else replace(one, devices=known.devices + one.devices)
    return sorted(kept.values(), key=lambda one: one.grade is not Grade.SERIOUS)
