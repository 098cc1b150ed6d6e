"""The watch's own log, which fail2ban reads: a line a decision, which no client can forge.

    2026-11-30T10:22:00Z refused 203.0.113.7 2/3 client=d:lock:D1
    2026-11-30T10:22:01Z banned 203.0.113.7 attempts=3

What a client calls itself stands at the end of a line, in an alphabet without spaces, line ends
and quotes; everything before it is Warden's own.
"""

import re
import time
from pathlib import Path
from urllib.parse import quote

from warden_host.bans.networks import short
from warden_host.bounded_log import BoundedLog, lines_of
from warden_host.fleet.fleet import Fleet
from warden_host.store.bans import BAN, Ban

NAME = "bans.log"
MAX_LOG = 1 << 20  # bytes of each of its two files
_MOST_CLIENT = 64  # characters, before they are escaped
_SAFE = re.compile(r"[A-Za-z0-9:._-]*\Z", re.ASCII)


def path_of(fleet: Fleet) -> Path:
    """Return where a fleet's log is."""
    return fleet.broker / NAME


class BanLog:
    """Append lines. Raises OSError where the disk is full: the decision counts all the same."""

    def __init__(self, path: Path) -> None:
        self._log = BoundedLog(path, MAX_LOG)

    def close(self) -> None:
        self._log.close()

    def refused(self, moment: float, address: str, count: int, limit: int, client: str) -> None:
        """Note a refused log-in. count: of limit. client: any text."""
        self._log.write(refused_line(moment, address, count, limit, client))

    def cleared(self, moment: float, address: str) -> None:
        """Note that a refused log-in was another address's."""
        self._write(moment, "cleared", address)

    def banned(self, ban: Ban) -> None:
        """Note a ban, or that an address is slowed."""
        word = "banned" if ban.kind == BAN else "slowed"
        self._write(ban.since, word, short(ban.network), f"attempts={ban.attempts}")

    def lifted(self, moment: float, network: str) -> None:
        """Note that a ban ended."""
        self._write(moment, "lifted", short(network))

    def _write(self, moment: float, *words: str) -> None:
        self._log.write(_line(moment, *words))


def refused_line(moment: float, address: str, count: int, limit: int, client: str) -> bytes:
    """Return the line of a refused log-in. client: any text."""
    counted = f"{count}/{limit}" if count else "exempt"
    return _line(moment, "refused", address, counted, f"client={escaped(client)}")


def _line(moment: float, *words: str) -> bytes:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
    return " ".join((stamp, *words)).encode("ascii", "replace") + b"\n"


def escaped(client: str) -> str:
    """Return any text in the alphabet A-Z a-z 0-9 : . _ - %."""
    text = client[:_MOST_CLIENT]
    return (
        text if _SAFE.match(text) else quote(text, safe=":", errors="replace").replace("~", "%7E")
    )


def read(fleet: Fleet) -> list[str]:
    """Return the log's lines, the oldest first."""
    return list(lines_of(path_of(fleet)))
