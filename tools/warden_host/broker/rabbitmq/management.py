"""Refuse users of RabbitMQ, close connections, and change rights and passwords, by its HTTP API.

RabbitMQ verifies tokens by itself: revoking one ends no connection that was made with it.

warden.toml names the API; without the table nothing is asked:

    [rabbitmq]
    management = "http://127.0.0.1:15672"
    user = "warden"                          its password: keys/rabbitmq.password
    passwords_only = true                    RabbitMQ takes no tokens: an account that floods is
                                             cut off; without it the connection is only closed

Limits and rights are for users of RabbitMQ's own. A client with a token has neither there: only
its connections can be closed, and by their client ID, since the token says what their user is.
"""

import base64
import hashlib
import secrets
from collections.abc import Collection

from warden_host.broker.accounts import Account
from warden_host.broker.rabbitmq import rights
from warden_host.broker.rabbitmq.api import (
    PASSWORD,
    TABLE,
    Api,
    Connection,
    client_id,
    each,
    quoted,
)
from warden_host.fleet.fleet import Fleet

__all__ = (
    "LISTED_S",
    "PASSWORD",
    "TABLE",
    "admit",
    "close_clients",
    "close_connections",
    "close_users",
    "each",
    "has_rights",
    "is_used",
    "refuse",
    "restrict",
    "set_password",
)

LISTED_S = 6.0  # RabbitMQ lists a connection at most so long after its log-in
_VHOST, _EXCHANGE = "/", "amq.topic"  # mqtt.vhost and mqtt.exchange, as in examples/rabbitmq


def close_connections(fleet: Fleet, client_ids: Collection[str]) -> int:
    """Close connections whose MQTT client ID begins with one of these; return how many.

    RabbitMQ lists a connection once its statistics are collected, up to five seconds after the
    log-in, and accepts a token until its end: so this is called again and again.

    Raises: config-malformed, broker-refused, unreachable.
    """
    if not is_used(fleet) or not client_ids:
        return 0
    names = tuple(client_ids)
    # Scopes allow queues by their beginning, which a longer ID can have too.
    return Api(fleet).close(lambda one: client_id(one).startswith(names))


def close_clients(fleet: Fleet, client_ids: Collection[str]) -> int:
    """Close the connections of exactly these MQTT client IDs, likewise."""
    if not is_used(fleet) or not client_ids:
        return 0
    names = frozenset(client_ids)
    return Api(fleet).close(lambda one: client_id(one) in names)


def refuse(fleet: Fleet, username: str, close: bool = True) -> int:
    """Allow a user no connection, and close those that are listed; return how many.

    close: false where close_users() does that for many at once.

    Its password and its rights stay: admit() lets it in again. A connection of the last five
    seconds may be listed later: call this again then. A client that is no user of RabbitMQ's own
    can come again with its token.

    Raises: as close_connections().
    """
    if not is_used(fleet):
        return 0
    api = Api(fleet)
    own = api.user(username) is not None
    if own:
        api.ask(_limit(username), "PUT", {"value": 0})
    if not close:
        return 0
    return api.close(lambda one: _is_of(one, username, own))


def close_users(fleet: Fleet, usernames: Collection[str]) -> int:
    """Close the connections of users, which may connect as before; likewise."""
    if not is_used(fleet) or not usernames:
        return 0
    api = Api(fleet)
    own = {name: api.user(name) is not None for name in usernames}
    return api.close(lambda one: any(_is_of(one, *user) for user in own.items()))


def admit(fleet: Fleet, username: str) -> None:
    """Let a user that was refused connect again. Raises: as close_connections()."""
    if is_used(fleet):
        api = Api(fleet)
        if api.user(username) is not None:
            api.delete(_limit(username))


def restrict(fleet: Fleet, account: Account, close: bool = True) -> bool:
    """Give a user of RabbitMQ's own the account's rights for topics, in place of those it has.

    close: end its connections, which keep the rights that they used. Return whether there is such
    a user: a token's rights are its scopes. Raises: as close_connections().
    """
    if not is_used(fleet):
        return False
    api, username = Api(fleet), account.username
    if api.user(username) is None:
        return False
    api.ask(_topics(username), "PUT", _permission(account))
    if close:
        api.close(lambda one: _is_of(one, username, True))
    return True


def has_rights(fleet: Fleet, account: Account) -> bool:
    """Return whether a user has the account's rights for topics, or is none of RabbitMQ's own.

    A start of RabbitMQ, and an import, may give a user those of a file of definitions again.
    Raises: as close_connections().
    """
    if not is_used(fleet):
        return True
    api, username = Api(fleet), account.username
    wanted = _permission(account)
    if api.user(username) is None:
        return True
    found = [{key: one.get(key) for key in wanted} for one in api.listed(_topics(username))]
    return found == [wanted]


def set_password(fleet: Fleet, username: str, password: str) -> None:
    """Replace the password of a user of RabbitMQ's own. Raises: as close_connections()."""
    if not is_used(fleet):
        return
    api = Api(fleet)
    user = api.user(username)
    if user is None:
        return
    salt = secrets.token_bytes(4)
    digest = salt + hashlib.sha256(salt + password.encode()).digest()
    body = {
        "password_hash": base64.b64encode(digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": user.get("tags", ""),
    }
    api.ask(f"users/{quoted(username)}", "PUT", body)


def is_used(fleet: Fleet) -> bool:
    """Return whether the fleet's clients are at RabbitMQ, by warden.toml."""
    return TABLE in fleet.document


def _permission(account: Account) -> dict[str, str]:
    write, read = rights.patterns(account.rights)
    return {"exchange": _EXCHANGE, "write": write, "read": read}


def _topics(username: str) -> str:
    return f"topic-permissions/{quoted(_VHOST)}/{quoted(username)}"


def _limit(username: str) -> str:
    return f"user-limits/{quoted(username)}/max-connections"


def _is_of(connection: Connection, username: str, own: bool) -> bool:
    """Return whether a connection is a user's. own: a user of RabbitMQ's own.

    Any other may take a user's name for its client ID, and is none of that user's.
    """
    if connection.get("user") == username:
        return True
    return not own and client_id(connection) == username
