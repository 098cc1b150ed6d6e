"""Bound what fleet.db keeps of the past: of devices that are gone, and of rollouts that ended.

Tables with a bound of their own: events and incidents (so many a device), codes, held commands,
tokens, certificates. The audit log is moved into files (audit_export.py), never deleted here.
"""

from warden_host.store.database import Database

GONE_S = 90 * 86400  # what a removed device reported is kept for so long
MOST_ROLLOUTS = 500  # that ended
COUNTS_S = 2 * 86400  # the longest window of a limit is a day
# Kind → the statement that removes what is past, and its age in seconds. ?1: unix seconds before
# which it counts as past. ?2: MOST_ROLLOUTS.
_STATEMENTS = {
    "events": (
        "DELETE FROM events WHERE time < ?1 AND ?2 AND device NOT IN (SELECT device FROM devices)",
        GONE_S,
    ),
    "incidents": (
        "DELETE FROM incidents WHERE time < ?1 AND ?2 "
        "AND device NOT IN (SELECT device FROM devices)",
        GONE_S,
    ),
    "incident records": (
        "DELETE FROM incident_records WHERE received < ?1 AND ?2 "
        "AND device NOT IN (SELECT device FROM devices)",
        GONE_S,
    ),
    "deliveries": (
        "DELETE FROM otp_deliveries WHERE time < ?1 AND ?2 "
        "AND device NOT IN (SELECT device FROM devices)",
        GONE_S,
    ),
    "counts": ("DELETE FROM otp_counts WHERE time < ?1 AND ?2", COUNTS_S),
    "rollouts": (
        "DELETE FROM rollouts WHERE began <= ?1 AND state <> 'active' AND id NOT IN "
        "(SELECT id FROM rollouts WHERE state <> 'active' ORDER BY id DESC LIMIT ?2)",
        0,
    ),
}


class Retention(Database):
    """Called once an hour while the fleet is served."""

    def remove_past(self, now: float) -> dict[str, int]:
        """Remove what is older than its bound; return how many rows of each kind. now: unix."""
        removed = {}
        for name, (statement, age_s) in _STATEMENTS.items():
            with self.transaction(durable=False):
                removed[name] = self._do(statement, now - age_s, MOST_ROLLOUTS).rowcount
        return removed
