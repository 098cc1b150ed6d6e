"""Change a device's Wi-Fi networks over the link: it keeps the old ones until the new one works.

1. The device says which networks it has, by name.
2. It gets the new one, sealed, and the names of those that it keeps; it holds both sets.
3. It connects through the new one. Where the authority's session comes up, the new set is the only
   one; after three tries without, the old set is, across restarts.
4. The device is asked until it says which.

This side stores nothing: a call that is interrupted leaves the device to end the change by itself,
and the next call shows the result.
"""

from dataclasses import dataclass
from typing import Any

from warden_host import jsontext
from warden_host.devices.bundle import Network, check_networks
from warden_host.devices.stage import Report
from warden_host.devices.trial import Ask, complete, malformed, result
from warden_host.errors import HostError


@dataclass(frozen=True)
class State:
    """id: of the last change that the device took. proved: of the last one that worked."""

    id: int
    proved: int
    networks: list[str]
    pending: list[str] | None

    @property
    def is_pending(self) -> bool:
        return self.pending is not None


def state(device: str, ask: Ask) -> State:
    """Return what a device answers. Raises command-refused, bad-body, and what `ask` raises."""
    return _read(device, ask(None))


def change(
    device: str,
    ask: Ask,
    add: Network | None,
    remove: tuple[str, ...],
    report: Report,
    timeout_s: float,
) -> list[str]:
    """Change the networks and wait for the result; return their names, the preferred one first.

    add: the new network, or one that is there with a new password. remove: names.
    Raises: bad-argument, not-applicable, network-unproved, timed-out, and as state().
    """
    before = state(device, ask)
    if before.pending is not None:
        raise HostError(
            "not-applicable",
            f"{device} tries another change: {', '.join(before.pending)}",
            "wait until it has ended; the command without options shows it",
        )
    for ssid in remove:
        if ssid not in before.networks:
            raise HostError(
                "bad-argument",
                f"{device} has no network {jsontext.printable(ssid)}",
                "it has: " + ", ".join(before.networks),
            )
    added = () if add is None else (add,)
    keep = [ssid for ssid in before.networks if ssid not in (*remove, *(n.ssid for n in added))]
    check_networks([*added, *(Network(ssid) for ssid in keep)])
    if not added and not keep:
        raise HostError("bad-argument", f"{device} would have no network left")
    order = {
        "id": before.id + 1,
        "add": None if add is None else [add.ssid, add.password],
        "keep": keep,
    }
    now = complete(
        device,
        ask,
        lambda answer: _read(device, answer),
        order,
        lambda now: f"{device} holds both, and tries: {', '.join(now.pending or [])}",
        report,
        timeout_s,
    )
    if now.proved != now.id:
        raise HostError(
            "network-unproved",
            f"{device} reached nothing through the new network and went back to its old ones: "
            + ", ".join(now.networks),
        )
    return now.networks


def _read(device: str, answer: dict[str, Any]) -> State:
    lacking = "joins no Wi-Fi by itself, by NETWORK in its board.py, or is older than this command"
    found = result(device, answer, lacking, "its networks")
    networks, pending = _names(found.get("networks")), found.get("pending")
    if networks is None or (pending is not None and _names(pending) is None):
        raise malformed(device)
    return State(found["id"], found["proved"], networks, _names(pending))


def _names(value: object) -> list[str] | None:
    """Return a list of texts; None for anything else."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    return None
