"""Write nftables rules: for the broker's host, and for a router in front of devices."""

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from warden_host.bans.networks import Network
from warden_host.errors import HostError
from warden_host.numerals import decimal

PER_MINUTE = 60
_FAMILIES = ((4, "ipv4_addr", "ip"), (6, "ipv6_addr", "ip6"))
_NEW = "tcp flags & (fin | syn | rst | ack) == syn"
_HTTPS, _NTP, _DNS = 443, 123, 53


@dataclass(frozen=True)
class Target:
    """Where devices must get to. what: for people. host: a name or an address."""

    what: str
    host: str
    ports: tuple[int, ...]
    protocol: str = "tcp"


@dataclass(frozen=True)
class HostTerms:
    """What the broker's host lets in.

    ports: the broker's, TCP. networks: from where; () for anywhere. also: other TCP ports, from
    anywhere. per_minute: new connections of one address to the broker; 0 for any number.
    """

    ports: tuple[int, ...]
    networks: tuple[Network, ...] = ()
    also: tuple[int, ...] = (22,)
    per_minute: int = PER_MINUTE


def host_rules(fleet_name: str, terms: HostTerms) -> str:
    """Return the rules of a host that does nothing but serve the fleet.

    Other tables stay: the bans of `warden serve` are in one of their own.
    """
    ports = ", ".join(map(str, terms.ports))
    sets, rules = "", []
    for version, kind, family in _FAMILIES:
        present = [one for one in terms.networks if one.version == version]
        source = ""
        if terms.networks:
            sets += _set(f"networks{version}", kind, present)
            source = f"{family} saddr @networks{version} "
        else:
            source = f"meta nfproto ipv{version} "
        if terms.per_minute:
            sets += _pace(f"new{version}", kind)
            rules.append(
                f"{source}tcp dport {{ {ports} }} {_NEW} add @new{version} {{ {family} saddr "
                f"limit rate over {terms.per_minute}/minute burst {2 * terms.per_minute} packets "
                "} counter drop"
            )
        rules.append(f"{source}tcp dport {{ {ports} }} accept")
    if terms.also:
        rules.insert(0, f"tcp dport {{ {', '.join(map(str, terms.also))} }} accept")
    return f"""\
# Written by `warden firewall host` for the fleet {fleet_name}.
table inet warden
delete table inet warden
table inet warden {{
{sets}    chain input {{
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        ct state invalid drop
        iif "lo" accept
        ip protocol icmp accept
        meta l4proto ipv6-icmp accept
{_lines(rules)}    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
    }}
}}
"""


def device_rules(fleet_name: str, networks: Sequence[Network], targets: Sequence[Target]) -> str:
    """Return the rules of a router in front of devices: what they may reach, and nobody them.

    Raises unreachable for a name that has no address here.
    """
    sets, jumps, rules = "", [], []
    for version, kind, family in _FAMILIES:
        present = [one for one in networks if one.version == version]
        if present:
            sets += _set(f"devices{version}", kind, present)
            jumps += [
                f"{family} saddr @devices{version} jump outward",
                f"{family} daddr @devices{version} ct state established,related accept",
                f"{family} daddr @devices{version} counter drop",
            ]
    for target in targets:
        rules.append(f"# {target.what}: {target.host}")
        ports = ", ".join(map(str, target.ports))
        for address in addresses(target.host):
            family = "ip6" if ":" in address else "ip"
            rules.append(f"{family} daddr {address} {target.protocol} dport {{ {ports} }} accept")
    return f"""\
# Written by `warden firewall devices` for the fleet {fleet_name}: names were resolved then.
table inet warden_devices
delete table inet warden_devices
table inet warden_devices {{
{sets}    chain outward {{
        ct state established,related accept
{_lines(rules)}        limit rate 10/minute log prefix "warden devices: "
        counter drop
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
{_lines(jumps)}    }}
}}
"""


def addresses(host: str) -> list[str]:
    """Return the addresses of a name, or the address itself. Raises unreachable."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        raise HostError(
            "unreachable",
            f"{host} has no address here",
            "write the rules where the name is known, or name the address",
        ) from None
    return sorted(found)


def target(what: str, text: str, port: int, protocol: str = "tcp") -> Target:
    """Return a target of HOST, HOST:PORT or https://HOST[:PORT]/…; raises bad-argument."""
    rest = text.split("://", 1)[-1].split("/", 1)[0]
    host, _, number = rest.partition(":") if rest.count(":") == 1 else (rest.strip("[]"), "", "")
    found = decimal(number, 65535, 1) if number else port
    if found is None:
        raise HostError("bad-argument", f"{text[:80]!r} has no TCP port")
    if not host or not all(char.isascii() and (char.isalnum() or char in ".-:") for char in host):
        raise HostError("bad-argument", f"{text[:80]!r} is no host", "write HOST or HOST:PORT")
    return Target(what, host, (found,), protocol)


def token_server(text: str) -> Target:
    return target("token server", text, _HTTPS)


def update_server(text: str) -> Target:
    return target("update server", text, _HTTPS)


def time_server(text: str) -> Target:
    return target("time server", text, _NTP, "udp")


def name_server(text: str) -> Target:
    return target("name server", text, _DNS, "udp")


def _set(name: str, kind: str, members: Iterable[Network]) -> str:
    elements = ", ".join(map(str, members))
    filled = f"        elements = {{ {elements} }}\n" if elements else ""
    return f"    set {name} {{\n        type {kind}\n        flags interval\n{filled}    }}\n"


def _pace(name: str, kind: str) -> str:
    return (
        f"    set {name} {{\n        type {kind}\n        size 65535\n"
        "        flags dynamic, timeout\n        timeout 2m\n    }\n"
    )


def _lines(rules: Iterable[str]) -> str:
    return "".join(f"        {rule}\n" for rule in rules)
