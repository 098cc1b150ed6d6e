"""The devices of the fleet as the links need them at each message: names and types, in memory."""

from collections.abc import Callable

from warden_host.engine.events import FleetEvent
from warden_host.service import open_rooms
from warden_host.store.store import Store


class KnownDevices:
    """Replaced as a whole by read(), so that any thread may look."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}  # device ID → type
        self.all_types: dict[str, str] = {}  # with open devices → their room
        self._by_topic: dict[bytes, str] = {}  # its level of a topic → device ID
        self._rooms: dict[tuple[bytes, bytes], str] = {}  # (type, device) of a topic → open room

    def read(self, store: Store, changed: Callable[[str], None]) -> None:
        """Follow fleet.db. changed(device): called for each that is gone or has another type."""
        before = self.types
        self.types = {name: type_ for name, type_, _ in store.device_types()}
        opened = store.open_devices()
        self.all_types = opened | self.types
        self._rooms = {(room.encode(), name.encode()): room for name, room in opened.items()}
        self._by_topic = {name.encode(): name for name in self.types}
        for name, type_ in before.items():
            if self.types.get(name) != type_:
                changed(name)

    def room_of(self, topic: bytes) -> str:
        """Return the open room whose device a topic names, or ""."""
        if not self._rooms:
            return ""
        parts = topic.split(b"/", 5)
        return self._rooms.get((parts[2], parts[4]), "") if len(parts) > 5 else ""

    def before(
        self, sink: open_rooms.Sink, announce: Callable[[FleetEvent], None]
    ) -> open_rooms.Sink:
        """Return a sink that takes what open devices publish, and passes all else on."""
        return open_rooms.before(sink, self.room_of, announce)

    def of_topic(self, parts: list[bytes]) -> str:
        """Return the device that the levels of a topic name, or ""."""
        return self._by_topic.get(parts[4], "") if len(parts) > 4 else ""
