"""The table of attacks: each is a function that a decorator adds.

    @attack("topic spying", defends="each account may subscribe to its own commands alone")
    def topic_spying(arena: Arena) -> Result:
        ...

`make attack` runs all of them and prints a table; `make test` runs those with `short=True`, in
their short form, and asserts their results. A module with attacks is named in MODULES.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MODULES = ("floods", "identities", "broker_abuse", "guessing")


@dataclass
class Result:
    """What became of an attack.

    seen: the code under which the fleet's owner saw it, "" where nobody did. blocked: what stopped
    it, in a few words, "" where nothing did. seen_s, blocked_s: after how long, None where there
    is nothing to wait for. cut_s: after how long a flooder was cut off, infinite where it was not;
    revoke_s: what a revocation took meanwhile, infinite where it failed; None where there is no
    target for it. notes: figures for people.
    """

    seen: str = ""
    blocked: str = ""
    seen_s: float | None = None
    blocked_s: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    cut_s: float | None = None
    revoke_s: float | None = None


@dataclass(frozen=True)
class Attack:
    """One attack. needs(): why it can't run on this machine, or ""."""

    name: str
    run: Callable[[Any], Result]
    defends: str
    short: bool
    needs: Callable[[], str]


ATTACKS: dict[str, Attack] = {}


def attack(
    name: str, defends: str, short: bool = True, needs: Callable[[], str] = lambda: ""
) -> Callable[[Callable[[Any], Result]], Callable[[Any], Result]]:
    """Add an attack. defends: what should stop it. short: whether `make test` runs it, too."""

    def add(function: Callable[[Any], Result]) -> Callable[[Any], Result]:
        if name in ATTACKS:
            raise ValueError(f"two attacks are named {name!r}")
        ATTACKS[name] = Attack(name, function, defends, short, needs)
        return function

    return add


def load() -> dict[str, Attack]:
    """Return all attacks, in the order of MODULES."""
    for module in MODULES:
        importlib.import_module(f"attack.{module}")
    return ATTACKS
