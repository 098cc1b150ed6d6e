"""Bring the broker's accounts and the server's certificate to what fleet.db orders, at a start."""

from warden_host.devices import (
    app_changes,
    app_tokens,
    gateways,
    quarantine,
    revocation,
    server_renewal,
)
from warden_host.fleet.fleet import Fleet


def enforce(fleet: Fleet) -> None:
    """Complete what a stop interrupted; call it before the broker takes its first connection."""
    revocation.enforce_endings(fleet)
    quarantine.enforce(fleet)
    gateways.enforce(fleet)
    app_tokens.enforce(fleet)
    app_changes.enforce(fleet)
    server_renewal.finish(fleet)
    server_renewal.check_names(fleet)
