"""Give an application a token, and take it back: at the authority, and at the broker.

A token is made in this order: the broker gets an account whose password is the token, then
fleet.db its ID. It is revoked the other way around: fleet.db says so first, durably, so that the
authority refuses it from then on; then the broker drops the account's connection and refuses it.
A running `warden serve`, the next one, and the same call go on after a stop between the two.
"""

import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from warden_client import secretfile

from warden_host import names
from warden_host.broker.accounts import token_account
from warden_host.broker.backend import open_registry
from warden_host.broker.rabbitmq import management
from warden_host.errors import HostError
from warden_host.fleet import pki
from warden_host.fleet.fleet import Fleet
from warden_host.protocol import access_token
from warden_host.protocol.access_token import Claims, Scope
from warden_host.store.store import App, Store
from warden_host.store.tokens import Token

MAX_DAYS = 366
KEY = "token.key"
# mosquitto takes no packet above what the fleet's devices take, 2,048 bytes at least: a log-in
# with the token must fit.
MAX_PASSWORD = 1536


def verifying_key(fleet: Fleet) -> Any:
    """Return the public key that verifies the fleet's tokens."""
    return _signing_key(fleet).public_key()


def public_pem(fleet: Fleet) -> bytes:
    """Return the public key that verifies the fleet's tokens, PEM; made where there is none."""
    return pki.public_pem(_signing_key(fleet))


def issue(
    fleet: Fleet, store: Store, appid: str, scope: Scope, days: float, for_rabbitmq: bool = False
) -> tuple[Token, str]:
    """Give an application a token, and return its row and the token, which is stored nowhere.

    A token for the API has no account at a broker: what a web page has opens nothing else.
    for_rabbitmq: with its scopes in the words of RabbitMQ, and no account at mosquitto. It reads
    events alone: RabbitMQ lets a client choose its names, and only the queue of a reader shows
    whose connection it is; one that publishes would not be found when its token is revoked.
    Raises: app-unknown, bad-argument.
    """
    _check(store.app(appid), scope, days)
    if for_rabbitmq and scope.commands:
        raise HostError(
            "bad-argument",
            "RabbitMQ could not take a token back that gives commands",
            "make one for the authority, which `warden send` takes",
        )
    if scope.origins and not scope.api:
        raise HostError("bad-argument", "web pages use the API alone", "make a token for it")
    if for_rabbitmq and scope.api:
        raise HostError("bad-argument", "a token is for RabbitMQ or for the API", "make two")
    id_, now = secrets.token_hex(8), int(time.time())
    made = Token(id_, appid, tuple(scope.words()), now, now + int(days * 86400))
    account = token_account(appid, id_, scope, "")
    words = list(made.scope)
    if for_rabbitmq:
        words += access_token.rabbitmq_scopes(scope, account.username)
    text = access_token.sign(
        _signing_key(fleet),
        {
            "iss": access_token.ISSUER,
            "aud": access_token.AUDIENCE,
            "sub": appid,
            "jti": id_,
            "iat": now,
            "exp": int(made.expires),
            "scope": " ".join(words),
            # RabbitMQ names the connection by it: so it is found when the token is revoked.
            "client_id": account.username,
        },
    )
    if len(text) > access_token.MAX_TOKEN:
        raise HostError("bad-argument", f"a token of {len(text)} bytes is too long", "make two")
    if for_rabbitmq or scope.api:
        with store.transaction():
            store.add_token(made)
        return made, text
    if len(text) > MAX_PASSWORD:
        raise HostError(
            "bad-argument",
            f"a token of {len(text)} bytes would be too long for a log-in at mosquitto",
            "make several tokens, of fewer device types or commands each",
        )
    with open_registry(fleet) as accounts:
        with store.transaction():
            store.add_token(made)
        try:
            accounts.put(token_account(appid, id_, scope, text))
        except BaseException:
            store.revoke_token(id_)  # sweep() removes what the broker took
            raise
    return made, text


def revoke(fleet: Fleet, store: Store, id_: str) -> Token:
    """Revoke a token and drop its connections; repeating it changes nothing.

    Raises: token-unknown.
    """
    revoke_all(fleet, store, [store.token(id_)])
    return store.token(id_)


def revoke_all(fleet: Fleet, store: Store, tokens: list[Token]) -> None:
    """Revoke tokens, and drop their connections. RabbitMQ comes last, as in sweep()."""
    for token in tokens:
        store.revoke_token(token.id)
    if tokens:
        _remove_accounts(fleet, tokens)
        management.close_connections(
            fleet, [names.token_client(one.appid, one.id) for one in tokens]
        )


def sweep(fleet: Fleet, store: Store, removed: set[str]) -> None:
    """Cut off tokens that were revoked or have ended; forget those that have ended.

    removed: IDs of tokens whose accounts are gone, of the call before; it is brought up to date.
    RabbitMQ comes last: while it does not answer, tokens are cut off at mosquitto all the same.
    """
    now = time.time()
    over = [one for one in store.tokens() if one.revoked is not None or one.expires <= now]
    left = [one for one in over if one.id not in removed]
    if left:
        _remove_accounts(fleet, left)
    removed.clear()
    removed.update(one.id for one in over)
    # Again and again: RabbitMQ takes a revoked token until its end.
    management.close_connections(fleet, [names.token_client(one.appid, one.id) for one in over])
    for token in over:
        if token.expires <= now:
            store.remove_token(token.id)


def enforce(fleet: Fleet) -> None:
    """Remove, before the broker starts, the accounts of tokens that were revoked or have ended."""
    with Store(fleet.database) as store:
        now = time.time()
        over = [one for one in store.tokens() if one.revoked is not None or one.expires <= now]
        if over:
            _remove_accounts(fleet, over)


def is_within(token: Token, app: App) -> bool:
    """Return whether a token allows nothing that its application may not do."""
    return access_token.rights_of(token.scope) <= set(Scope(app.types, True, app.commands).words())


def check_request(store: Store, key: Any, text: str, type_: str, command: str) -> Claims:
    """Return what a token says that allows this command.

    key: the public one. Raises: token-invalid, token-expired, token-revoked, token-scope.
    """
    claims = access_token.verify(key, text)
    try:
        known = store.token(claims.id)
    except HostError:
        raise HostError("token-revoked", "this fleet does not know the token any more") from None
    if known.revoked is not None or known.appid != claims.appid:
        raise HostError("token-revoked", "the token was revoked")
    if not claims.may_command(type_, command):
        raise HostError(
            "token-scope",
            f"the token does not allow {command} for devices of type {type_}",
            "`warden app token` makes one with other scopes",
        )
    return claims


def check_foreign(store: Store, claims: Claims, type_: str, command: str) -> Claims:
    """Return what another server's active token says, if it allows this command.

    It never allows more than the application of its name may do. Raises: app-unknown, token-scope.
    """
    app = store.app(claims.appid)
    if not claims.may_command(type_, command) or not (
        type_ in app.types and command in app.commands
    ):
        raise HostError(
            "token-scope",
            f"the token does not allow {command} for devices of type {type_}",
            f"its scope has no command:{type_}:{command}, or the application may not give it",
        )
    return claims


def _remove_accounts(fleet: Fleet, tokens: Iterable[Token]) -> None:
    with open_registry(fleet) as accounts:
        for token in tokens:
            account = token_account(token.appid, token.id, Scope((), False, ()), "")
            accounts.remove(account.username, account.role)


def _check(app: App, scope: Scope, days: float) -> None:
    if not 0 < days <= MAX_DAYS:
        raise HostError("bad-argument", f"a token lives for up to {MAX_DAYS} days")
    if not scope.read and not scope.commands:
        raise HostError("bad-argument", "the token would allow nothing", "name what it is for")
    for what, wanted, has in (
        ("device type", scope.types, app.types),
        ("command", scope.commands, app.commands),
    ):
        for one in wanted:
            if one not in has:
                raise HostError(
                    "bad-argument",
                    f"application {app.appid} has no {what} {one}",
                    "`warden app list` shows what it may do",
                )


def _signing_key(fleet: Fleet) -> pki.Key:
    """Return the key that signs tokens; make it where there is none."""
    path: Path = fleet.keys / KEY
    if not path.exists():
        secretfile.write(path, pki.private_pem(pki.new_key()))
    return pki.load_key(path)
