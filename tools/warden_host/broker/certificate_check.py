"""Shake hands with the broker's listener for certificates, as a device would.

A broker that could not read its revocation list goes on without a word, or refuses everybody: only
a hand-shake tells.
"""

import contextlib
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from warden_host.broker import connection
from warden_host.broker.connection import Listener
from warden_host.errors import HostError
from warden_host.fleet import client_pki, tls
from warden_host.fleet.fleet import Fleet

_CONNECT_S = 5.0
_APPLIED_S = 15.0
_PAUSE_S = 0.05


def is_accepted(
    fleet: Fleet,
    certificate: x509.Certificate,
    key: client_pki.PrivateKey,
    listener: Listener = Listener.CERTIFICATE,
) -> bool:
    """Return whether the broker completes a hand-shake with this client certificate.

    Raises unreachable where nothing answers there as this fleet's broker.
    """
    context = tls.context(fleet)
    # In TLS 1.3 the hand-shake ends before the server has looked at the client's certificate.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    _load(context, fleet, certificate, key)
    settings = fleet.settings.broker
    try:
        port = connection.load(fleet).port(listener, settings.port)
        raw = socket.create_connection((settings.contact, port), _CONNECT_S)
    except OSError as error:
        raise _unreachable(error.strerror or type(error).__name__) from None
    with raw:
        try:
            with context.wrap_socket(raw, server_hostname=settings.contact):
                return True
        except ssl.SSLCertVerificationError as error:
            raise _unreachable(error.verify_message) from None
        except TimeoutError:
            raise _unreachable("no answer") from None
        except OSError:  # an alert, or the connection's end behind it
            return False


def wait_applied(good: Callable[[], bool], revoked: Callable[[], bool]) -> None:
    """Wait until the broker takes a good certificate and refuses a revoked one.

    good, revoked: whether the broker accepts it now. Raises crl-damaged.
    """
    end = time.monotonic() + _APPLIED_S
    while True:
        refused = not revoked()
        if refused and good():
            return
        if time.monotonic() > end:
            raise HostError(
                "crl-damaged",
                "the broker refuses every certificate"
                if refused
                else "the broker did not read the new revocation list",
                "see the log in the fleet's folder broker/, and start `warden serve` again",
            )
        time.sleep(_PAUSE_S)


def _load(
    context: ssl.SSLContext,
    fleet: Fleet,
    certificate: x509.Certificate,
    key: client_pki.PrivateKey,
) -> None:
    issuer = client_pki.issuer_certificate(fleet)
    pem = serialization.Encoding.PEM
    handle, path = tempfile.mkstemp(dir=fleet.broker)  # mode 600; ssl reads files alone
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(certificate.public_bytes(pem) + issuer.public_bytes(pem))
            file.write(
                key.private_bytes(
                    pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        context.load_cert_chain(path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _unreachable(why: str) -> HostError:
    return HostError(
        "unreachable",
        f"the broker's listener for certificates does not answer ({why})",
        "a `warden serve` that was started before this fleet had certificates must start again",
    )
