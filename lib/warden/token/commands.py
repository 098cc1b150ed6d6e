"""Authority command `token`: show the terms, replace them, or renew the token.

    {}                             the state
    {"renew": true}                fetch a new token now
    {"id": n, "terms": [address, client ID, secret, scope, way, trust]}    as in token/terms.py

The result: {"id", "proved", "pending"}: the highest change that the device took, the one in force,
whether one is still to prove itself.
"""

import asyncio

from micropython import const

from .. import unload
from ..errors import PeerError, UsageError
from ..vault import records
from ..wire import cbor
from .terms import Terms

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent

_REPLY_MS = const(500)  # for the reply to arrive before the connection is closed


def run(agent: "Agent", args: "dict[str, Any]") -> "dict[str, Any]":
    """Store new terms as pending, or order a renewal; return the state.

    PeerError unknown-command: this device has no token; bad-body, unexpected, https-address.
    """
    vault = agent.vault
    if agent.token is None or "token" not in vault.names():
        raise PeerError("unknown-command")
    if len(args) == 1 and args.get("renew") is True:
        agent.after_reply = agent.token.renew
    elif args:
        fields = _checked(args)
        if fields[1] <= vault.counter("token"):
            raise PeerError("unexpected")
        vault.commit({"token_new": cbor.encode(fields)}, {"token": fields[1]})
        agent.after_reply = _reconnect
    unload("warden.token.terms")
    unload("warden.net.http")
    return {
        "id": vault.counter("token"),
        "proved": records.load(vault, "token")[1],
        "pending": "token_new" in vault.names(),
    }


def _checked(args: "dict[str, Any]") -> "list[Any]":
    """Return the record of new terms. PeerError bad-body, https-address."""
    terms = args.get("terms")
    if len(args) != 2 or not isinstance(terms, list):
        raise PeerError("bad-body")
    fields = [1, args.get("id")] + terms
    try:
        Terms(fields)
    except UsageError:
        raise PeerError("bad-body")
    return fields


async def _reconnect(agent: "Agent") -> None:
    """Close the connection: the new terms prove themselves on the next one."""
    await asyncio.sleep_ms(_REPLY_MS)
    if agent.token is not None:
        agent.token.renewing = True
    agent.client.close()
