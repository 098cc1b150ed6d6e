"""`warden doctor`: say what is weak about a fleet, a device, a board or a backup."""

import contextlib
import stat
import time
from pathlib import Path
from typing import Any

import click

from warden_host import names
from warden_host.backup import backup
from warden_host.cli import screen
from warden_host.cli.backup import read_key
from warden_host.cli.common import State, json_option, pass_state
from warden_host.doctor import fleet_checks, report
from warden_host.doctor.backup_checks import BackupFacts
from warden_host.doctor.facts import FleetFacts, Live
from warden_host.doctor.registry import Finding, Grade
from warden_host.doctor.report import Report
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.service import live_state
from warden_host.store.store import Store

_MARKS = {Grade.SERIOUS: ("✗ ", "bold red"), Grade.WORTH: ("▲ ", "yellow")}
_SHOWN = 3  # devices of one finding


@click.command(short_help="Say what is weak about the fleet, a device or a backup.")
@click.argument("device", required=False)
@click.option("--port", metavar="PORT", help="Ask the board at this serial port too, or auto.")
@click.option(
    "--backup",
    "backup_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Look at this backup instead of the fleet.",
)
@click.option(
    "--key-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The secret key that the backup is for; its content is read with it.",
)
@click.option(
    "--passphrase-file",
    metavar="FILE",
    help="The backup's passphrase, from a file (mode 600), or from standard input: -.",
)
@click.option("--strict", is_flag=True, help="Fail for what is worth doing as well.")
@json_option
@pass_state
def doctor(
    state: State,
    device: str | None,
    port: str | None,
    backup_file: Path | None,
    key_file: Path | None,
    passphrase_file: str | None,
    strict: bool,
    as_json: bool,
) -> int:
    """Say what is weak about the fleet, a device or a backup, and which command mends it.

    Nothing is changed. The exit code is 1 where something serious was found.

    \b
    Examples:
      warden doctor
      warden doctor front-door
      warden doctor --backup fleet.age --key-file backup-key.txt
      warden doctor --strict --json
    """
    if backup_file is None and (key_file or passphrase_file):
        raise click.UsageError("--key-file and --passphrase-file go with --backup")
    if backup_file is not None:
        if device or port:
            raise click.UsageError("--backup looks at a backup alone")
        found = _backup(state, backup_file, key_file, passphrase_file)
    else:
        found = _fleet(state, device, port)
    bad = bool(found.findings) if strict else found.serious > 0
    if as_json:
        _print_json(found, not bad)
    else:
        _print(found)
    return 1 if bad else 0


def _fleet(state: State, device: str | None, port: str | None) -> Report:
    try:
        fleet = state.fleet()
    except HostError as error:
        if error.code == "fleet-missing":
            raise
        return Report([fleet_checks.unreadable(error)])
    known = "" if device is None else names.check_id(device, "device ID")
    board = report.board_report(port, known) if port is not None else Report()
    if port is not None and not known:
        return board
    live = _live(fleet)
    try:
        store = Store(fleet.database, read_only=True)
    except HostError as error:
        return Report([fleet_checks.unreadable(error)])
    with store:
        facts = FleetFacts(fleet, store, live)
        if known:
            return board + report.device_report(facts, known)
        return report.fleet_report(facts)


def _live(fleet: Fleet) -> Live:
    try:
        live = live_state.ask(fleet)
    except HostError:  # it is stuck: what it knows stays unknown
        return Live()
    return Live(live.online is not None, frozenset(live.development), live.presence)


def _backup(
    state: State, path: Path, key_file: Path | None, passphrase_file: str | None
) -> Report:
    # A missing file is an error, and no finding; a pipe would be waited for without an end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise HostError("bad-argument", f"{path} is no file", "name the backup's file")
    content = None
    if key_file is not None or passphrase_file is not None:
        try:
            content = backup.check(path, read_key(path, key_file, passphrase_file))
        except HostError as error:
            if error.code != "backup-damaged":
                raise
            return Report([fleet_checks.unreadable(error)])
    with contextlib.ExitStack() as stack:
        root = store = None
        with contextlib.suppress(HostError):  # a backup can be looked at where no fleet is
            fleet = state.fleet()
            store = stack.enter_context(Store(fleet.database, read_only=True))
            root = fleet.root
        return report.backup_report(BackupFacts(path, content, time.time(), root, store))


def _print_json(found: Report, ok: bool) -> None:
    for one in found.findings:
        screen.print_json(_finding(one))
    worth = len(found.findings) - found.serious
    screen.print_json(
        {"ok": ok, "serious": found.serious, "worth_doing": worth, "fine": found.fine}
    )


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "check": one.check,
        "grade": one.grade.value,
        "text": one.text,
        "mend": one.command,
        "devices": list(one.devices),
    }


def _print(found: Report) -> None:
    from rich.text import Text

    from warden_host import jsontext

    for one in found.findings:
        subject = _subject(one.devices)
        words = jsontext.printable(f"{subject}{one.text}")
        screen.show(Text.assemble(_MARKS[one.grade], words))
        screen.show(Text.assemble(("  → " + jsontext.printable(one.command), "dim")))
    worth = len(found.findings) - found.serious
    if not found.findings:
        screen.good(f"nothing weak was found by {len(found.fine)} checks")
        return
    screen.show(f"{found.serious} serious, {worth} worth doing, {len(found.fine)} checks fine")


def _subject(devices: tuple[str, ...]) -> str:
    if not devices:
        return ""
    more = f" and {len(devices) - _SHOWN} more" if len(devices) > _SHOWN else ""
    return ", ".join(devices[:_SHOWN]) + f"{more}: "
