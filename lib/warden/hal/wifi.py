"""Joins a Wi-Fi network as a station."""

import asyncio
import time

from micropython import const

from ..errors import LinkError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


class WiFi:
    """ssid: text. password: bytes, empty for an open network.
    interface: a network.WLAN, made here when absent.
    """

    def __init__(self, ssid: str, password: bytes, interface: "Any" = None) -> None:
        if interface is None:
            import network

            interface = network.WLAN(network.STA_IF)
        self._wlan = interface
        self._ssid = ssid
        self._password = password
        self._stale = False

    async def up(self, timeout_ms: int) -> None:
        """Return when the interface has an address. PeerError unreachable: none in time."""
        if self._stale:
            self._stale = False
            self._stop()
        elif self._wlan.isconnected():
            return
        start = time.ticks_ms()
        try:
            try:
                self._wlan.active(True)
            except OSError:  # RP2's first one after a reset, which leaves the radio on
                self._wlan.active(True)
            self._wlan.connect(self._ssid, self._password or None)
            while not self._wlan.isconnected():
                if time.ticks_diff(time.ticks_ms(), start) > timeout_ms:
                    raise OSError
                await asyncio.sleep_ms(50)
        except OSError:  # also from a driver that is still busy with an attempt of its own
            self._stop()
            raise LinkError("unreachable", "the Wi-Fi network %s gave no connection" % self._ssid)

    def failed(self) -> None:
        """Let the next up() join anew: link attempts in a row reached no server.

        A driver may call itself connected while the access point has forgotten the station.
        """
        self._stale = True

    def _stop(self) -> None:
        # A driver that goes on trying behind our back would refuse the next connect().
        try:
            self._wlan.disconnect()
        except OSError:
            pass  # there was nothing to end
