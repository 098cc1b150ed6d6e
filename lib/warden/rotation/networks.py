"""Authority command `wifi`: a new Wi-Fi network is kept once the authority was reached through it.

Rules: docs/protocol.md, wifi. The vault's record `network_new` holds what is tried, and how often
yet: at every power cut the device has the old networks and the pending change, or the new ones
alone. `PendingNetworks` takes the place of a pending rotation on the agent, so there is one of
both at a time.
"""

from micropython import const

from ..errors import LinkError, PeerError
from ..vault import records
from ..wire import cbor
from .pending import FORMAT, MAX_ID, TRIES, Pending, reconnect

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent


def run(agent: "Agent", args: "dict[str, Any]") -> "dict[str, Any]":
    """Store a change of the networks as pending; return the state, also where args are empty.

    PeerError unknown-command: no board with Wi-Fi; bad-body, unexpected. LinkError busy.
    """
    if not hasattr(agent.network, "use"):
        raise PeerError("unknown-command")
    vault = agent.vault
    if args:
        add, kept = _checked(records.load_networks(vault), args)
        if args["id"] <= vault.counter("network"):
            raise PeerError("unexpected")
        if agent.rotation is not None:
            raise LinkError("busy")
        record = cbor.encode([FORMAT, args["id"], add, kept, TRIES])
        vault.commit({"network_new": record}, {"network": args["id"]})
        start(agent)
        agent.after_reply = reconnect
    pending = None
    if "network_new" in vault.names():
        pending = _names(_networks(records.load(vault, "network_new")))
    return {
        "id": vault.counter("network"),
        "proved": vault.counter("network_good"),
        "networks": _names(records.load_networks(vault)),
        "pending": pending,
    }


def _names(networks: "list[Any]") -> "list[str]":
    """Return the SSIDs: passwords never leave the device."""
    return [ssid for ssid, _ in networks]


def _networks(fields: "list[Any]") -> "list[Any]":
    """Return the networks that the device has once a pending change is proven."""
    _, _, add, kept, _ = fields
    return kept if add is None else [add] + kept


def _checked(present: "list[Any]", args: "dict[str, Any]") -> "tuple[Any, list[Any]]":
    """Return (the network to add or None, those to keep). PeerError bad-body."""
    id: "Any" = args.get("id")
    add: "Any" = args.get("add")
    keep: "Any" = args.get("keep")
    known = dict(present)
    good = len(args) == 3 and type(id) is int and 0 < id <= MAX_ID and isinstance(keep, list)
    if good:
        good = all([isinstance(ssid, str) and ssid in known for ssid in keep])
    if not good:
        raise PeerError("bad-body")
    kept = [[ssid, known[ssid]] for ssid in keep]
    if not records.are_networks(kept if add is None else [add] + kept):
        raise PeerError("bad-body")
    return add, kept


def start(agent: "Agent") -> None:
    """Let the agent try the change that is pending in its vault."""
    pending = PendingNetworks(agent)
    if hasattr(agent.network, "use"):
        agent.rotation = pending
    else:  # board.py names another kind of network since
        agent.vault.delete("network_new")


class PendingNetworks(Pending):
    """A change of the networks that is pending, on this agent's link and sessions."""

    def __init__(self, agent: "Agent") -> None:
        super().__init__(agent, "network_new", records.load(agent.vault, "network_new"))

    def choose_secrets(self) -> None:
        """Set the network for the next connection: the new one, or all old ones after three."""
        agent, fields = self.agent, self.fields
        if self.count():
            agent.network.use(fields[3] if fields[2] is None else [fields[2]])
            return
        agent.vault.delete("network_new")
        agent.network.use(records.load_networks(agent.vault))
        self.end()
        agent.log("wifi-failed", "the old networks are in use again")
        agent.report("wifi-failed", "wifi")

    def check(self) -> None:
        """Replace the old networks once the authority's session is up through the new one."""
        agent = self.agent
        if self.trying and agent.authority() is not None:
            networks = _networks(self.fields)
            changes: "dict[str, bytes | None]" = {"network": cbor.encode(networks)}
            changes["network_new"] = None
            agent.vault.commit(changes, {"network_good": self.fields[1]})
            agent.network.use(networks)
            self.end()
            agent.log("wifi-changed", ", ".join(_names(networks)))
