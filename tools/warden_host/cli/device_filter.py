"""Choose, sort and page the rows of `warden devices`."""

import fnmatch
import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import click

from warden_host.errors import HostError
from warden_host.store.devices import Device
from warden_host.store.groups import Groups
from warden_host.store.incidents import Incident

STATES = (
    *("online", "asleep", "stopped", "away", "offline", "provisioned", "development"),
    *("diverged", "quarantined", "revoked", "to be wiped"),
)
_F = TypeVar("_F", bound=Callable[..., Any])


class Row(NamedTuple):
    """A device, its state in one word, and its incidents."""

    known: Device
    state: str
    incidents: list[Incident]


# Name → what is compared; the newest contact and the most incidents come first.
SORTS: dict[str, Callable[[Row], Any]] = {
    "device": lambda row: row.known.device,
    "type": lambda row: (row.known.type, row.known.device),
    "state": lambda row: (STATES.index(row.state), row.known.device),
    "seen": lambda row: (-row.known.last_seen, row.known.device),
    "incidents": lambda row: (-sum(one.n for one in row.incidents), row.known.device),
}


@dataclass(frozen=True)
class Filter:
    """What the options say. limit: rows of a page, 0 for all; page: from 1."""

    patterns: tuple[str, ...] = ()
    type_: str = ""
    group: str = ""
    states: tuple[str, ...] = ()
    app: str = ""
    sort: str = "device"
    limit: int = 0
    page: int = 1
    summary: bool = False
    members: frozenset[str] = field(default=frozenset())

    def takes(self, known: Device) -> bool:
        """Return whether the device is shown, whatever its state."""
        names = not self.patterns or any(
            fnmatch.fnmatchcase(known.device, one) for one in self.patterns
        )
        apps = not self.app or self.app in {pair.appid for pair in known.pairs}
        group = not self.group or known.device in self.members
        return names and apps and group and self.type_ in ("", known.type)

    def with_members(self, store: Groups) -> "Filter":
        """Return the filter with the devices of its group. Raises group-unknown."""
        members = frozenset(store.group(self.group)) if self.group else frozenset[str]()
        return Filter(**(vars(self) | {"members": members}))

    def rows(self, rows: list[Row]) -> list[Row]:
        """Return the rows in order, of the wanted states."""
        found = [row for row in rows if not self.states or row.state in self.states]
        return sorted(found, key=SORTS[self.sort])

    def page_of(self, rows: list[Row]) -> list[Row]:
        """Return the rows of the page. Raises bad-argument for one behind the last."""
        if not self.limit:
            return rows
        begin = (self.page - 1) * self.limit
        if begin and begin >= len(rows):
            last = max(1, -(-len(rows) // self.limit))
            raise HostError("bad-argument", f"there is no page {self.page}: the last is {last}")
        return rows[begin : begin + self.limit]


_OPTIONS = (
    click.option("--type", "type_", default="", metavar="TYPE", help="Only of this type."),
    click.option("--group", default="", metavar="NAME", help="Only of this group."),
    click.option(
        "--state",
        "states",
        multiple=True,
        type=click.Choice(STATES),
        metavar="STATE",
        help=f"Only in this state, repeatable: {', '.join(STATES)}.",
    ),
    click.option("--app", default="", metavar="APP", help="Only those that obey it."),
    click.option(
        "--sort",
        type=click.Choice(list(SORTS)),
        default="device",
        show_default=True,
        help="The order; `seen` has the latest first, `incidents` the most.",
    ),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="So many a page."),
    click.option(
        "--page", type=click.IntRange(1), default=1, show_default=True, help="Which page."
    ),
    click.option("--summary", is_flag=True, help="Count them alone: by type, state, incident."),
)


def options(command: _F) -> _F:
    """Add the options to a command; its parameter `chosen` gets them with the patterns."""

    @functools.wraps(command)
    def wrapped(*args: Any, **values: Any) -> Any:
        found = {
            name: values.pop(name) for name in Filter.__dataclass_fields__ if name != "members"
        }
        found["limit"] = found["limit"] or 0
        return command(*args, chosen=Filter(**found), **values)

    made: Any = wrapped
    for option in reversed(_OPTIONS):
        made = option(made)
    made = click.argument("patterns", nargs=-1, metavar="[NAME…]")(made)
    result: _F = made
    return result


def summary(rows: list[Row]) -> dict[str, dict[str, int]]:
    """Count devices by type, state and way to connect, and incidents by code."""
    incidents: Counter[str] = Counter()
    for row in rows:
        for one in row.incidents:
            incidents[one.code] += one.n
    return {
        "types": dict(Counter(row.known.type for row in rows).most_common()),
        "states": dict(Counter(row.state for row in rows).most_common()),
        "incidents": dict(incidents.most_common()),
    }
