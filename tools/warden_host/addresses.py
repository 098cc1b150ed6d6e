"""Write a client's address in one form, wherever it becomes a key or is shown.

A socket that listens on `::` shows 203.0.113.7 as ::ffff:203.0.113.7, in one /64 with every other
IPv4 address: counted as IPv6 addresses are, one guesser would lock all of them out.
"""

import ipaddress

# A household or a host has a whole /64 of IPv6, and could go on from its next address after a ban.
_V6_BITS = 64
# A translator shows every IPv4 client by an address in one of these: the well-known prefix
# (RFC 6052), and the one for a data centre's or a carrier's own use (RFC 8215).
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48")
# 6to4 gives the owner of one IPv4 address a /48 of these, that is 65,536 times a /64 (RFC 3056).
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_SIX_TO_FOUR_BITS = 48


def canonical_address(text: str) -> str:
    """Return an address without zone in its one form, or "" where the text is none.

    An IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2) is the IPv4 one. The form is RFC 5952's.
    """
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def network_of_client(address: str, neighbours_apart: bool = True) -> str:
    """Return the network that counts as one client, as CIDR; a text that is no address as it is.

    An IPv4 address, or a translated one, counts by itself; an IPv6 address by its /64, a 6to4
    address by its /48. neighbours_apart: count a link-local address by itself, as all neighbours
    share fe80::/64.
    """
    canonical = canonical_address(address)
    if not canonical:
        return address
    parsed = ipaddress.ip_address(canonical)
    bits = _client_bits(parsed, neighbours_apart)
    return str(ipaddress.ip_network(f"{parsed}/{bits}", strict=False))


def _client_bits(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, neighbours_apart: bool
) -> int:
    """Return how many first bits of an address one client has for itself."""
    if address.version == 4 or any(address in one for one in _TRANSLATED):
        return address.max_prefixlen
    if address.is_link_local and neighbours_apart:
        return address.max_prefixlen
    return _SIX_TO_FOUR_BITS if address in _SIX_TO_FOUR else _V6_BITS


def is_loopback(address: str) -> bool:
    """Return whether an address is this machine's own loopback, mapped into IPv6 or not."""
    canonical = canonical_address(address)
    return bool(canonical) and ipaddress.ip_address(canonical).is_loopback
