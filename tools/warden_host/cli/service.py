"""`warden service`: let systemd serve the fleet."""

import os
from pathlib import Path

import click
from warden_client import secretfile

from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.errors import HostError
from warden_host.service import systemd_unit

_user = click.option(
    "--user", default="", metavar="NAME", help="Who serves. Default: the owner of the fleet."
)
_passphrase = click.option(
    "--passphrase-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="For `warden serve`: the passphrase of the devices' CA, from a file.",
)
_firewall = click.option(
    "--firewall",
    is_flag=True,
    help="Let the service change nftables, for bans: docs/bans.md.",
)


@click.group()
def service() -> None:
    """Let systemd start the fleet's service with the machine.

    \b
    Examples:
      warden service show
      sudo warden --fleet /srv/fleet service install
    """


@service.command()
@_user
@_passphrase
@_firewall
@json_option
@pass_state
def show(
    state: State, user: str, passphrase_file: Path | None, firewall: bool, as_json: bool
) -> None:
    """Print the systemd unit of this fleet.

    \b
    Example:
      warden service show | systemd-analyze security --offline=true /dev/stdin
    """
    fleet = state.fleet(by_root=True)
    text = systemd_unit.unit(fleet, user, _options(passphrase_file), firewall)
    if as_json:
        screen.print_json({"ok": True, "unit": text})
    else:
        click.echo(text, nl=False)


@service.command()
@_user
@_passphrase
@_firewall
@click.option("--name", default=systemd_unit.NAME, show_default=True, help="The unit's name.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=systemd_unit.FOLDER,
    show_default=True,
    help="The folder of the machine's units.",
)
@click.option("--yes", is_flag=True, help="Replace a unit of this name that differs.")
@json_option
@pass_state
def install(
    state: State,
    user: str,
    passphrase_file: Path | None,
    firewall: bool,
    name: str,
    folder: Path,
    yes: bool,
    as_json: bool,
) -> None:
    """Write the systemd unit of this fleet; the next steps are shown.

    \b
    Examples:
      sudo warden --fleet /srv/fleet service install
      sudo warden --fleet /srv/locks service install --name warden-locks
    """
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise HostError("bad-argument", "a unit's name has letters, digits, - and _")
    text = systemd_unit.unit(state.fleet(by_root=True), user, _options(passphrase_file), firewall)
    path = folder / f"{name}.service"
    before = path.read_text() if path.exists() else None
    if before not in (None, text) and not yes:
        raise HostError(
            "bad-argument",
            f"{path} is there and differs",
            "compare it with `warden service show`; --yes replaces it",
        )
    if before != text:
        secretfile.write(path, text.encode())
        os.chmod(path, 0o644)  # no secret: all users may read units
    if as_json:
        screen.print_json({"ok": True, "unit": str(path), "changed": before != text})
        return
    screen.good(
        f"{path} is {'written' if before != text else 'as it was'}",
        "sudo systemctl daemon-reload",
        f"sudo systemctl enable --now {name}",
        f"journalctl --unit {name} --follow",
    )


def _options(passphrase_file: Path | None) -> list[str]:
    return (
        [] if passphrase_file is None else ["--passphrase-file", str(passphrase_file.absolute())]
    )
