"""The parts that board.py names, found and put together: the only place that knows which root keys and stores there are.

Each part's module is loaded when a board names it, and no other.
"""

from micropython import const

from .errors import StoreError, UsageError
from .vault import Vault

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

    from .vault import RootKey, Store


def board_vault(ask: "Callable[[], bytes] | None" = None) -> "tuple[Any, Vault]":
    """(board.py, the vault that it describes, not opened yet). ask: gives the passphrase or PIN where the root key wants one.

    UsageError no-board when board.py is missing from the module path, or asks for what Warden does not know.
    """
    try:
        import board
    except ImportError:
        raise UsageError(
            "no-board", "there is no board.py: take the one of your board from boards/"
        )
    return board, Vault(store(board.STORE), root_key(board.ROOT_KEY, ask))


def open_board(ask: "Callable[[], bytes] | None" = None) -> "tuple[Any, Vault]":
    """The same with the vault open. A wipe that the power interrupted is finished first (StoreError not-provisioned). Where board.py names ROOT_KEY_BEFORE and
    only that opens the vault, everything is sealed anew under ROOT_KEY."""
    board, vault = board_vault(ask)
    try:
        vault.open()
    except StoreError as error:
        if error.code == "wiped":
            from .wipe import finish

            finish(vault._store)
            raise StoreError("not-provisioned", "this device was wiped")
        before = getattr(board, "ROOT_KEY_BEFORE", None)
        if error.code != "root-key" or before is None:
            raise
        vault = Vault(vault._store, root_key(before, ask))
        vault.open()
        from .reseal import reseal

        reseal(vault, root_key(board.ROOT_KEY, ask))
    return board, vault


def parts(ask: "Callable[[], bytes] | None" = None) -> "tuple[Vault, Any, Any, int]":
    """(the vault, open; the clock; what brings the board online, or None; the clock's floor)."""
    board, vault = open_board(ask)
    from .hal import clock_rtc

    clock = board.CLOCK
    rtc = clock_rtc.ChipClock() if clock[0] == "chip" else clock_rtc.SystemClock(*clock[1:])
    interface = None
    if board.NETWORK == "wifi":
        from . import records

        network = records.load(vault, "network")
        if network is not None:
            from .hal import wifi

            interface = wifi.WiFi(*network)
    return vault, rtc, interface, board.FLOOR


def store(args: "tuple[Any, ...]") -> "Store":
    """The store of board.STORE."""
    if args[0] == "file":
        from .hal import store_file

        return store_file.FileStore(args[1])
    if args[0] == "flash":
        from .hal import store_flash

        return store_flash.FlashStore(store_flash.device(*args[3:]), args[1], args[2])
    if args[0] == "nvs":
        from .hal import store_nvs

        return store_nvs.NvsStore(args[1])
    raise UsageError("no-board", "board.py names a store that Warden does not know")


def root_key(args: "tuple[Any, ...]", ask: "Callable[[], bytes] | None" = None) -> "RootKey":
    """The root key of board.ROOT_KEY: its kind, then what that kind wants (docs/formats.md, Root keys)."""
    from .crypto import kdf
    from .crypto.rand import random_bytes

    kind, rest = args[0], args[1:]
    if kind == "chip":
        from .hal import rootkey_chip

        return rootkey_chip.ChipRootKey(rest[0], kdf.hmac_sha256, random_bytes)
    if kind == "software":
        from .hal import rootkey_software

        return rootkey_software.SoftwareRootKey(rest[0], kdf.hmac_sha256, random_bytes)
    if kind == "efuse":
        from .hal import rootkey_efuse

        return rootkey_efuse.EfuseRootKey(rest[0], rest[1], kdf.hmac_sha256)
    if kind == "atecc":
        from .hal import rootkey_atecc

        return rootkey_atecc.from_pins(*rest)
    if kind == "pin":
        from .crypto.pbkdf2 import pbkdf2_sha256
        from .hal import rootkey_pin

        if ask is None:
            raise UsageError(
                "no-board", "this board's root key wants a PIN: give from_board() an `ask`"
            )
        path, iterations, other = rest
        inner = None if other is None else root_key(other)
        return rootkey_pin.PinRootKey(
            path, iterations, ask, inner, pbkdf2_sha256, kdf.hkdf, kdf.hmac_sha256, random_bytes
        )
    raise UsageError("no-board", "board.py names a root key that Warden does not know")
