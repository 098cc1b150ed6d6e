"""Write mosquitto.conf: what holds for all clients, and a listener for each kind of device."""

import contextlib
import os
import pwd
import socket
from pathlib import Path

from warden_host.broker.connection import Listener
from warden_host.broker.mosquitto.dynsec import FILE as REGISTRY
from warden_host.fleet import client_pki
from warden_host.fleet.fleet import BrokerSettings

_MOST = 8192  # connections of devices and applications at once
_MOST_ADMIN = 16
_QUEUED_BYTES = 64 << 20  # of the largest packets, in the queue of one connection
# The user name takes the client ID's place before the plugin compares it with the account's.
_USER_IS_CLIENT = "use_username_as_clientid true\n"
_CIPHERS = ":".join(
    f"ECDHE-ECDSA-{name}"
    for name in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
)


def listening(settings: BrokerSettings) -> list[str]:
    """Return the addresses to listen on: both loopback ones, where devices are told "localhost".

    That name often means both, and a client may try only one.
    """
    pair = {"127.0.0.1": "::1", "::1": "127.0.0.1"}
    other = pair.get(settings.listen)
    if settings.host.lower() != "localhost" or other is None:
        return [settings.listen]
    found = set()
    with contextlib.suppress(OSError):  # no such name here: devices may know it
        found = {entry[4][0] for entry in socket.getaddrinfo(settings.host, None)}
    return [settings.listen, other] if other in found and _is_ours(other) else [settings.listen]


def configuration(
    settings: BrokerSettings,
    addresses: list[str],
    ports: dict[Listener, int],
    largest: int,
    plugin: Path,
) -> str:
    """Return mosquitto.conf. Its paths are relative to the broker folder; no line holds a secret.

    ports: of the listeners for devices. largest: bytes of a whole packet; mosquitto leaves out the
    length's bytes, which are 2 then.
    """
    listeners = [
        _FOR_DEVICES[kind](port, address) for kind, port in ports.items() for address in addresses
    ]
    return f"""\
# Written by warden at every start of the broker: changes here are lost.
# Started by root, mosquitto would change to a user who can't enter the fleet's folder.
user {pwd.getpwuid(os.geteuid()).pw_name}
allow_anonymous false
allow_zero_length_clientid false
plugin {plugin}
plugin_opt_config_file {REGISTRY}

# Nothing is kept: a retained or stored command would outlive the session that it was sealed for.
persistence false
retain_available false
queue_qos0_messages false
persistent_client_expiration 1h

# Nagle's algorithm would hold a reply back for the delayed ACK of the packet before it: 40 ms.
set_tcp_nodelay true

# Limits of one client.
max_packet_size {largest - 2}
max_inflight_messages 20
# Of the authority's connection, which a flood fills until its sender is cut off: what is above
# is lost, of whichever device. Those of an absent client end at the bytes.
max_queued_messages {max(1000, _QUEUED_BYTES // largest)}
max_queued_bytes 1048576
max_keepalive 3600
sys_interval 0

# Into the pipe that warden reads.
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
connection_messages true
log_timestamp_format %Y-%m-%dT%H:%M:%S

# For devices and applications.
{"".join(listeners)}
# For the administrator, on this machine only; the client checks the certificate all the same:
# another program may listen on the port while the broker does not run.
{_tls(settings.admin_port, "127.0.0.1", _MOST_ADMIN)}"""


def _listener(port: int, address: str, most: int) -> str:
    return f"""\
listener {port} {address}
max_connections {most}
# Behind an alias a packet is shorter here than where it is delivered.
max_topic_alias 0
"""


def _with_tls(port: int, address: str, most: int = _MOST) -> str:
    return f"""\
{_listener(port, address, most)}\
certfile ../keys/server.crt
keyfile ../keys/server.key
tls_version tlsv1.2
ciphers {_CIPHERS}
"""


def _bare(port: int, address: str) -> str:
    """Return the lines of a listener without TLS."""
    return _listener(port, address, _MOST) + _USER_IS_CLIENT


def _tls(port: int, address: str, most: int = _MOST) -> str:
    """Return the lines of a listener with TLS; most: connections at once."""
    return _with_tls(port, address, most) + _USER_IS_CLIENT


def _certificate(port: int, address: str) -> str:
    """Return the lines of a listener for clients with a certificate.

    The certificate's name is user name and client ID, whatever CONNECT says. The plugin is asked
    for rights alone, not at the log-in: an account that is gone has none.
    """
    return f"""\
{_with_certificate(port, address)}\
use_identity_as_username true
{_USER_IS_CLIENT}"""


def _with_certificate(port: int, address: str) -> str:
    """Return the lines of a listener that demands a certificate, and asks the plugin as well.

    The client ID stays that of CONNECT: an account that needs both is bound to one that all other
    listeners replace. mosquitto does not compare the certificate's name with the user name.
    """
    return f"""\
{_with_tls(port, address)}\
cafile ../keys/{client_pki.ROOT}.crt
crlfile {client_pki.CRL}
require_certificate true
"""


_FOR_DEVICES = {
    Listener.TLS: _tls,
    Listener.CERTIFICATE: _certificate,
    Listener.BOTH: _with_certificate,
    Listener.BARE: _bare,
}


def _is_ours(address: str) -> bool:
    """Return whether this machine has the address: IPv6 may be switched off."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return True
    return False
