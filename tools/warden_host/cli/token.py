"""`warden token`, and the options of `warden provision` for devices that log in with one."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from warden_host import control_client, names
from warden_host.cli import common, screen, secrets_input
from warden_host.cli.common import State, json_option, pass_state, timeout_option
from warden_host.devices import token_terms
from warden_host.devices.token_terms import TokenTerms
from warden_host.errors import HostError
from warden_host.store.store import Store

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS = (
    click.option("--token-url", metavar="URL", help="The token server's address: https://…"),
    click.option("--client-id", metavar="ID", help="The device's client ID there."),
    click.option(
        "--client-secret-file",
        metavar="FILE",
        help="Read its secret from a file (mode 600), or from standard input: -. Default: ask.",
    ),
    click.option("--token-scope", default="", help="The scope to ask for. Default: none."),
    click.option(
        "--token-way",
        type=click.Choice(token_terms.WAYS),
        default=token_terms.WAYS[0],
        show_default=True,
        help="Where the secret goes: an Authorization header, or the request's body.",
    ),
    click.option(
        "--token-ca",
        "token_cas",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        multiple=True,
        help="A CA certificate of the token server, PEM. Default: the broker's.",
    ),
    click.option(
        "--token-pin",
        "token_pins",
        multiple=True,
        help="A pin of the token server: SHA-256 of its public key, in hex. Repeatable: two at "
        "least.",
    ),
)
_MAX_PEM = 16384
_NAMES = (
    "token_url client_id client_secret_file token_scope token_way token_cas token_pins".split()
)


def token_options(function: F) -> F:
    """Add the options that name a device's token server."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def provision_options(function: F) -> F:
    """Add the options of `warden provision` for a device that logs in with a token."""
    user = click.option(
        "--token-user",
        default=token_terms.DEFAULT_USER,
        show_default=True,
        help="The user name that goes with a token.",
    )
    return token_options(user(function))


def pop_terms(more: dict[str, Any], user: str = token_terms.DEFAULT_USER) -> TokenTerms | None:
    """Take the options out of `more`, and return what they say without the secret, or None.

    Raises bad-argument.
    """
    said = {name: more.pop(name) for name in _NAMES}
    if said["token_url"] is None:
        if any(said[name] for name in _NAMES if name != "token_way"):
            raise HostError("bad-argument", "a client, a scope and pins go with --token-url URL")
        return None
    if said["client_id"] is None:
        raise HostError("bad-argument", "--token-url goes with --client-id ID")
    trust = None
    if said["token_cas"] or said["token_pins"]:
        trust = (
            [_certificate(path) for path in said["token_cas"]],
            [_pin(text) for text in said["token_pins"]],
        )
    terms = TokenTerms(
        said["token_url"],
        said["client_id"],
        b"?",
        said["token_scope"],
        said["token_way"],
        user,
        trust,
    )
    token_terms.check(terms)
    return terms


def ask_secret(terms: TokenTerms, file: str | None) -> TokenTerms:
    """Return the terms with the client's secret, from a file or a hidden prompt."""
    secret = secrets_input.secret(
        file, "client secret", "--client-secret-file", token_terms.MAX_TEXT, new=False
    )
    made = replace(terms, secret=secret)
    token_terms.check(made)
    return made


def _certificate(path: Path) -> bytes:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes()[:_MAX_PEM])
        return found.public_bytes(serialization.Encoding.DER)
    except ValueError:
        raise HostError("bad-argument", f"{path} is no certificate in PEM") from None


def _pin(text: str) -> bytes:
    for decode in (bytes.fromhex, base64.b64decode):
        try:
            found: bytes = decode(text)
        except ValueError:
            continue
        if len(found) == 32:
            return found
    raise HostError("bad-argument", "a pin is 32 bytes, in 64 hex digits")


@click.command("token", short_help="Show or change how a device gets its access tokens.")
@click.argument("device")
@token_options
@click.option("--renew", is_flag=True, help="Let the device fetch a new token now.")
@timeout_option(600.0)
@json_option
@pass_state
def token(
    state: State, /, device: str, renew: bool, timeout: float, as_json: bool, **more: Any
) -> int:
    """Show, renew or change the terms by which a device fetches its access tokens.

    The device keeps its old terms until its session came up with a token of the new ones.

    \b
    Examples:
      warden token front-door
      warden token front-door --renew
      warden token front-door --client-id lock-17 \\
        --token-url https://id.example/token
    """
    fleet = state.fleet()
    names.check_id(device, "device ID")
    file = more["client_secret_file"]
    terms = pop_terms(more)
    if renew and terms is not None:
        raise HostError("bad-argument", "--renew and --token-url exclude each other")
    with Store(fleet.database) as store:
        if store.device(device).mode != "sealed":
            raise HostError("not-applicable", f"{device} is plain: it takes no orders")

    def ask(order: dict[str, Any]) -> dict[str, Any]:
        request: dict[str, Any] = {"op": "token", "device": device, "timeout": 10}
        if order:
            request["order"] = _for_json(order)
        return control_client.call(fleet.control, request, 60)

    show_stage = common.stage_printer(device, as_json)

    if terms is not None:
        token_terms.change(device, ask, ask_secret(terms, file), show_stage, timeout)
        found = token_terms.state(device, ask)
    elif renew:
        found = token_terms.renew(device, ask)
    else:
        found = token_terms.state(device, ask)
    if as_json:
        screen.print_json({"ok": True, "device": device} | vars(found))
    elif terms is not None:
        screen.good(f"{device} uses the new terms")
    elif renew:
        screen.good(f"{device} fetches a new token")
    else:
        text = "a change is still to prove itself" if found.pending else "no change is pending"
        screen.show(f"{device} logs in with tokens; change {found.proved} is in force, {text}")
    return 0


def _for_json(order: dict[str, Any]) -> dict[str, Any]:
    """Return an order whose bytes are hex."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return {"hex": value.hex()}
        return [plain(one) for one in value] if isinstance(value, list) else value

    return {key: plain(value) for key, value in order.items()}
