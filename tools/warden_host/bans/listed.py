"""Find which addresses a list of the owner's holds."""

from collections.abc import Iterable

from warden_host.bans import geo
from warden_host.bans.index import NetworkIndex
from warden_host.bans.networks import Network, collapse, country_of, parse_network
from warden_host.bans.settings import BanSettings
from warden_host.store.bans import ALLOW


def networks_of(settings: BanSettings, entries: Iterable[str]) -> tuple[Network, ...]:
    """Return the fewest networks of a list's entries. Raises geo-missing, geo-damaged."""
    present = list(entries)
    countries = frozenset(filter(None, map(country_of, present)))
    found = [parse_network(entry) for entry in present if not country_of(entry)]
    if countries:
        found += geo.networks_of(settings.countries, countries)
    return tuple(collapse(found))


def refuses(active: str, networks: NetworkIndex, wanted: Network) -> bool:
    """Return whether the list in force refuses a network. active: of LISTS, or ""."""
    return bool(active) and (wanted in networks) != (active == ALLOW)
