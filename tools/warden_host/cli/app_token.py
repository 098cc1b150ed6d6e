"""`warden app token`, `tokens`, `revoke-token` and `token-key`: access tokens of applications."""

import time
from pathlib import Path

import click
from rich.text import Text
from warden_client import secretfile

from warden_host import names
from warden_host.cli import screen
from warden_host.cli.common import State, json_option, pass_state
from warden_host.devices import app_tokens
from warden_host.errors import HostError
from warden_host.protocol.access_token import Scope
from warden_host.store.store import Store


@click.command("token", short_help="Give an application a token, and print it once.")
@click.argument("appid")
@click.option("--read", is_flag=True, help="It may read the events of its device types.")
@click.option("--command", "commands", multiple=True, help="A command it may give. Repeatable.")
@click.option(
    "--type", "types", multiple=True, help="A device type. Default: all of the application's."
)
@click.option("--days", default=30.0, show_default=True, help="How long it lives, days.")
@click.option(
    "--rabbitmq", is_flag=True, help="With RabbitMQ's scopes, and no account at mosquitto."
)
@click.option(
    "--api", is_flag=True, help="For the API of `warden serve --web`, and no account at a broker."
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="With --api: a web page of this origin may use it, such as https://app.example. "
    "Repeatable. Default: none.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the token to a new file (mode 600) and don't print it.",
)
@json_option
@pass_state
def token(
    state: State,
    appid: str,
    read: bool,
    commands: tuple[str, ...],
    types: tuple[str, ...],
    days: float,
    rabbitmq: bool,
    api: bool,
    origins: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Give an application a token with scopes. It is printed once, and stored nowhere.

    At mosquitto it is the password of the user name that is shown; `warden send --token-file` and
    the authority take it, too.

    \b
    Examples:
      warden app token home --read
      warden app token home --command set_relay --days 7 --out home.token
      warden app token home --read --api --origin https://app.example
    """
    fleet = state.fleet()
    names.check_id(appid, "appid")
    if out is not None and out.exists():
        raise HostError("bad-argument", f"{out} is there already", "name a new file")
    with Store(fleet.database) as store:
        if not types:
            types = next((app.types for app in store.apps() if app.appid == appid), ())
        given = types, commands, origins
        types, commands, origins = (tuple(dict.fromkeys(each)) for each in given)
        scope = Scope(types, read, commands, api, origins)
        made, text = app_tokens.issue(fleet, store, appid, scope, days, rabbitmq)
    if out is not None:
        secretfile.write(out, text.encode())
    user = names.token_client(appid, made.id)
    shown = {"id": made.id, "user": user, "scope": list(made.scope), "expires": int(made.expires)}
    if as_json:
        screen.print_json({"ok": True} | shown | ({} if out else {"token": text}))
        return
    screen.good(
        f"token {made.id} for {appid}",
        "for the API of `warden serve --web`"
        if api
        else f"user name and client ID at the broker: {user}",
        f"allows {', '.join(made.scope)}, until {_time(made.expires)}",
        f"it is in {out}" if out else "it is shown now and never again:",
    )
    if out is None:
        click.echo(text)


@click.command("tokens")
@json_option
@pass_state
def tokens(state: State, as_json: bool) -> None:
    """List the applications' tokens.

    \b
    Example:
      warden app tokens --json
    """
    with Store(state.fleet().database) as store:
        found = store.tokens()
    if as_json:
        for one in found:
            screen.print_json(vars(one))
        return
    table = screen.table("Tokens", "id", "application", "allows", "until", "", folds=("allows",))
    now = time.time()
    for one in found:
        ended = "revoked" if one.revoked is not None else "ended" if one.expires <= now else ""
        words = Text(", ".join(one.scope))  # no markup: ":lock:" would be a picture
        table.add_row(one.id, one.appid, words, _time(one.expires), ended)
    screen.out.print(table if found else "no tokens")


@click.command("revoke-token", short_help="Cut a token off, at once.")
@click.argument("id", metavar="ID")
@json_option
@pass_state
def revoke_token(state: State, id: str, as_json: bool) -> None:
    """Revoke a token: the authority and the broker refuse it, and its connection is dropped.

    \b
    Example:
      warden app revoke-token 9f86d081884c7d65
    """
    fleet = state.fleet()
    with Store(fleet.database) as store:
        made = app_tokens.revoke(fleet, store, id)
    if as_json:
        screen.print_json({"ok": True, "id": made.id, "appid": made.appid})
    else:
        screen.good(f"token {made.id} of {made.appid} is revoked")


@click.command("token-key", short_help="Print the public key that verifies tokens.")
@json_option
@pass_state
def token_key(state: State, as_json: bool) -> None:
    """Print the public key that verifies the fleet's tokens, PEM: for RabbitMQ's signing_keys.

    \b
    Examples:
      warden app token-key > token.pub
      warden app token-key --json
    """
    pem = app_tokens.public_pem(state.fleet()).decode()
    if as_json:
        screen.print_json({"ok": True, "key": pem})
    else:
        click.echo(pem, nl=False)


def _time(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
