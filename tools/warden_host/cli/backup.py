"""`warden backup` and `warden restore`."""

import time
from pathlib import Path
from typing import Any

import click
from warden_client import secretfile

from warden_host.backup import age, backup
from warden_host.cli import recording, screen, secrets_input
from warden_host.cli.common import State, json_option, pass_state
from warden_host.errors import HostError
from warden_host.fleet import sealed_pem
from warden_host.store.store import Store

_KEY_FILE_BYTES = 4096
_path = click.Path(path_type=Path)
_passphrase_file = click.option(
    "--passphrase-file",
    metavar="FILE",
    help="Read the passphrase from a file (mode 600), or from standard input: -. Default: ask.",
)
_key_file = click.option(
    "--key-file", metavar="FILE", type=_path, help="The secret key that the backup is for."
)


class _MakeByDefault(click.Group):
    """Take `backup FILE` for `backup make FILE`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["make", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_MakeByDefault)
def backup_command() -> None:
    """Back the fleet up into an encrypted file, or check one.

    \b
    Examples:
      warden backup fleet.age
      warden backup check fleet.age
    """


backup_command.name = "backup"


@backup_command.command("make")
@click.argument("file", type=_path)
@click.option(
    "--to",
    "recipients",
    multiple=True,
    metavar="RECIPIENT",
    help="Encrypt for this key, age1…, in place of a passphrase; more than once for several.",
)
@_passphrase_file
@click.option("--no-releases", is_flag=True, help="Leave the releases' images out.")
@json_option
@pass_state
def make(
    state: State,
    file: Path,
    recipients: tuple[str, ...],
    passphrase_file: str | None,
    no_releases: bool,
    as_json: bool,
) -> None:
    """Back the fleet up, while it is served or not: database, keys, accounts, settings, releases.

    With --to the host needs no secret for it, so a timer can do it. `make` can be left out.

    \b
    Examples:
      warden backup fleet.age
      warden backup make fleet.age --passphrase-file passphrase
      warden backup make "fleet-$(date +%F).age" --to age1…
    """
    if len(recipients) > age.MAX_RECIPIENTS:
        raise HostError("bad-argument", f"a backup is for at most {age.MAX_RECIPIENTS} keys")
    if recipients and passphrase_file:
        raise click.UsageError("--to and --passphrase-file exclude each other")
    fleet = state.fleet()
    if recipients:
        lock = backup.Lock([age.read_recipient(one) for one in recipients])
    else:
        lock = backup.Lock(passphrase=_passphrase(passphrase_file, new=True))
    about = backup.make(fleet, file, lock, not no_releases)
    with Store(fleet.database) as store:
        waiting = store.waiting_for_backup()
    if as_json:
        screen.print_json({"ok": True, "file": str(file), "rotations": waiting} | about)
        return
    screen.good(
        f"{fleet.root.name} is backed up in {file}, {_size(file.stat().st_size)}",
        "keep it on another machine, and what opens it elsewhere",
        f"try it: warden backup check {file}",
        *_waiting_notes(waiting),
    )


@backup_command.command()
@click.argument("file", type=_path)
@_key_file
@_passphrase_file
@json_option
def check(file: Path, key_file: Path | None, passphrase_file: str | None, as_json: bool) -> None:
    """Read a whole backup and verify all of it; nothing is written.

    \b
    Examples:
      warden backup check fleet.age
      warden backup check fleet.age --key-file backup-key.txt
    """
    found = backup.check(file, read_key(file, key_file, passphrase_file))
    if as_json:
        counts = {"files": found.files, "bytes": found.size, "devices": found.devices}
        screen.print_json({"ok": True} | found.about | counts)
        return
    screen.good(
        f"{file} is whole: {found.devices} devices, {found.files} files, {_size(found.size)}",
        _made(found.about),
    )


@backup_command.command("key")
@click.argument("file", type=_path)
@json_option
def key_command(file: Path, as_json: bool) -> None:
    """Make a secret key for backups, in a new file; its recipient, for --to, is shown.

    Keep the file where the fleet's host is not: only a restore needs it.

    \b
    Example:
      warden backup key backup-key.txt
    """
    if file.exists():
        raise HostError("filesystem", f"{file} is there already", "name another file")
    secret, recipient = age.new_identity()
    text = f"# made by warden, {time.strftime('%Y-%m-%d')}\n# public key: {recipient}\n{secret}\n"
    secretfile.write(file, text.encode())
    if as_json:
        screen.print_json({"ok": True, "file": str(file), "recipient": recipient})
        return
    screen.good(f"secret key in {file}", f"recipient   {recipient}")


@click.command()
@click.argument("file", type=_path)
@click.option(
    "--into", required=True, type=_path, metavar="FOLDER", help="The fleet's new folder."
)
@_key_file
@_passphrase_file
@json_option
def restore(
    file: Path, into: Path, key_file: Path | None, passphrase_file: str | None, as_json: bool
) -> None:
    """Make a fleet's folder of a backup, all of it or nothing.

    \b
    Examples:
      warden restore fleet.age --into fleet
      warden restore fleet.age --into /srv/fleet --key-file backup-key.txt
    """
    about = backup.restore(file, read_key(file, key_file, passphrase_file), into)
    restored = recording.start(into / "fleet.db")  # whose log lacks what was done since the backup
    if restored is not None:
        restored.finish("ok")
    if as_json:
        screen.print_json({"ok": True, "fleet": str(into)} | about)
        return
    screen.good(
        f"the fleet is restored in {into}",
        _made(about),
        "what was done since then is not in it: revoke again what was revoked, remove again",
        "the applications that were removed (`warden app remove`), provision again what was",
        "provisioned (docs/backup.md, After a restore)",
        "the former host must not serve any more",
    )


def _waiting_notes(waiting: list[str]) -> list[str]:
    """Return what to do for the devices whose rotation waited for this backup."""
    if not waiting:
        return []
    named = ", ".join(waiting[:3]) + (f" and {len(waiting) - 3} more" if waiting[3:] else "")
    return [f"rotations waited for it: give `warden rotate` again for {named}"]


def read_key(file: Path, key_file: Path | None, passphrase_file: str | None) -> backup.Key:
    """Return what opens the backup; asks for a passphrase only where the backup has one."""
    if key_file is not None:
        return backup.Key(
            age.read_identity(secretfile.read(key_file, _KEY_FILE_BYTES, "backup-key"))
        )
    with file.open("rb") as opened:
        if not age.is_for_passphrase(opened):
            raise HostError("backup-key", "the backup is for a key: give it by --key-file")
    return backup.Key(passphrase=_passphrase(passphrase_file, new=False))


def _passphrase(file: str | None, new: bool) -> bytes:
    what, most = "passphrase of the backup", sealed_pem.MAX_PASSPHRASE
    found = secrets_input.secret(file, what, "--passphrase-file", most, new)
    if new:
        sealed_pem.check_passphrase(found)
    return found


def _made(about: dict[str, Any]) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(about["made"]))
    return f"made {moment} ({screen.ago(about['made'])})"


def _size(count: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} GiB"
