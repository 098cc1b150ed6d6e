"""An update whose judgement does not fit into the heap beside a connected agent: its order is kept across a restart, and judged at that start, before there
is an agent.

    park(vault, order)                               by the agent, which then starts the board anew
    outcome.order = unpark(vault, slots, running)    by that start; ota/service.py goes on with it

The order lies in the vault, so nobody who writes the flash can place one, nor a grant, nor bring an old one back. It is taken away before it is looked at:
a start that fails at it is followed by one that knows nothing of it, and the authority sends it again. The same commit raises the counter of the agent's
starts, which each of them raises anyway, so that this costs no write of its own.

records `parked0`, `parked1`, …    CBOR [envelope, wrapped key or null, granted], in pieces of 4,096 bytes
"""

from micropython import const

from ..errors import PeerError
from ..wire import cbor
from ..wire.suit_plan import MAX_ENVELOPE
from .order import Order

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault
    from .download import Slots

_PIECE = const(4096)
_MOST_KEY = const(61)  # ota/payload.py: nonce, content key, tag


def park(vault: "Vault", order: Order) -> None:
    """PeerError suit-limit when it is larger than any order; StoreError when the store has no room for it."""
    # Nobody has judged its size yet: memory may have ended before.
    if len(order.envelope) > MAX_ENVELOPE or len(order.wrapped or b"") > _MOST_KEY:
        raise PeerError("suit-limit", "the envelope is too large, or its key")
    data = cbor.encode([order.envelope, order.wrapped, order.granted])
    # What lies there could not be taken away at its start: no piece of it may stand behind this one's.
    pieces: "dict[str, bytes | None]" = {name: None for name in _names(vault)}
    for at in range(0, len(data), _PIECE):
        pieces["parked%d" % (at // _PIECE)] = data[at : at + _PIECE]
    vault.commit(pieces)


def unpark(vault: "Vault", slots: "Slots", running: "int | None") -> "Order | None":
    """The order, judged; with its state and reason where it was refused. None where it can't be taken away: then this start has nothing to do with it, and the
    vault is closed. Raises nothing: an order must not keep the application from starting, whatever is the matter with it."""
    order = Order(b"", None, False)
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
        order = Order(*fields)
        order.judge(vault, slots, running)
    except Exception as error:  # of Warden, memory or flash: no verdict, the order may come again
        if not order.state:
            memory = isinstance(error, MemoryError)
            order.drop("Aborted", "out-of-memory" if memory else "command-failed")
    order.boot = boot
    return order


def _names(vault: "Vault") -> "list[str]":
    return sorted([name for name in vault.names() if name.startswith("parked")])
