"""Text from outside: JSON within bounds, and what may be put on a screen."""

import json
import math
from typing import Any

from warden_host.errors import HostError


def parse_object(data: bytes | str, limit: int, code: str = "bad-json") -> dict[str, Any]:
    """The object; raises the code given. What was refused is never quoted: it may be a secret."""
    if len(data) > limit:
        raise HostError(code, f"JSON of {len(data)} bytes where {limit} are allowed")
    try:
        value = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise HostError(code, "not valid JSON" + where) from None
    if not isinstance(value, dict):
        raise HostError(code, f"JSON of a {type(value).__name__} where an object is wanted")
    return value


def dump(value: Any) -> str:
    """One line of ASCII: what a device sent can't steer a terminal or break a line."""
    return json.dumps(_plain(value), ensure_ascii=True, separators=(", ", ": "), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def printable(text: str) -> str:
    """What a device or a peer wrote can't steer our terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
