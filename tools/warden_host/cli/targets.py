"""The options that name many devices, and how an order reaches them.

Scripts give `send` often, so what only many devices need is imported when they are named.
"""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from warden_host import names
from warden_host.errors import HostError

if TYPE_CHECKING:
    from warden_host.rollout.plan import Plan
    from warden_host.store.store import Device, Store

MAX_FILE = 1 << 20
MOST_AT_ONCE = 24  # `serve` answers 32 callers
_SHOWN = 3  # wrong lines that an error names
_SELECTING = ("--group", "--type", "--all", "--file")
_SELECTION = ("group", "type_", "everything", "listed", "rules")
_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--group", default="", metavar="NAME", help="To the devices of a group."),
    click.option("--type", "type_", default="", metavar="TYPE", help="To all of a type."),
    click.option("--all", "everything", is_flag=True, help="To all devices of the fleet."),
    click.option(
        "--file", "listed", default="", metavar="FILE", help="To those of a file, one ID a line."
    ),
)


def _rule_options(at_once: int, failures: str) -> tuple[Any, ...]:
    return (
        click.option(
            "--wave",
            "waves",
            default="",
            metavar="10%,100%",
            help="Of many: in waves; the next starts when the one before is through.",
        ),
        click.option(
            "--max-failures",
            default="",
            metavar="N|%",
            help=f"Of many: stop when more than so many fail. Default: {failures}.",
        ),
        click.option(
            "--at-once",
            type=click.IntRange(1, MOST_AT_ONCE),
            default=at_once,
            show_default=True,
            help="Of many: so many at a time.",
        ),
        click.option(
            "--resume", is_flag=True, help="Of many: leave out those that an earlier call did."
        ),
    )


@dataclass(frozen=True)
class Rules:
    """The rules of a run for many devices, as the options give them."""

    waves: str
    max_failures: str
    at_once: int
    resume: bool

    def __bool__(self) -> bool:
        """Return whether an option gives one that has no meaning for a single device."""
        return bool(self.waves or self.max_failures or self.resume)

    def plan(self, failures: str = "10%") -> "Plan":
        """Return waves and allowed failures. Raises bad-argument.

        failures: allowed where the options don't say it.
        """
        from warden_host.rollout import plan

        number, in_percent = plan.parse_failures(self.max_failures or failures)
        return plan.Plan(plan.parse_waves(self.waves or "100%"), number, in_percent)


@dataclass(frozen=True)
class Targets:
    """Devices as the options name them, and the rules of the run."""

    group: str
    type_: str
    everything: bool
    listed: str
    rules: Rules

    def many(self, device: str | None) -> bool:
        """Return whether the options name devices, and not the argument. Raises UsageError."""
        named = sum(map(bool, (self.group, self.type_, self.everything, self.listed)))
        if named + bool(device) > 1:
            raise click.UsageError("name a device, or devices by one of " + ", ".join(_SELECTING))
        if not named and not device:
            raise click.UsageError(
                "Missing argument 'DEVICE': one, or many by " + ", ".join(_SELECTING)
            )
        if not named and self.rules:
            raise click.UsageError(
                "--wave, --max-failures and --resume are for many devices: "
                + ", ".join(_SELECTING)
            )
        return named == 1

    def selection(self) -> list[Any]:
        """Return what names the devices, for the name of the run's journal."""
        return [self.group, self.type_, self.everything, self.listed]

    def devices(
        self, store: "Store", fits: Callable[["Device"], str]
    ) -> tuple[list[str], Counter[str]]:
        """Return the devices that take the order, and how many are left out by reason.

        fits: returns why a device is left out, or "". Raises device-unknown, group-unknown,
        bad-list.
        """
        if self.group:
            wanted = store.group(names.check_id(self.group, "group"))
        elif self.type_:
            names.check_id(self.type_, "device type")
            wanted = [one.device for one in store.devices() if one.type == self.type_]
        elif self.listed:
            wanted = read_list(self.listed, set(store.names()))
        else:
            wanted = sorted(store.names())
        if not wanted:
            which = f"of type {self.type_}" if self.type_ else "in this fleet"
            raise HostError("device-unknown", f"there is no device {which}")
        left_out: Counter[str] = Counter()
        found = []
        for name in wanted:
            why = fits(store.device(name))
            if why:
                left_out[why] += 1
            else:
                found.append(name)
        return found, left_out


def options(command: _F) -> _F:
    """Add the options to a command; its parameter `targets` gets them."""

    @functools.wraps(command)
    def wrapped(*args: Any, **values: Any) -> Any:
        found = {name: values.pop(name) for name in _SELECTION}
        return command(*args, targets=Targets(**found), **values)

    made: Any = rule_options(8, "10%")(wrapped)
    for option in reversed(_OPTIONS):
        made = option(made)
    result: _F = made
    return result


def rule_options(at_once: int, failures: str) -> Callable[[_F], _F]:
    """Return what adds the options of a run; the command's parameter `rules` gets them.

    at_once: the default. failures: the words for its default.
    """

    def add(command: _F) -> _F:
        @functools.wraps(command)
        def wrapped(*args: Any, **values: Any) -> Any:
            found = {name: values.pop(name) for name in Rules.__dataclass_fields__}
            return command(*args, rules=Rules(**found), **values)

        made: Any = wrapped
        for option in reversed(_rule_options(at_once, failures)):
            made = option(made)
        result: _F = made
        return result

    return add


def names_many(arguments: list[str]) -> bool:
    """Return whether a command line names many devices, so that its DEVICE is left out."""
    return any(one.partition("=")[0] in _SELECTING for one in arguments)


def read_list(path: str, known: set[str]) -> list[str]:
    """Return the devices of a file, one ID a line; `#` begins a comment. Raises bad-list."""
    try:
        with open(Path(path), "rb") as file:
            data = file.read(MAX_FILE + 1)
        text = data.decode()
    except OSError as error:
        raise _bad(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _bad(f"{path} is no text") from None
    if len(data) > MAX_FILE:
        raise _bad(f"{path} has more than {MAX_FILE} bytes")
    found: dict[str, int] = {}
    wrong: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        if name not in known:
            wrong.append(f"line {number}: there is no device {name[:40]!r}")
        elif name in found:
            wrong.append(f"line {number}: {name} again")
        found[name] = number
    if wrong:
        more = f"; {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise _bad("; ".join(wrong[:_SHOWN]) + more)
    if not found:
        raise _bad(f"{path} names no device")
    return list(found)


def _bad(text: str) -> HostError:
    return HostError("bad-list", text, "mend the list, one ID a line; nothing was done")
