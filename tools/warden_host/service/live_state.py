"""Ask a running `warden serve` which devices are online, and name each device's state."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from warden_host import control_client
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.store.devices import Device

if TYPE_CHECKING:
    from warden_host.engine.engine import Engine


@dataclass
class Live:
    """What a running `serve` knows.

    online: {device: its applications with a session}, or None when `serve` is not running.
    development: the devices in development mode. presence: {device: online, asleep, stopped, away
    or ""}. asleep_until: {device: unix seconds}.
    """

    online: dict[str, list[str]] | None = None
    development: set[str] = field(default_factory=set)
    presence: dict[str, str] = field(default_factory=dict)
    asleep_until: dict[str, float] = field(default_factory=dict)


def ask(fleet: Fleet) -> Live:
    """Ask `serve`; where none runs, nothing is known of the present."""
    try:
        answer = control_client.call(fleet.control, {"op": "online"})
    except HostError as error:
        if error.code != "not-serving":
            raise
        return Live()
    return read(answer)


def of_engine(engine: "Engine") -> dict[str, Any]:
    """Return the answer to `online`."""
    online = engine.online()
    open_ones = [name for name in online if engine.state(name).development]
    presence = {name: list(one) for name, one in engine.presences().items()}
    return {"online": online, "development": open_ones, "presence": presence}


def read(answer: dict[str, Any]) -> Live:
    """Read the answer to `online`."""
    live = Live({str(name): [str(app) for app in apps] for name, apps in answer["online"].items()})
    live.development = {str(name) for name in answer.get("development", ())}
    for name, (presence, until) in answer.get("presence", {}).items():
        live.presence[str(name)] = str(presence)
        if presence == "asleep":
            live.asleep_until[str(name)] = float(until)
    return live


def listed_state(presence: str, quarantined: bool, revoked: bool) -> str:
    """Return a device's state as lists of the console and of the API have it, in one word.

    presence: of the engine, "" while nothing is known.
    """
    if revoked:
        return "revoked"
    return "quarantined" if quarantined else presence or "offline"


def state(known: Device, live: Live) -> str:
    """Return the state in one word; "provisioned" until the first contact.

    Without `serve`, whose broker is the only one, each device is offline.
    """
    if known.ending is not None:
        return "to be wiped" if known.ending.wipe else "revoked"
    if known.mark.quarantine or known.reaction is not None:
        return "quarantined"
    if known.diverged:
        return "diverged"
    if known.device in (live.online or {}):
        return "development" if known.device in live.development else "online"
    presence = live.presence.get(known.device, "")
    if presence and presence != "online":
        return presence
    return "offline" if known.last_seen > 0 else "provisioned"
