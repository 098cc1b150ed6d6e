"""`warden bans`: ban addresses from the broker, lift bans, and keep the allow and block lists."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from warden_host import control_client
from warden_host.bans import ban_log, changes, fail2ban
from warden_host.bans import settings as ban_settings
from warden_host.bans.enforcement import Enforcement, ports
from warden_host.bans.networks import short
from warden_host.bans.settings import BanSettings
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.errors import HostError
from warden_host.store.bans import LISTS
from warden_host.store.store import Store

_TIMEOUT_S = 90.0
_SHOWN = 5
Change = Callable[[Store, BanSettings], dict[str, Any]]


@click.group()
def bans() -> None:
    """Ban addresses from the broker, lift bans, keep lists.

    `warden serve` bans an address after three log-ins that the broker refused; `[bans]` in
    warden.toml sets it. A ban lasts until it is lifted. docs/bans.md tells more.

    \b
    Examples:
      warden bans list
      warden bans add 203.0.113.7
      warden bans lift 203.0.113.7
      warden bans allow 192.168.1.0/24 country:DE
      warden bans activate allow
    """


@bans.command("list")
@json_option
@pass_state
def list_(state: State, as_json: bool) -> None:
    """Show the bans, the lists, and whether nftables enforces them.

    \b
    Example:
      warden bans list --json
    """
    found = _listed(state)
    if as_json:
        screen.print_json({"ok": True, **found})
        return
    table = screen.table("Bans", "network", "what", "since", "until", "by", "why", folds=("why",))
    for ban in found["bans"]:
        until = "lifted by hand" if ban["until"] is None else _moment(ban["until"])
        what = "banned" if ban["kind"] == "ban" else "slowed"
        row = (short(ban["network"]), what, _moment(ban["since"]), until)
        table.add_row(*row, ban["source"], ban["why"])
    screen.out.print(table if found["bans"] else "no address is banned")
    for name in LISTS:
        in_force = ", in force" if found["active"] == name else ""
        entries = " ".join(map(short, found[name]))
        screen.show(f"list {name}{in_force}: {entries or 'empty'}")
    _show_status(found)


@bans.command("add")
@click.argument("networks", nargs=-1, required=True)
@click.option("--why", default="", help="For those who read the list later.")
@json_option
@pass_state
def add(state: State, networks: tuple[str, ...], why: str, as_json: bool) -> None:
    """Ban addresses and networks from the broker, at once, until they are lifted.

    Open connections from there end, too.

    \b
    Example:
      warden bans add 203.0.113.7 2001:db8::/48 --why "scans us"
    """

    def change(store: Store, _: BanSettings) -> dict[str, Any]:
        made = changes.add(store, networks, f"owner {_user()}", why)
        return {"networks": [ban.network for ban in made]}

    request = {"op": "ban", "networks": list(networks), "why": why}
    _show(_changed(state, request, change), "banned", as_json)


@bans.command("lift")
@click.argument("networks", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All of them.")
@json_option
@pass_state
def lift(state: State, networks: tuple[str, ...], all_: bool, as_json: bool) -> None:
    """Lift bans, at once.

    \b
    Examples:
      warden bans lift 203.0.113.7
      warden bans lift --all
    """
    if all_ == bool(networks):
        raise HostError("bad-argument", "name the networks, or give --all")
    if all_ and state.socket is not None:
        raise HostError("owner-only", "only the fleet's owner lifts all bans at once")

    def change(store: Store, _: BanSettings) -> dict[str, Any]:
        if all_:
            return {"count": store.lift_all_bans(), "all": True}
        listed = [ban["network"] for ban in _listed(state)["bans"]]  # not all may be in fleet.db
        return {"networks": changes.lift(store, networks, listed)}

    result = _changed(state, {"op": "lift", "networks": list(networks)}, change)
    _show(result, "lifted", as_json)


def _list_command(name: str, does: str, example: str) -> click.Command:
    @click.argument("entries", nargs=-1, required=True)
    @click.option("--remove", is_flag=True, help="Take them off the list instead.")
    @json_option
    @pass_state
    def command(state: State, entries: tuple[str, ...], remove: bool, as_json: bool) -> None:
        words = {"removed" if remove else "networks": list(entries)}

        def change(store: Store, _: BanSettings) -> dict[str, Any]:
            changes.change_list(store, name, words.get("networks", ()), words.get("removed", ()))
            return {"list": name, "active": store.active_list() or "none"}

        result = _changed(state, {"op": "address-list", "list": name, **words}, change)
        if as_json:
            screen.print_json(result)
            return
        screen.good(f"list {name}: {len(entries)} {'removed' if remove else 'added'}")
        if result.get("active") == name:
            _show_status(result)
        else:
            screen.note(f"it is not in force: `warden bans activate {name}`")

    command.__doc__ = f"""{does}

    An entry is an address, a network or a country, such as country:DE. Countries need an MMDB
    file, named as `countries` in the table [bans] of warden.toml.

    \b
    Example:
      warden bans {example}
    """
    return bans.command(name)(command)


allow = _list_command(
    "allow",
    "Add to the list of those that alone may connect.",
    "allow 192.168.1.0/24 country:DE",
)
block = _list_command(
    "block", "Add to the list of those that may not connect.", "block 198.51.100.0/24"
)


@bans.command("activate")
@click.argument("name", type=click.Choice((*LISTS, "none")))
@click.option("--yes", is_flag=True, help="Don't ask where it would keep clients out.")
@json_option
@pass_state
def activate(state: State, name: str, yes: bool, as_json: bool) -> None:
    """Put a list in force, and the other one out of force; none: both out of force.

    \b
    Example:
      warden bans activate block
    """
    chosen = "" if name == "none" else name
    if state.socket is None and chosen:
        fleet = state.fleet()
        with Store(fleet.database) as store:
            refused = changes.refused_clients(store, ban_settings.load(fleet), chosen)
        if refused:
            shown = ", ".join(refused[:_SHOWN]) + (", …" if len(refused) > _SHOWN else "")
            question = f"This list keeps {len(refused)} clients out ({shown}). Put it in force?"
            screen.confirm(question, yes, as_json)

    def change(store: Store, settings: BanSettings) -> dict[str, Any]:
        changes.activate(store, settings, chosen)
        return {"active": name}

    result = _changed(state, {"op": "activate-list", "list": chosen}, change)
    if as_json:
        screen.print_json(result)
        return
    screen.good(f"list in force: {name}")
    _show_status(result)


@bans.command("apply")
@json_option
@pass_state
def apply(state: State, as_json: bool) -> None:
    """Load the bans and the list in force into nftables, as root, for a `serve` that may not.

    \b
    Example:
      sudo warden --fleet /srv/fleet bans apply
    """
    fleet = state.fleet(by_root=True)
    with Store(fleet.database) as store:
        status = Enforcement(fleet, ban_settings.load(fleet)).apply(store, time.time())
    if not status.enforced:
        raise HostError("not-applicable", f"nothing was loaded: {status.why}", status.hint)
    if as_json:
        screen.print_json({"ok": True, **status.record()})
    else:
        screen.good("nftables holds the bans and the list in force")


@bans.command("fail2ban")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="A folder such as /etc/fail2ban, for filter.d, action.d and jail.d.",
)
@json_option
@pass_state
def fail2ban_(state: State, output: Path | None, as_json: bool) -> None:
    """Write a filter, an action and a jail with which fail2ban enforces the bans.

    \b
    Examples:
      warden bans fail2ban
      sudo warden --fleet /srv/fleet bans fail2ban --output /etc/fail2ban
    """
    fleet = state.fleet(by_root=True)
    files = fail2ban.files(ban_log.path_of(fleet), ports(fleet))
    if output is not None:
        for name, text in files.items():
            path = output / name
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o644)
    if as_json:
        screen.print_json({"ok": True, "files": files if output is None else sorted(files)})
    elif output is None:
        for name, text in files.items():
            screen.show(f"# ---- {name}\n{text}")
    else:
        screen.good(f"written: {', '.join(sorted(files))}", "sudo fail2ban-client reload")


@bans.command("log")
@click.option("--last", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@pass_state
def log(state: State, last: int, as_json: bool) -> None:
    """Show the last lines of the watch's log: refused log-ins, and what followed.

    \b
    Example:
      warden bans log --last 200
    """
    for line in ban_log.read(state.fleet())[-last:]:
        if as_json:
            screen.print_json({"line": line})
        else:
            screen.show(line)


def _listed(state: State) -> dict[str, Any]:
    found: dict[str, Any] = {"bans": [], **{name: [] for name in LISTS}}
    try:
        for line in control_client.stream(state.control(), {"op": "bans"}, _TIMEOUT_S):
            for key, value in line.items():
                if isinstance(value, list) and key in found:
                    found[key] += value
                elif key != "ok":
                    found[key] = value
        return found
    except HostError as error:
        if error.code != "not-serving" or state.socket is not None:
            raise
    with Store(state.fleet().database) as store:
        found["bans"] = [ban._asdict() for ban in store.bans(time.time())]
        found |= {name: store.list_entries(name) for name in LISTS}
        found["active"] = store.active_list() or "none"
    why = "`warden serve` is not running: what was loaded last stays loaded"
    return found | {"enforced": False, "why": why, "hint": ""}


def _changed(state: State, request: dict[str, Any], change: Change) -> dict[str, Any]:
    """Change fleet.db, here or by the operators' socket; return the result for JSON."""
    if state.socket is not None:
        return control_client.call(state.socket, request, _TIMEOUT_S)
    fleet = state.fleet()
    settings = ban_settings.load(fleet)
    with Store(fleet.database) as store:
        result = change(store, settings)
        lifted = result.get("networks", []) if request["op"] == "lift" else []
        follow = {"op": "bans-apply", "lifted": lifted, "all": result.get("all", False)}
        try:
            status = control_client.call(fleet.control, follow, _TIMEOUT_S)
        except HostError as error:
            if error.code != "not-serving":
                raise
            status = Enforcement(fleet, settings).apply(store, time.time()).record()
    return {"ok": True, **status, **result}


def _show(result: dict[str, Any], word: str, as_json: bool) -> None:
    if as_json:
        screen.print_json(result)
        return
    named = ", ".join(map(short, result.get("networks", [])))
    screen.good(f"{word}: {named or result.get('count', 0)}")
    _show_status(result)


def _show_status(result: dict[str, Any]) -> None:
    if result.get("enforced"):
        return
    hint = f": {result['hint']}" if result.get("hint") else ""
    screen.note(f"not enforced here: {result.get('why', '')}{hint}")


def _user() -> str:
    from warden_host.service.operators import user_name

    return user_name(os.getuid())


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
