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
from warden.wire import cbor


class Board:
    NAME = "TEST"
    STORE = ("file", "/no/such/store")
    ROOT_KEY = ("software", "/no/such/key")


def unknown(function, *arguments):
    check(isinstance(raises("no-board", function, *arguments), UsageError))


def test_no_board():
    unknown(load.board_vault)


def test_a_module_that_board_py_imports_is_missing():
    """It is there, and what it imports is not: that is what must be told."""
    with Folder("import nothing_like_it\n"):
        try:
            load.board_vault()
            check(False, "it was imported")
        except ImportError as error:
            check("nothing_like_it" in str(error), str(error))


def own_path():
    """Return a path that nothing has: other runs of this module use the same file system."""
    return ("/tmp/" if hasattr(os, "getenv") else "/") + os.urandom(6).hex()


class Folder:
    """A folder on the module path with a board.py of this text."""

    def __init__(self, text):
        self.text = text

    def __enter__(self):
        self.folder = own_path()
        os.mkdir(self.folder)
        with open(self.folder + "/board.py", "w") as file:
            file.write(self.text)
        sys.path.insert(0, self.folder)

    def __exit__(self, *error):
        sys.path.remove(self.folder)
        sys.modules.pop("board", None)
        os.remove(self.folder + "/board.py")
        os.rmdir(self.folder)


def test_a_board_py_that_is_no_python():
    """The sentence is there in the build for boards, too, which drops the texts of errors."""
    with Folder('NAME = "TEST"\nSTORE = ("file"\nCLOCK = ("chip",)\n'):
        for function in (load.board_vault, load.open_board, load.check, load.parts):
            error = raises("no-board", function)
            check(error.text.startswith("line "), error.text)
            check(error.text.endswith(" of board.py is not Python"), error.text)


def test_a_value_that_makes_no_part_is_explained():
    for line, text in (
        ("STORE = 5", "STORE must be a tuple"),
        ('STORE = ("fiel", "/v")', "STORE has no kind 'fiel'"),
        ('STORE = ("file",)', 'write ("file", PATH)'),
        ('ROOT_KEY = ("efuse", "esp32s3")', 'write ("efuse", CHIP, BLOCK)'),
        ("STORAGE = 1", "STORE is missing"),
    ):
        with Folder('ROOT_KEY = ("software", "/key")\n%s\n' % line):
            error = raises("no-board", load.board_vault)
            check(isinstance(error, UsageError))
            # The first sentence is about what is missing, where something is.
            import board
            from warden.board.check import problems

            found = problems({name: getattr(board, name) for name in dir(board)})
            equal(error.text, found[0])
            check(any([text in sentence for sentence in found]), str(found))


def test_an_error_that_board_py_does_not_explain_stays_as_it_is():
    error = ValueError("of a driver")
    good = {"STORE": ("file", "/v"), "ROOT_KEY": ("chip", "/s"), "CLOCK": ("chip",)}
    good.update({"NETWORK": "wired", "FLOOR": 1793491200})
    check(load.explained(type("Right", (), good), error) is error)


def test_a_name_that_nobody_knows_is_told_and_does_no_harm():
    """WATCHDGO would leave a board without its watchdog."""

    class Misspelt(Board):
        CLOCK = ("system",)
        NETWORK = "wired"
        FLOOR = 1793491200
        WATCHDGO = 30000

    class Vault:
        def names(self):
            return []

        def drop_root_key(self):
            pass

    for board, sentences in (
        (Misspelt, ["WATCHDGO is no name of board.py: do you mean WATCHDOG?"]),
        (type("Right", (Misspelt,), {}), []),
    ):
        if not sentences:
            del Misspelt.WATCHDGO
        sys.modules["board"] = board
        try:
            load.opened.append(Vault())
            equal(load.parts()[4], sentences)
        finally:
            del sys.modules["board"]
            del load.opened[:]


def test_the_names_are_those_of_the_table():
    """load.py has them, so that check.py is loaded only where something is wrong."""
    from warden.board import check as table

    names = list(table.FORMS) + list(table.VALUES) + list(table._SAME_FORMS)
    for name in names:
        check(name in load._NAMES.split(), name)
    equal(len(load._NAMES.split()), len(names))


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
    asked, salt = [], own_path()

    class Ask:
        @staticmethod
        def make(args):
            equal(args, ("here",))
            return lambda: asked.append(1) or b"1234"

    class Asking(Board):
        ROOT_KEY = ("pin", salt, 1000, None)
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
        # A device's vault lets go of its root key, PIN and all: after a failed commit it starts
        # anew.
        vault = load.parts()[0]
        vault.put("a", b"B")
        vault.close()
        raises("closed", vault.open)
        equal(len(asked), 3)
    finally:
        load.store = kept
        del sys.modules["board"], sys.modules["warden.hal.ask_test"]
        os.remove(salt)


def test_the_vault_of_the_boot_goes_on():
    """main.py uses the vault that boot.py opened, once; another vault of this board closes it."""

    class Opened:
        closed = False

        def names(self):
            return []

        def close(self):
            self.closed = True

        def drop_root_key(self):
            self.dropped = True

    class Started(Board):
        CLOCK = ("system",)
        NETWORK = "wired"
        FLOOR = None

    vault = Opened()
    kept = load.store
    load.store = lambda args: DictStore()
    sys.modules["board"] = Started
    try:
        load.opened.append(vault)
        check(load.parts()[0] is vault)
        equal((load.opened, vault.closed, vault.dropped), ([], False, True))
        load.opened.append(vault)
        load.board_vault()
        equal((load.opened, vault.closed), ([], True))
    finally:
        load.store = kept
        del sys.modules["board"]
        del load.opened[:]


class Networks:
    """A vault with a record of networks."""

    def __init__(self, networks):
        self.networks = networks
        self.put = None

    def get(self, name):
        equal(name, "network")
        return cbor.encode(self.networks)


def test_a_board_that_is_online_already():
    equal(load._network(None, "wired"), None)


def test_wifi():
    """One network or several; SSIDs are never code, passwords never text."""
    sys.modules["warden.hal.network_test"] = Test = type("Test", (), {})
    sys.modules["warden.hal"].network_test = Test
    Test.make = staticmethod(lambda args, networks=None, keep=None: (args, networks))
    found = load.find
    load.find = lambda prefix, kind: found(prefix, "test")
    one, two = ["garden", b"secret"], ["house", b""]
    try:
        for record in (one, [one]):  # the form of former versions, and today's
            equal(load._network(Networks(record), "wifi"), ((), [one]))
        equal(load._network(Networks([one, two]), ("wifi", "DE")), (("DE",), [one, two]))
        equal(load._network(None, ("lan", {"phy_addr": 1})), (({"phy_addr": 1},), None))
        equal(load._network(None, "lan"), ((), None))
        check(isinstance(raises("no-network", load._network, Networks(None), "wifi"), UsageError))
    finally:
        load.find = found
        del sys.modules["warden.hal.network_test"], sys.modules["warden.hal"].network_test


def test_a_kind_of_network_that_is_not_known():
    for kind in ("tea", ("tea",)):
        unknown(load._network, None, kind)


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

    from warden.hal import keypad_matrix

    class Panel(Board):
        CLOCK = ("chip",)

    sys.modules["board"] = Panel
    try:
        equal(panel(), None)
        Panel.DISPLAY = ("console",)
        equal(panel(), None)
        Panel.KEYPAD = ("matrix", (1, 2), (3,), b"12")
        (make, args), display, kept = panel()
        equal((make is keypad_matrix.make, args, kept), (True, ((1, 2), (3,), b"12"), False))
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
