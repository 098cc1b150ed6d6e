"""Bring an Ethernet port up, on a model of network.LAN."""

import asyncio
import sys

from harness import check, equal, raises
from warden.errors import PeerError
from warden.hal import network_lan as module
from wlan_model import Time


class Port:
    """A port whose cable gives an address takes_ms after active(True); None: no cable."""

    def __init__(self, time, takes_ms=0, trouble=0):
        self.time, self.takes_ms, self.trouble = time, takes_ms, trouble
        self.calls = []
        self.since = None

    def active(self, on):
        self.calls.append(on)
        if self.trouble:
            self.trouble -= 1
            raise OSError("ESP_ERR_INVALID_STATE")
        if not on:
            self.since = None
        elif self.since is None:
            self.since = self.time.now

    def isconnected(self):
        if self.since is None or self.takes_ms is None:
            return False
        return self.time.now - self.since >= self.takes_ms


def up(lan, time):
    saved = module.time, module.asyncio
    module.time = module.asyncio = time
    try:
        asyncio.run(lan.up(1000))
    finally:
        module.time, module.asyncio = saved


def test_up():
    for takes_ms in (0, 700, 1000):
        time = Time()
        up(module.Lan(Port(time, takes_ms)), time)
        check(takes_ms <= time.now <= takes_ms + 50)


def test_no_cable():
    time = Time()
    port = Port(time, None)
    lan = module.Lan(port)
    error = raises("unreachable", up, lan, time)
    check(isinstance(error, PeerError) and 1000 < time.now <= 1100)
    port.takes_ms = 100
    up(lan, time)
    check(port.isconnected())


def test_a_port_through_which_nothing_passes_is_turned_off_and_on():
    time = Time()
    port = Port(time)
    lan = module.Lan(port)
    up(lan, time)
    lan.failed()
    equal(port.calls, [True])
    up(lan, time)
    equal(port.calls, [True, False, True])
    up(lan, time)
    equal(port.calls, [True, False, True, True])


def test_a_driver_error_resets_nothing():
    time = Time()
    port = Port(time, trouble=2)
    lan = module.Lan(port)
    raises("unreachable", up, lan, time)
    raises("unreachable", up, lan, time)
    up(lan, time)
    check(port.isconnected())


def test_settings():
    """What board.py writes as data becomes what network.LAN takes."""
    calls = []

    class Lan:
        PHY_RTL8201 = "in the class"

        def __init__(self, **settings):
            calls.append(settings)

    class Network:
        PHY_LAN8720 = "in the module"
        LAN = Lan

    class Machine:
        @staticmethod
        def Pin(number):  # noqa: N802  (as MicroPython calls it)
            return ("pin", number)

        @staticmethod
        def SPI(bus, sck, mosi, miso):  # noqa: N802
            return ("spi", bus, sck, mosi, miso)

    saved = {name: sys.modules.get(name) for name in ("network", "machine")}
    sys.modules["network"], sys.modules["machine"] = Network, Machine
    try:
        module.make(())
        equal(calls, [{}])
        given = {"mdc": 23, "mdio": 18, "power": None, "phy_type": "PHY_LAN8720", "phy_addr": 0}
        module.make((given,))
        wanted = {"mdc": ("pin", 23), "mdio": ("pin", 18), "power": None}
        wanted.update({"phy_type": "in the module", "phy_addr": 0})
        equal(calls[1], wanted)
        equal(given["mdc"], 23)
        module.make(({"spi": (1, 14, 13, 12), "cs": 15, "phy_type": "PHY_RTL8201"},))
        pins = [("pin", number) for number in (14, 13, 12, 15)]
        wanted = {"spi": ("spi", 1) + tuple(pins[:3]), "cs": pins[3], "phy_type": "in the class"}
        equal(calls[2], wanted)
    finally:
        for name, before in saved.items():
            sys.modules.pop(name)
            if before is not None:
                sys.modules[name] = before
