"""Connect to a broker as a stranger would. Each call is one connection of a few seconds at most.

The client ID begins as those of a host that looks for its own broker, so that no probe counts as a
refused log-in.
"""

import secrets
import socket
import ssl
import warnings
from dataclasses import dataclass

from cryptography import x509

from warden_host.fleet import tls
from warden_host.fleet.fleet import Fleet
from warden_host.names import PROBE

CONNECT_S = 4.0
_ACCEPTED = 0  # the return code of a CONNACK
_CONNACK = 4  # bytes


@dataclass(frozen=True)
class Answer:
    """What is at an address.

    open: whether something accepts connections. certificate: that it showed, if the fleet trusts
    it. why: why there is none. anonymous: whether it let a client in without a log-in.
    """

    open: bool
    certificate: x509.Certificate | None = None
    why: str = ""
    anonymous: bool = False


def look(fleet: Fleet, host: str, port: int, name: str) -> Answer:
    """Shake hands as a device, and try a log-in without an account. name: to check."""
    try:
        raw = socket.create_connection((host, port), CONNECT_S)
    except OSError as error:
        return Answer(False, why=error.strerror or type(error).__name__)
    with raw:
        try:
            with tls.context(fleet).wrap_socket(raw, server_hostname=name) as link:
                shown = link.getpeercert(binary_form=True) or b""
                return Answer(True, x509.load_der_x509_certificate(shown), "", _lets_in(link))
        except ssl.SSLCertVerificationError as error:
            return Answer(True, why=error.verify_message)
        except (OSError, ValueError) as error:
            return Answer(True, why=getattr(error, "reason", "") or type(error).__name__)


def takes_old_tls(host: str, port: int) -> bool:
    """Return whether a server completes a hand-shake of TLS 1.0 or 1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whose it is is another check's business
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        with (
            socket.create_connection((host, port), CONNECT_S) as raw,
            context.wrap_socket(raw),
        ):
            return True
    except OSError:
        return False


def speaks_plain_mqtt(host: str, port: int) -> bool:
    """Return whether a broker answers there without TLS."""
    try:
        with socket.create_connection((host, port), CONNECT_S) as raw:
            raw.settimeout(CONNECT_S)
            raw.sendall(_connect())
            return raw.recv(_CONNACK)[:1] == b"\x20"
    except OSError:
        return False


def _lets_in(link: ssl.SSLSocket) -> bool:
    try:
        link.sendall(_connect())
        answer = link.recv(_CONNACK)
    except OSError:
        return False
    return len(answer) == _CONNACK and answer[0] == 0x20 and answer[3] == _ACCEPTED


def _connect() -> bytes:
    """Return an MQTT 3.1.1 CONNECT without user name and password."""
    name = (PROBE + secrets.token_hex(8)).encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(name).to_bytes(2, "big") + name
    return bytes([0x10, len(body)]) + body
