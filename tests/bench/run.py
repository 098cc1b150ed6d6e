"""Measures against the numbers of the design: `make bench`.

Each `bench_*.py` beside this file has a function `rows()` that yields dicts:
    name    what was measured
    value   the number
    unit    such as "× OpenSSL", "%", "bytes"
    target  what it should be, in words ("≤ 22"), or "" where there is only the number to know
    ok      whether it is met; None where there is no target
Figures are ratios of two things measured in the same run, so that the machine's speed and load
cancel out. A missed target is no failure here: a
loaded machine would fail a good change. A benchmark that can't run is one.

    python tests/bench/run.py [NAME…]          all, or bench_NAME.py
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build"
FIELDS = ("name", "value", "unit", "target", "ok")


def load(path: Path) -> list[dict[str, object]]:
    """The rows of one file, each with exactly the documented fields."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(path.name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = [dict(row) for row in module.rows()]
    for row in rows:
        if sorted(row) != sorted(FIELDS):
            raise ValueError(f"{path.name}: a row has {sorted(row)}, wanted {sorted(FIELDS)}")
    return rows


def show(value: object) -> str:
    """A number with three figures that count."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(names: list[str]) -> int:
    """0 when every benchmark ran."""
    paths = sorted(HERE.glob("bench_*.py"))
    if names:
        paths = [path for path in paths if path.stem.removeprefix("bench_") in names]
    sys.path[:0] = [str(HERE), str(HERE.parent.parent / "examples")]
    console = Console(width=None if sys.stdout.isatty() else 110)
    rows: list[dict[str, object]] = []
    broken = 0
    for path in paths:
        start = time.monotonic()
        try:
            rows += load(path)
        except Exception as error:  # one broken benchmark must not hide the figures of the others
            broken += 1
            console.print(f"{path.name} failed: {type(error).__name__}: {error}", markup=False)
        else:
            console.print(f"{path.name}: {time.monotonic() - start:.1f} s", markup=False)
    table = Table(title="Benchmarks")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("target")
    table.add_column("ok")
    for row in rows:
        mark = {True: "yes", False: "[bold red]no[/]", None: ""}[row["ok"]]
        cells = [str(row["name"]), show(row["value"]), str(row["unit"]), str(row["target"])]
        table.add_row(*cells, mark)
    console.print(table)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "bench.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
