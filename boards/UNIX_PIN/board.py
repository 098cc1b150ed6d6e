"""The simulated board of boards/UNIX with a root key that wants a PIN at each start."""

NAME = "UNIX_PIN"
STORE = ("file", "/data")
# A guess has to be made with the board's own fuses at hand, and costs a thousandth of a second
# here: few iterations, for this is a simulation.
ROOT_KEY = ("pin", "/pin", 1000, ("software", "/fuses/rootkey"))
ASK = ("console",)
CLOCK = ("system", "/fuses/clock")
NETWORK = "wired"
FLOOR = 1793491200  # 2026-11-01, seconds since 1970
# As boards/UNIX.
WATCHDOG = 20000
SLOTS = ("file", "/slots", ("app",), 2)
