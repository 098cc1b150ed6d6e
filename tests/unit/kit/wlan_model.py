"""A model of network.WLAN as MicroPython documents it, and a clock that only sleeping moves."""

IDLE, CONNECTING, GOT_IP, WRONG_PASSWORD, NO_AP_FOUND = 0, 1, 3, -3, -2
# Numbers of an ESP32's driver for the same.
ESP32 = {IDLE: 1000, CONNECTING: 1001, GOT_IP: 1010, WRONG_PASSWORD: 202, NO_AP_FOUND: 201}


class Time:
    """Stands for the modules `time` and `asyncio`. at: {ms: function to call then}."""

    def __init__(self):
        self.now = 0
        self.at = {}

    def ticks_ms(self):
        return self.now

    def ticks_diff(self, a, b):
        return a - b

    async def sleep_ms(self, ms):
        self.now += ms
        for moment in sorted(self.at):
            if moment <= self.now:
                self.at.pop(moment)()


class Wlan:
    """A station and the air around it.

    air: {SSID: password} of the access points in reach. takes_ms: from connect() to an address.
    trouble: the call that the driver refuses, `times` times or always. esp32: as that port's
    driver: it refuses connect() while it connects, goes on connecting by itself as often as
    config(reconnects=…) allows, and has its own numbers for status().
    """

    PM_NONE, PM_PERFORMANCE, PM_POWERSAVE = 0, 1, 2

    def __init__(self, time, air, takes_ms=0, esp32=False, trouble="", times=-1):
        self.time, self.air, self.takes_ms, self.esp32 = time, air, takes_ms, esp32
        self.trouble, self.times = trouble, times
        self.calls = []
        self.settings = {}
        self.on = False
        self.forgotten = False  # by the access point, and the driver has not noticed
        self._wanted = None  # (SSID, password) of connect()
        self._since = 0

    def _call(self, *call):
        self.calls.append(call)
        if call[0] == self.trouble and self.times:
            self.times -= 1
            raise OSError("Wifi Internal State Error")

    def active(self, on):
        self._call("active", on)
        self.on = on
        if not on:
            self._wanted = None

    def config(self, **settings):
        for name in settings:
            if name not in (("pm", "reconnects") if self.esp32 else ("pm",)):
                raise ValueError("unknown config param")
        self.settings.update(settings)

    def connect(self, ssid, password):
        self._call("connect", ssid, password)
        if not self.on:
            raise OSError("STA must be active")
        if self.esp32 and self._state() == CONNECTING:
            raise OSError("Wifi Internal Error")
        self._wanted, self._since, self.forgotten = (ssid, password), self.time.now, False

    def disconnect(self):
        self._call("disconnect")
        self._wanted = None

    def _state(self):
        """Return the state by the numbers of RP2."""
        if self._wanted is None:
            return IDLE
        ssid, password = self._wanted
        if self.time.now - self._since < self.takes_ms:
            return CONNECTING
        if ssid in self.air and self.air[ssid] == (password or b""):
            return GOT_IP
        # An ESP32's driver tries a few times more, each for a second here, or for ever.
        more = self.settings.get("reconnects", -1)
        if self.esp32 and (more < 0 or self.time.now - self._since < 1000 * (more + 1)):
            return CONNECTING
        return WRONG_PASSWORD if ssid in self.air else NO_AP_FOUND

    def status(self):
        state = GOT_IP if self.isconnected() else self._state()
        return ESP32[state] if self.esp32 else state

    def isconnected(self):
        return self._wanted is not None and (self.forgotten or self._state() == GOT_IP)

    def passes(self):
        """Whether packets reach the access point and come back."""
        return not self.forgotten and self._state() == GOT_IP

    def forget(self):
        """The access point restarts: it knows the station no more, which the driver overlooks."""
        self.forgotten = True

    def joined(self):
        """Return the SSIDs of all calls of connect()."""
        return [call[1] for call in self.calls if call[0] == "connect"]
