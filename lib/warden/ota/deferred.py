"""Keep an update across a restart where its manifest can't be verified beside a connected agent,
for lack of heap: the next start verifies it before there is an agent.

    save(vault, envelope, wrapped, granted)          by the agent, which starts the board anew
    defer(agent, args)                               the same where the code of updates has no room
    result.update = load(vault, slots, running)      by that start; ota/service.py goes on with it

It is kept in the vault, so that an attacker who writes the flash can place neither an update nor a
grant, nor bring an old one back. It is removed before it is read: a start that fails at it is
followed by one without it, and the authority sends it again. The same commit raises the counter of
the agent's starts, which each of them raises anyway, so that this costs no write of its own.

records `parked0`, `parked1`, …    CBOR [envelope, wrapped key or null, granted], in pieces of
                                   4,096 bytes
"""

from micropython import const

from ..errors import PeerError, WardenError
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..agent.interface import Agent
    from ..vault import Vault
    from .slots import Slots
    from .update import Update

_PIECE = const(4096)
_MOST_ENVELOPE = const(8192)  # as in wire/suit_plan.py, for whose file there is no room here
_MOST_KEY = const(61)  # ota/payload.py: nonce, content key, tag


def read_order(
    args: "dict[str, Any]",
) -> "tuple[bytes, bytes | None, bool, list[bytes] | None]":
    """Return (envelope, wrapped key, granted, pins) of an order to install.

    pins: of the web server, [] for the broker's, None where none is to be asked
    Raises: PeerError bad-body.
    """
    envelope, key, pins = args["envelope"], args.get("key", b""), args.get("pins", [])
    for name in args:
        if name not in ("envelope", "key", "grant", "pins", "https"):
            raise PeerError("bad-body")
    good = isinstance(envelope, bytes) and isinstance(key, bytes)
    good = good and args.get("grant", True) is True and isinstance(args.get("https", True), bool)
    if not (good and isinstance(pins, list) and (not pins or 2 <= len(pins) <= 4)):
        raise PeerError("bad-body")
    for pin in pins:
        if not isinstance(pin, bytes) or len(pin) != 32:
            raise PeerError("bad-body")
    return envelope, args.get("key"), "grant" in args, pins if args.get("https", True) else None


def defer(agent: "Agent", args: "dict[str, Any]") -> "dict[str, Any]":
    """Keep an order to install for the next start, and return its status.

    The caller starts the board anew. Not during a trial: a start would cost it an attempt.

    Raises: PeerError: bad-body, suit-limit, or an error of the store; its code is reported as an
      incident.
    """
    try:
        save(agent.vault, *read_order(args)[:3])
    except WardenError as error:
        agent.report(error.code, "update")
        raise PeerError(error.code, error.text)
    # The number is not known yet.
    return {"state": "Downloading", "reason": "", "sequence": 0, "want": None}


def save(vault: "Vault", envelope: bytes, wrapped: "bytes | None", granted: bool) -> None:
    """Keep an update for the next start.

    Raises: PeerError suit-limit: it is larger than any; StoreError: the store has no room for it.
    """
    # Its size was not verified yet: memory may have ended before.
    if len(envelope) > _MOST_ENVELOPE or len(wrapped or b"") > _MOST_KEY:
        raise PeerError("suit-limit", "the envelope is too large, or its key")
    data = cbor.encode([envelope, wrapped, granted])
    # An earlier one may be left that could not be removed: none of its pieces may follow this
    # one's.
    pieces: "dict[str, bytes | None]" = {name: None for name in _names(vault)}
    for at in range(0, len(data), _PIECE):
        pieces["parked%d" % (at // _PIECE)] = data[at : at + _PIECE]
    vault.commit(pieces)


def load(vault: "Vault", slots: "Slots", running: "int | None") -> "Update | None":
    """Remove the parked update, verify its manifest, and return it. Raises nothing: an update must
    not keep the application from starting.

    Returns: the update, whose state says how it was refused; None where it can't be removed. This
      start ignores it then, and the vault is closed
    """
    from .update import Update

    update = Update(b"", None, False)
    data = b""
    try:
        names = _names(vault)
        boot = vault.counter("boot") + 1
        try:
            data = b"".join([vault.get(name) or b"" for name in names])
        except MemoryError:
            pass  # it goes all the same, or each start would try it again
        vault.commit({name: None for name in names}, {"boot": boot})
    except Exception:  # a flash that is full, worn out, or can't be written at all
        vault.close()
        return None
    try:
        fields: "Any" = cbor.decode(data)
        update = Update(*fields)
        update.verify(vault, slots, running)
    except Exception as error:  # of Warden, memory or flash: no verdict, it may be sent again
        if not update.state:
            memory = isinstance(error, MemoryError)
            update.end("Aborted", "out-of-memory" if memory else "command-failed")
    update.boot = boot
    return update


def _names(vault: "Vault") -> "list[str]":
    return sorted([name for name in vault.names() if name.startswith("parked")])
