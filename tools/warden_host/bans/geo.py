"""Find the networks of countries, in an MMDB file that the owner gives."""

from pathlib import Path
from typing import Any

from warden_host.bans.networks import Network, parse_network
from warden_host.errors import HostError

MOST_NETWORKS = 300_000


def networks_of(path: Path | None, countries: frozenset[str]) -> list[Network]:
    """Return the networks of these countries. countries: two letters each.

    Raises geo-missing without a file or a reader for it, geo-damaged.
    """
    if path is None or not path.is_file():
        where = "[bans] countries names no file" if path is None else f"there is no file {path}"
        raise HostError("geo-missing", f"{where} that knows addresses' countries")
    try:
        import maxminddb  # an optional package, and no other command needs it
    except ImportError:
        raise HostError(
            "geo-missing",
            "the package that reads MMDB files is not installed",
            "pip install 'warden[geo]'",
        ) from None
    found: list[Network] = []
    seen: set[str] = set()
    try:
        with maxminddb.open_database(path) as reader:
            for network, record in reader:
                country = _country(record)
                if country in countries:
                    seen.add(country)
                    found.append(parse_network(str(network)))
                    if len(found) > MOST_NETWORKS:
                        raise HostError(
                            "geo-damaged",
                            f"these countries have more than {MOST_NETWORKS} networks",
                            "list fewer countries, or use the other list",
                        )
    except (maxminddb.InvalidDatabaseError, OSError, ValueError) as error:
        raise HostError("geo-damaged", f"{path}: {type(error).__name__}") from None
    missing = sorted(countries - seen)
    if missing:
        raise HostError(
            "geo-damaged",
            f"{path.name} has no network of {', '.join(missing)}",
            "look at the country's two letters, and at the file",
        )
    return found


def _country(record: Any) -> str:
    """Return a record's country, in the layouts of MaxMind, DB-IP and IPinfo."""
    if not isinstance(record, dict):
        return ""
    country = record.get("country_code", record.get("country"))
    if isinstance(country, dict):
        country = country.get("iso_code")
    return country if isinstance(country, str) else ""
