"""The unix port: a simulated board whose "/" is a folder, and its fuses another one (_boot.py)."""

NAME = "UNIX"
STORE = ("file", "/data")
ROOT_KEY = ("software", "/fuses/rootkey")
# The host keeps the time. Where the file exists, libfaketime reads it: a clock that boots in the
# past and can be set.
CLOCK = ("system", "/fuses/clock")
NETWORK = "wired"
# A telephone's keypad on the pins of boards/UNIX/pins.py, and a display that prints.
KEYPAD = ("matrix", (2, 3, 4, 5), (6, 7, 8), b"123456789*0#")
DISPLAY = ("console",)
FLOOR = 1793491200  # 2026-11-01, seconds since 1970
# `warden run` restarts the board when its event loop has not run for so long, in ms (watchdog.py).
WATCHDOG = 20000
# Two slots as files below the folder, /app in each, two starts of a trial. `warden provision`
# leaves this line away in a fleet without release keys: no update could come then, and a board
# without slots loads nothing for them.
SLOTS = ("file", "/slots", ("app",), 2)
