"""TLS settings of the host's own MQTT clients: they trust the fleet's CA alone."""

import ssl

from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet


def context(fleet: Fleet) -> ssl.SSLContext:
    """Return a client context that checks certificate, name and dates; raises key-damaged."""
    try:
        made = ssl.create_default_context(cafile=str(fleet.keys / "ca.crt"))
    except (OSError, ssl.SSLError):
        raise HostError("key-damaged", "ca.crt can't be read", "restore it") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made
