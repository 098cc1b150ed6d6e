"""Find and join the parts that board.py names.

ROOT_KEY = ("efuse", …) is made by make() of hal/rootkey_efuse.py, STORE = ("file", …) by that of
hal/store_file.py. Only the modules that a board names are loaded.
"""

from micropython import const

from ..errors import StoreError, UsageError
from ..vault import Vault

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..vault import RootKey, Store


# The PIN that was typed for boot.py, until main.py has its vault: one start asks once.
_typed: "list[bytes]" = []
# The vault that boot.py opened, until main.py uses it or another one of this board is made.
_opened: "list[Vault]" = []


def board_vault(ask: "Callable[[], bytes] | None" = None) -> "tuple[Any, Vault]":
    """Return (the module board.py, the vault that it describes, not opened yet).

    ask(): returns the PIN where the root key needs one; without it board.ASK does. UsageError
    no-board where board.py is missing, or names a part that Warden does not know.
    """
    try:
        import board
    except ImportError as error:
        if not str(error).endswith("'board'"):
            raise  # a module that board.py imports is missing
        raise UsageError(
            "no-board", "there is no board.py: take the one of your board from boards/"
        )
    while _opened:  # two open vaults would not know of each other's commits
        _opened.pop().close()
    return board, Vault(store(board.STORE), root_key(board.ROOT_KEY, ask))


def open_board(ask: "Callable[[], bytes] | None" = None) -> "tuple[Any, Vault]":
    """Return what board_vault() does, with the vault open.

    A vault that only ROOT_KEY_BEFORE of board.py opens is sealed anew under ROOT_KEY. A wipe that
    a power cut interrupted is finished. StoreError: not-provisioned, and what Vault.open() raises.
    """
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
    """Mount the slot that is to run. A board that is not provisioned stays as it is.

    args: board.SLOTS: kind, path, names, attempts, and the digests of firmware keys if there are
    any. When neither slot can run, /app leaves the module path: main.py starts the agent alone.
    """
    import sys

    # If anything fails below, no unverified application runs.
    sys.path.remove("/app")
    try:
        board, vault = open_board()
    except StoreError as error:
        if error.code == "not-provisioned":
            return
        raise
    from ..ota import boot

    # Only now: a wipe that is finished, or a PIN that is typed, may take minutes.
    feed = None
    if hasattr(board, "WATCHDOG"):
        from ..hal import watchdog

        feed = watchdog.start(board.WATCHDOG)

    slots = find("slots_", args[0])(args[1:])
    if len(args) > 4:
        slots.make_check = _firmware_check(args[4])
    result = boot.start(vault, slots, args[3], _on_damage, feed)
    if result.mode == "switch":
        from ..hal import system

        vault.close()
        system.reset()
        return
    _opened.append(vault)
    if result.mode != "recovery":
        sys.path.insert(1, "/app")


def _firmware_check(digests: "tuple[str, ...]") -> "Callable[[int], Any]":
    """Return what makes the check of a firmware image of `size` bytes: signed as `espsecure` does.

    digests: of the trusted keys, in hex, as the fuses have them.
    """

    def make(size: int) -> "Any":
        from ..crypto import p256, rsa
        from ..wire import sbv2

        trusted = [bytes.fromhex(digest) for digest in digests]
        return sbv2.Check(size, trusted, rsa.PublicKey, p256.PublicKey)

    return make


def _on_damage(slot: int) -> None:
    """Give up the slot that runs, of which a block was changed, and restart with the other one."""
    from ..hal import system
    from ..ota.slots import SlotRecord

    _, vault = open_board()
    SlotRecord(vault).fail(slot)
    system.reset()


def parts(ask: "Callable[[], bytes] | None" = None) -> "tuple[Vault, Any, Any, int]":
    """Return (open vault, clock chip, network or None, the clock's floor in unix seconds)."""
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
    """Make the store of board.STORE."""
    made: "Store" = find("store_", args[0])(args[1:])
    return made


def root_key(args: "tuple[Any, ...]", ask: "Callable[[], bytes] | None" = None) -> "RootKey":
    """Make the root key of board.ROOT_KEY: kind and arguments (docs/formats.md, Root keys)."""
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
    """Return a function that asks for the PIN by board.ASK, once a start."""
    import sys

    asks = getattr(sys.modules.get("board"), "ASK", None)
    if asks is None:
        raise UsageError(
            "no-board",
            "this board's root key needs a PIN: name an ASK in board.py, or pass an `ask`",
        )
    ask = find("ask_", asks[0])(asks[1:])

    def once() -> bytes:
        if not _typed:
            _typed.append(ask())
        return _typed[0]

    return once


def find(prefix: str, kind: str) -> "Callable[..., Any]":
    """Return make() of hal/PREFIXKIND.py.

    There is no table of kinds: each name in it would stay in a board's memory.
    """
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
