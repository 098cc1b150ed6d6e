"""Gateways in fleet.db: which devices each of them relays for. A device may be at several."""

import json

from warden_host.errors import HostError
from warden_host.store.database import Database, guard

MOST_DEVICES = 250  # of one gateway
_PREFIX = "gateway:"  # of a row of the settings


class Gateways(Database):
    """The gateways' rows."""

    def gateways(self) -> dict[str, tuple[str, ...]]:
        """Return gateway → the devices that it may relay for, both in order."""
        rows = self._do(
            "SELECT name, value FROM settings WHERE name GLOB ? ORDER BY 1", _PREFIX + "*"
        ).fetchall()
        with guard():
            return {name.removeprefix(_PREFIX): tuple(json.loads(value)) for name, value in rows}

    def gateway(self, name: str) -> tuple[str, ...]:
        """Return a gateway's devices; raises gateway-unknown."""
        found = self.gateways().get(name)
        if found is None:
            raise HostError("gateway-unknown", f"no gateway {name} in this fleet")
        return found

    def set_gateway(self, name: str, devices: tuple[str, ...]) -> None:
        """Add a gateway, or replace its devices. Call it inside a transaction."""
        value = json.dumps(sorted(set(devices))).encode()
        self._do("INSERT OR REPLACE INTO settings VALUES (?, ?)", _PREFIX + name, value)

    def remove_gateway(self, name: str) -> None:
        """Remove a gateway. Call it inside a transaction."""
        self._do("DELETE FROM settings WHERE name = ?", _PREFIX + name)
