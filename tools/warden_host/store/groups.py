"""Groups of devices in fleet.db. A group is its devices; the last one takes it away."""

from collections.abc import Sequence

from warden_host.errors import HostError
from warden_host.store.database import Database


class Groups(Database):
    """The groups' rows."""

    def groups(self) -> dict[str, list[str]]:
        """Return name → devices, both in order."""
        found: dict[str, list[str]] = {}
        for name, device in self._do("SELECT name, device FROM group_devices ORDER BY 1, 2"):
            found.setdefault(name, []).append(device)
        return found

    def group(self, name: str) -> list[str]:
        """Return the group's devices, in order; raises group-unknown."""
        rows = self._do("SELECT device FROM group_devices WHERE name = ? ORDER BY device", name)
        found = [row[0] for row in rows]
        if not found:
            raise HostError(
                "group-unknown",
                f"no group {name} in this fleet",
                "`warden group list` lists them; the devices of a type are no group",
            )
        return found

    def device_types(self) -> list[tuple[str, str, str]]:
        """Return (device, type, reason of its quarantine or "") of all devices."""
        return self._do(
            "SELECT device, type, quarantine || coalesce((SELECT code FROM reactions AS r "
            "WHERE r.device = devices.device), '') FROM devices ORDER BY 1"
        ).fetchall()

    def add_to_group(self, name: str, devices: Sequence[str]) -> None:
        """Add all of the devices or none; raises device-unknown."""
        with self.transaction():
            for device in devices:
                if self._do("SELECT 1 FROM devices WHERE device = ?", device).fetchone() is None:
                    raise HostError(
                        "device-unknown",
                        f"no device {device} in this fleet",
                        "`warden devices` lists them",
                    )
                self._do("INSERT OR IGNORE INTO group_devices VALUES (?, ?)", name, device)

    def remove_from_group(self, name: str, devices: Sequence[str]) -> None:
        """Remove all of the devices or none; raises group-unknown, device-unknown."""
        with self.transaction():
            known = self.group(name)
            for device in devices:
                if device not in known:
                    raise HostError(
                        "device-unknown",
                        f"no device {device} in group {name}",
                        f"`warden group list {name}` lists them",
                    )
                self._do("DELETE FROM group_devices WHERE name = ? AND device = ?", name, device)

    def remove_from_all_groups(self, device: str) -> None:
        """Remove a device that leaves the fleet from all groups."""
        self._do("DELETE FROM group_devices WHERE device = ?", device)
