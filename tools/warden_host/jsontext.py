"""Text from outside: JSON within bounds, and what may be put on a screen."""

import json
import math
import re
from typing import Any

from warden_host.errors import HostError

# Ours as well as theirs: what was taken must be told again, and Python recurses for each level.
MAX_DEPTH = 16
SLUG = re.compile(r"[a-z0-9-]{1,40}\Z")
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[]}]', re.DOTALL)

# Only for what a person typed; a peer's mistakes are named, not explained.
HINTS = {
    "bad-json": """give an object, its keys in double quotes, all of it in single ones: '{"on": 1}'""",
}


_KINDS = {
    "list": "a list",
    "int": "a number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "NoneType": "null",
}


def parse_object(
    data: bytes | str, limit: int, code: str = "bad-json", depth: int = MAX_DEPTH
) -> dict[str, Any]:
    """The object; raises the code given. What was refused is never quoted: it may be a secret."""
    if len(data) > limit:
        raise HostError(code, f"JSON of {len(data)} bytes where {limit} are allowed", "send less")
    try:
        text = data.decode() if isinstance(data, bytes) else data
        if _deeper(text, depth):
            raise HostError(code, f"JSON nested deeper than {depth}", HINTS.get(code, ""))
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise HostError(code, "not valid JSON" + where, HINTS.get(code, "")) from None
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value).__name__, "another kind")
        raise HostError(code, f"{kind} where an object is wanted", HINTS.get(code, ""))
    return value


def _deeper(text: str, limit: int) -> bool:
    """Counted before json sees it, which would recurse for each level."""
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        if found[0] in "[{":
            depth += 1
            if depth > limit:
                return True
        elif found[0] in "]}":
            depth -= 1
    return False


def dump(value: Any) -> str:
    """One line of ASCII: what a device sent can't steer a terminal or break a line."""
    return json.dumps(_plain(value), ensure_ascii=True, separators=(", ", ": "), allow_nan=False)


def brief(value: Any) -> str:
    """As dump(), for people: 22.24 and not 22.240000000000002, which is what a sum of floats gives."""
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


def slug(value: Any) -> str:
    """A peer's word for what happened; "unreadable" for what is no word of that kind."""
    return value if isinstance(value, str) and SLUG.match(value) else "unreadable"


def printable(text: str) -> str:
    """What a device or a peer wrote can't steer our terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
