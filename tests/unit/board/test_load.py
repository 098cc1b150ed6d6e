"""What board.py names, put together. The parts themselves have tests of their own."""

import io
import os
import sys

from board_model import DictStore
from harness import check, equal, raises
from warden.board import load
from warden.board.panel import panel
from warden.errors import StoreError, UsageError
from warden.hal import ask_console

SALT = "test_hardware.salt"


class Board:
    NAME = "TEST"
    STORE = ("file", "/tmp")
    ROOT_KEY = ("software", "/no/such/key")


def unknown(function, *arguments):
    check(isinstance(raises("no-board", function, *arguments), UsageError))


def test_no_board():
    unknown(load.board_vault)


def test_a_module_that_board_py_imports_is_missing():
    """It is there, and what it imports is not: that is what must be told."""
    folder = ("/tmp/" if hasattr(os, "getenv") else "/") + os.urandom(6).hex()
    path = folder + "/board.py"
    os.mkdir(folder)
    with open(path, "w") as file:
        file.write("import nothing_like_it\n")
    sys.path.insert(0, folder)
    try:
        load.board_vault()
        check(False, "it was imported")
    except ImportError as error:
        check("nothing_like_it" in str(error), str(error))
    finally:
        sys.path.pop(0)
        os.remove(path)
        os.rmdir(folder)


def test_unknown_parts():
    unknown(load.root_key, ("tea", "/x"))
    unknown(load.store, ("tea", "/x"))
    unknown(load.root_key, ("efuse", "esp32", 0))
    unknown(load.root_key, ("efuse", "esp32s3", 6))


def test_software():
    key = load.root_key(("software", "/no/such/key"))
    check(not key.exists())


def test_a_pin_needs_a_way_to_ask():
    unknown(load.root_key, ("pin", "/no/such/pin", 1000, None))
    asked = load.root_key(("pin", "/no/such/pin", 1000, None), lambda: b"1")
    check(not asked.exists())


def test_the_board_asks_once_a_start():
    """boot.py and main.py both need the vault: the PIN is typed once."""
    asked = []

    class Ask:
        @staticmethod
        def make(args):
            equal(args, ("here",))
            return lambda: asked.append(1) or b"1234"

    class Asking(Board):
        ROOT_KEY = ("pin", SALT, 1000, None)
        ASK = ("test", "here")
        CLOCK = ("system", "/no/such/clock")
        NETWORK = "wired"
        FLOOR = 1

    store = DictStore()
    kept = load.store
    load.store = lambda args: store
    sys.modules["board"], sys.modules["warden.hal.ask_test"] = Asking, Ask
    sys.modules["warden.hal"].ask_test = Ask
    try:
        _, vault = load.board_vault(lambda: b"1234")
        vault.create()
        vault.put("a", b"A")
        equal(asked, [])
        for start in (1, 2):
            _, vault = load.open_board()  # boot.py
            vault.close()
            equal(load.parts()[0].get("a"), b"A")
            equal(len(asked), start)
            equal(load._typed, [])
    finally:
        load.store = kept
        del sys.modules["board"], sys.modules["warden.hal.ask_test"]
        os.remove(SALT)


def test_the_vault_of_the_boot_goes_on():
    """main.py uses the vault that boot.py opened, once; another vault of this board closes it."""

    class Opened:
        closed = False

        def close(self):
            self.closed = True

    class Started(Board):
        CLOCK = ("system",)
        NETWORK = FLOOR = None

    vault = Opened()
    sys.modules["board"] = Started
    try:
        load._opened.append(vault)
        check(load.parts()[0] is vault)
        equal((load._opened, vault.closed), ([], False))
        load._opened.append(vault)
        load.board_vault()
        equal((load._opened, vault.closed), ([], True))
    finally:
        del sys.modules["board"]
        del load._opened[:]


def test_the_console_asks():
    ask = ask_console._ask
    equal(ask(io.BytesIO(b"1234\nrest")), b"1234")
    equal(ask(io.BytesIO(b"\r\n\xc3\xa4 b\r\n")), b"\xc3\xa4 b")
    equal(ask(io.BytesIO(b"9" * 128 + b"\n")), b"9" * 128)
    rest = io.BytesIO(b"1234\nrest")
    ask(rest)
    equal(rest.read(), b"rest")
    for given in (b"", b"12", b"9" * 129 + b"\n"):
        check(isinstance(raises("root-key", ask, io.BytesIO(given)), StoreError))
    # A terminal that sends without end is not read for ever.
    endless = io.BytesIO(b"9" * 1000)
    raises("root-key", ask, endless)
    equal(len(endless.read()), 1000 - 129)
    check(callable(ask_console.make(())))


def test_a_pin_with_another_key():
    both = ("pin", "/no/such/pin", 1000, ("software", "/no/such/key"))
    key = load.root_key(both, lambda: b"1")
    equal(type(key._inner).__name__, "SoftwareRootKey")


def test_the_panel():
    """Keypad and display are made later, by the gate; a board without a keypad has no panel."""

    class Panel(Board):
        CLOCK = ("chip",)

    sys.modules["board"] = Panel
    try:
        equal(panel(), None)
        Panel.DISPLAY = ("console",)
        equal(panel(), None)
        Panel.KEYPAD = ("matrix", (1, 2), (3,), b"12")
        (make, args), display, kept = panel()
        equal((make.__name__, args, kept), ("make", ((1, 2), (3,), b"12"), False))
        equal(display[1], ())
        del Panel.DISPLAY
        equal(panel()[1], None)
        for clock in (("chip",), ("chip", False), ("chip", 1), ("system", True)):
            Panel.CLOCK = clock
            equal(panel()[2], False)
        Panel.CLOCK = ("chip", True)
        equal(panel()[2], True)
        Panel.KEYPAD = ("tea",)
        unknown(panel)
    finally:
        del sys.modules["board"]


def test_only_what_is_named_is_loaded():
    for name in ("rootkey_atecc", "rootkey_chip", "rootkey_efuse"):
        sys.modules.pop("warden.hal." + name, None)
    load.root_key(("software", "/no/such/key"))
    for name in ("rootkey_atecc", "rootkey_chip", "rootkey_efuse"):
        check("warden.hal." + name not in sys.modules, name)
