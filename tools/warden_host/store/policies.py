"""Changes of policies in fleet.db that a device tries and has not proved yet."""

from warden_host.store.database import Database


class Policies(Database):
    """The rows of changes: the record that a device may have instead of its own."""

    def start_policy_change(self, device: str, record: bytes) -> None:
        """Store the record that the device is about to try. Durable."""
        with self.transaction():
            self._do("INSERT OR REPLACE INTO policy_changes VALUES (?, ?)", device, record)

    def end_policy_change(self, device: str, proved: bool) -> None:
        """End a device's change: where it proved itself, its record is the device's. Durable."""
        with self.transaction():
            if proved:
                self._do(
                    "UPDATE devices SET diverged = 0, policy = (SELECT record FROM policy_changes "
                    "AS one WHERE one.device = devices.device) WHERE device = ? AND device IN "
                    "(SELECT device FROM policy_changes)",
                    device,
                )
            self._do("DELETE FROM policy_changes WHERE device = ?", device)
