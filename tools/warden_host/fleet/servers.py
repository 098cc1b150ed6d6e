"""The brokers that devices connect to: one, or several in order or by weight.

Written `HOST[:PORT][=WEIGHT]`, by an option or as `servers` in warden.toml's table [broker].
"""

import ipaddress
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509

from warden_host.errors import HostError
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet, is_host, malformed

MAX_SERVERS = 8
_MAX_WEIGHT = 100
_SERVER = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:=\[\]]+))"
    r"(?::(?P<port>\d{1,5}))?(?:=(?P<weight>\d{1,3}))?\Z",
    re.ASCII,
)


@dataclass(frozen=True)
class Server:
    """port: 0 for the one of the fleet's listener. weight: 0 to be taken in the list's order."""

    host: str
    port: int = 0
    weight: int = 0

    way: str = ""  # to log in there, of a device that has a choice

    def record(self) -> list[object]:
        """Return [host, port, weight], and the way behind it, as a bundle holds it."""
        return [self.host, self.port, self.weight, *([self.way] if self.way else [])]


def parse(texts: Iterable[str]) -> tuple[Server, ...]:
    """Return servers from their written form. Raises bad-argument."""
    found = tuple(_parse(text.strip()) for text in texts)
    if len(found) > MAX_SERVERS:
        raise HostError("bad-argument", f"a device keeps {MAX_SERVERS} brokers at most")
    return found


def _parse(text: str) -> Server:
    match = _SERVER.match(text)
    host = "" if match is None else match["v6"] or match["host"]
    if match is None or not is_host(host) or (match["v6"] and not _is_v6(host)):
        raise HostError(
            "bad-argument",
            f"{text!r} is no server",
            "write HOST, HOST:PORT or HOST:PORT=WEIGHT; an address of IPv6 in brackets",
        )
    port, weight = int(match["port"] or 0), int(match["weight"] or 0)
    if match["port"] is not None and not 1 <= port <= 65535:
        raise HostError("bad-argument", f"{port} is no TCP port")
    if weight > _MAX_WEIGHT:
        raise HostError("bad-argument", f"a weight is 0 to {_MAX_WEIGHT}, not {weight}")
    return Server(host, port, weight)


def _is_v6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def chosen(
    fleet: Fleet, given: tuple[Server, ...], port: int, others: Collection[int] = ()
) -> tuple[Server, ...]:
    """Return a device's brokers: those given, else those of warden.toml, else the fleet's own.

    port: of the listener that the device uses, where a server names none. others: ports where a
    device without TLS would send its log-in for nothing.
    Raises bad-argument, where the broker's certificate is not for a host; config-malformed.
    """
    listed = given or _of_settings(fleet) or (Server(fleet.settings.broker.host),)
    found = tuple(Server(each.host, each.port or port, each.weight) for each in listed)
    if len({(each.host, each.port) for each in found}) != len(found):
        raise HostError("bad-argument", "a broker is named twice")
    for each in found:
        if each.port != port and each.port in others:
            raise HostError(
                "bad-argument",
                f"port {each.port} is of another listener than this device's, {port}: it could "
                "not log in there",
                "leave the port out",
            )
    if (given or len(found) > 1) and not others:  # without TLS it may be a gateway
        _check_certificate(fleet, found)
    return found


def for_ways(
    fleet: Fleet, given: tuple[Server, ...], ways: Sequence[tuple[str, int]]
) -> tuple[Server, ...]:
    """Return the brokers of a device that has a choice: each of them once for each way.

    ways: (way, port of its listener), the preferred one first. Raises as chosen(); bad-argument
    for a port or a weight: a broker has one port for each way, and they are tried in order.
    """
    listed = chosen(fleet, given, ways[0][1])
    if any(each.weight or each.port != ways[0][1] for each in listed):
        raise HostError(
            "bad-argument",
            "a device with a choice of log-ins takes brokers in order, at the fleet's ports",
            "leave ports and weights out",
        )
    found = tuple(Server(each.host, port, 0, way) for each in listed for way, port in ways)
    if len(found) > MAX_SERVERS:
        most = MAX_SERVERS // len(ways)
        raise HostError("bad-argument", f"a device with a choice keeps {most} brokers at most")
    return found


def hosts(fleet: Fleet, given: tuple[Server, ...]) -> list[str]:
    """Return the hosts of chosen(). Raises config-malformed."""
    return [server.host for server in given or _of_settings(fleet)] or [fleet.settings.broker.host]


def _of_settings(fleet: Fleet) -> tuple[Server, ...]:
    listed = fleet.document["broker"].get("servers", [])
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise malformed("broker.servers is no list of strings")
    try:
        return parse(listed)
    except HostError as error:
        raise malformed(f"broker.servers: {error.text}") from None


def _check_certificate(fleet: Fleet, servers: tuple[Server, ...]) -> None:
    """Raise bad-argument for a host that the broker's certificate is not for."""
    for server in servers:
        check_name(fleet, server.host, "devices")


def check_name(fleet: Fleet, host: str, who: str) -> None:
    """Raise bad-argument for a host that the broker's certificate is not for.

    who: would refuse it.
    """
    made = pki.load_certificate(fleet.keys / "server.crt")
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known = {str(name).lower() for name in names.get_values_for_type(x509.DNSName)}
    known |= {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    try:
        found = str(ipaddress.ip_address(host))
    except ValueError:
        found = host.lower()
    if found not in known:
        raise HostError(
            "bad-argument",
            f"the broker's certificate is not for {host}: {who} would refuse it",
            "name it in `names` of warden.toml, and renew the broker's certificate",
        )
