"""Values as a page shows them."""

import json
import time
from datetime import datetime
from typing import Any

_MAX_BODY = 2000  # characters
_TURNING = dict.fromkeys(
    (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),
    "\N{REPLACEMENT CHARACTER}",
)


def clean(value: Any) -> Any:
    """Return a text without characters that turn the order of what follows; else the value.

    What a device sends could make a line read as another one, though it is no markup.
    """
    return value.translate(_TURNING) if type(value) is str else value


def moment(seconds: float | None) -> str:
    """Return a time as text, of this machine's zone."""
    if not seconds:
        return "never"
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "?"


def ago(seconds: float | None) -> str:
    """Return how long ago a time is."""
    if not seconds:
        return "never"
    age = max(0.0, time.time() - seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if age >= 2 * size:
            return f"{age / size:.0f} {unit} ago"
    return f"{age:.0f} s ago"


def body(value: Any) -> str:
    """Return a message's body as short JSON."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_BODY else text[:_MAX_BODY] + " …"


def plural(number: int, one: str, more: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else more}"


def number(value: float) -> str:
    """Return a measured number in at most six digits."""
    return f"{value:.6g}" if abs(value) < 1e5 else f"{value:.12g}"


FILTERS = {"moment": moment, "ago": ago, "body": body, "plural": plural, "number": number}
