"""`warden operator`: let other Unix users of this machine use the fleet, by roles."""

import pwd
import secrets
from typing import Any

import click
from rich.text import Text

from warden_host import control_client, names
from warden_host.cli import screen, secrets_input
from warden_host.cli.common import State, json_option, pass_state
from warden_host.errors import HostError
from warden_host.fleet.fleet import Fleet
from warden_host.otp import enrol
from warden_host.store.operators import ROLES, Operator
from warden_host.store.store import Store
from warden_host.store.web_logins import WebLogin


@click.group()
def operator() -> None:
    """Let other users of this machine use the fleet, by roles.

    An operator is a Unix user who calls the socket of `warden serve --operators`, and can't read
    the fleet's folder. Roles: look (watch, devices), command (send, unlock, clear, codes), update
    (rollouts), own (all of these, Wi-Fi, policies, development). Each action is in the audit log.

    \b
    Examples:
      warden operator add alice --role command
      warden serve --operators /run/warden/home.sock
      warden --socket /run/warden/home.sock send front-door get_relay     (as alice)
    """


@operator.command("add")
@click.argument("name")
@click.option("--user", default="", help="The Unix user. Default: of the operator's name.")
@click.option(
    "--role", "roles", type=click.Choice(ROLES), multiple=True, required=True, help="Repeatable."
)
@json_option
@pass_state
def add(state: State, name: str, user: str, roles: tuple[str, ...], as_json: bool) -> None:
    """Add an operator, or replace the operator's user and roles, at once.

    The user's open calls, such as of `watch`, end.

    \b
    Examples:
      warden operator add alice --role command --role update
      warden operator add night-shift --user bob --role look
    """
    names.check_id(name, "operator")
    user = user or name
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        hint = "make the user first, or name an existing one with --user"
        raise HostError("operator-unknown", f"this machine has no user {user}", hint) from None
    made = Operator(name, uid, user, tuple(role for role in ROLES if role in roles))
    fleet = state.fleet()
    with Store(fleet.database) as store:
        before = {one.uid for one in store.operators() if one.name == name}
        store.put_operator(made)
    _end_calls(fleet, before | {uid})
    if as_json:
        screen.print_json({"ok": True, **made._asdict()})
    else:
        screen.good(f"operator {name}, user {user}: {', '.join(made.roles)}")


@operator.command("list")
@json_option
@pass_state
def list_(state: State, as_json: bool) -> None:
    """List the operators.

    \b
    Example:
      warden operator list
    """
    with Store(state.fleet().database) as store:
        known = store.operators()
    if as_json:
        for one in known:
            screen.print_json(one._asdict())
        return
    table = screen.table("Operators", "operator", "user", "roles")
    for one in known:
        table.add_row(one.name, one.user, ", ".join(one.roles))
    screen.out.print(
        table if known else "no operators yet: `warden operator add NAME --role look`"
    )


@operator.command("remove")
@click.argument("name")
@json_option
@pass_state
def remove(state: State, name: str, as_json: bool) -> None:
    """Remove an operator: open calls end, and the next one is refused.

    \b
    Example:
      warden operator remove alice
    """
    fleet = state.fleet()
    with Store(fleet.database) as store:
        before = {one.uid for one in store.operators() if one.name == name}
        store.remove_operator(name)
    _end_calls(fleet, before)
    _end_sessions(fleet, name)
    _done(as_json, {"operator": name}, f"{name} is no operator any more")


@operator.command("login", short_help="Let an operator log in at the console in a browser.")
@click.argument("name")
@click.option("--password-file", metavar="FILE", help="From a file, or from standard input: -.")
@click.option("--remove", is_flag=True, help="Take the log-in away; open pages end.")
@json_option
@pass_state
def login(state: State, name: str, password_file: str | None, remove: bool, as_json: bool) -> None:
    """Let an operator log in at the console of `warden serve --web`.

    A password, and the code of an authenticator that scans the QR code; it is shown once.

    \b
    Examples:
      warden operator login alice
      warden operator login alice --remove
    """
    from warden_host.service import console, web_sessions

    fleet = state.fleet()
    if remove:
        with Store(fleet.database) as store:
            removed = store.remove_web_login(name)
        _end_sessions(fleet, name)
        if not removed:
            raise HostError("operator-unknown", f"{name} has no log-in at the console")
        _done(as_json, {"operator": name}, f"{name} can't log in at the console any more")
        return
    console.check_modules()
    with Store(fleet.database) as store:
        if store.operator(name) is None:
            raise HostError("operator-unknown", f"no operator {name} in this fleet")
    most = web_sessions.MAX_PASSWORD * 4
    typed = secrets_input.secret(password_file, "password", "--password-file", most, new=True)
    made = WebLogin(
        name,
        web_sessions.hash_password(typed.decode(errors="replace")),
        secrets.token_bytes(web_sessions.SECRET_SIZE),
    )
    with Store(fleet.database) as store:
        store.put_web_login(made)
    _end_sessions(fleet, name)
    uri = web_sessions.uri(made, fleet.root.resolve().name)
    if not as_json:
        screen.show("Scan this with an authenticator:")
        screen.out.print(Text(enrol.qr(uri), style="white on black"), soft_wrap=True)
        screen.show(uri)
    _done(as_json, {"operator": name, "uri": uri}, f"{name} can log in at the console")


def _done(as_json: bool, record: dict[str, Any], text: str) -> None:
    if as_json:
        screen.print_json({"ok": True, **record})
    else:
        screen.good(text)


def _end_sessions(fleet: Fleet, name: str) -> None:
    _call(fleet, {"op": "operator", "name": name})


def _end_calls(fleet: Fleet, uids: set[int]) -> None:
    """Let a running `serve` end the calls of users whose roles changed."""
    for uid in uids:
        _call(fleet, {"op": "operator", "uid": uid})


def _call(fleet: Fleet, request: dict[str, Any]) -> None:
    try:
        control_client.call(fleet.control, request)
    except HostError as error:
        if error.code != "not-serving":
            raise
