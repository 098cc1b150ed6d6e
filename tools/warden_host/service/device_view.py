"""All that the fleet knows of one device, for people and for JSON."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from warden_host.broker.logins import Knock
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import policy
from warden_host.reactions import settings as reaction_settings
from warden_host.reactions.settings import Rules
from warden_host.service import live_state, past
from warden_host.store.certificates import Certificate
from warden_host.store.history import Entry
from warden_host.store.incidents import Incident, LogHead
from warden_host.store.store import Device, Rotation, Store

HOURS = 24
NEWEST = 8  # entries of the log


@dataclass
class Known:
    """What the fleet knows of a device. counts: event's name → how many in the last hours."""

    device: Device
    state: str
    live: live_state.Live
    groups: list[str]
    release: Entry | None
    certificates: list[Certificate]
    rotation: Rotation | None
    counts: dict[str, int]
    newest: list[Entry | Knock]
    incidents: list[Incident]
    log: LogHead | None
    rules: Rules


def collect(
    fleet: Fleet, store: Store, device: str, live: live_state.Live, newest: int = NEWEST
) -> Known:
    """Look all of it up. Raises device-unknown."""
    known = store.device(device)
    steps = store.entries(device, kinds=("rollout",))
    accepted = [step for step in steps if step.name == "Accepted"]
    return Known(
        device=known,
        state=live_state.state(known, live),
        live=live,
        groups=[name for name, members in store.groups().items() if device in members],
        release=accepted[-1] if accepted else None,
        certificates=store.valid_certificates(device),
        rotation=store.rotation(device),
        counts=store.event_counts(device, time.time() - HOURS * 3600),
        newest=past.entries(fleet, store, device, most=newest),
        incidents=store.incidents(device),
        log=store.log_head(device),
        rules=reaction_settings.load(fleet).rules(known.type, known.device),
    )


def record(found: Known) -> dict[str, Any]:
    """Return all of it for JSON. No secret is in it: keys and uids stay in the database."""
    known, sessions = found.device, (found.live.online or {}).get(found.device.device, [])
    return {
        "device": known.device,
        "type": known.type,
        "board": known.board,
        "mode": known.mode,
        "state": found.state,
        "serving": found.live.online is not None,
        "groups": found.groups,
        "quarantine": known.mark.quarantine,
        "reaction": None if known.reaction is None else asdict(known.reaction),
        "reactions": dict(found.rules.reactions),
        "budget": asdict(found.rules.budget),
        "diverged": known.diverged,
        "last_seen": known.last_seen,
        "boot": known.mark.boot,
        "connect": known.mark.connect,
        "vault_gen": known.mark.vault_gen,
        "apps": [
            {
                "app": pair.appid,
                "commands": list(pair.commands),
                "session": pair.appid in sessions,
            }
            for pair in known.pairs
        ],
        "policy": policy.parse(known.policy),
        "trying": None if known.next_policy is None else policy.parse(known.next_policy),
        "release": None if found.release is None else found.release.text,
        "certificates": [
            {"serial": one.serial, "kind": one.kind, "expires": one.expires}
            for one in found.certificates
        ],
        "rotation": None
        if found.rotation is None
        else sorted(found.rotation.body.keys() - {"id"}),
        "ending": None if known.ending is None else asdict(known.ending),
        "events_24h": found.counts,
        "newest": [past.record(entry) for entry in found.newest],
        "incidents": [incident._asdict() for incident in found.incidents],
        "incident_log": None
        if found.log is None
        else {"number": found.log.number, "missing": found.log.missing},
    }
