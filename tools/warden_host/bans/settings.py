"""Read the table [bans] of warden.toml: when an address is banned, and which never is."""

from dataclasses import dataclass
from pathlib import Path

from warden_host.bans.networks import Network, contains, parse_network
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet, check_keys, malformed

TABLE = "bans"
_NUMBERS = {  # key → (default, least, most)
    "attempts": (3, 1, 1000),
    "window_hours": (24, 1, 24 * 30),
    "known_days": (7, 0, 365),
    "slow_hours": (1, 1, 24 * 30),
    "slow_per_minute": (12, 1, 10_000),
}
_MOST_EXEMPT = 100


@dataclass(frozen=True)
class BanSettings:
    """The content of [bans].

    enabled: false where refused log-ins are noted, and no address is banned for them.
    attempts: refused log-ins within window_hours that ban an address.
    known_days: an address from where a client logged in since is slowed and not banned.
    slow_hours: how long. slow_per_minute: new connections that it has then.
    exempt: networks that are never banned for refused log-ins.
    countries: the MMDB file that knows addresses' countries, or None.
    """

    enabled: bool = True
    attempts: int = _NUMBERS["attempts"][0]
    window_hours: int = _NUMBERS["window_hours"][0]
    known_days: int = _NUMBERS["known_days"][0]
    slow_hours: int = _NUMBERS["slow_hours"][0]
    slow_per_minute: int = _NUMBERS["slow_per_minute"][0]
    exempt: tuple[Network, ...] = ()
    countries: Path | None = None

    def exempts(self, address: str) -> bool:
        """Return whether the address is in an exempt network."""
        return any(contains(network, address) for network in self.exempt)

    def exempts_part(self, network: Network) -> bool:
        """Return whether an exempt network overlaps this one."""
        return any(network.version == one.version and network.overlaps(one) for one in self.exempt)


def load(fleet: Fleet) -> BanSettings:
    """Return what warden.toml says of bans. Raises config-malformed."""
    keys = ("enabled", "exempt", "countries", *_NUMBERS)
    table = check_keys(fleet.document.get(TABLE, {}), keys, TABLE)
    enabled, exempt = table.get("enabled", True), table.get("exempt", [])
    if type(enabled) is not bool:
        raise malformed(f"[{TABLE}]: enabled is neither true nor false")
    if not isinstance(exempt, list) or len(exempt) > _MOST_EXEMPT:
        raise malformed(f"[{TABLE}]: exempt is no list of at most {_MOST_EXEMPT} networks")
    countries = table.get("countries")
    if countries is not None and not isinstance(countries, str):
        raise malformed(f"[{TABLE}]: countries is no file's name")
    numbers = {}
    for key, (default, least, most) in _NUMBERS.items():
        value = table.get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise malformed(f"[{TABLE}]: {key} is no number between {least} and {most}")
        numbers[key] = value
    return BanSettings(
        enabled=enabled,
        exempt=tuple(_network(one) for one in exempt),
        countries=None if countries is None else fleet.root / countries,
        **numbers,
    )


def _network(text: object) -> Network:
    try:
        return parse_network(text if isinstance(text, str) else "")
    except HostError as error:
        raise malformed(f"[{TABLE}]: exempt: {error.text}") from None
