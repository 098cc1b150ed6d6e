"""Text from outside: JSON within bounds, as the client package reads it, and what may be put on a
screen.
"""

import json
import math
from typing import Any

from warden_client.jsontext import HINTS, SLUG, encode, parse_object, slug

__all__ = ["HINTS", "SLUG", "brief", "dump", "encode", "parse_object", "printable", "slug"]


def dump(value: Any) -> str:
    """Return a value as one line of ASCII, so that a device's text can't steer a terminal.

    Half a surrogate pair, which parse_object() refuses, becomes a replacement character.
    """
    try:
        line = _line(value)
    except (TypeError, ValueError):  # keys that are no text, NaN
        line = _line(_plain(value))
    return _line(_plain(value)) if "\\ud" in line else line


_line = json.JSONEncoder(allow_nan=False, default=bytes.hex).encode


def brief(value: Any) -> str:
    """Return a value as dump() does, with numbers rounded for people, such as 22.24."""
    return dump(_rounded(value))


def _rounded(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        # Six digits hold all of a device's 32-bit float; a large number is a time or a counter.
        return float(f"{value:.6g}" if abs(value) < 1e5 else f"{value:.12g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def printable(text: str) -> str:
    """Return a peer's text with characters replaced that could steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
