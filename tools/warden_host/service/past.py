"""What fleet.db and the broker's log keep of the past."""

import heapq
import json
import math
from itertools import islice
from typing import Any, NamedTuple

from warden_host.broker import logins
from warden_host.broker.logins import Knock
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.numerals import decimal
from warden_host.store import history
from warden_host.store.history import Entry, Place
from warden_host.store.store import Store

LOGIN = "login"  # from the broker's log, not from fleet.db
KINDS = (*history.KINDS, LOGIN)
USUAL = (*history.USUAL, LOGIN)
MAX_PLACE = 512  # characters of where a page begins
_MAX_SKIP = 1_000_000


def entries(
    fleet: Fleet,
    store: Store,
    device: str = "",
    since: float = 0.0,
    kinds: tuple[str, ...] = USUAL,
    most: int = 100,
) -> list[Entry | Knock]:
    """Return the newest entries of the database and of the broker's log, oldest first."""
    kept = [kind for kind in history.KINDS if kind in kinds]
    found: list[Entry | Knock] = [*store.entries(device, since, kept, most)]
    if LOGIN in kinds:
        known = logins.past(fleet, store, since)
        found += [one for one in known if not device or device in one.devices]
    return sorted(found, key=lambda one: one.time)[-most:]


class Page(NamedTuple):
    """rows: the newest first. following: where the next page begins, or "" after the last one."""

    rows: list[Entry | Knock]
    following: str


def page(fleet: Fleet, store: Store, device: str = "", begin: str = "", most: int = 100) -> Page:
    """Return the entries of the usual kinds from a place on, each on one page.

    device: "" for all. begin: what the page before has as following, "" for the newest entries.
    Each kind has a place of its own, by its own order: a clock that was set back leaves out
    nothing. Raises control-malformed.
    """
    places = _read_places(begin) if begin else None
    found: dict[str, list[tuple[float, Entry | Knock]]] = {}
    for kind in USUAL if places is None else places:
        place = None if places is None else places[kind]
        if kind == LOGIN:
            found[kind] = _logins_from(fleet, store, device, place, most + 1)
        else:
            found[kind] = [*store.entries_from(kind, device, place, most + 1)]
    heads = [[(entry.time, kind, entry) for _, entry in rows] for kind, rows in found.items()]
    merged = heapq.merge(*heads, key=lambda head: head[0], reverse=True)
    shown = list(islice(merged, most))
    following = []
    for kind, rows in found.items():
        used = sum(one == kind for _, one, _ in shown)
        if used < len(rows):
            key = rows[used][0]
            skip = sum(one == key for one, _ in rows[:used])
            if places is not None and places[kind].key == key:
                skip += places[kind].skip
            following.append(f"{kind}:{key!r}:{skip}")
    return Page([entry for _, _, entry in shown], "_".join(following))


def _logins_from(
    fleet: Fleet, store: Store, device: str, place: Place | None, most: int
) -> list[tuple[float, Entry | Knock]]:
    """Return (time, refused log-in) from a place on, the newest first."""
    known = [one for one in logins.past(fleet, store, 0.0) if not device or device in one.devices]
    known.sort(key=lambda one: (one.time, one.text), reverse=True)
    if place is not None:
        known = [one for one in known if one.time <= place.key][place.skip :]
    return [(one.time, one) for one in known[:most]]


def _read_places(text: str) -> dict[str, Place]:
    """Return the place of each kind that has one. Raises control-malformed."""
    found: dict[str, Place] = {}
    try:
        for part in text.split("_"):
            kind, key, skip = part.split(":")
            number, count = float(key), decimal(skip, _MAX_SKIP)
            if kind not in USUAL or kind in found or not math.isfinite(number) or count is None:
                raise ValueError
            found[kind] = Place(number, count)
    except ValueError:
        raise HostError("control-malformed", "this is no place in the log") from None
    return found


def record(entry: Entry | Knock) -> dict[str, Any]:
    """Return an entry for JSON, without empty fields; an event's body as an object."""
    if isinstance(entry, Knock):
        return {"kind": LOGIN} | {key: value for key, value in vars(entry).items() if value}
    found = {key: value for key, value in entry._asdict().items() if value != ""}
    if entry.kind == "event":
        found["body"] = event_body(entry)
        found.pop("text", None)
    return found


def event_body(entry: Entry) -> dict[str, Any]:
    """Return an event's body. Raises database-damaged."""
    try:
        body = json.loads(entry.text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise HostError("database-damaged", "fleet.db: an event of another form")
    return body
