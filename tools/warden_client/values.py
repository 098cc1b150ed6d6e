"""Values that a message can carry in any encoding: scalars, and the depth of lists and maps."""

import math
from typing import Any

from warden_client.errors import HostError

MAX_DEPTH = 16  # lists and maps within each other


def check_scalar(value: Any) -> None:
    """Raise bad-argument unless a message can carry this number, text, bool, None or bytes."""
    if isinstance(value, bool) or value is None or isinstance(value, bytes):
        return
    if isinstance(value, int):
        if not -(1 << 64) <= value < 1 << 64:
            raise HostError("bad-argument", "an integer takes more than 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise HostError("bad-argument", "NaN or an infinity, which no message can carry")
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # a lone surrogate, as JSON's "\\ud800" gives one
            raise HostError("bad-argument", "text that is not valid Unicode") from None
    else:
        raise HostError("bad-argument", f"a {type(value).__name__} has no place in a message")
