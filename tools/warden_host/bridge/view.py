"""The fleet as the bridge knows it: each device's state and its latest telemetry."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from warden_host import jsontext

MAX_DEVICES = 100_000
MAX_VALUES = 64  # of each device; later names are counted as dropped
_DEPTH = 3
_MAX_TEXT = 255
_MAX_NAME = 64
Value = int | float | bool | str


@dataclass(slots=True)
class DeviceView:
    """type: of the device. values: the latest of each name, such as temperature_c.

    seen: when it last reported, unix seconds, 0 for never. events, incidents, dropped: since the
    bridge started; dropped: values beyond MAX_VALUES.
    """

    type: str = ""
    presence: str = ""
    quarantined: bool = False
    values: dict[str, Value] = field(default_factory=dict)
    seen: float = 0.0
    events: int = 0
    incidents: int = 0
    dropped: int = 0

    @property
    def online(self) -> bool:
        return self.presence == "online"


class FleetView:
    """All devices. connected: whether the control socket's events arrive."""

    def __init__(self) -> None:
        self.devices: dict[str, DeviceView] = {}
        self.connected = False

    def update_list(self, rows: list[Any]) -> list[str]:
        """Apply a page of the devices: [device, type, presence, quarantined] each.

        Returns: the names of devices that changed.
        """
        changed = []
        for name, type_, presence, quarantined in rows:
            device = self._device(str(name))
            if device is None:
                continue
            now = (str(type_), str(presence), bool(quarantined))
            if (device.type, device.presence, device.quarantined) != now:
                device.type, device.presence, device.quarantined = now
                changed.append(str(name))
        return changed

    def remove(self, names: set[str]) -> list[str]:
        """Forget devices that left the fleet; return those that were known."""
        return [name for name in names if self.devices.pop(name, None) is not None]

    def apply(self, event: dict[str, Any]) -> str:
        """Apply an event of `watch`; return the name of the device that changed, or ""."""
        name = event.get("device")
        device = self._device(name) if isinstance(name, str) and name else None
        if device is None:
            return ""
        kind = event.get("kind")
        if kind == "event":
            device.seen = float(event.get("time", 0.0))
            device.events += 1
            self._keep(device, str(event.get("name", "")), event.get("body"))
        elif kind in ("came", "session"):
            device.presence = "online"
        elif kind == "left":
            device.presence = "away"
        elif kind == "incident":
            device.incidents += 1
        elif kind == "quarantined":
            device.quarantined = True
        elif kind == "reaction":
            device.quarantined |= event.get("name") != "alert"
        else:
            return ""
        return str(name)

    def disconnect(self) -> list[str]:
        """Note that no events arrive any more: the state of no device is known. Return them."""
        self.connected = False
        known = [name for name, device in self.devices.items() if device.presence]
        for name in known:
            self.devices[name].presence = ""
        return known

    def _device(self, name: str) -> DeviceView | None:
        device = self.devices.get(name)
        if device is None and len(self.devices) < MAX_DEVICES:
            device = self.devices[name] = DeviceView()
        return device

    def _keep(self, device: DeviceView, event: str, body: Any) -> None:
        for name, value in flatten(event, body):
            if name in device.values or len(device.values) < MAX_VALUES:
                device.values[name] = value
            else:
                device.dropped += 1


def flatten(name: str, body: Any, depth: int = 0) -> Iterator[tuple[str, Value]]:
    """Yield the plain values of an event's body: {"c": 20} of `temperature` as temperature_c.

    Lists, nulls, bytes and what lies deeper than three levels are left out.
    """
    if isinstance(body, dict):
        if depth < _DEPTH and not body.keys() & {"hex"}:
            for key, value in body.items():
                yield from flatten(f"{name}_{key}", value, depth + 1)
        return
    safe = "".join(char if char.isalnum() and char.isascii() else "_" for char in name)[:_MAX_NAME]
    if isinstance(body, float) and not math.isfinite(body):
        return
    if isinstance(body, (bool, int, float)):
        yield safe, body
    elif isinstance(body, str):
        yield safe, jsontext.printable(body[:_MAX_TEXT])
