"""Addresses, networks and countries as an owner writes them."""

import ipaddress
import re
from collections.abc import Iterable

from warden_host.addresses import canonical_address
from warden_host.errors import HostError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

COUNTRY = "country:"
_COUNTRY = re.compile(r"country:([A-Z]{2})\Z", re.ASCII)
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def parse_network(text: str) -> Network:
    """Return the network of an address or CIDR. Raises bad-argument."""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise HostError(
            "bad-argument",
            f"{text[:60]!r} is no address and no network",
            "write 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32",
        ) from None
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False)
    return network


def parse_ban(text: str) -> Network:
    """Return the network to ban. Raises bad-argument, also for one with this host's loopback."""
    network = parse_network(text)
    if any(network.version == one.version and network.overlaps(one) for one in _LOOPBACK):
        raise HostError(
            "bad-argument",
            f"{text[:60]} holds this machine's own loopback address",
            "ban a smaller network: `warden` itself connects over loopback",
        )
    return network


def parse_entry(text: str) -> str:
    """Return an entry of a list in its canonical form: a network or country:XX."""
    if text.lower().startswith(COUNTRY):
        found = _COUNTRY.match(COUNTRY + text[len(COUNTRY) :].upper())
        if found is None:
            raise HostError(
                "bad-argument",
                f"{text[:60]!r} is no country",
                "write its two letters of ISO 3166, such as country:DE",
            )
        return found[0]
    return str(parse_network(text))


def country_of(entry: str) -> str:
    """Return the two letters of an entry that is a country, else ""."""
    found = _COUNTRY.match(entry)
    return "" if found is None else found[1]


def contains(network: Network, address: str) -> bool:
    """Return whether the network holds the address; it holds no text that is none."""
    canonical = canonical_address(address)
    if not canonical:
        return False
    parsed = ipaddress.ip_address(canonical)
    return parsed.version == network.version and parsed in network


def short(network: str) -> str:
    """Return a network as people write it: one of a single address without its length."""
    return network.removesuffix("/32") if "." in network else network.removesuffix("/128")


def collapse(networks: Iterable[Network]) -> list[Network]:
    """Return the fewest networks that hold the same addresses, IPv4 first."""
    present = list(networks)
    v4 = [one for one in present if isinstance(one, ipaddress.IPv4Network)]
    v6 = [one for one in present if isinstance(one, ipaddress.IPv6Network)]
    return [*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6)]
