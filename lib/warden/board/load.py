"""Find and join the parts that board.py names.

ROOT_KEY = ("efuse", …) is made by make() of hal/rootkey_efuse.py, STORE = ("file", …) by that of
hal/store_file.py. Only the modules that a board names are loaded.
"""

from micropython import const

from .. import unload
from ..errors import StoreError, UsageError
from ..vault import Vault

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..vault import RootKey, Store


# The names of check.py, which is loaded only where something is wrong.
_NAMES = (
    "STORE ROOT_KEY ASK CLOCK NETWORK KEYPAD DISPLAY DEVELOPMENT SLOTS ROOT_KEY_BEFORE"
    " NAME WATCHDOG FLOOR"
)
# What a value of the wrong kind raises where a part is made of it.
WRONG = (AttributeError, IndexError, TypeError, UsageError, ValueError)
_RECORD = const(4096)  # at most in one of the vault's records
# The PIN that was typed for boot.py, until main.py has its vault: one start asks once.
_typed: "list[bytes]" = []
# The vault that board/slots.py opened, until main.py uses it or another one of this board is made.
opened: "list[Vault]" = []


def board_vault(ask: "Callable[[], bytes] | None" = None) -> "tuple[Any, Vault]":
    """Return (the module board.py, the vault that it describes, not opened yet).

    ask(): returns the PIN where the root key needs one; without it board.ASK does. UsageError
    no-board where board.py is missing, is not Python, or names what Warden does not know.
    """
    board = _board()
    while opened:  # two open vaults would not know of each other's commits
        opened.pop().close()
    try:
        return board, Vault(store(board.STORE), root_key(board.ROOT_KEY, ask))
    except WRONG as error:
        raise explained(board, error)


def check() -> None:
    """Check all of board.py, as provisioning does. UsageError no-board for the first mistake."""
    found = _problems(_board())
    if found:
        raise _refusal(found)


def explained(board: "Any", error: Exception) -> Exception:
    """Return the UsageError no-board that says what is wrong in board.py, else this error."""
    found = _problems(board)
    return _refusal(found) if found else error


def _board() -> "Any":
    """Import board.py. UsageError no-board."""
    try:
        import board
    except ImportError as error:
        if not str(error).endswith("'board'"):
            raise  # a module that board.py imports is missing
        raise UsageError(
            "no-board", "there is no board.py: take the one of your board from boards/"
        )
    except SyntaxError as error:
        from .check import syntax

        raise _refusal([syntax(error)])
    return board


def _problems(board: "Any") -> "list[str]":
    """Return what is wrong in board.py, a sentence each."""
    from .check import problems

    found = problems({name: getattr(board, name) for name in dir(board)})
    unload("warden.board.check")
    return found


def _refusal(found: "list[str]") -> UsageError:
    """Print what is wrong, and return the error that says the first of it.

    A build for boards drops an error's second argument, but not this one.
    """
    for sentence in found:
        print("board.py:", sentence)
    return UsageError(*("no-board", found[0]))


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


def app_held() -> bool:
    """Return whether this start is to go without the application (board/app_failures.py)."""
    from ..hal import reset_cause

    try:
        if not opened:
            opened.append(open_board()[1])
        ended = reset_cause.ended()
        if ended == "reset" and _may_develop(_board(), opened[0]):
            ended = ""  # by mpremote, or by the end of the mode
        if not ended and "failures" not in opened[0].names():
            return False
        from .app_failures import hold

        return hold(opened[0], ended)
    except Exception:  # of any kind: the application meets it when it opens the vault, and tells
        while opened:
            opened.pop().close()
        return False


def is_bare() -> bool:
    """Return whether this board has no vault, and so no secret that a console could give away.

    After app_held() or boot_slots(), which finish a wipe. False where board.py or the store can't
    be read.
    """
    if opened:
        return False
    try:
        from ..vault.opening import WIPED

        found = store(_board().STORE)
        return found.read("commit", _RECORD) is None and found.read("key", _RECORD) != WIPED
    except Exception:  # of any kind: there may be a vault
        return False


def app_ended(at: str) -> None:
    """Record that the application ended (board/app_failures.py).

    at: the name of the exception's class, or `ended`
    Raises: StoreError, UsageError no-board: there is no vault to record it in.
    """
    from .app_failures import count

    count(open_board, at)


def parts(
    ask: "Callable[[], bytes] | None" = None,
) -> "tuple[Vault, Any, Any, int, list[str], str]":
    """Return what board.py describes.

    As (open vault, clock chip, network or None, the clock's floor in unix seconds, what is wrong
    in board.py and can be done without, why the console is open or "").
    """
    for name in ("warden.board.slots", "warden.ota.boot", "warden.ota.slots"):
        unload(name)  # boot.py has chosen the slot
    vault = opened.pop() if opened else open_board(ask)[1]
    import board

    del _typed[:]
    try:
        rtc, mode = _clock(board), ""
        if _may_develop(board, vault):
            from .development import start

            mode = start(board, vault, rtc)
        if not mode and hasattr(board, "WATCHDOG"):
            from ..hal import watchdog

            watchdog.keep(board.WATCHDOG)
        network = _network(vault, board.NETWORK)
        known = _NAMES.split()
        unknown = [name for name in dir(board) if name.isupper() and name not in known]
        vault.drop_root_key()  # the board opens it again at its next start
        return vault, rtc, network, board.FLOOR, _problems(board) if unknown else [], mode
    except WRONG as error:
        raise explained(board, error)


def in_development(board: "Any", vault: "Vault") -> bool:
    """Return whether this start leaves the console open; then no watchdog ends a REPL."""
    if not _may_develop(board, vault):
        return False
    from .development import wanted

    return wanted(board, vault, _clock(board)) is not None


def _may_develop(board: "Any", vault: "Vault") -> bool:
    """Return whether there is anything for development.py to look at."""
    from ..hal import system

    asked = hasattr(board, "DEVELOPMENT") or "development" in vault.names()
    return asked or system.console_timer is not None


def _clock(board: "Any") -> "Any":
    clock = board.CLOCK
    if clock[0] == "chip":
        from ..hal import clock_rtc

        return clock_rtc.ChipClock()
    from ..hal import clock_system

    return clock_system.SystemClock(*clock[1:])


def _network(vault: "Vault", args: "Any") -> "Any":
    """Make the network of board.NETWORK, or return None for "wired". UsageError no-network."""
    kind, rest = (args, ()) if isinstance(args, str) else (args[0], args[1:])
    if kind == "wired":
        return None
    make = find("network_", kind)
    if kind != "wifi":
        return make(rest)
    from ..vault import records
    from ..wire import cbor

    networks = records.load_networks(vault)
    if not networks:
        raise UsageError(
            "no-network",
            "board.py says Wi-Fi, and the vault has no network: provision it with one",
        )
    return make(rest, networks, (vault.put, cbor.encode))


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
    ask, typed = find("ask_", asks[0])(asks[1:]), _typed

    def once() -> bytes:  # outlives this module, which agent/device.py empties: no globals here
        if not typed:
            typed.append(ask())
        return typed[0]

    return once


def find(prefix: str, kind: str) -> "Callable[..., Any]":
    """Return make() of hal/PREFIXKIND.py."""
    name = prefix + kind
    try:
        make: "Callable[..., Any]" = __import__("warden.hal." + name, None, None, ("make",)).make
    except ImportError as error:
        raise UsageError(
            "no-board",
            "board.py names a part that Warden or this firmware does not know: %s (%s)"
            % (kind, error),
        )
    return make
