"""Development mode: a start that leaves the console open, so that mpremote reaches the board.

The policy has to allow it (`development`), and one of both asks for it: the pin of DEVELOPMENT in
board.py, held, or the authority's order `develop`, until it expires. The order is the vault's
record `development`; each start counts in it. Anyone at the console then has all that the
board has, its secrets too.
"""

from micropython import const

from ..errors import StoreError
from ..hal import console
from ..vault import records
from ..wire import cbor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from ..vault import Vault

_FORMAT = const(1)
_PIN = const((0, 0))  # it has no end


def wanted(board: "Any", vault: "Vault", rtc: "Any") -> "tuple[int, int] | None":
    """Return (end in unix seconds, seconds left) of the order, _PIN, or None: not to be.

    rtc: the clock; a time before the marks of board.py and of the vault is not believed.
    """
    if records.load(vault, "policy").get("development") is not True:
        return None
    if hasattr(board, "DEVELOPMENT") and console.held(*board.DEVELOPMENT[1:]):
        return _PIN
    if "development" not in vault.names():
        return None
    _, until, starts, left = records.load(vault, "development")
    mark = vault.counter("time") - records.clock_shift(vault)
    # Not by the clock alone: an RP2's starts anew at each reset, hours before the order.
    left = min(left, until - max(rtc.now(), mark, board.FLOOR))
    kept = console.seconds_left(until)
    if kept is not None:
        left = min(left, kept)
    return (until, left) if starts > 0 and left > 0 else None


def start(board: "Any", vault: "Vault", rtc: "Any") -> str:
    """Open the console where it is wanted; return "pin" or "order", else ""."""
    found = wanted(board, vault, rtc)
    is_order = found is not None and found != _PIN
    if not _count(vault, found if is_order else None):
        found = None
    if found is None:
        console.close()
        return ""
    console.open_console(*found, None if is_order else board.DEVELOPMENT[1:])
    return "order" if is_order else "pin"


def _count(vault: "Vault", order: "tuple[int, int] | None") -> bool:
    """Count this start in the order's record, or remove the record of one that is over.

    Return False where the flash is full: what can't be counted opens nothing.
    """
    if "development" not in vault.names():
        return True
    record = None
    if order is not None:
        _, until, starts, _ = records.load(vault, "development")
        record = cbor.encode([_FORMAT, until, starts - 1, order[1]])
    try:
        vault.commit({"development": record})
    except StoreError as error:
        if error.code != "vault-limit":
            raise
        return order is None
    return True
