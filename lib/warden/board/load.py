"""The parts that board.py names, found and put together. ROOT_KEY = ("efuse", …) is hal/rootkey_efuse.py, STORE = ("file", …)
is hal/store_file.py: each has a make().

Each part's module is loaded when a board names it, and no other.
"""

from micropython import const

from ..errors import StoreError, UsageError
from ..vault import Vault

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..vault import RootKey, Store


# What was typed for boot.py, until main.py has its vault open: nobody is asked twice in one start.
_typed: "list[bytes]" = []
# The vault that boot.py opened, until main.py takes it or another one of this board is made.
_opened: "list[Vault]" = []


def board_vault(ask: "Callable[[], bytes] | None" = None) -> "tuple[Any, Vault]":
    """(board.py, the vault that it describes, not opened yet). ask: gives the passphrase or PIN where the root key wants one; without it, board.ASK does.

    UsageError no-board when board.py is missing from the module path, or asks for what Warden does not know.
    """
    try:
        import board
    except ImportError as error:
        if not str(error).endswith("'board'"):
            raise  # board.py is there, and imports what is not
        raise UsageError(
            "no-board", "there is no board.py: take the one of your board from boards/"
        )
    while _opened:  # what another vault writes, this one would not know
        _opened.pop().close()
    return board, Vault(store(board.STORE), root_key(board.ROOT_KEY, ask))


def open_board(ask: "Callable[[], bytes] | None" = None) -> "tuple[Any, Vault]":
    """The same with the vault open. A wipe that the power interrupted is finished first (StoreError not-provisioned). Where board.py names ROOT_KEY_BEFORE and
    only that opens the vault, everything is sealed anew under ROOT_KEY."""
    board, vault = board_vault(ask)
    try:
        vault.open(True)
    except StoreError as error:
        if error.code == "wiped":
            from ..vault.wipe import finish

            finish(vault.store)
            raise StoreError("not-provisioned", "this device was wiped")
        before = getattr(board, "ROOT_KEY_BEFORE", None)
        if error.code != "root-key" or before is None:
            raise
        vault = Vault(vault.store, root_key(before, ask))
        vault.open()
        from ..vault.rekey import reseal

        vault = reseal(vault, root_key(board.ROOT_KEY, ask))
    return board, vault


def boot_slots(args: "tuple[Any, ...]") -> None:
    """Mount the slot that is to run, by board.SLOTS = (kind, path, names, attempts, key digests of firmware or nothing). When neither can run, /app is
    gone from the module path: main.py then starts the agent alone. Nothing happens on a board that is not provisioned."""
    import sys

    # Whatever fails below, nothing that was not verified runs.
    sys.path.remove("/app")
    try:
        board, vault = open_board()
    except StoreError as error:
        if error.code == "not-provisioned":
            return
        raise
    from ..ota import boot

    # Not before the vault is open: a wipe that is finished there, or a PIN that is typed, may take its time.
    feed = None
    if hasattr(board, "WATCHDOG"):
        from ..hal import watchdog

        feed = watchdog.start(board.WATCHDOG)

    slots = find("slots_", args[0])(args[1:])
    if len(args) > 4:
        slots.judges = _judges(args[4])
    outcome = boot.start(vault, slots, args[3], _damaged, feed)
    if outcome.mode == "switch":
        from ..hal import system

        vault.close()
        system.reset()
        return
    _opened.append(vault)
    if outcome.mode != "recovery":
        sys.path.insert(1, "/app")


def _judges(digests: "tuple[str, ...]") -> "Callable[[int], Any]":
    """A firmware is taken only where one of these keys signed it, as `espsecure` does; digests: in hex, as the fuses have them."""

    def judge(size: int) -> "Any":
        from ..crypto import p256, rsa
        from ..wire import sbv2

        trusted = [bytes.fromhex(digest) for digest in digests]
        return sbv2.Check(size, trusted, rsa.PublicKey, p256.PublicKey)

    return judge


def _damaged(slot: int) -> None:
    """A block of the slot that runs was changed: it is given up, and the board starts anew with the other one."""
    from ..hal import system
    from ..ota.slots import SlotRecord

    _, vault = open_board()
    SlotRecord(vault).fail(slot)
    system.reset()


def parts(ask: "Callable[[], bytes] | None" = None) -> "tuple[Vault, Any, Any, int]":
    """(the vault, open; the clock; what brings the board online, or None; the clock's floor)."""
    vault = _opened.pop() if _opened else open_board(ask)[1]
    import board

    del _typed[:]
    if hasattr(board, "WATCHDOG"):
        from ..hal import watchdog

        watchdog.keep(board.WATCHDOG)
    from ..hal import clock_rtc

    clock = board.CLOCK
    rtc = clock_rtc.ChipClock() if clock[0] == "chip" else clock_rtc.SystemClock(*clock[1:])
    interface = None
    if board.NETWORK == "wifi":
        from ..vault import records

        network = records.load(vault, "network")
        if network is not None:
            from ..hal import wifi

            interface = wifi.WiFi(*network)
    return vault, rtc, interface, board.FLOOR


def store(args: "tuple[Any, ...]") -> "Store":
    """The store of board.STORE."""
    made: "Store" = find("store_", args[0])(args[1:])
    return made


def root_key(args: "tuple[Any, ...]", ask: "Callable[[], bytes] | None" = None) -> "RootKey":
    """The root key of board.ROOT_KEY: its kind, then what that kind wants (docs/formats.md, Root keys)."""
    from ..crypto import kdf, rand

    rest = args[1:]
    make = find("rootkey_", args[0])
    made: "RootKey"
    if args[0] == "pin":
        from ..crypto import pbkdf2

        if ask is None:
            ask = _board_ask()
        inner = None if rest[2] is None else root_key(rest[2])
        made = make(rest[:2], ask, inner, pbkdf2.pbkdf2_sha256, kdf, rand.random_bytes)
    else:
        made = make(rest, kdf.hmac_sha256, rand.random_bytes)
    return made


def _board_ask() -> "Callable[[], bytes]":
    """By board.ASK, once a start."""
    import sys

    asks = getattr(sys.modules.get("board"), "ASK", None)
    if asks is None:
        raise UsageError(
            "no-board",
            "this board's root key wants a PIN: name an ASK in board.py, or give from_board() an `ask`",
        )
    ask = find("ask_", asks[0])(asks[1:])

    def once() -> bytes:
        if not _typed:
            _typed.append(ask())
        return _typed[0]

    return once


def find(prefix: str, kind: str) -> "Callable[..., Any]":
    """make() of hal/PREFIXKIND.py. By its name alone: each class and kind that stood here would keep its name in a board's memory for ever, and
    there is one board."""
    try:
        module = __import__("warden.hal." + prefix + kind, None, None, ("make",))
    except ImportError as error:
        raise UsageError(
            "no-board",
            "board.py names a part that Warden or this firmware does not know: %s (%s)"
            % (kind, error),
        )
    make: "Callable[..., Any]" = module.make
    return make
