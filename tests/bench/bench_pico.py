"""Show what `make test-pico` measured last on the emulated Pico W.

Each run of a test there leaves its rows, with the day, the commit and the firmware: a row above
them says these. The peer is this package at commit 5ca6c9c on the same emulator: the targets are
shares of its figures. Where one of them has no row, that test has not run here.
"""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path

from measure_kit import LeftOut, row

FIGURES = Path(__file__).resolve().parents[2] / "build" / "pico"
_HEAD = "Pico W: "
_BEFORE = {
    "plain: reset to agent begun": "2,190 ms",
    "plain: TLS": "3,900 ms",
    "plain: reset to session": "6,700 ms",
    "plain: free at begun": "123,440 bytes",
    "plain: free at session-stands": "91,024 bytes",
    "plain: largest piece at session-stands": "59,734 bytes",
    "slots: reset to agent begun": "3,152 ms",
    "slots: TLS": "4,800 ms",
    "slots: reset to session": "9,200 ms",
    "slots: free at session-stands": "64,944 bytes",
    "slots: largest piece at session-stands": "41,604 bytes",
    "opened gate: free": "73,856 bytes",
    "opened gate: largest piece": "51,930 bytes",
    "command, handler, reply": "14.6 ms",
    "command, handler, reply: allocated": "5,481 bytes",
    "welcome, keys, ready": "29.9 ms",
    "ES256 with the key's table": "218 ms, without a table",
    "chunks of an update, without the flash": "89.5 %",
    "plain: C stack, start and commands": "6,944 bytes",
    "plain: C stack, forged and nested commands too": "8,220 bytes",
    "sealed events": "33 to 47 %, on a PC",
}


def rows(figures: Path = FIGURES) -> Iterator[dict[str, object]]:
    """See run.py."""
    groups: dict[str, list[dict[str, object]]] = {}
    for path in sorted(figures.glob("*.json")):
        if path.name == "provision.json":  # what the steps of provisioning said
            continue
        for found in json.loads(path.read_text()):
            measured = found.pop("measured", None) or f"{_day(path)}, commit not recorded"
            groups.setdefault(measured, []).append(found)
    if not groups:
        raise LeftOut("`make test-pico FIRMWARE=file.uf2` has measured nothing here")
    missing = dict(_BEFORE)
    for measured, group in groups.items():
        yield row(_HEAD + "the rows below", "", "", peer=f"measured {measured}")
        for found in group:
            before = missing.pop(str(found["name"]).removeprefix(_HEAD), None)
            yield found | {"peer": f"commit 5ca6c9c: {before}"} if before else found
    for name, before in missing.items():
        yield row(_HEAD + name, "not measured", "", peer=f"commit 5ca6c9c: {before}")


def _day(path: Path) -> datetime.date:
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).date()
