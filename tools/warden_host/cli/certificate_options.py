"""Options of `warden provision` for the certificate of a device."""

from collections.abc import Callable
from typing import Any

import click

from warden_host.cli import ca_passphrase
from warden_host.devices.first_certificate import CertificateOrder
from warden_host.fleet import client_pki
from warden_host.fleet.fleet import Fleet


def certificate_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a device that logs in by a certificate."""
    command = ca_passphrase.option(command)
    command = click.option(
        "--certificate-days",
        type=click.IntRange(client_pki.MIN_DAYS, client_pki.MAX_DAYS),
        default=client_pki.DEFAULT_DAYS,
        show_default=True,
        help="How long the certificate of such a device is valid, days.",
    )(command)
    return click.option(
        "--certificate-key",
        type=click.Choice(client_pki.KINDS),
        default="ec",
        show_default=True,
        help="The kind of key of a device that logs in by a certificate: P-256, or RSA of 2,048 bits.",
    )(command)


def order(fleet: Fleet, options: dict[str, Any]) -> CertificateOrder:
    """Return what the options say, and remove them; asks for the passphrase where there is one."""
    kind, days = options.pop("certificate_key"), options.pop("certificate_days")
    file = options.pop("passphrase_file")
    path = fleet.keys / f"{client_pki.ISSUER}.key"
    passphrase = ca_passphrase.for_key(path, file) if path.exists() else None
    return CertificateOrder(kind, days, passphrase)
