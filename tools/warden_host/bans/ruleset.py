"""Write the nftables rules that keep addresses from the broker's ports."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from warden_host.bans.networks import Network, collapse, parse_network
from warden_host.store.bans import ALLOW

_FAMILIES = ((4, "ipv4_addr", "ip"), (6, "ipv6_addr", "ip6"))
_NEW = "tcp flags & (fin | syn | rst | ack) == syn"  # needs no tracking of connections


@dataclass(frozen=True)
class Wanted:
    """What the rules shall do.

    ports: the broker's, TCP. banned: networks. slowed: new connections a minute → networks that
    have so many. listed: networks of the active list. active: ALLOW, BLOCK or "".
    """

    ports: tuple[int, ...]
    banned: tuple[Network, ...] = ()
    slowed: Mapping[int, tuple[Network, ...]] = field(default_factory=dict)
    listed: tuple[Network, ...] = ()
    active: str = ""

    @property
    def empty(self) -> bool:
        """Return whether no rule is needed."""
        return not (self.banned or self.slowed or self.active)


def table_name(port: int) -> str:
    """Return the table of the fleet whose broker has this port: no other fleet here has it."""
    return f"warden_bans_{port}"


def whole(name: str, wanted: Wanted) -> str:
    """Return a script that replaces the table in one transaction."""
    head = f"table inet {name}\ndelete table inet {name}\n"
    return head if wanted.empty else head + _table(name, wanted)


def additions(name: str, banned: Sequence[Network]) -> str:
    """Return a script that bans networks which overlap none that are in the table."""
    lines = []
    for version, _, _ in _FAMILIES:
        elements = ", ".join(str(one) for one in banned if one.version == version)
        if elements:
            lines.append(f"add element inet {name} banned{version} {{ {elements} }}\n")
    return "".join(lines)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the fewest networks that hold those of fleet.db; raises bad-argument."""
    return tuple(collapse(parse_network(text) for text in texts))


def _table(name: str, wanted: Wanted) -> str:
    groups = [("banned", wanted.banned), ("listed", wanted.listed)]
    groups += [(f"slowed{rate}_", present) for rate, present in wanted.slowed.items()]
    sets = "".join(
        _set(f"{prefix}{version}", kind, [one for one in present if one.version == version])
        for prefix, present in groups
        for version, kind, _ in _FAMILIES
    )
    paces = "".join(
        f"    set pace{rate}_{version} {{\n        type {kind}\n        size 65535\n"
        "        flags dynamic, timeout\n        timeout 2m\n    }\n"
        for rate in wanted.slowed
        for version, kind, _ in _FAMILIES
    )
    ports = ", ".join(map(str, wanted.ports))
    # What this machine sends itself: a banned network may hold its own address.
    rules = ['iif "lo" accept']
    rules += [f"{family} saddr @banned{v} counter drop" for v, _, family in _FAMILIES]
    rules += [
        f"{_NEW} {family} saddr @slowed{rate}_{v} add @pace{rate}_{v} {{ {family} saddr limit "
        f"rate over {rate}/minute burst {max(1, rate // 2)} packets }} counter drop"
        for rate in wanted.slowed
        for v, _, family in _FAMILIES
    ]
    if wanted.active:
        differs = "!= " if wanted.active == ALLOW else ""
        rules += [f"{family} saddr {differs}@listed{v} counter drop" for v, _, family in _FAMILIES]
    judged = "".join(f"        {rule}\n" for rule in rules)
    return (
        f"table inet {name} {{\n{sets}{paces}"
        f"    chain judged {{\n{judged}    }}\n"
        "    chain input {\n"
        "        type filter hook input priority filter - 10; policy accept;\n"
        f"        tcp dport {{ {ports} }} jump judged\n"
        "    }\n}\n"
    )


def _set(name: str, kind: str, members: Sequence[Network]) -> str:
    elements = ", ".join(map(str, members))
    filled = f"        elements = {{ {elements} }}\n" if members else ""
    return f"    set {name} {{\n        type {kind}\n        flags interval\n{filled}    }}\n"
