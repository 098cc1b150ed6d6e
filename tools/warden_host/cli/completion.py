"""`warden completion`: what a shell needs to complete commands, options and names of the fleet.

click makes the scripts and finds commands and options; the names come from fleet.db.
"""

import contextlib
import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from warden_host.cli.common import State
from warden_host.errors import HostError

SHELLS = ("bash", "fish", "zsh")
_VARIABLE = "_WARDEN_COMPLETE"
_WHERE = {
    "bash": "echo 'eval \"$(warden completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(warden completion zsh)\"' >> ~/.zshrc",
    "fish": "warden completion fish > ~/.config/fish/completions/warden.fish",
}
_MOST = 500  # names offered at once
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
# Kind of name → the query of all that there are.
_QUERIES = {
    "device": "SELECT device FROM devices ORDER BY device",
    "release": "SELECT name FROM releases ORDER BY name",
    "group": "SELECT DISTINCT name FROM group_devices ORDER BY name",
    "type": "SELECT DISTINCT type FROM devices ORDER BY type",
    "app": "SELECT appid FROM apps ORDER BY appid",
    "rollout": "SELECT id FROM rollouts ORDER BY id DESC",
}
# Name of a parameter → the kind of name that it takes.
_PARAMETERS = {
    "device": "device",
    "devices": "device",
    "patterns": "device",
    "clear": "device",
    "release": "release",
    "group": "group",
    "type_": "type",
    "types": "type",
    "app": "app",
    "appid": "app",
    "number": "rollout",
}


@click.command(short_help="Print what completes commands and names in a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and names in a shell.

    Devices, groups, types, applications and releases of the fleet are completed
    as well: those of the fleet that the command would use.

    \b
    Examples:
      eval "$(warden completion bash)"
      warden completion zsh >> ~/.zshrc
      warden completion fish > ~/.config/fish/completions/warden.fish
    """
    made = get_completion_class(shell)
    if made is None:
        raise HostError("not-applicable", f"click has no completion for {shell}")
    click.echo(made(click.Command("warden"), {}, "warden", _VARIABLE).source())
    click.echo(f"# To keep it: {_WHERE[shell]}")


def complete(command: click.Command, question: str) -> int:
    """Answer a shell on standard output, such as to bash_complete; return the exit code."""
    shell, _, wanted = question.partition("_")
    made = get_completion_class(shell)
    if made is None or wanted != "complete":
        return 1
    click.echo(made(command, {"obj": State()}, "warden", _VARIABLE).complete())
    return 0


class _Name(click.types.StringParamType):
    """A name of the fleet, of a kind of _QUERIES."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin so."""
        found = [name for name in _names(ctx, self._kind) if name.startswith(incomplete)]
        return [CompletionItem(name) for name in found[:_MOST]]


def add_names(command: click.Command) -> click.Command:
    """Let the parameters of a command, and of those below it, complete names; return it."""
    for one in command.params:
        kind = _PARAMETERS.get(one.name or "")
        if kind and isinstance(one.type, click.types.StringParamType | click.types.IntParamType):
            one.type = _Name(kind)
    for below in getattr(command, "commands", {}).values():
        add_names(below)
    return command


def _names(context: click.Context, kind: str) -> Iterable[str]:
    """Return names of the fleet; none where there is no fleet: a shell shows no error."""
    from warden_host.fleet.fleet import find

    folder = context.find_root().params.get("folder")
    with contextlib.suppress(HostError, OSError, sqlite3.Error):
        database = find(Path(folder) if folder else None).database
        # Read alone, without the checks of Store: it is called at each press of a key.
        with contextlib.closing(
            sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=0.5)
        ) as known:
            rows = known.execute(_QUERIES[kind]).fetchall()
        return [str(row[0]) for row in rows if _NAME.match(str(row[0]))]
    return []
