"""Tell which relying party (WebAuthn) the console at an address is."""

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True)
class RelyingParty:
    """id: the domain that passkeys are for. origin: of the console's pages."""

    id: str
    origin: str


def relying_party(host: str, port: int, tls: bool) -> RelyingParty | None:
    """Return the party that a console at an address is, or None where it can be none.

    An address is no domain (WebAuthn, section 5.1.3). On loopback it is `localhost`.
    """
    if not tls:
        return RelyingParty("localhost", _origin("http", "localhost", port, 80))
    try:
        ipaddress.ip_address(host)
    except ValueError:
        name = host.lower()
        return RelyingParty(name, _origin("https", name, port, 443))
    return None


def _origin(scheme: str, name: str, port: int, default: int) -> str:
    return f"{scheme}://{name}" + ("" if port == default else f":{port}")
