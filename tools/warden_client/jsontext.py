"""JSON from outside and for peers, within bounds."""

import json
import math
import re
from itertools import accumulate
from typing import Any

from warden_client.errors import HostError
from warden_client.values import MAX_DEPTH, check_scalar

SLUG = re.compile(r"[a-z0-9-]{1,40}\Z")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_LEVELS = {"[": 1, "{": 1, "]": -1, "}": -1}
_NO_BRACKETS = re.compile(r"[^][{}]+")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")

# For text that a person typed; a peer's mistakes are named, not explained.
HINTS = {
    "bad-json": (
        "give an object, its keys in double quotes, all of it in single ones: "
        """'{"on": 1}'"""
    ),
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
    data: bytes | str,
    limit: int,
    code: str = "bad-json",
    depth: int = MAX_DEPTH,
    marks: int | None = None,
) -> dict[str, Any]:
    """Return the object; raises the code given. No refusal quotes the text: it may be a secret.

    Its texts can be encoded: half a surrogate pair, such as "\\ud800", is refused (RFC 7493, 2.1).

    limit: bytes. depth: lists and objects within each other. marks: opening brackets, commas and
    colons, each of which an item follows; None: any number.
    """
    if len(data) > limit:
        raise HostError(code, f"JSON of {len(data)} bytes where {limit} are allowed", "send less")
    try:
        text = data.decode() if isinstance(data, bytes) else data
        _check_bounds(text, depth, len(text) if marks is None else marks)
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except _Unfit as error:
        raise HostError(code, str(error), HINTS.get(code, "")) from None
    except json.JSONDecodeError as error:
        where = f" at character {error.pos}"
        raise HostError(code, "not valid JSON" + where, HINTS.get(code, "")) from None
    except UnicodeDecodeError:
        raise HostError(code, "not valid JSON: not UTF-8", HINTS.get(code, "")) from None
    except UnicodeEncodeError:
        raise HostError(code, "not valid JSON: half a character", HINTS.get(code, "")) from None
    except (ValueError, RecursionError):  # of more digits than Python reads
        raise HostError(code, "an integer that is too large", HINTS.get(code, "")) from None
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value).__name__, "another kind")
        raise HostError(code, f"{kind} where an object is wanted", HINTS.get(code, ""))
    return value


class _Unfit(ValueError):
    """JSON that is beyond a bound or has two meanings. Its text quotes nothing."""


def _check_bounds(text: str, depth: int, marks: int) -> None:
    """Raise _Unfit for a text of more items or levels, before json recurses or makes an object."""
    if _openings(text) <= depth and _marks(text) <= marks:
        return  # even with the marks that stand in strings
    text = _STRING.sub("", text)
    if _marks(text) > marks:
        raise _Unfit(f"JSON of more items than {marks} brackets, commas and colons give")
    levels = accumulate(map(_LEVELS.__getitem__, _NO_BRACKETS.sub("", text)))
    if max(levels, default=0) > depth:
        raise _Unfit(f"JSON nested deeper than {depth}")


def _openings(text: str) -> int:
    return text.count("[") + text.count("{")


def _marks(text: str) -> int:
    return _openings(text) + text.count(",") + text.count(":")


def encode(value: dict[str, Any], depth: int = MAX_DEPTH) -> bytes:
    """Return the object as JSON on one line, for a peer that reads so many levels.

    Raises: bad-argument for what JSON has no form for: NaN, infinities, bytes, sets, keys that are
    no text, lone surrogates, and for integers of more than 64 bits. cbor-limit for more levels.
    """
    _check_form(value, depth)
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _check_form(value: Any, depth: int) -> None:
    if isinstance(value, (dict, list, tuple)):
        if not depth:
            raise HostError("cbor-limit", "nested deeper than its reader takes")
        for item in value:
            _check_form(item, depth - 1)
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise HostError("bad-argument", "a key that is no text, and JSON has no other")
            for item in value.values():
                _check_form(item, depth - 1)
    elif isinstance(value, bytes):
        raise HostError("bad-argument", "bytes, which JSON has no form for")
    else:
        check_scalar(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Unfit("not valid JSON: a key twice")
    return result


def _no_constant(_name: str) -> Any:
    raise _Unfit("not valid JSON: NaN or an infinity")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Unfit("a number that is too large")
    return number


def slug(value: Any) -> str:
    """Return a peer's code; "unreadable" for a value that is no slug."""
    return value if isinstance(value, str) and SLUG.match(value) else "unreadable"
