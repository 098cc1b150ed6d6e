"""Keep an update across a restart where its manifest can't be verified beside a connected agent,
for lack of heap: the next start verifies it before there is an agent.

    save(vault, update)                              by the agent, which starts the board anew
    result.update = load(vault, slots, running)      by that start; ota/service.py goes on with it

It is kept in the vault, so that an attacker who writes the flash can place neither an update nor a
grant, nor bring an old one back. It is removed before it is read: a start that fails at it is
followed by one without it, and the authority sends it again. The same commit raises the counter of
the agent's starts, which each of them raises anyway, so that this costs no write of its own.

records `parked0`, `parked1`, …    CBOR [envelope, wrapped key or null, granted], in pieces of
                                   4,096 bytes
"""

from micropython import const

from ..errors import PeerError
from ..wire import cbor
from ..wire.suit_plan import MAX_ENVELOPE
from .update import Update

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault
    from .slots import Slots

_PIECE = const(4096)
_MOST_KEY = const(61)  # ota/payload.py: nonce, content key, tag


def save(vault: "Vault", update: Update) -> None:
    """Keep an update for the next start.

    Raises: PeerError suit-limit: it is larger than any; StoreError: the store has no room for it.
    """
    # Its size was not verified yet: memory may have ended before.
    if len(update.envelope) > MAX_ENVELOPE or len(update.wrapped or b"") > _MOST_KEY:
        raise PeerError("suit-limit", "the envelope is too large, or its key")
    data = cbor.encode([update.envelope, update.wrapped, update.granted])
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
