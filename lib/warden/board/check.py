"""Check what board.py says: `problems` returns a sentence for each thing that is wrong.

The one table of names and values. A device loads this module when it is provisioned, and where
its board.py can't be used; `warden` runs this very file (tools/warden_host/fleet/board_file.py).
So it imports nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REQUIRED = ("STORE", "ROOT_KEY", "CLOCK", "NETWORK", "FLOOR")
# The values of each name: a kind and its arguments, one form a line. Arguments are in capitals and
# stand in _ARGUMENTS; any other word is written as it is.
FORMS = {
    "STORE": (
        "file PATH",
        "file PATH partition LABEL",
        "file PATH rp2 START LENGTH",
        "flash UNIT BANKS partition LABEL",
        "flash UNIT BANKS rp2 START LENGTH",
        "nvs LABEL",
    ),
    "ROOT_KEY": (
        "software PATH",
        "chip PATH",
        "efuse CHIP BLOCK",
        "atecc BUS PIN PIN SLOT",
        "pin PATH ITERATIONS ROOT_KEY",
    ),
    "ASK": ("console",),
    "CLOCK": ("chip", "chip KEPT", "system", "system PATH"),
    "NETWORK": (
        "wifi",
        "wifi COUNTRY",
        "wifi COUNTRY POWER",
        "lan",
        "lan SETTINGS",
        "serial UART",
        "wired",
    ),
    "KEYPAD": (
        "matrix PINS PINS KEYS",
        "pcf8574 BUS PIN PIN ADDRESS ROWS ROWS KEYS INTERRUPT",
        "mcp23017 BUS PIN PIN ADDRESS ROWS ROWS KEYS INTERRUPT",
    ),
    "DEVELOPMENT": ("pin PIN LEVEL",),
    "DISPLAY": ("console", "ssd1306 BUS PIN PIN WIDTH WIDTH", "hd44780 BUS PIN PIN ADDRESS"),
    "SLOTS": (
        "file PATH APP ATTEMPTS",
        "partition PATH APP_FIRMWARE ATTEMPTS",
        "partition PATH APP_FIRMWARE ATTEMPTS DIGESTS",
    ),
}
# Names whose value is one argument.
VALUES = {"NAME": "TEXT", "WATCHDOG": "MILLISECONDS", "FLOOR": "SECONDS"}
_SAME_FORMS = {"ROOT_KEY_BEFORE": "ROOT_KEY"}
_CHIPS = ("esp32s2", "esp32s3", "esp32c3", "esp32c6")
_POWER = ("none", "performance", "powersave", None)


def _number(least: int, most: int) -> "Any":
    return lambda value: type(value) is int and least <= value <= most


def _pin(value: object) -> bool:
    return _number(0, 255)(value) or (isinstance(value, str) and value != "")


def _label(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 15


def _is_digest(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) == 64
        and all([letter in "0123456789abcdef" for letter in value.lower()])
    )


def _all(value: "Any", holds: "Any") -> bool:
    """Return whether this is a list or tuple, not empty, of what `holds` takes."""
    return isinstance(value, (list, tuple)) and bool(value) and all([holds(one) for one in value])


_ARGUMENTS = {
    "PATH": ("a path that begins with /", lambda v: isinstance(v, str) and v[:1] == "/" != v),
    "TEXT": ("text", lambda v: isinstance(v, str) and v != ""),
    "LABEL": ("text of 1 to 15 characters", _label),
    "START": ("a number of bytes", _number(0, 1 << 30)),
    "LENGTH": ("a number of bytes", _number(1, 1 << 30)),
    "UNIT": ("the bytes that one program takes, 1 to 4096", _number(1, 4096)),
    "BANKS": ("a number from 2 on", _number(2, 1 << 16)),
    "CHIP": ("one of " + ", ".join(_CHIPS), lambda v: v in _CHIPS),
    "BLOCK": ("a key block, 0 to 5", _number(0, 5)),
    "BUS": ("the number of an I2C bus", _number(0, 15)),
    "PIN": ("a pin's number or name", _pin),
    "SLOT": ("a slot, 0 to 15", _number(0, 15)),
    "ITERATIONS": ("a number of 1000 to 1000000", _number(1000, 1000000)),
    "ROOT_KEY": (
        "another root key or None",
        lambda v: v is None or not _check_form("ROOT_KEY", v, "ROOT_KEY"),
    ),
    "KEPT": ("True where a battery keeps the clock, else False", lambda v: v in (True, False)),
    "COUNTRY": (
        "two capital letters or None",
        lambda v: (
            v is None or (isinstance(v, str) and len(v) == 2 and v.isalpha() and v.isupper())
        ),
    ),
    "POWER": ("none, performance, powersave or None", lambda v: v in _POWER),
    "SETTINGS": (
        "a dict of the settings of network.LAN",
        lambda v: isinstance(v, dict) and all([isinstance(name, str) for name in v]),
    ),
    "UART": (
        "a dict of the settings of machine.UART, with its id",
        lambda v: isinstance(v, dict) and "id" in v and all([isinstance(name, str) for name in v]),
    ),
    "PINS": ("a tuple of pins", lambda v: _all(v, _pin)),
    "ROWS": ("a number of 1 to 8", _number(1, 8)),
    "LEVEL": ("the level at which it is held, 0 or 1", _number(0, 1)),
    "KEYS": ("the keys as bytes", lambda v: isinstance(v, bytes) and v != b""),
    "INTERRUPT": ("a pin or None", lambda v: v is None or _pin(v)),
    "ADDRESS": ("an address on the bus, 8 to 119", _number(8, 119)),
    "WIDTH": ("a number of pixels", _number(8, 1024)),
    "APP": ('("app",)', lambda v: v == ("app",)),
    "APP_FIRMWARE": ('("app", "firmware")', lambda v: v == ("app", "firmware")),
    "ATTEMPTS": ("a number of starts, 1 to 100", _number(1, 100)),
    "DIGESTS": ("a tuple of digests, 64 hex digits each", lambda v: _all(v, _is_digest)),
    "MILLISECONDS": ("a number of milliseconds, 5000 to 86400000", _number(5000, 86400000)),
    "SECONDS": ("the seconds since 1970 of a day after 2020", _number(1577836800, 1 << 33)),
}


def problems(board: "dict[str, Any]") -> "list[str]":
    """Return what is wrong in a board.py, a sentence each; an empty list where nothing is.

    board: its names and values. Names that are not all capitals are board.py's own.
    """
    found = []
    for name in REQUIRED:
        if name not in board:
            found.append("%s is missing: write %s" % (name, _example(name)))
    for name in sorted(board):
        if name[:1] == "_" or name != name.upper() or name == name.lower():
            continue
        if name in VALUES:
            text, holds = _ARGUMENTS[VALUES[name]]
            if not holds(board[name]):
                found.append("%s must be %s, not %s" % (name, text, _shown(board[name])))
        elif name in FORMS or name in _SAME_FORMS:
            found += _check_form(name, board[name], _SAME_FORMS.get(name, name))
        else:
            found.append("%s is no name of board.py%s" % (name, _meant(name, board)))
    if not found:
        found += _check_together(board)
    return found


def syntax(error: SyntaxError) -> str:
    """Return the sentence for a board.py that MicroPython can't compile."""
    import io
    import sys

    trace = io.StringIO()
    sys.print_exception(error, trace)
    line = trace.getvalue().rpartition("line ")[2].split("\n")[0].split(",")[0]
    return "line %s of board.py is not Python" % line


def _check_together(board: "dict[str, Any]") -> "list[str]":
    """Return what is wrong between values that are right one by one."""
    found = []
    if "DISPLAY" in board and "KEYPAD" not in board:
        found.append("DISPLAY has no use without a KEYPAD")
    if board["ROOT_KEY"][0] == "pin" and "SLOTS" in board and "ASK" not in board:
        found.append("SLOTS opens the vault in boot.py: its PIN needs an ASK")
    if "KEYPAD" in board and board["KEYPAD"][0] == "matrix":
        _, rows, columns, keys = board["KEYPAD"]
        if len(rows) * len(columns) != len(keys):
            found.append(
                "KEYPAD has %d rows, %d columns and %d keys" % (len(rows), len(columns), len(keys))
            )
    return found


def _check_form(name: str, value: "Any", forms: str) -> "list[str]":
    """Return what is wrong with a value of a kind and its arguments, as a list of one sentence."""
    if name == "NETWORK" and isinstance(value, str):
        value = (value,)
    if isinstance(value, str):
        return ['%s is a text and no tuple: write ("%s",), with a comma' % (name, value)]
    if not isinstance(value, (tuple, list)) or not value or not isinstance(value[0], str):
        return ["%s must be a tuple such as %s, not %s" % (name, _example(forms), _shown(value))]
    lines = [form.split() for form in FORMS[forms]]
    known = [words for words in lines if words[0] == value[0]]
    if not known:
        kinds = []
        for words in lines:
            if words[0] not in kinds:
                kinds.append(words[0])
        return ["%s has no kind %s: there is %s" % (name, _shown(value[0]), ", ".join(kinds))]
    wrong = ""
    for words in known:
        if len(words) == len(value):
            wrong = _first_wrong(words, value)
            if not wrong:
                return []
    if not wrong or len([1 for words in known if len(words) == len(value)]) > 1:
        wrong = "write " + " or ".join([_written(words) for words in known])
    return ["%s = %s: %s" % (name, _shown(value), wrong)]


def _first_wrong(words: "list[str]", value: "Any") -> str:
    """Return what is wrong with the first argument that does not fit the form, or ""."""
    for i in range(1, len(words)):
        word, got = words[i], value[i]
        if word in _ARGUMENTS:
            text, holds = _ARGUMENTS[word]
            if not holds(got):
                return "%s must be %s, not %s" % (word, text, _shown(got))
        elif got != word:
            return "write %s" % _written(words)
    return ""


def _written(words: "list[str]") -> str:
    """Return a form as Python writes it: ("file", PATH)."""
    shown = [word if word in _ARGUMENTS else '"%s"' % word for word in words]
    return "(%s)" % (", ".join(shown) if len(shown) > 1 else shown[0] + ",")


def _example(name: str) -> str:
    if name in VALUES:
        return _ARGUMENTS[VALUES[name]][0]
    return _written(FORMS[name][0].split())


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _meant(name: str, board: "dict[str, Any]") -> str:
    """Return ": do you mean …?" for a name that is close to a known one, or ""."""
    known = list(FORMS) + list(VALUES) + list(_SAME_FORMS)
    for other in sorted(known):
        if other not in board and (
            sorted(other) == sorted(name) or other[:3] == name[:3] or other[-4:] == name[-4:]
        ):
            return ": do you mean %s?" % other
    return ""
