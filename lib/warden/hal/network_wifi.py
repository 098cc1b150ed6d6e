"""Joins a Wi-Fi network as a station: one of several, the one that worked last first."""

import asyncio
import time

from micropython import const

from ..errors import LinkError

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any, Callable

_POLL_MS = const(50)
# A status that says "failed" for so long is believed, and the next network is tried: right after
# connect() a driver may still show the attempt before.
_FAILED_MS = const(2000)
_RECONNECTS = const(3)  # of the driver itself, behind connect()
# Link failures in a row after which the radio is turned off and on, and not only disconnected.
_MANY = const(2)


class WiFi:
    """networks: [[SSID, password], …], the first one first; a password is bytes, b"" if open.

    country: two letters or None. power: "none", "performance", "powersave" or None, as
    network.WLAN calls its modes. keep: the vault's put() and the encoder of its records, to keep
    the network that worked last as the first one; or None. interface: a network.WLAN, made here
    when absent. proved: a session came up since the station joined.
    """

    def __init__(
        self,
        networks: "list[Any]",
        country: "str | None" = None,
        power: "str | None" = None,
        keep: "tuple[Callable[..., None], Callable[..., bytes]] | None" = None,
        interface: "Any" = None,
    ) -> None:
        if interface is None:
            import network

            if country is not None:
                network.country(country)
            interface = network.WLAN(network.STA_IF)
        self._wlan = interface
        self._networks = list(networks)  # the present one is the first
        self._power = power
        self._keep = keep
        self._first = networks[0]
        self._stale = False
        self._failures = 0  # since the last good()
        self.proved = False  # a session came up since it joined

    async def up(self, timeout_ms: int) -> None:
        """Return when the station has an address. LinkError unreachable: on none of its networks.

        timeout_ms: for each network.
        """
        if self._stale:
            self._stale = False
            self._stop()
        elif self._wlan.isconnected():
            return
        networks = self._networks
        for _ in networks:
            if await self._join(timeout_ms):
                return
            networks.append(networks.pop(0))
        names = ", ".join([ssid for ssid, _ in networks])
        raise LinkError("unreachable", "no connection from the Wi-Fi network " + names)

    def failed(self) -> None:
        """Let the next up() join anew, another network first: link attempts reached no server.

        A driver may call itself connected while the access point has forgotten the station.
        """
        self._stale = True
        self._failures += 1
        self._networks.append(self._networks.pop(0))

    def good(self) -> None:
        """Note that a session is up on the present network; keep it as the first, once a start."""
        self._failures = 0
        self.proved = True
        keep, first = self._keep, self._networks[0]
        if keep is not None and first != self._first:
            self._keep = None
            self._first = first
            put, encode = keep
            put("network", encode(self._networks))

    def use(self, networks: "list[Any]") -> None:
        """Replace the networks. The next up() leaves one that is not among the new."""
        present = self._networks[0]
        self._networks = list(networks)
        self._keep = None  # what is kept is for the caller to say, until the next start
        if present in networks:
            while self._networks[0] != present:
                self._networks.append(self._networks.pop(0))
        else:
            self._stale = True

    async def _join(self, timeout_ms: int) -> bool:
        """Join the first network; return whether it gave an address in time."""
        wlan, start = self._wlan, time.ticks_ms()
        self.proved = False
        refused = 0  # for so long the driver says that it failed, in steps of _POLL_MS
        try:
            try:
                self._start()
            except OSError:  # RP2's active() does not say that the chip failed to start
                self._start()
            while time.ticks_diff(time.ticks_ms(), start) <= timeout_ms:
                if wlan.isconnected():
                    return True
                refused = refused + 1 if _has_failed(wlan.status()) else 0
                # A single network has the whole time: its driver may yet get there.
                if refused * _POLL_MS >= _FAILED_MS and len(self._networks) > 1:
                    break
                await asyncio.sleep_ms(_POLL_MS)
        except OSError:  # also from a driver that is still busy with an attempt of its own
            self._failures += 1
        self._stop()
        return False

    def _start(self) -> None:
        wlan = self._wlan
        wlan.active(True)
        try:
            if self._power is not None:
                wlan.config(pm=getattr(wlan, "PM_" + self._power.upper()))
            # ESP32's driver would go on for ever, and refuse the next connect() meanwhile.
            wlan.config(reconnects=_RECONNECTS)
        except (AttributeError, ValueError):
            pass  # this port has no such setting
        ssid, password = self._networks[0]
        wlan.connect(ssid, password or None)

    def _stop(self) -> None:
        # A driver that goes on trying behind our back would refuse the next connect().
        try:
            self._wlan.disconnect()
            if self._failures >= _MANY:
                self._wlan.active(False)
        except OSError:
            pass  # there was nothing to end


def _has_failed(status: int) -> bool:
    """Return whether WLAN.status() names a failure: below 0 on RP2, 200 to 999 on an ESP32."""
    return status < 0 or 200 <= status < 1000


def make(args: "tuple[Any, ...]", networks: "list[Any]", keep: "Any") -> WiFi:
    """Make NETWORK = ("wifi", country, power), both of which may be None or missing."""
    country, power = (args + (None, None))[:2]
    return WiFi(networks, country, power, keep)
