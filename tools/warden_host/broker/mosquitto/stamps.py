"""Read the time at the start of each line of mosquitto's log."""

import functools
import re
import time

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d): (.*)\Z", re.DOTALL)


def split_stamp(line: str) -> tuple[str, str]:
    """Return a line's time and the text behind it; two empty texts for another line."""
    found = _STAMP.match(line)
    return ("", "") if found is None else (found[1], found[2])


@functools.lru_cache(8)
def seconds(stamp: str) -> float:
    """Return a stamp, which is of local time, in unix seconds; 0 for one that is no time."""
    try:
        return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return 0.0
