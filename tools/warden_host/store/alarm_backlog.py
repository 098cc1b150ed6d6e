"""Alarms that wait to be delivered, in fleet.db: what a stop of `warden serve` must not lose."""

import json
from typing import Any

from warden_host.store.database import Database, guard

_NAME = "alarms"


class AlarmBacklog(Database):
    """The alarms' row in the table of settings."""

    def alarm_backlog(self) -> dict[str, Any]:
        """Return what was kept: way and address → a group's record (alarms/channel.py)."""
        row = self._do("SELECT value FROM settings WHERE name = ?", _NAME).fetchone()
        with guard():
            found = {} if row is None else json.loads(row[0])
            if not isinstance(found, dict):
                raise ValueError("alarms of another form")
            return found

    def set_alarm_backlog(self, found: dict[str, Any]) -> None:
        """Replace what was kept."""
        value = json.dumps(found).encode()
        self._do("INSERT OR REPLACE INTO settings VALUES (?, ?)", _NAME, value)
