"""Brings an Ethernet port up: network.LAN of the ESP32, or what else the port calls it."""

import asyncio
import time

from micropython import const

from ..errors import LinkError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_POLL_MS = const(50)
# Settings of network.LAN that it takes as machine.Pin.
_PINS = const(("mdc", "mdio", "power", "ref_clk", "reset", "cs", "int"))


class Lan:
    """interface: a network.LAN, or another one with active(), isconnected()."""

    def __init__(self, interface: "Any") -> None:
        self._lan = interface
        self._stale = False

    async def up(self, timeout_ms: int) -> None:
        """Return when the interface has an address. LinkError unreachable: none in time."""
        lan, start = self._lan, time.ticks_ms()
        try:
            if self._stale:
                self._stale = False
                lan.active(False)
            lan.active(True)
            while not lan.isconnected():
                if time.ticks_diff(time.ticks_ms(), start) > timeout_ms:
                    raise OSError
                await asyncio.sleep_ms(_POLL_MS)
        except OSError:
            self._stale = True
            raise LinkError("unreachable", "the Ethernet port has no address: is its cable in?")

    def failed(self) -> None:
        """Turn the port off and on at the next up(): link attempts in a row reached no server."""
        self._stale = True


def make(args: "tuple[Any, ...]") -> Lan:
    """Make NETWORK = ("lan", {…}) with the settings of network.LAN.

    A pin is its number; a text names a constant of the module network; `spi` is (bus, SCK, MOSI,
    MISO). Without settings the firmware's own for this board are used.
    """
    import machine
    import network

    settings = dict(args[0]) if args else {}
    for name, value in settings.items():
        if name in _PINS and value is not None:
            settings[name] = machine.Pin(value)
        elif name == "spi":
            bus, sck, mosi, miso = value
            settings[name] = machine.SPI(
                bus, sck=machine.Pin(sck), mosi=machine.Pin(mosi), miso=machine.Pin(miso)
            )
        elif isinstance(value, str):
            owner = network.LAN if hasattr(network.LAN, value) else network
            settings[name] = getattr(owner, value)
    return Lan(network.LAN(**settings))
