"""Write a client's address in one form, wherever it becomes a key or is shown.

A socket that listens on `::` shows 203.0.113.7 as ::ffff:203.0.113.7, in one /64 with every other
IPv4 address: counted as IPv6 addresses are, one guesser would lock all of them out.
"""

import ipaddress

# A household or a host has a whole /64 of IPv6: a ban of one address of it would stop nobody.
_V6_BITS = 64
# Behind a translator of a data centre's or a carrier's, these are all IPv4 addresses (RFC 6052,
# and RFC 8215 for a translator's own prefix).
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48")
# Whoever has one IPv4 address has a /48 of these, which are 65,536 networks of 64 bits (RFC 3056).
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
    """Return what counts as one client, as CIDR: an IPv4 address, or the /64 of an IPv6 one.

    Of a translated IPv4 address itself; of a 6to4 one the /48. neighbours_apart: a link-local one
    stands for itself, as all neighbours share fe80::/64. Of a text that is no address: the text.
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
