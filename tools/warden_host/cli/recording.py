"""Record the owner's commands in the audit log, except for those that only look.

What a running `serve` does on behalf of a command is recorded there (service/operators.py).
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

# Commands that change nothing, or whose change `serve` records; and the options with which they
# change something all the same.
LOOKS: dict[str, tuple[str, ...]] = {
    "alarms show": (),
    "app list": (),
    "app show": (),
    "app token-key": (),
    "app tokens": (),
    "audit export": ("trim",),
    "audit list": (),
    "audit verify": (),
    "backup check": (),
    "bans fail2ban": (),
    "bans list": (),
    "bans log": (),
    "bridge": (),
    "cert list": (),
    "clock show": (),
    "devices": ("clear",),
    "doctor": (),
    "firewall check": (),
    "firewall devices": (),
    "firewall host": (),
    "gateway list": (),
    "group list": (),
    "inspect": (),
    "keys list": (),
    "log": (),
    "operator list": (),
    "operator passkeys": ("remove",),
    "otp status": (),
    "otp watch": (),
    "pins show": (),
    "policy show": (),
    "releases": (),
    "rollout": (),
    "rollouts": (),
    "room list": (),
    "run": (),
    "send": (),
    "service show": (),
    "show": (),
    "unlock": (),
    "verify": (),
    "watch": (),
    "wifi": (),
}
# Options whose values are addresses of people, or tell where a home is.
_PRIVATE = frozenset(("--mail", "--webhook", "--alarm-mail", "--alarm-webhook", "--wifi"))
# A value that is shown: a name or a number.
_SHOWN = re.compile(r"[A-Za-z0-9_.:%,/+-]{1,100}\Z", re.ASCII)


@dataclass(frozen=True)
class Started:
    """An action whose outcome is not known yet."""

    database: Path
    who: str
    action: str
    id: int

    def finish(self, outcome: str) -> None:
        """Append the outcome: "ok" or an error's code. Raises database-damaged."""
        from warden_host.store.store import Store

        with Store(self.database) as store:
            store.add_audit(self.who, self.action, outcome, self.id)


def start(database: Path) -> Started | None:
    """Append the running command, before it does anything; return None if it only looks.

    Raises: database-damaged.
    """
    context = click.get_current_context(silent=True)
    if context is None or not is_action(context):
        return None
    from warden_host.service.operators import user_name
    from warden_host.store.store import Store

    who, action = f"owner {user_name(os.getuid())}", describe(context)
    with Store(database) as store:
        return Started(database, who, action, store.add_audit(who, action))


def is_action(context: click.Context) -> bool:
    """Return whether the command may change something."""
    changes = LOOKS.get(_name(context))
    return changes is None or any(context.params.get(name) for name in changes)


def describe(context: click.Context) -> str:
    """Return the command, its arguments, and the options that were given."""
    words = [_name(context)]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is not click.core.ParameterSource.COMMANDLINE or name == "as_json":
            continue
        shown = "" if parameter.opts[0] in _PRIVATE else _shown(context.params.get(name))
        if isinstance(parameter, click.Argument):
            words.append(shown or "?")
        else:
            words.append(f"{parameter.opts[0]}={shown}" if shown else parameter.opts[0])
    return " ".join(words)


def _name(context: click.Context) -> str:
    """Return the words of the command without `warden` itself."""
    return " ".join(context.command_path.split(" ")[1:])


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return ""
    text = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
    return text if _SHOWN.match(text) and "://" not in text else ""  # a URL can hold a secret
