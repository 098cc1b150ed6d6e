"""Turn an account's rights into RabbitMQ's topic permissions: one pattern to write, one to read.

RabbitMQ checks a subscription when it is made and no message that goes to it, so that rights to
receive have no word there; a subscription to a literal filter is its routing key.
"""

import re
from collections.abc import Iterable

from warden_host.broker.accounts import Action, Right

_NOTHING = r"^\z"  # no topic is empty


def patterns(rights: Iterable[Right]) -> tuple[str, str]:
    """Return (write, read) for a user's topic permissions on one exchange."""
    write, read = [], []
    for action, topic in rights:
        if action is Action.PUBLISH:
            write.append(_covered(topic))
        elif action is Action.SUBSCRIBE:
            read.append(_covered(topic))
        elif action is Action.SUBSCRIBE_TO:
            read.append(re.escape(_key(topic)))
    return _any(write), _any(read)


def _any(found: list[str]) -> str:
    """Return a pattern for all of these; RabbitMQ looks for it anywhere in a routing key."""
    return rf"^(?:{'|'.join(found)})\z" if found else _NOTHING


def _key(topic: str) -> str:
    """Return the routing key of a filter: levels end with a dot, and + is *."""
    return topic.replace("/", ".").replace("+", "*")


def _covered(filter_: str) -> str:
    """Return the pattern of the routing keys and filters that a filter covers."""
    words = {"+": "[^.#]+", "#": ".+"}
    return r"\.".join(words.get(level) or re.escape(level) for level in filter_.split("/"))
