"""What board.py may say: a sentence for each mistake, and none for what is right."""

from harness import check, equal
from warden.board import check as module
from warden.board.check import problems

PURE = True

GOOD = {
    "NAME": "TEST",
    "STORE": ("file", "/vault"),
    "ROOT_KEY": ("chip", "/salt"),
    "CLOCK": ("chip",),
    "NETWORK": "wifi",
    "FLOOR": 1793491200,
}


def found(**changes):
    """Return what is wrong in the good board.py with these changes; None removes a name."""
    board = dict(GOOD)
    for name, value in changes.items():
        if value is None:
            del board[name]
        else:
            board[name] = value
    return problems(board)


def one(text, **changes):
    """There is one sentence, and it holds the text."""
    sentences = found(**changes)
    check(len(sentences) == 1 and text in sentences[0], "%r, wanted %r" % (sentences, text))


MATRIX = ("matrix", (2, 3), (4, 5), b"1234")
KEYPAD = ("pcf8574", 0, 22, 21, 0x20, 4, 3, b"123456789*0#", 23)


def test_what_is_right():
    equal(found(), [])
    for name, values in {
        "STORE": (
            ("file", "/v", "partition", "vault"),
            ("file", "/v", "rp2", 0, 65536),
            ("flash", 16, 2, "partition", "vault"),
            ("flash", 256, 2, "rp2", 0, 65536),
            ("nvs", "warden"),
        ),
        "ROOT_KEY": (
            ("software", "/key"),
            ("efuse", "esp32s3", 0),
            ("atecc", 0, 22, "GP4", 3),
            ("pin", "/pin", 1000, None),
            ("pin", "/pin", 1000000, ("chip", "/salt")),
        ),
        "ROOT_KEY_BEFORE": (("software", "/key"),),
        "ASK": (("console",),),
        "CLOCK": (("chip", True), ("system",), ("system", "/fuses/clock")),
        "NETWORK": (
            ("wifi",),
            ("wifi", "DE"),
            ("wifi", None, "none"),
            "lan",
            ("lan", {"mdc": 23}),
            ("serial", {"id": 1, "baudrate": 115200}),
            "wired",
        ),
        "KEYPAD": (MATRIX, KEYPAD, ("mcp23017",) + KEYPAD[1:-1] + (7,)),
        "SLOTS": (
            ("file", "/slots", ("app",), 2),
            ("partition", "/slots", ("app", "firmware"), 2),
            ("partition", "/slots", ("app", "firmware"), 2, ("a1" * 32,)),
        ),
        "WATCHDOG": (5000, 30000),
    }.items():
        for value in values:
            equal(found(**{name: value}), [])
    for display in (("console",), ("ssd1306", 0, 5, 4, 128, 32), ("hd44780", 0, 5, 4, 39)):
        equal(found(KEYPAD=MATRIX, DISPLAY=display), [])


def test_what_is_missing():
    for name in module.REQUIRED:
        one(name + " is missing", **{name: None})
    equal(len(problems({})), len(module.REQUIRED))


def test_names():
    one("WATCHDGO is no name of board.py: do you mean WATCHDOG?", WATCHDGO=30000)
    one("WATCH_DOG is no name of board.py: do you mean WATCHDOG?", WATCH_DOG=30000)
    one("DISPLY is no name of board.py: do you mean DISPLAY?", DISPLY=("console",))
    one("TEA is no name of board.py", TEA=1)
    # What a board.py needs for itself.
    equal(found(_PINS=1, pins=2, Pin=3, __name__="board", machine=4), [])


def test_kinds():
    one("STORE has no kind 'fiel': there is file, flash, nvs", STORE=("fiel", "/v"))
    one("NETWORK has no kind 'wify': there is wifi, lan, serial, wired", NETWORK="wify")
    one("ROOT_KEY_BEFORE has no kind 'tea'", ROOT_KEY_BEFORE=("tea",))
    one('CLOCK is a text and no tuple: write ("chip",), with a comma', CLOCK="chip")
    for wrong in (5, (), (5,), {}, [], b"chip", None):
        board = dict(GOOD)
        board["CLOCK"] = wrong
        (sentence,) = problems(board)
        check('CLOCK must be a tuple such as ("chip",)' in sentence, sentence)


def test_arguments():
    """Each kind of argument, at its bounds."""
    for name, beginning, wrong, end in (
        ("STORE", ("file",), ("v", "/", "", 5, None, b"/v"), ()),
        ("STORE", ("nvs",), ("", "x" * 16, 5), ()),
        ("STORE", ("flash",), (0, 4097, True, "16"), (2, "partition", "vault")),
        ("STORE", ("flash", 16), (1, 65537, 2.0), ("partition", "vault")),
        ("STORE", ("flash", 16, 2, "rp2"), (-1, "0"), (65536,)),
        ("STORE", ("flash", 16, 2, "rp2", 0), (0, None), ()),
        ("ROOT_KEY", ("efuse",), ("esp32", "rp2040", 3), (0,)),
        ("ROOT_KEY", ("efuse", "esp32s3"), (-1, 6, True), ()),
        ("ROOT_KEY", ("atecc",), (-1, "0"), (22, 21, 3)),
        ("ROOT_KEY", ("atecc", 0), (-1, "", None, True), (21, 3)),
        ("ROOT_KEY", ("atecc", 0, 22, 21), (-1, 16), ()),
        ("ROOT_KEY", ("pin", "/pin"), (999, 1000001), (None,)),
        ("ROOT_KEY", ("pin", "/pin", 1000), (("chip", "salt"), ("tea",), "chip", 1), ()),
        ("CLOCK", ("chip",), (2, "True", None), ()),
        ("NETWORK", ("wifi",), ("de", "DEU", "D", "D1", 49), ()),
        ("NETWORK", ("wifi", "DE"), ("off", "NONE", 0), ()),
        ("NETWORK", ("serial",), (1, {}, {"id": 1, 2: 3}, ("id", 1)), ()),
        ("NETWORK", ("lan",), (23, {23: 1}, ("mdc", 23)), ()),
        ("KEYPAD", ("matrix",), ((), 2, (2, -1), "23"), ((4, 5), b"1234")),
        ("KEYPAD", ("matrix", (2, 3), (4, 5)), ("1234", b"", None), ()),
        ("KEYPAD", KEYPAD[:4], (7, 120), KEYPAD[5:]),
        ("KEYPAD", KEYPAD[:5], (0, 9), KEYPAD[6:]),
        ("KEYPAD", KEYPAD[:8], (-1, b"23"), ()),
        ("SLOTS", ("file", "/slots"), (("app", "firmware"), "app", ()), (2,)),
        ("SLOTS", ("partition", "/slots"), (("app",), ("firmware", "app")), (2,)),
        ("SLOTS", ("file", "/slots", ("app",)), (0, 101, "2"), ()),
        (
            "SLOTS",
            ("partition", "/slots", ("app", "firmware"), 2),
            ((), ("a1" * 31,), ("x1" * 32,), "a1" * 32),
            (),
        ),
    ):
        for value in wrong:
            one(" must be ", **{name: beginning + (value,) + end})
    for name, wrong in (
        ("WATCHDOG", (4999, 86400001, "30000", 30000.0, True)),
        ("FLOOR", (0, 1 << 34, "2026-11-01")),
        ("NAME", ("", 5)),
    ):
        for value in wrong:
            one(name + " must be ", **{name: value})


def test_the_number_of_arguments():
    one('write ("file", PATH) or ("file", PATH, "partition", LABEL) or', STORE=("file",))
    one('write ("file", PATH) or', STORE=("file", "/v", "partition"))
    one('("file", PATH, "rp2", START, LENGTH)', STORE=("file", "/v", "rp3", 1, 2))
    one('write ("wired",)', NETWORK=("wired", 1))
    one('write ("console",)', ASK=("console", 1))


def test_what_does_not_go_together():
    one("DISPLAY has no use without a KEYPAD", DISPLAY=("console",))
    one("2 rows, 2 columns and 3 keys", KEYPAD=("matrix", (2, 3), (4, 5), b"123"))
    pin = ("pin", "/pin", 1000, None)
    equal(found(ROOT_KEY=pin), [])
    slots = ("file", "/slots", ("app",), 2)
    one("its PIN needs an ASK", ROOT_KEY=pin, SLOTS=slots)
    equal(found(ROOT_KEY=pin, SLOTS=slots, ASK=("console",)), [])


def test_a_long_value_is_cut():
    (sentence,) = found(STORE=("file", "x" * 1000))
    check(len(sentence) < 250, sentence)
