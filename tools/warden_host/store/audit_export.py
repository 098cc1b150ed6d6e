"""The audit log as a file of JSON lines: the first one has the hash before its first row."""

import json
import os
from pathlib import Path
from typing import Any

from warden_host import folders
from warden_host.errors import HostError
from warden_host.store.audit import Audit, Entry

FORMAT = 1
FOLDER = "audit"  # of the fleet, for the files that `warden serve` writes
MOST_ROWS = 100_000  # in fleet.db, above which the older half is moved into a file


def export(store: Audit, path: Path, until: int = 0) -> tuple[int, bytes, Entry | None]:
    """Write the rows into a new file, 0600, on the disk when it returns.

    until: the last ID to write; 0 for all. Returns: the number of rows, the hash of the last one,
    and that row. Raises bad-argument where the file is there, audit-broken.
    """
    last: Entry | None = None
    count = 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise HostError("bad-argument", f"{path} is there already", "name a new file") from None
    with os.fdopen(descriptor, "wb") as out:
        id_, before = store.audit_base()
        out.write(line({"format": FORMAT, "after": id_, "hash": before.hex()}))
        for row in store.audit_rows():
            if until and row.id > until:
                break
            if row.id != id_ + 1 or row.hash != row.expected_hash(before):
                raise HostError("audit-broken", f"row {id_ + 1} is changed or missing")
            out.write(line(record(row)))
            id_, before, last = row.id, row.hash, row
            count += 1
        out.flush()
        os.fsync(out.fileno())
    folders.sync_folder(path.absolute().parent)
    return count, before, last


def rotate(store: Audit, root: Path, most: int = MOST_ROWS) -> Path | None:
    """Move the older half of the log into a file below root/audit, where it has too many rows.

    The chain goes on: the file begins where the one before ended, and fleet.db at its end.
    Returns the file. Raises audit-broken: then nothing is removed.
    """
    base = store.audit_base()[0]
    last = store.latest_audit_rows(1)
    if not last or last[0].id - base <= most:
        return None
    until = base + (last[0].id - base) // 2
    folder = root / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{base + 1:09}-{until:09}.jsonl"
    path.unlink(missing_ok=True)  # of a rotation that was cut off: its rows are all in fleet.db
    written = export(store, path, until)[2]
    if written is not None:
        store.trim_audit(written)
    return path


def record(row: Entry) -> dict[str, Any]:
    """Return a row for JSON."""
    return row._asdict() | {"hash": row.hash.hex()}


def line(made: dict[str, Any]) -> bytes:
    """Return one line of an export."""
    return json.dumps(made, ensure_ascii=True).encode() + b"\n"
