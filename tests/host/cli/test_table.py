"""The table that is printed without rich looks as rich's does."""

import io

import pytest
from rich.console import Console
from warden_host.cli import screen
from warden_host.cli.table import Table

COLUMNS = ("device", "state", "obeys")


@pytest.mark.parametrize("width", [80, 60, 30])
@pytest.mark.parametrize("colors", ["", "no", "all"])
def test_the_look_is_that_of_rich(monkeypatch, width, colors):
    monkeypatch.setenv("FORCE_COLOR", "1" if colors else "")
    if colors == "no":
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    rich = screen.table("Devices", *COLUMNS, folds=COLUMNS[2:])
    ours = Table("Devices", *COLUMNS, folds=COLUMNS[2:])
    rows = [("front-door", "online", "green", "home"), ("D2", "revoked", "bold red", "a, b " * 9)]
    for device, state, style, apps in rows:
        rich.add_row(device, f"[{style}]{state}[/]", apps)
        ours.add_row(device, (state, style), apps)
    console = Console(width=width, highlight=False, file=io.StringIO(), color_system="standard")
    console.print(rich)
    shown = console.file.getvalue().splitlines()
    lines = ours.lines(width)
    assert [_plain(line) for line in lines] == [_plain(line) for line in shown]
    state = next(line for line in lines if "revoked" in line)
    expected = {"": "revoked", "no": "\x1b[1mrevoked\x1b[0m"}
    assert expected.get(colors, "\x1b[31m\x1b[1mrevoked\x1b[0m") in state
    assert ("\x1b" in "".join(lines)) == bool(colors)


def _plain(line: str) -> str:
    return screen.click.unstyle(line).rstrip()


def test_a_cell_moves_no_cursor():
    table = Table("Devices", "device")
    table.add_row("D1\x1b[2J\n")
    assert "\x1b" not in "".join(table.lines(80)) and len(table.lines(80)) == 6
