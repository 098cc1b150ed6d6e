"""Check what a device reports of messages that it refused."""

import re
from typing import Any

from warden_client.protocol.strictcbor import is_u32

from warden_host import jsontext

_VERB = re.compile(r"[a-z0-9_]{0,32}\Z")


def parse(body: dict[str, Any]) -> tuple[str, str, int] | None:
    """Return (code, command or part of the device, count) of an incident's body, or None."""
    code, count, at = body.get("code"), body.get("n"), body.get("at")
    if (
        not isinstance(code, str)
        or not jsontext.SLUG.match(code)
        or not isinstance(at, str)
        or not _VERB.match(at)
        or not is_u32(count)
        or count == 0
    ):
        return None
    return code, at, int(count)
