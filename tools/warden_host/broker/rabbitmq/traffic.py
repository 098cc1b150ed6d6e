"""Read how many bytes RabbitMQ received by each of its connections."""

from typing import Any, NamedTuple

from warden_host.broker.rabbitmq.api import Api, quoted
from warden_host.fleet.fleet import Fleet


class Received(NamedTuple):
    """name: of the connection. user: that it logged in as. began: of its log-in, in any form."""

    name: str
    user: str
    began: str
    size: int  # bytes


def received(fleet: Fleet) -> list[Received]:
    """Return what is known of each connection. Raises: as management.close_connections()."""
    found = []
    for one in Api(fleet).connections():
        size: Any = one.get("recv_oct")
        if type(size) is int and size >= 0:  # it is not known in a connection's first seconds
            name, user = str(one.get("name")), str(one.get("user"))
            found.append(Received(name, user, str(one.get("connected_at")), size))
    return found


def proven_users(fleet: Fleet) -> frozenset[str]:
    """Return the users that a connection under their name is surely of. Raises likewise.

    With a token a client logs in under any name, also that of a user with a password: so there are
    none where RabbitMQ takes tokens.
    """
    api = Api(fleet)
    if not api.passwords_only:
        return frozenset()
    return frozenset(str(one.get("name")) for one in api.listed("users?columns=name"))


def close(fleet: Fleet, name: str) -> None:
    """Close one connection. Raises likewise."""
    Api(fleet).delete("connections/" + quoted(name))
