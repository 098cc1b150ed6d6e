"""Open rooms in fleet.db: devices without secrets, whose events nothing proves."""

import json

from warden_host.errors import HostError
from warden_host.store.database import Database, guard

MOST_DEVICES = 250  # of one room
_PREFIX = "room:"  # of a row of the settings


class Rooms(Database):
    """The rooms' rows."""

    def rooms(self) -> dict[str, tuple[str, ...]]:
        """Return room → its open devices, both in order."""
        rows = self._do(
            "SELECT name, value FROM settings WHERE name GLOB ? ORDER BY 1", _PREFIX + "*"
        ).fetchall()
        with guard():
            return {name.removeprefix(_PREFIX): tuple(json.loads(value)) for name, value in rows}

    def open_devices(self) -> dict[str, str]:
        """Return open device → its room."""
        return {device: room for room, devices in self.rooms().items() for device in devices}

    def set_room(self, room: str, devices: tuple[str, ...]) -> None:
        """Replace a room's devices; without one there is no room. Call it in a transaction."""
        if devices:
            value = json.dumps(sorted(set(devices))).encode()
            self._do("INSERT OR REPLACE INTO settings VALUES (?, ?)", _PREFIX + room, value)
        else:
            self._do("DELETE FROM settings WHERE name = ?", _PREFIX + room)

    def check_not_open(self, type_: str, device: str) -> None:
        """Raise bad-argument where a type is a room's name, or a device is in a room."""
        if type_ in self.rooms() or device in self.open_devices():
            raise HostError(
                "bad-argument",
                "the type or the device has the name of an open room or of a device in one",
                "choose another one: nothing proves who sends under those names",
            )
