"""`warden audit`: show, verify and export the log of who did what."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from warden_host import jsontext
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.errors import HostError
from warden_host.store import audit_export
from warden_host.store.audit import find_break
from warden_host.store.store import Store

_MAX_LINE = 8192


@click.group()
def audit() -> None:
    """Show, verify and export the log of who did what.

    Each row's hash covers the row and the hash before it. `verify` finds a row that was changed or
    removed; rows cut off at the end show against an older export alone, so keep exports elsewhere.

    \b
    Examples:
      warden audit list
      warden audit export 2026-11.jsonl
      warden audit verify 2026-11.jsonl
    """


@audit.command("list")
@click.option(
    "--last", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows."
)
@json_option
@pass_state
def list_(state: State, last: int, as_json: bool) -> None:
    """Show the latest rows.

    \b
    Examples:
      warden audit list
      warden audit list --last 500 --json
    """
    with Store(state.fleet().database) as store:
        rows = store.latest_audit_rows(last)
    if as_json:
        for row in rows:
            screen.print_json(audit_export.record(row))
        return
    table = screen.table("Audit log", "no.", "time", "who", "action", "outcome", folds=("action",))
    shown = {row.id for row in rows}
    outcomes = {row.started: row.outcome for row in rows if row.started}
    for row in rows:
        if row.started not in shown:  # one line an action, where both of its rows are here
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.time / 1000))
            outcome = row.outcome or outcomes.get(row.id, "not known")
            words = (row.who, row.action, outcome)
            table.add_row(str(row.id), moment, *(jsontext.printable(text) for text in words))
    screen.out.print(table if rows else "no actions yet")


@audit.command("verify")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
@pass_state
def verify(state: State, file: Path | None, as_json: bool) -> None:
    """Verify the chain of hashes; with FILE, also that the log continues that export.

    \b
    Examples:
      warden audit verify
      warden audit verify 2026-11.jsonl
    """
    with Store(state.fleet().database) as store:
        base = store.audit_base()
        held, broken = find_break(store.audit_rows(), base)
        if broken is not None:
            raise HostError("audit-broken", f"row {broken.id} is {broken.why}; {held} rows hold")
        if file is not None:
            _compare(store, file, base)
    if as_json:
        screen.print_json({"ok": True, "rows": held, "trimmed": base[0]})
    else:
        trimmed = f", after {base[0]} that were trimmed" if base[0] else ""
        screen.good(f"{held} rows hold{trimmed}")


@audit.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trim", is_flag=True, help="Remove the exported rows from the fleet's database.")
@json_option
@pass_state
def export(state: State, file: Path, trim: bool, as_json: bool) -> None:
    """Write the log as JSON lines, the first one with the hash before its first row.

    With --trim the next export continues this one: keep all of them.

    \b
    Examples:
      warden audit export 2026-11.jsonl
      warden audit export 2026-11.jsonl --trim
    """
    with Store(state.fleet().database) as store:
        count, before, last = audit_export.export(store, file)
        if trim and last is not None:
            store.trim_audit(last)
    if as_json:
        screen.print_json({"ok": True, "file": str(file), "rows": count, "hash": before.hex()})
    else:
        screen.good(
            f"{count} rows in {jsontext.printable(str(file))}", f"last hash {before.hex()}"
        )


def _compare(store: Store, file: Path, base: tuple[int, bytes]) -> None:
    """Raise audit-broken unless the log holds what the export holds, as far as it was not trimmed.

    The chain makes the last row enough: its hash covers all before it.
    """
    rows = _exported(file)
    start = next(rows, None)
    if start is None or start.get("format") != audit_export.FORMAT:
        raise HostError("audit-broken", f"{file} is no export of an audit log")
    id_, hash_ = _mark(start, "after")
    for row in rows:
        id_, hash_ = _mark(row, "id")
    if id_ < base[0]:
        return  # all of it was trimmed since
    ours = (
        base
        if id_ == base[0]
        else next(((row.id, row.hash) for row in store.audit_rows(id_ - 1)), (0, b""))
    )
    if ours != (id_, hash_):
        raise HostError("audit-broken", f"the log lacks row {id_} of {file}, or has another one")


def _exported(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as lines:
        while line := lines.readline(_MAX_LINE + 1):
            yield jsontext.parse_object(line, _MAX_LINE, "audit-broken")


def _mark(row: dict[str, Any], key: str) -> tuple[int, bytes]:
    try:
        return int(row[key]), bytes.fromhex(row["hash"])
    except (KeyError, TypeError, ValueError):
        raise HostError("audit-broken", "a line of the export is damaged") from None
