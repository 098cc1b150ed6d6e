"""`warden operator`: let other people use the fleet, by roles."""

import pwd
import secrets
import time
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
    """Let other people use the fleet, by roles.

    An operator is a Unix user who calls the socket of `warden serve --operators`, and can't read
    the fleet's folder; or somebody who uses the console in a browser alone. Roles: look (watch,
    devices), command (send, unlock, clear, codes), update (rollouts), own (all of these, Wi-Fi,
    policies, development). Each action is in the audit log.

    \b
    Examples:
      warden operator add alice --role command
      warden operator add carol --web-only --role look
      warden operator login carol
      warden serve --operators /run/warden/home.sock
      warden --socket /run/warden/home.sock send front-door get_relay     (as alice)
    """


@operator.command("add")
@click.argument("name")
@click.option("--user", default="", help="The Unix user. Default: of the operator's name.")
@click.option("--web-only", is_flag=True, help="No Unix user: for the console in a browser alone.")
@click.option(
    "--role", "roles", type=click.Choice(ROLES), multiple=True, required=True, help="Repeatable."
)
@json_option
@pass_state
def add(
    state: State, name: str, user: str, web_only: bool, roles: tuple[str, ...], as_json: bool
) -> None:
    """Add an operator, or replace the operator's user and roles, at once.

    The user's open calls, such as of `watch`, end, and so do live pages in a browser.

    \b
    Examples:
      warden operator add alice --role command --role update
      warden operator add night-shift --user bob --role look
      warden operator add carol --web-only --role look
    """
    names.check_id(name, "operator")
    if web_only and user:
        raise HostError("bad-argument", "an operator of the console alone has no Unix user")
    user, uid = ("", None) if web_only else _unix_user(user or name)
    made = Operator(name, uid, user, tuple(role for role in ROLES if role in roles))
    fleet = state.fleet()
    with Store(fleet.database) as store:
        before = {one.uid for one in store.operators() if one.name == name}
        store.put_operator(made)
    _end_calls(fleet, before | {uid})
    _call(fleet, {"op": "operator", "roles_of": name})
    if as_json:
        screen.print_json({"ok": True, **made._asdict()})
    else:
        who = f"user {user}" if user else "at the console alone"
        screen.good(f"operator {name}, {who}: {', '.join(made.roles)}")


def _unix_user(user: str) -> tuple[str, int]:
    try:
        return user, pwd.getpwnam(user).pw_uid
    except KeyError:
        hint = "make the user first, name an existing one with --user, or give --web-only"
        raise HostError("operator-unknown", f"this machine has no user {user}", hint) from None


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
        table.add_row(one.name, one.user or "at the console", ", ".join(one.roles))
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
@click.option("--passkey", is_flag=True, help="A code that registers a passkey, once, for a day.")
@click.option("--remove", is_flag=True, help="Take every log-in away; open pages end.")
@json_option
@pass_state
def login(
    state: State,
    name: str,
    password_file: str | None,
    passkey: bool,
    remove: bool,
    as_json: bool,
) -> None:
    """Let an operator log in at the console of `warden serve --web`.

    A password, and the code of an authenticator that scans the QR code; it is shown once. Or a
    passkey: tell its owner the code, for the console's page /passkey.

    \b
    Examples:
      warden operator login alice
      warden operator login alice --passkey
      warden operator login alice --remove
    """
    from warden_host.service import console, web_passwords

    fleet = state.fleet()
    if remove:
        _remove_logins(fleet, name, as_json)
        return
    console.check_modules()
    with Store(fleet.database) as store:
        if store.operator(name) is None:
            raise HostError("operator-unknown", f"no operator {name} in this fleet")
    if passkey:
        _tell_code(fleet, name, as_json)
        return
    most = web_passwords.MAX_PASSWORD * 4
    typed = secrets_input.secret(password_file, "password", "--password-file", most, new=True)
    made = WebLogin(
        name,
        web_passwords.hash_password(typed.decode(errors="replace")),
        secrets.token_bytes(web_passwords.SECRET_SIZE),
    )
    with Store(fleet.database) as store:
        store.put_web_login(made)
    _end_sessions(fleet, name)
    uri = web_passwords.uri(made, fleet.root.resolve().name)
    if not as_json:
        screen.show("Scan this with an authenticator:")
        screen.out.print(Text(enrol.qr(uri), style="white on black"), soft_wrap=True)
        screen.show(uri)
    _done(as_json, {"operator": name, "uri": uri}, f"{name} can log in at the console")


@operator.command("passkeys")
@click.argument("name")
@click.option("--remove", metavar="ID", default="", help="Remove one; its sessions end.")
@json_option
@pass_state
def passkeys(state: State, name: str, remove: str, as_json: bool) -> None:
    """List an operator's passkeys, or remove one.

    \b
    Examples:
      warden operator passkeys alice
      warden operator passkeys alice --remove 3f9a02d1
    """
    fleet = state.fleet()
    with Store(fleet.database) as store:
        if store.operator(name) is None:
            raise HostError("operator-unknown", f"no operator {name} in this fleet")
        known = store.passkeys(name)
        if remove:
            chosen = [one for one in known if one.credential.hex().startswith(remove.lower())]
            if len(chosen) != 1:
                raise HostError("bad-argument", f"{len(chosen)} passkeys of {name} begin so")
            store.remove_passkey(name, chosen[0].credential)
    if remove:
        _end_sessions(fleet, name)
        _done(as_json, {"operator": name}, f"the passkey {chosen[0].label} is removed")
        return
    records = [
        {
            "id": one.credential.hex(),
            "label": one.label,
            "made": one.made,
            "used": one.used or None,
            "cloned": one.cloned,
        }
        for one in known
    ]
    if as_json:
        for record in records:
            screen.print_json(record)
        return
    table = screen.table("Passkeys", "ID", "name", "registered", "used", "state")
    for one in known:
        state_ = "blocked: its count went back" if one.cloned else "in use"
        used = screen.day(one.used) if one.used else "never"
        table.add_row(one.credential.hex()[:16], one.label, screen.day(one.made), used, state_)
    screen.out.print(table if known else f"{name} has no passkey")


def _tell_code(fleet: Fleet, name: str, as_json: bool) -> None:
    from warden_host.service.passkeys import CODE_LIFE_S, code_hash, grouped, new_code

    code, until = new_code(), time.time() + CODE_LIFE_S
    with Store(fleet.database) as store:
        store.put_passkey_code(name, code_hash(code), until)
    _done(
        as_json,
        {"operator": name, "code": grouped(code), "until": until},
        f"{grouped(code)} registers a passkey of {name}, once, within a day: the console's page "
        "/passkey",
    )


def _remove_logins(fleet: Fleet, name: str, as_json: bool) -> None:
    with Store(fleet.database) as store:
        removed = [store.remove_web_login(name), store.remove_all_passkeys(name)]
    _end_sessions(fleet, name)
    if not any(removed):
        raise HostError("operator-unknown", f"{name} has no log-in at the console")
    _done(as_json, {"operator": name}, f"{name} can't log in at the console any more")


def _done(as_json: bool, record: dict[str, Any], text: str) -> None:
    if as_json:
        screen.print_json({"ok": True, **record})
    else:
        screen.good(text)


def _end_sessions(fleet: Fleet, name: str) -> None:
    _call(fleet, {"op": "operator", "name": name})


def _end_calls(fleet: Fleet, uids: set[int | None]) -> None:
    """Let a running `serve` end the calls of users whose roles changed."""
    for uid in uids - {None}:
        _call(fleet, {"op": "operator", "uid": uid})


def _call(fleet: Fleet, request: dict[str, Any]) -> None:
    try:
        control_client.call(fleet.control, request)
    except HostError as error:
        if error.code != "not-serving":
            raise
