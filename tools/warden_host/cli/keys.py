"""`warden keys`: manage the keys that sign releases."""

import os
from pathlib import Path

import click

from warden_host.cli import screen, secrets_input
from warden_host.cli.common import State, json_option, pass_state
from warden_host.fleet import sealed_pem
from warden_host.fleet.fleet import Fleet
from warden_host.release import signing_key
from warden_host.store.store import Store

passphrase_option = click.option(
    "--passphrase-file",
    metavar="FILE",
    help="Read the passphrase from a file (mode 600), or from standard input: -. Default: ask.",
)


def read_passphrase(file: str | None, new: bool) -> bytes:
    """Read a passphrase as secrets_input.secret() does.

    Raises passphrase-wrong for one that is too short or too long.
    """
    data = secrets_input.secret(
        file, "passphrase", "--passphrase-file", sealed_pem.MAX_PASSPHRASE, new
    )
    sealed_pem.check_passphrase(data)
    return data


@click.group()
def keys() -> None:
    """Make, add and list the keys that sign releases. A device takes up to four.

    \b
    Examples:
      warden keys make release
      warden keys make backup
      warden keys list
    """


@keys.command("make")
@click.argument("name", default="release")
@click.option(
    "--kind",
    type=click.Choice(sorted(signing_key.KINDS)),
    default="p256",
    show_default=True,
    help="p256 signs ES256; rsa (3072 bits) signs PS256, larger but faster to verify on boards.",
)
@passphrase_option
@json_option
@pass_state
def make(state: State, name: str, kind: str, passphrase_file: str | None, as_json: bool) -> None:
    """Make a release key, in the fleet's folder under a passphrase. NAME: release if left out.

    \b
    Examples:
      warden keys make release
      warden keys make backup --kind rsa
      warden keys make release --passphrase-file ~/.warden-passphrase
    """
    fleet = state.fleet()
    made = signing_key.make(fleet, name, kind, read_passphrase(passphrase_file, new=True))
    folder = os.path.relpath(fleet.keys / "release")
    notes = [f"public part {folder}/{name}.pub, private part {folder}/{name}.key"]
    if len(signing_key.listed(fleet)) == 1:
        notes.append("make a backup key and keep it elsewhere: `warden keys make backup`")
    elif name != "release":
        notes.append(
            f"to keep it apart: move {folder}/{name}.key away, and back when you sign with it"
        )
    _print_key(fleet, made, "made", notes, as_json)


@keys.command("add", short_help="Add a key whose private part is elsewhere.")
@click.argument("name")
@click.argument("pem", type=click.Path(path_type=Path))
@json_option
@pass_state
def add(state: State, name: str, pem: Path, as_json: bool) -> None:
    """Add a key whose private part is elsewhere, in an HSM or a safe. PEM: its public part.

    \b
    Example:
      warden keys add hsm hsm-public.pem
    """
    fleet = state.fleet()
    made = signing_key.add(fleet, name, signing_key.load_public(pem))
    notes = ["sign with `warden release --unsigned`, then `warden release NAME --attach`"]
    _print_key(fleet, made, "added", notes, as_json)


@keys.command("list", short_help="List the release keys.")
@json_option
@pass_state
def list_(state: State, as_json: bool) -> None:
    """List the release keys that newly provisioned devices get.

    \b
    Example:
      warden keys list --json
    """
    known = signing_key.listed(state.fleet())
    if as_json:
        for key in known:
            screen.print_json(_record(key))
        return
    if not known:
        screen.show("no release keys yet: `warden keys make release` makes one")
        return
    width = max(len(key.name) for key in known)
    for key in known:
        where = "private part here" if key.here else "private part elsewhere"
        screen.show(f"{key.name:<{width}}  {key.algorithm}  {where:<22}  {key.fingerprint}")


@keys.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@pass_state
def remove(state: State, name: str, yes: bool, as_json: bool) -> None:
    """Remove a release key, with its private part.

    Devices that have the key trust it until they are rotated.

    \b
    Example:
      warden keys remove backup
    """
    fleet = state.fleet()
    key = signing_key.find(fleet, name)
    if key.here:
        question = f"This deletes the private part of {name}. Remove the key?"
        screen.confirm(question, yes, as_json)
    signing_key.remove(fleet, name)
    if as_json:
        screen.print_json({"ok": True} | _record(key))
    else:
        screen.good(f"release key {name} is removed")


def _print_key(
    fleet: Fleet, key: signing_key.ReleaseKey, done: str, notes: list[str], as_json: bool
) -> None:
    with Store(fleet.database) as store:
        before = [known.device for known in store.devices()]
    if as_json:
        screen.print_json({"ok": True} | _record(key) | {"provisioned_before": before})
        return
    if before:
        notes.append("provisioned before, so without it: " + ", ".join(before))
        notes.append(
            "`warden rotate DEVICE --release-keys` gives it to them; boards without slots need "
            "`warden provision`"
        )
    screen.good(
        f"release key {key.name} {done}",
        f"{key.algorithm}, fingerprint {key.fingerprint}",
        *notes,
    )


def _record(key: signing_key.ReleaseKey) -> dict[str, object]:
    return {
        "name": key.name,
        "algorithm": key.algorithm,
        "fingerprint": key.fingerprint,
        "here": key.here,
        "public": signing_key.public_pem(key.public).decode(),
    }
