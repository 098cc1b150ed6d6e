"""The policy's terms of incidents: what is kept, and reactions. Loaded for version 5 alone."""

from micropython import const

from ..errors import UsageError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

# Key, least and most, inclusive; docs/protocol.md holds the same tables, and says who can bring
# each reaction about. So none but what somebody does at the device itself can wipe it.
_NUMBERS = const((("writes", 0, 1000), ("lock_s", 10, 3600), ("wipe_after", 3, 1000)))
_REACTIONS = const(
    (
        ("junk", "ignore delay"),
        ("apps", "ignore delay lock"),
        ("codes", "lock wipe"),
        ("tamper", "ignore lock wipe"),
    )
)


def split_incidents(fields: "dict[str, Any]") -> "dict[str, Any]":
    """Remove the keys of version 5 from a record's map; return their terms, checked.

    UsageError bad-policy.
    """
    terms: "Any" = fields.pop("incidents", None)
    if not isinstance(terms, dict) or len(terms) != len(_NUMBERS) + len(_REACTIONS):
        raise UsageError("bad-policy", "incidents must hold exactly the documented keys")
    for key, least, most in _NUMBERS:
        number = terms.get(key)
        if type(number) is not int or not least <= number <= most:
            raise UsageError(
                "bad-policy", "incidents' %s must lie in %d to %d" % (key, least, most)
            )
    for key, reactions in _REACTIONS:
        reaction = terms.get(key)
        if not isinstance(reaction, str) or reaction not in reactions.split():
            raise UsageError("bad-policy", "incidents' %s is none of %s" % (key, reactions))
    return terms
