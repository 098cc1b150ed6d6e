"""Join a network, against a small model of network.WLAN and a clock that only sleep moves."""

import asyncio

from harness import check, equal, raises
from warden.errors import PeerError
from warden.hal import wifi as module
from warden.hal.wifi import WiFi


class Time:
    now = 0

    def ticks_ms(self):
        return self.now

    def ticks_diff(self, a, b):
        return a - b

    async def sleep_ms(self, ms):
        self.now += ms


class Wlan:
    """A WLAN that connects `ms` milliseconds after connect().

    trouble: the call that the driver refuses, `times` times or always
    """

    def __init__(self, time, takes_ms=None, trouble="", times=-1):
        self.time, self.takes_ms, self.trouble, self.times = time, takes_ms, trouble, times
        self.calls = []
        self.since = None

    def _call(self, *call):
        self.calls.append(call)
        if call[0] == self.trouble and self.times:
            self.times -= 1
            raise OSError("Wifi Internal State Error")

    def active(self, on):
        self._call("active", on)

    def connect(self, ssid, password):
        self._call("connect", ssid, password)
        self.since = self.time.now

    def disconnect(self):
        self._call("disconnect")
        self.since = None

    def isconnected(self):
        return (
            self.takes_ms is not None
            and self.since is not None
            and self.time.now - self.since >= self.takes_ms
        )


def run(wlan, time, timeout_ms=1000, password=b"secret"):
    saved = module.time, module.asyncio
    module.time = module.asyncio = time
    try:
        asyncio.run(WiFi("garden", password, wlan).up(timeout_ms))
    finally:
        module.time, module.asyncio = saved


def test_connects():
    for takes_ms in (0, 50, 700, 1000):
        time = Time()
        wlan = Wlan(time, takes_ms)
        run(wlan, time)
        equal(wlan.calls, [("active", True), ("connect", "garden", b"secret")])
        check(takes_ms <= time.now <= takes_ms + 50)


def test_a_network_that_is_up_is_left_alone():
    time = Time()
    wlan = Wlan(time, 0)
    wlan.since = 0
    run(wlan, time)
    equal((wlan.calls, time.now), ([], 0))


def test_a_dead_network_is_joined_again():
    """The driver may report a connection long after the access point dropped it."""
    time = Time()
    wlan = Wlan(time, 0)
    wifi = WiFi("garden", b"secret", wlan)
    joined = [("active", True), ("connect", "garden", b"secret")]

    async def work():
        await wifi.up(1000)
        equal(wlan.calls, joined)
        wifi.failed()
        equal(wlan.calls, joined)  # not before it is wanted again
        await wifi.up(1000)
        equal(wlan.calls, joined + [("disconnect",)] + joined)
        await wifi.up(1000)
        equal(len(wlan.calls), 5)
        # A driver that has nothing to end.
        wlan.trouble = "disconnect"
        wifi.failed()
        await wifi.up(1000)

    saved = module.time, module.asyncio
    module.time = module.asyncio = time
    try:
        asyncio.run(work())
    finally:
        module.time, module.asyncio = saved


def test_an_open_network_has_no_password():
    time = Time()
    wlan = Wlan(time, 0)
    run(wlan, time, password=b"")
    equal(wlan.calls[1], ("connect", "garden", None))


def test_no_connection_in_time():
    for takes_ms in (None, 1200):
        time = Time()
        wlan = Wlan(time, takes_ms)
        error = raises("unreachable", run, wlan, time)
        check(isinstance(error, PeerError))
        check("secret" not in str(error))
        # The driver must not go on trying, or it refuses the next connect().
        equal(wlan.calls[-1], ("disconnect",))
        check(1000 < time.now <= 1100)
        wlan.takes_ms = 100
        run(wlan, time)
        check(wlan.isconnected())


def test_a_driver_error_resets_nothing():
    # An ESP32 that is reconnecting by itself refuses connect(): jamming the radio must not make
    # the device reboot.
    for trouble in ("active", "connect"):
        time = Time()
        wlan = Wlan(time, 0, trouble)
        check(isinstance(raises("unreachable", run, wlan, time), PeerError))
        equal(wlan.calls[-1], ("disconnect",))
        wlan.trouble = ""
        run(wlan, time)
        check(wlan.isconnected())


def test_a_radio_that_a_reset_left_on_refuses_once():
    time = Time()
    wlan = Wlan(time, 0, "active", 1)
    run(wlan, time)
    equal(wlan.calls, [("active", True)] * 2 + [("connect", "garden", b"secret")])


def test_a_driver_that_refuses_to_disconnect():
    time = Time()
    raises("unreachable", run, Wlan(time, None, "disconnect"), time)


def test_nothing_is_touched_before_it_is_asked_for():
    wlan = Wlan(Time(), 0)
    WiFi("garden", b"x", wlan)
    equal(wlan.calls, [])
