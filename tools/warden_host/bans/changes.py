"""Change bans and lists in fleet.db: for the owner's tool, and for operators' requests."""

import time
from collections.abc import Iterable, Sequence

from warden_host.bans import listed
from warden_host.bans.index import NetworkIndex
from warden_host.bans.networks import parse_ban, parse_entry, parse_network
from warden_host.bans.settings import BanSettings
from warden_host.errors import HostError
from warden_host.store.bans import ALLOW, BAN, LISTS, Ban
from warden_host.store.store import Store

MAX_WHY = 200  # characters
_LEAST_BITS = {4: 8, 6: 16}


def add(store: Store, texts: Sequence[str], source: str, why: str) -> list[Ban]:
    """Ban addresses and networks until they are lifted. Raises bad-argument, not-applicable."""
    if len(why) > MAX_WHY or not why.isprintable():
        raise HostError("bad-argument", f"the reason is longer than {MAX_WHY} characters")
    now = time.time()
    made = []
    for text in texts:
        network = parse_ban(text)
        if network.prefixlen < _LEAST_BITS[network.version]:
            raise HostError(
                "bad-argument",
                f"{text} is most of the Internet",
                "an allow list bans all but what it names: `warden bans activate allow`",
            )
        made.append(Ban(str(network), BAN, now, None, source, why, 0))
    store.put_bans(made)
    return made


def lift(store: Store, texts: Sequence[str], pending: Iterable[str] = ()) -> list[str]:
    """Lift bans; return the networks. Raises bad-argument for one that is not banned.

    pending: networks whose ban is in force and not in fleet.db yet.
    """
    wanted = [str(parse_network(text)) for text in texts]
    present = {ban.network for ban in store.bans(time.time())} | set(pending)
    for text, network in zip(texts, wanted, strict=True):
        if network not in present:
            raise HostError(
                "bad-argument", f"{text} is not banned", "`warden bans list` shows the bans"
            )
    for network in wanted:
        store.lift_ban(network)
    return wanted


def change_list(
    store: Store, name: str, added: Iterable[str] = (), removed: Iterable[str] = ()
) -> None:
    """Add and remove entries of a list. Raises bad-argument, not-applicable."""
    check_name(name)
    fresh, gone = [parse_entry(one) for one in added], [parse_entry(one) for one in removed]
    present = set(store.list_entries(name))
    for entry in gone:
        if entry not in present:
            raise HostError("bad-argument", f"{entry} is not in the list {name}")
    if name == store.active_list() == ALLOW and not (present | set(fresh)) - set(gone):
        raise HostError(
            "not-applicable",
            "the list in force would allow nobody",
            "`warden bans activate none` first",
        )
    now = time.time()
    for entry in fresh:
        store.add_entry(name, entry, now)
    for entry in gone:
        store.remove_entry(name, entry)


def activate(store: Store, settings: BanSettings, name: str) -> None:
    """Put a list in force and the other one out of force; "" for none.

    Raises not-applicable for an empty allow list, geo-missing, geo-damaged.
    """
    if name:
        check_name(name)
        entries = store.list_entries(name)
        if name == ALLOW and not entries:
            raise HostError(
                "not-applicable",
                "the allow list is empty: nobody could connect",
                "`warden bans allow 192.168.1.0/24` adds to it",
            )
        listed.networks_of(settings, entries)
    store.activate_list(name)


def refused_clients(store: Store, settings: BanSettings, name: str) -> list[str]:
    """Return the clients whose latest address a list would refuse once it is in force."""
    networks = NetworkIndex(listed.networks_of(settings, store.list_entries(name)))
    latest = {
        client: network
        for network, client, _ in store.good_logins(time.time() - settings.known_days * 86_400)
    }
    return sorted(
        client
        for client, network in latest.items()
        if listed.refuses(name, networks, parse_network(network))
    )


def check_name(name: str) -> None:
    """Raise bad-argument for no list's name."""
    if name not in LISTS:
        raise HostError("bad-argument", f"{name[:40]!r} is no list", f"one of: {', '.join(LISTS)}")
