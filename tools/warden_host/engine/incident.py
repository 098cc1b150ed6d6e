"""Check what a device reports of messages that it refused, and the chain of its incident log.

docs/protocol.md, The incident log, gives both forms of a report: with a number, a record of the
log, which is chained to the one before it; without, a count that is not in the log yet.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from warden_client.protocol import strictcbor
from warden_client.protocol.strictcbor import is_u32

from warden_host import jsontext

HASH = 16  # bytes
_VERB = re.compile(r"[a-z0-9_]{0,32}\Z")
_APPID = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_DIGEST = re.compile(r"[0-9a-f]{32}\Z")
_LATEST = 1 << 40  # unix seconds


@dataclass(frozen=True)
class Report:
    """An incident that a device reports.

    at: the command or the part of the device. source: the application that caused it, or "".
    number: of the record in the log, 0 without one. The rest is of such a record: told: how many
    of n were reported before, without a number; oldest: the first number that the device still
    has; time: the device's, unix seconds; digest: the chain's, up to this record.
    """

    code: str
    at: str
    n: int
    source: str = ""
    number: int = 0
    told: int = 0
    oldest: int = 0
    time: int = 0
    digest: bytes = b""


def parse(body: dict[str, Any]) -> Report | None:
    """Return the report that a body is, or None."""
    code, count, at, source = body.get("code"), body.get("n"), body.get("at"), body.get("from", "")
    if (
        not isinstance(code, str)
        or not jsontext.SLUG.match(code)
        or not isinstance(at, str)
        or not _VERB.match(at)
        or not is_u32(count)
        or count == 0
        or not isinstance(source, str)
        or not (source == "" or _APPID.match(source))
    ):
        return None
    if "no" not in body:
        return Report(code, at, int(count), source)
    number, oldest, told, time = (body.get(key) for key in ("no", "old", "told", "t"))
    digest = body.get("hash")
    if (
        not (is_u32(number) and is_u32(oldest) and 0 < oldest <= number)
        or not (is_u32(told) and told <= count)
        or type(time) is not int
        or not 0 <= time < _LATEST
        or not isinstance(digest, str)
        or not _DIGEST.match(digest)
    ):
        return None
    return Report(code, at, int(count), source, number, told, oldest, time, bytes.fromhex(digest))


def genesis(type: str, device: str) -> bytes:
    """Return the chain's hash before the first record of a device."""
    return _digest(strictcbor.encode(["warden incidents 1", type, device]))


def follows(before: bytes, report: Report) -> bool:
    """Return whether a record is the next one of the chain with this hash."""
    fields = [report.number, report.time, report.code, report.at, report.source]
    record = strictcbor.encode([*fields, report.n, report.told])
    return _digest(before + record) == report.digest


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:HASH]
