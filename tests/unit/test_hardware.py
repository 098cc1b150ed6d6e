"""What board.py names, put together. The parts themselves have tests of their own."""

import sys

from harness import check, equal, raises
from warden import hardware
from warden.errors import UsageError


class Board:
    NAME = "TEST"
    STORE = ("file", "/tmp")
    ROOT_KEY = ("software", "/no/such/key")


def unknown(function, *arguments):
    check(isinstance(raises("no-board", function, *arguments), UsageError))


def test_no_board():
    unknown(hardware.board_vault)


def test_unknown_parts():
    unknown(hardware.root_key, ("tea", "/x"))
    unknown(hardware.store, ("tea", "/x"))
    unknown(hardware.root_key, ("efuse", "esp32", 0))
    unknown(hardware.root_key, ("efuse", "esp32s3", 6))


def test_software():
    key = hardware.root_key(("software", "/no/such/key"))
    check(not key.exists())


def test_a_pin_wants_somebody_to_ask():
    unknown(hardware.root_key, ("pin", "/no/such/pin", 1000, None))
    asked = hardware.root_key(("pin", "/no/such/pin", 1000, None), lambda: b"1")
    check(not asked.exists())


def test_a_pin_with_another_key():
    both = ("pin", "/no/such/pin", 1000, ("software", "/no/such/key"))
    key = hardware.root_key(both, lambda: b"1")
    equal(type(key._inner).__name__, "SoftwareRootKey")


def test_the_panel():
    """Keypad and display are made later, by who waits for a code; a board without a keypad has none."""

    class Panel(Board):
        pass

    sys.modules["board"] = Panel
    try:
        equal(hardware.panel(), None)
        Panel.DISPLAY = ("console",)
        equal(hardware.panel(), None)
        Panel.KEYPAD = ("matrix", (1, 2), (3,), b"12")
        (make, args), display = hardware.panel()
        equal((make.__name__, args), ("make", ((1, 2), (3,), b"12")))
        equal(display[1], ())
        del Panel.DISPLAY
        equal(hardware.panel()[1], None)
        Panel.KEYPAD = ("tea",)
        unknown(hardware.panel)
    finally:
        del sys.modules["board"]


def test_only_what_is_named_is_loaded():
    for name in ("rootkey_atecc", "rootkey_chip", "rootkey_efuse"):
        sys.modules.pop("warden.hal." + name, None)
    hardware.root_key(("software", "/no/such/key"))
    for name in ("rootkey_atecc", "rootkey_chip", "rootkey_efuse"):
        check("warden.hal." + name not in sys.modules, name)
