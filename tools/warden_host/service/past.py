"""What fleet.db and the broker's log keep of the past."""

import json
from typing import Any

from warden_host.broker import logins
from warden_host.broker.logins import Knock
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store import history
from warden_host.store.history import Entry
from warden_host.store.store import Store

LOGIN = "login"  # from the broker's log, not from fleet.db
KINDS = (*history.KINDS, LOGIN)
USUAL = (*history.USUAL, LOGIN)


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
