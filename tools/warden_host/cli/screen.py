"""Print results for people in one style, and JSON lines for scripts.

Text of a device or a peer goes through jsontext or printable() first, and into Text, never into
markup: it sets no colour, moves no cursor and fakes no line.
"""

import os
import shutil
import sys
import time
from _thread import allocate_lock  # threading would be loaded for it
from typing import TYPE_CHECKING, Any

import click

from warden_host import jsontext
from warden_host.cli import exit_codes
from warden_host.errors import HostError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from warden_host.engine.events import FleetEvent

    out: Console  # standard output
    err: Console  # standard error
_CONSOLES = ("out", "err")
_turn = allocate_lock()  # a text stream loses lines where two threads write at one time

_LOOK = {
    "came": ("●", "green"),
    "left": ("○", "dim"),
    "session": ("◆", "bold green"),
    "event": ("↑", "cyan"),
    "open": ("?", "dim"),
    "command": ("↓", "cyan"),
    "reply": ("↩", "bold cyan"),
    "incident": ("▲", "bold yellow"),
    "refused": ("✗", "yellow"),
    "quarantined": ("■", "bold red"),
    "diverged": ("≠", "bold magenta"),
    "reaction": ("■", "bold red"),
    "login": ("✗", "bold yellow"),
    "otp": ("⌨", "bold cyan"),
    "development": ("▲", "bold red"),
    "notice": ("·", "dim"),
}


def __getattr__(name: str) -> "Console":
    """Make the console `out` or `err` when it is first used: rich is a third of the start."""
    if name not in _CONSOLES:
        raise AttributeError(name)
    return _console(name)


def _console(name: str) -> "Console":
    known = globals().get(name)
    if known is None:
        from rich.console import Console

        # Without emoji: `:lock:` in d:lock:front-door would be one.
        known = Console(stderr=name == "err", highlight=False, emoji=False)
        globals()[name] = known
    made: Console = known
    return made


def _text(*parts: "str | Text | tuple[str, str]") -> "Text":
    from rich.text import Text

    return Text.assemble(*parts)


def line(fleet_event: "FleetEvent", with_day: bool = False) -> "Text":
    """Return an event as 14:03:07 ▲ D1  refused a command: tampered (set_relay)

    with_day: its date before.
    """
    mark, style = _LOOK[fleet_event.kind]
    form = "%Y-%m-%d %H:%M:%S " if with_day else "%H:%M:%S "
    text = _text((time.strftime(form, time.localtime(fleet_event.time)), "dim"))
    text.append(f"{mark} ", style=style)
    if fleet_event.device:
        text.append(f"{jsontext.printable(fleet_event.device):<12} ", style="bold")
    words = jsontext.printable(_words(fleet_event))
    text.append(words, style="" if fleet_event.kind in ("event", "command") else style)
    if fleet_event.app and fleet_event.kind not in ("incident", "diverged"):
        text.append("  " + jsontext.printable(fleet_event.app), style="dim")
    return text


def code_line(record: dict[str, Any]) -> "Text":
    """Return a code as 14:03:07 ⌨ front-door   code 123456, 300 s left"""
    text = _text((time.strftime("%H:%M:%S ", time.localtime(record["time"])), "dim"))
    text.append("⌨ ", style="bold cyan")
    text.append(f"{jsontext.printable(str(record['device'])):<12} ", style="bold")
    if record["purpose"] == "alarm":
        return text.append(f"ALARM: {record['text']}", style="bold red")
    text.append("code ").append(str(record["code"]), style="bold")
    if "duress" in record:
        text.append(f", under duress {record['duress']}")
    return text.append(f", {record['left']} s left", style="dim")


def _words(news: "FleetEvent") -> str:
    body = jsontext.brief(news.body)
    at = f" at {news.name}" if news.name else ""
    if source := news.body.get("source"):
        at += f" from {source}"
    times = news.body.get("n", 1)
    again = f", {times} times" if times != 1 else ""
    words = {
        "came": f"came ({news.text})",
        "left": f"left ({news.text})",
        "session": f"session up ({news.text})",
        "event": f"{news.name} {body}",
        "open": f"{news.name} {body} (unproven, room {news.room})",
        "command": f"{news.name} {news.id} {body}" + (f" ({news.text})" if news.text else ""),
        "reply": f"{_answered(news)} {news.id} {body}",
        "incident": f"reports {news.code}{at}{again}" + (f" {news.text}" if news.text else ""),
        "refused": f"refused: {news.code}{at}{again}" + (f" ({news.text})" if news.text else ""),
        "login": f"log-in refused: {news.code}  {news.text}",
        "quarantined": f"quarantined: {news.text}",
        "diverged": f"diverged: {news.text}",
        "reaction": f"{news.name} for {news.code}: {news.text}",
    }
    return words.get(news.kind, f"{news.code} {news.text}".strip())


def _answered(news: "FleetEvent") -> str:
    """Name the command that a reply belongs to, where it is known."""
    return "reply" if news.name in ("", "reply") else f"reply to {news.name}"


def width() -> int:
    """Return the columns of the screen, for what is printed without rich; at most 99."""
    return min(shutil.get_terminal_size().columns, 99)


def columns() -> int:
    """Return the columns of the screen, for a table."""
    return shutil.get_terminal_size().columns


def styled(text: str, style: str) -> str:
    """Return a text of ours in a style such as "bold red", plain where the output has no colours.

    As rich decides it: NO_COLOR, FORCE_COLOR and TERM=dumb are heeded.
    """
    if not style or not text or not _has_styles():
        return text
    *attributes, last = style.split()
    if last in ("bold", "dim"):
        attributes, last = [*attributes, last], ""
    color = None if os.environ.get("NO_COLOR") else last or None
    return click.style(text, color, **dict.fromkeys(attributes, True))


def _has_styles() -> bool:
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") not in ("dumb", "unknown") and sys.stdout.isatty()


def lines(made: list[str]) -> None:
    """Print lines without rich. Text of a device or a peer went through printable() before."""
    with _turn:
        click.echo("\n".join(made), color=_has_styles())


def show(text: "str | Text") -> None:
    """Print one line without wrapping: a wrapped log can not be searched."""
    with _turn:
        if isinstance(text, str) and "[" not in text:
            click.echo(text)  # no style and no markup: without rich, a third of the start
            return
        _console("out").print(text, soft_wrap=True)


def good(text: str, *details: str) -> None:
    """Print what was done, and details below."""
    show(_text(("✓ ", "bold green"), text))
    for detail in details:
        show(_text(("  " + detail, "dim")))


def mark(done: bool, text: str) -> None:
    """Print one line with a mark of success or failure."""
    sign = ("✓ ", "bold green") if done else ("✗ ", "bold red")
    show(_text(sign, jsontext.printable(text)))


def stopped(as_json: bool, to: "Console | None" = None, text: str = "stopped") -> None:
    """Print the end after Ctrl-C on its own line, below the ^C of the terminal."""
    if as_json:
        return
    console = _console("out") if to is None else to
    if console.is_terminal:
        console.print()
    console.print(_text(("✓ ", "bold green"), text), soft_wrap=True)


def error_record(error: HostError) -> dict[str, str]:
    """Return an error for JSON."""
    kind = exit_codes.KINDS[exit_codes.of(error)]
    return {"code": error.code, "kind": kind, "text": error.text, "hint": error.hint}


def fail(error: HostError, as_json: bool) -> None:
    """Print an error on standard error: code, cause and hint; or as JSON on standard output."""
    if as_json:
        print_json({"ok": False, "error": error_record(error)})
        return
    err = _console("err")
    text = "  " + jsontext.printable(error.text)
    err.print(_text(("✗ ", "bold red"), (error.code, "bold red"), text), soft_wrap=True)
    if error.hint:
        err.print(_text(("  → " + jsontext.printable(error.hint), "dim")), soft_wrap=True)


def confirm(question: str, yes: bool, as_json: bool) -> None:
    """Ask before what can't be undone; raise click.Abort for a no.

    yes: the owner agreed by --yes already. Raises bad-argument under --json without it.
    """
    if yes:
        return
    if as_json:
        raise HostError("bad-argument", "--json can't ask before it destroys", "add --yes")
    click.confirm(question, abort=True, err=True)


def print_json(value: Any) -> None:
    """Print a value as one JSON line on standard output."""
    text = jsontext.dump(value) + "\n"
    with _turn:
        sys.stdout.write(text)
        sys.stdout.flush()


def table(title: str, *columns: str, folds: tuple[str, ...] = ()) -> "Table":
    """Return an empty table; where the screen is narrow, only the columns in `folds` wrap."""
    from rich import box  # here, because most commands show no table
    from rich.table import Table

    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in columns:
        made.add_column(column, overflow="ellipsis", no_wrap=column not in folds)
    return made


def day(moment: float) -> str:
    """Return a moment as 2026-11-29 14:03, of this machine's zone. moment: unix seconds."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def heading(text: str, more: str = "") -> None:
    """Print the head of a section. more: beside it."""
    show(_text(("\n" + jsontext.printable(text), "bold"), f"  {more}" if more else ""))


def field(name: str, value: str) -> None:
    """Print one value below a heading."""
    show(_text((f"  {name:<13} ", "dim"), jsontext.printable(value)))


def note(text: str) -> None:
    """Print what explains the line above."""
    lines([styled(line, "dim") for line in wrap(text)])


def wrap(text: str) -> list[str]:
    """Return a text as indented lines that fit the screen."""
    return click.wrap_text(text, width(), "    ", "    ").split("\n")


def ago(moment: float) -> str:
    """Return the age of a moment in words. moment: unix seconds, 0 for never."""
    if moment <= 0:
        return "never"
    seconds = max(0, int(time.time() - moment))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
