"""The simulated board's watchdog: `machine.WDT`, loaded when first asked for.

The file /fuses/watchdog holds the time-out in milliseconds and changes at each feed(); `warden
run` ends the process when it did not change in time (tools/warden_host/sim/watchdog.py), and
leaves the file /fuses/bitten for machine.reset_cause(). Without `warden run` nothing does.
"""


class WDT:
    def __init__(self, id=0, timeout=5000):
        self._file = open("/fuses/watchdog", "w")  # noqa: SIM115  (open as long as the board runs)
        self._text = "%d %%d\n" % timeout
        self._turn = 0
        self.feed()

    def feed(self):
        self._turn ^= 1
        self._file.seek(0)
        self._file.write(self._text % self._turn)  # unbuffered, and needs not outlive a crash
