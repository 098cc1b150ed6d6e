"""Print results for people in one style, and JSON lines for scripts.

Text of a device or a peer goes through jsontext or printable() first, and into Text, never into
markup: it sets no colour, moves no cursor and fakes no line.
"""

import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from warden_host import jsontext
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError

if TYPE_CHECKING:
    from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_LOOK = {
    "came": ("●", "green"),
    "left": ("○", "dim"),
    "session": ("◆", "bold green"),
    "event": ("↑", "cyan"),
    "command": ("↓", "cyan"),
    "reply": ("↩", "bold cyan"),
    "incident": ("▲", "bold yellow"),
    "refused": ("✗", "yellow"),
    "quarantined": ("■", "bold red"),
    "diverged": ("≠", "bold magenta"),
    "otp": ("⌨", "bold cyan"),
    "notice": ("·", "dim"),
}


def line(fleet_event: FleetEvent) -> Text:
    """Return an event as 14:03:07 ▲ D1  refused a command: tampered (set_relay)"""
    mark, style = _LOOK[fleet_event.kind]
    text = Text(time.strftime("%H:%M:%S ", time.localtime(fleet_event.time)), style="dim")
    text.append(f"{mark} ", style=style)
    if fleet_event.device:
        text.append(f"{jsontext.printable(fleet_event.device):<12} ", style="bold")
    words = jsontext.printable(_words(fleet_event))
    text.append(words, style="" if fleet_event.kind in ("event", "command") else style)
    if fleet_event.app and fleet_event.kind not in ("incident", "diverged"):
        text.append("  " + jsontext.printable(fleet_event.app), style="dim")
    return text


def code_line(record: dict[str, Any]) -> Text:
    """Return a code as 14:03:07 ⌨ front-door   code 123456, 300 s left"""
    text = Text(time.strftime("%H:%M:%S ", time.localtime(record["time"])), style="dim")
    text.append("⌨ ", style="bold cyan")
    text.append(f"{jsontext.printable(str(record['device'])):<12} ", style="bold")
    if record["purpose"] == "alarm":
        return text.append(f"ALARM: {record['text']}", style="bold red")
    text.append("code ").append(str(record["code"]), style="bold")
    if "duress" in record:
        text.append(f", under duress {record['duress']}")
    return text.append(f", {record['left']} s left", style="dim")


def _words(news: FleetEvent) -> str:
    body = jsontext.brief(news.body)
    at = f" at {news.name}" if news.name else ""
    times = news.body.get("n", 1)
    again = f", {times} times" if times != 1 else ""
    words = {
        "came": f"came ({news.text})",
        "left": f"left ({news.text})",
        "session": f"session up ({news.text})",
        "event": f"{news.name} {body}",
        "command": f"{news.name} {news.id} {body}" + (f" ({news.text})" if news.text else ""),
        "reply": f"{_answered(news)} {news.id} {body}",
        "incident": f"reports {news.code}{at}{again}",
        "refused": f"refused: {news.code}{at} ({news.text})",
        "quarantined": f"quarantined: {news.text}",
        "diverged": f"diverged: {news.text}",
    }
    return words.get(news.kind, f"{news.code} {news.text}".strip())


def _answered(news: FleetEvent) -> str:
    """Name the command that a reply belongs to, where it is known."""
    return "reply" if news.name in ("", "reply") else f"reply to {news.name}"


def show(text: str | Text) -> None:
    """Print one line without wrapping: a wrapped log can not be searched."""
    out.print(text, soft_wrap=True)


def good(text: str, *details: str) -> None:
    """Print what was done, and details below."""
    show(Text.assemble(("✓ ", "bold green"), text))
    for detail in details:
        show(Text("  " + detail, style="dim"))


def stopped(as_json: bool, to: Console = out, text: str = "stopped") -> None:
    """Print the end after Ctrl-C on its own line, below the ^C of the terminal."""
    if as_json:
        return
    if to.is_terminal:
        to.print()
    to.print(Text.assemble(("✓ ", "bold green"), text), soft_wrap=True)


def fail(error: HostError, as_json: bool) -> None:
    """Print an error on standard error: code, cause and hint; or as JSON on standard output."""
    if as_json:
        record = {"code": error.code, "text": error.text, "hint": error.hint}
        print_json({"ok": False, "error": record})
        return
    err.print(
        Text.assemble(
            ("✗ ", "bold red"), (error.code, "bold red"), "  " + jsontext.printable(error.text)
        ),
        soft_wrap=True,
    )
    if error.hint:
        err.print(Text("  → " + jsontext.printable(error.hint), style="dim"), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as one JSON line on standard output."""
    sys.stdout.write(jsontext.dump(value) + "\n")
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


def ago(moment: float) -> str:
    """Return the age of a moment in words. moment: unix seconds, 0 for never."""
    if moment <= 0:
        return "never"
    seconds = max(0, int(time.time() - moment))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
