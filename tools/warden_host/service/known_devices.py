"""The devices of the fleet as the links need them at each message: names and types, in memory."""

from collections.abc import Callable

from warden_host.store.store import Store


class KnownDevices:
    """Replaced as a whole by read(), so that any thread may look."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}  # device ID → type
        self._by_topic: dict[bytes, str] = {}  # its level of a topic → device ID

    def read(self, store: Store, changed: Callable[[str], None]) -> None:
        """Follow fleet.db. changed(device): called for each that is gone or has another type."""
        before = self.types
        self.types = {name: type_ for name, type_, _ in store.device_types()}
        self._by_topic = {name.encode(): name for name in self.types}
        for name, type_ in before.items():
            if self.types.get(name) != type_:
                changed(name)

    def of_topic(self, parts: list[bytes]) -> str:
        """Return the device that the levels of a topic name, or ""."""
        return self._by_topic.get(parts[4], "") if len(parts) > 4 else ""
