"""Refusals and failures, counted until they are logged. Memory is bounded, whatever comes.

agent/incident_report.py writes them into the log (session/incident_log.py) and reports them.
"""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

# Every code that a peer can provoke has rows for three places: noise hides no code.
_MOST = const(32)
_PLACES = const(3)
_SHARED = const(16)  # beyond these, a row is for a code that has none yet
_WINDOW_MS = const(1000)
# Between two reports of one row: who floods a device must not make it flood the authority.
REPEAT_MS = const(10000)
# The authority says at the beginning of a session what it has: without that, records would come
# again at each start.
_ASK_MS = const(2000)


class Incidents:
    """Counts of distinct (code, place, application) rows.

    The fourth and later places of a code are counted together under "", all but the first where
    16 rows are in use; what is beyond all 32 rows as `incident-overflow`.

    rows: {(code, place, application): [count, reported so far, when it came first]}; times are
    milliseconds of the uptime. due: when agent/incident_report.py has to run, or None. kept: the
    log may have records that the authority lacks. acked: the log's last record that the authority
    has, as it said in this boot; -1: it said nothing. The others are those of
    agent/incident_report.py between two runs.
    """

    def __init__(self) -> None:
        self.rows: "dict[tuple[str, str, str], list[int]]" = {}
        self.due: "int | None" = None
        self.kept = False
        self.acked = -1
        self.newest = 0  # number of the log's last record; 0: the log was not read in this boot
        self.left = -1  # writes that the policy's budget leaves
        self.refill_ms = 0  # when there is one more
        self.sid = b""  # the session in which records were sent, and the last one's number
        self.sent = self.tries = 0
        self.resend_ms = 0

    def add(self, code: str, at: str, now_ms: int, n: int = 1, source: str = "") -> None:
        """Count an incident.

        code: an error's slug. at: a command or a place. n: how often. source: the application
        that caused it, as far as that is known.
        """
        key, rows = (code, at, source), self.rows
        if key not in rows:
            mine = [other for other in rows if other[0] == code]
            full = len(rows) >= _SHARED
            if len(mine) >= _PLACES or (mine and full):
                key = (code, "", "")
                if full and key not in rows:
                    rows[key] = rows.pop(mine[0])
        if key not in rows and len(rows) >= _MOST:
            key = ("incident-overflow", "", "")
        row = rows.setdefault(key, [0, 0, now_ms])
        row[0] += n
        # Incidents of one second go together: a flood of garbage is not answered by one of
        # reports. A broken link alone is not worth a write: it waits for the next session.
        due = now_ms + (REPEAT_MS if row[1] else _WINDOW_MS)
        if at != "link" and (self.due is None or due < self.due):
            self.due = due

    def wake(self, now_ms: int) -> None:
        """Report what waits: the authority's session is up, or a connection's first."""
        if self.rows or self.kept:
            self.due = now_ms
        if self.kept and self.acked < 0:
            self.resend_ms = now_ms + _ASK_MS

    def acknowledge(self, number: "Any", now_ms: int) -> None:
        """Note that the authority has all records up to this number."""
        if type(number) is not int or not self.acked < number <= (self.newest or number):
            return
        self.acked = number
        if number == self.newest:
            self.kept = False
        elif self.kept:
            self.due = now_ms
