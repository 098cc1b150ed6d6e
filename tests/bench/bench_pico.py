"""What `make test-pico` measured last on the emulated Pico W."""

import json
from collections.abc import Iterator
from pathlib import Path

from measure_kit import LeftOut

FIGURES = Path(__file__).resolve().parents[2] / "build" / "pico"


def rows() -> Iterator[dict[str, object]]:
    """See run.py."""
    found = sorted(FIGURES.glob("*.json"))
    if not found:
        raise LeftOut("`make test-pico FIRMWARE=file.uf2` has measured nothing here")
    for path in found:
        yield from json.loads(path.read_text())
