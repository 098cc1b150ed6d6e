"""The policy's terms of the connection: log-in, TLS and outbox. Loaded for version 4 alone."""

from micropython import const

from ..errors import UsageError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

# Key and values; docs/protocol.md holds the same table.
_CHOICES: "tuple[tuple[str, tuple[Any, ...]], ...]" = (
    (
        "auth",
        (
            "password",
            "token",
            "certificate",
            "certificate-and-password",
            "certificate-or-password",
            "certificate-and-token",
            "certificate-or-token",
        ),
    ),
    ("tls", (True, False)),
    ("outbox_keep", ("connection", "reboot")),
    ("outbox_drop", ("oldest", "newest")),
)
_OUTBOX_MOST = const(64)


def split(fields: "dict[str, Any]", mode: str) -> "dict[str, Any]":
    """Remove the keys of version 4 from a record's map; return them as a map, checked.

    mode: of the record. UsageError bad-policy.
    """
    terms: "dict[str, Any]" = {"outbox": fields.pop("outbox", None)}
    if type(terms["outbox"]) is not int or not 0 <= terms["outbox"] <= _OUTBOX_MOST:
        raise UsageError("bad-policy", "outbox must lie in 0 to %d" % _OUTBOX_MOST)
    for key, values in _CHOICES:
        value = terms[key] = fields.pop(key, None)
        # 1 is no True here, though it equals it.
        if type(value) is not type(values[0]) or value not in values:
            raise UsageError("bad-policy", key + " has none of the documented values")
    # A token or a plain command would be worth nothing on a line that all can read.
    if not terms["tls"] and (mode != "sealed" or terms["auth"] != "password"):
        raise UsageError("bad-policy", "without TLS only mode sealed and auth password are safe")
    return terms
