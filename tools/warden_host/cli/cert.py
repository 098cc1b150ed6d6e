"""`warden cert`: certificates of the server and of devices, and the keys that issue them."""

import time
from typing import Any

import click
from warden_client import secretfile

from warden_host import control_client, names
from warden_host.broker import connection
from warden_host.broker.connection import Listener
from warden_host.cli import ca_passphrase, common, screen
from warden_host.cli.common import (
    State,
    certificate_reload,
    json_option,
    pass_state,
    timeout_option,
)
from warden_host.cli.orders import ask_by_socket
from warden_host.devices import certificates, renewal, revocation, server_renewal
from warden_host.errors import HostError
from warden_host.fleet import client_pki, pki
from warden_host.fleet.fleet import Fleet
from warden_host.fleet.pki import CertificateAuthority
from warden_host.store.store import Store


@click.group()
def cert() -> None:
    """Issue, list, renew and revoke the fleet's certificates.

    \b
    Examples:
      warden cert init
      warden cert list
      warden cert renew front-door
      warden cert renew-server
    """


@cert.command("init", short_help="Make the keys that issue devices' certificates.")
@ca_passphrase.option
@click.option(
    "--no-passphrase", is_flag=True, help="Leave the root's key in clear, for a test fleet."
)
@json_option
@pass_state
def init(state: State, passphrase_file: str | None, no_passphrase: bool, as_json: bool) -> None:
    """Make the root and the CA that issue devices' certificates; the root's key has a passphrase.

    Which devices log in by a certificate is said in warden.toml: docs/certificates.md.

    \b
    Examples:
      warden cert init
      warden cert init --no-passphrase
    """
    fleet = state.fleet()
    made = not client_pki.exists(fleet)
    if made:
        client_pki.create(fleet, None if no_passphrase else ca_passphrase.new(passphrase_file))
    if as_json:
        screen.print_json({"ok": True, "made": made})
        return
    if not made:
        screen.good("this fleet issues certificates already; nothing was changed")
        return
    screen.good(
        "this fleet can issue certificates to devices",
        f"move keys/{client_pki.ROOT}.key to a safe place: only another CA would need it",
        'next: auth = "certificate" below [connection] in warden.toml, then start `warden serve`',
    )


@cert.command("protect", short_help="Put the CA's keys under a passphrase.")
@click.option(
    "--issuer",
    is_flag=True,
    help="The key of the devices' CA too: then provisioning, renewing, revoking and `warden "
    "serve` need the passphrase.",
)
@ca_passphrase.option
@json_option
@pass_state
def protect(state: State, issuer: bool, passphrase_file: str | None, as_json: bool) -> None:
    """Put the private keys of the fleet's CAs under a passphrase; keys that have one keep it.

    \b
    Examples:
      warden cert protect
      warden cert protect --issuer --passphrase-file ca.txt
    """
    fleet = state.fleet()
    wanted = ["ca", client_pki.ROOT, *([client_pki.ISSUER] if issuer else [])]
    paths = [fleet.keys / f"{name}.key" for name in wanted]
    open_ones = [path for path in paths if path.exists() and not pki.is_sealed(path)]
    if open_ones:
        passphrase = ca_passphrase.new(passphrase_file)
        for path in open_ones:
            secretfile.write(path, pki.ca_key_pem(pki.load_key(path), passphrase))
    done = [path.name for path in open_ones]
    if as_json:
        screen.print_json({"ok": True, "protected": done})
    else:
        screen.good(
            "under the passphrase: " + ", ".join(done) if done else "nothing was left open"
        )


@cert.command("list")
@click.argument("device", required=False)
@json_option
@pass_state
def list_(state: State, device: str | None, as_json: bool) -> None:
    """List the certificates of the fleet, or of one device: names, serial numbers, ends.

    \b
    Examples:
      warden cert list
      warden cert list front-door --json
    """
    fleet = state.fleet()
    with Store(fleet.database) as store:
        if device is not None:
            store.device(device)
        rows = _rows(fleet, store, device)
    if as_json:
        for row in rows:
            screen.print_json(row)
        return
    columns = ["name", "kind", "key", "serial", "ends", "days", "state"]
    if screen.out.width < 108:  # too narrow for what only names the certificate
        columns.remove("kind")
        columns.remove("serial")
    table = screen.table("Certificates", *columns, folds=("name", "key"))
    for row in rows:
        soon = row["state"] in ("valid", "unproven") and row["days"] < 30
        days = str(row["days"])
        cells = row | {
            "serial": row["serial"][:16],
            "ends": time.strftime("%Y-%m-%d", time.gmtime(row["ends"])),
            "days": f"[bold red]{days}[/]" if soon else days,
        }
        table.add_row(*(cells[column] for column in columns))
    screen.out.print(table)


def _rows(fleet: Fleet, store: Store, device: str | None) -> list[dict[str, Any]]:
    now = time.time()
    found = []

    def add(name: str, kind: str, key: str, serial: str, ends: float, state: str) -> None:
        expired = state in ("valid", "unproven") and ends < now
        found.append(
            {
                "name": name,
                "kind": kind,
                "key": key,
                "serial": serial,
                "ends": ends,
                "days": int((ends - now) // 86400),
                "state": "expired" if expired else state,
            }
        )

    if device is None:
        authorities = ["ca", client_pki.ROOT, client_pki.ISSUER]
        for kind, names_ in (("server", ["server"]), ("ca", authorities)):
            for name in names_:
                path = fleet.keys / f"{name}.crt"
                if path.exists():
                    one = pki.load_certificate(path)
                    ends = one.not_valid_after_utc.timestamp()
                    add(name, kind, "host", f"{one.serial_number:x}", ends, "valid")
    for row in store.certificates(device):
        state = "revoked" if row.revoked is not None else "valid"
        if state == "valid" and row.serial == _on_trial(store, row.device):
            state = "unproven"
        kind = "device" if row.device else "type"
        add(row.name, kind, f"{row.kind} ({row.made_on})", row.serial, row.expires, state)
    return found


def _on_trial(store: Store, device: str) -> str:
    """Return the serial number of the certificate that a renewal has not proven yet, or ""."""
    pending = store.rotation(device)
    if pending is None or "certificate" not in pending.body:
        return ""
    return certificates.serial_of(pending.body["certificate"][0])


@cert.command("renew", short_help="Give a device a new certificate, over the link.")
@click.argument("device")
@click.option(
    "--days", default=client_pki.DEFAULT_DAYS, show_default=True, help="How long it is valid."
)
@click.option(
    "--key-on-host",
    is_flag=True,
    help="Make the key here and send it sealed. Default: on the device; an RSA key always here.",
)
@timeout_option(120.0)
@ca_passphrase.option
@json_option
@pass_state
def renew(
    state: State,
    device: str,
    days: int,
    key_on_host: bool,
    timeout: float,
    passphrase_file: str | None,
    as_json: bool,
) -> None:
    """Give a device a new certificate; the old one is revoked once the new one is proven.

    An interrupted renewal continues.

    \b
    Examples:
      warden cert renew front-door
      warden cert renew front-door --days 90
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")

    report = common.stage_printer(device, as_json)

    with Store(fleet.database) as store:
        renewal.check(store.device(device))
        ca = _issuer(fleet, passphrase_file)
        renewal.renew(
            fleet,
            store,
            ca,
            device,
            ask_by_socket(fleet, device),
            lambda: control_client.call(
                fleet.control, {"op": "certificate_key", "device": device, "timeout": 20}, 60
            ),
            report,
            timeout,
            days=days,
            on_host=key_on_host,
        )
        certificates.update_crl(fleet, store, ca, certificate_reload(fleet))
    if as_json:
        screen.print_json({"ok": True, "device": device})
    else:
        screen.good("the former certificate is revoked")


@cert.command("revoke", short_help="Put a device's certificates on the revocation list.")
@click.argument("device")
@click.option("--yes", is_flag=True, help="Don't ask.")
@ca_passphrase.option
@json_option
@pass_state
def revoke(
    state: State, device: str, yes: bool, passphrase_file: str | None, as_json: bool
) -> None:
    """Revoke all certificates of a device, and drop its connection.

    `warden revoke DEVICE` does this too, and takes the device's account and rights as well.

    \b
    Example:
      warden cert revoke front-door
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    with Store(fleet.database) as store:
        terms = connection.of_record(store.device(device).policy)
        count = len(store.valid_certificates(device))
        if not count:
            raise HostError("not-applicable", f"{device} has no valid certificate")
        after = "must be provisioned again"
        if terms.has_choice:
            after = f"has its {terms.way(Listener.TLS)} left until `warden cert renew {device}`"
        screen.confirm(
            f"{device} can't log in by its certificate any more, and {after}. Revoke it?",
            yes,
            as_json,
        )
        ca = _issuer(fleet, passphrase_file)
        with store.transaction():
            store.revoke_certificates(device, time.time())
        certificates.update_crl(fleet, store, ca, certificate_reload(fleet))
        revocation.drop_connection(fleet, store, device)  # it outlives the list
    if as_json:
        screen.print_json({"ok": True, "device": device, "revoked": count})
    else:
        screen.good(f"{count} certificate{'s' if count > 1 else ''} of {device} revoked")


@cert.command("crl", short_help="Write the revocation list anew.")
@ca_passphrase.option
@json_option
@pass_state
def crl(state: State, passphrase_file: str | None, as_json: bool) -> None:
    """Write the revocation list anew, let the broker read it, and check that it did.

    `warden serve` does this in time by itself, unless the key of the devices' CA has a passphrase
    that it was not given.

    \b
    Example:
      warden cert crl
    """
    fleet = state.fleet()
    ca = _issuer(fleet, passphrase_file)
    with Store(fleet.database) as store:
        certificates.update_crl(fleet, store, ca, certificate_reload(fleet))
    end = client_pki.crl_ends(fleet)
    if as_json:
        screen.print_json({"ok": True, "ends": end.timestamp()})
    else:
        screen.good(f"revocation list written; it ends on {end:%Y-%m-%d}")


@cert.command("renew-server", short_help="Renew the server's certificate.")
@click.option(
    "--new-key",
    is_flag=True,
    help="Take the backup key, which devices pin already, and draw a new backup key.",
)
@click.option("--drop", multiple=True, metavar="NAME", help="A name that it no longer has.")
@ca_passphrase.option
@json_option
@pass_state
def renew_server(
    state: State,
    new_key: bool,
    drop: tuple[str, ...],
    passphrase_file: str | None,
    as_json: bool,
) -> None:
    """Issue a new certificate for the server, for its present names and those of warden.toml.

    A running broker uses it at once; connections stay open.

    \b
    Examples:
      warden cert renew-server
      warden cert renew-server --new-key
    """
    fleet = state.fleet()
    passphrase = ca_passphrase.for_key(fleet.keys / "ca.key", passphrase_file)
    ca = pki.load_ca(fleet.keys, passphrase=passphrase)
    with Store(fleet.database) as store:
        reload = certificate_reload(fleet)
        hosts = server_renewal.renew(fleet, store, ca, reload, new_key=new_key, drop=drop)
        behind = server_renewal.unpinned(fleet, store)
    if as_json:
        result = {"names": hosts, "served": reload is not None, "without_backup_pin": behind}
        screen.print_json({"ok": True} | result)
        return
    notes = [f"for {', '.join(hosts)}"]
    if new_key and behind:
        notes.append(
            f"{len(behind)} devices pin the live key and the former one: give each the new backup "
            "pin with `warden rotate DEVICE --pins`"
        )
    screen.good("the server has a new certificate", *notes)


def _issuer(fleet: Fleet, passphrase_file: str | None) -> CertificateAuthority:
    client_pki.check_exists(fleet)
    path = fleet.keys / f"{client_pki.ISSUER}.key"
    return client_pki.load_issuer(fleet, ca_passphrase.for_key(path, passphrase_file))
