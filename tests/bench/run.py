"""Measure against the numbers of the design: `make bench`; docs/benchmarks.md says what they mean.

Each `bench_*.py` beside this file has a function `rows()` that yields dicts; `row` in
measure_kit.py makes one:
    name    what was measured
    value   the number of today
    unit    such as "× OpenSSL", "%", "bytes"
    target  what it should be, in words ("≤ 22"), or "" where there is only the number to know
    peer    what else was measured in the same run, and its figure; may be left out
    ok      whether the target is met; None where there is none
`rows()` raises LeftOut with a sentence where it lacks what it measures with.

Figures are ratios of two things measured in the same run wherever they can be, so that the
machine's speed and load cancel out. A missed target is shown and is no failure, since a loaded
machine would fail a good change; `--strict` makes it one. A benchmark that can't run is a failure.

    python tests/bench/run.py [--strict] [NAME…]          all, or bench_NAME.py
"""

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

from measure_kit import LeftOut, figure, state
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
BUILD = REPO / "build"
FIELDS = {"name", "value", "unit", "target", "peer", "ok"}
COLUMNS = ("what", "target", "today", "unit", "peer", "ok")
_MARKS = {True: "yes", False: "no", None: ""}
Row = dict[str, object]


def load(path: Path) -> list[Row]:
    """Return the rows of one file, each with exactly the documented fields."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(path.name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = [{"peer": ""} | row for row in module.rows()]
    for row in rows:
        if set(row) != FIELDS:
            raise ValueError(f"{path.name}: a row has {sorted(row)}, wanted {sorted(FIELDS)}")
    return rows


def cells(row: Row) -> tuple[str, ...]:
    """Return a row's cells in the order of COLUMNS."""
    ok = row["ok"]
    mark = _MARKS[ok if ok is None else bool(ok)]
    name, target, unit, peer = (str(row[key]) for key in ("name", "target", "unit", "peer"))
    return name, target, figure(row["value"]), unit, peer, mark


def measure(paths: list[Path], console: Console) -> tuple[list[Row], int]:
    """Run the benchmarks; return their rows, and how many could not run."""
    rows: list[Row] = []
    broken = 0
    for path in paths:
        start = time.monotonic()
        try:
            rows += load(path)
        except LeftOut as error:
            console.print(f"{path.name}: left out, {error}", markup=False)
        except Exception as error:  # one broken benchmark must not hide the figures of the others
            broken += 1
            console.print(f"{path.name} failed: {type(error).__name__}: {error}", markup=False)
        else:
            console.print(f"{path.name}: {time.monotonic() - start:.1f} s", markup=False)
    return rows, broken


def table(rows: list[Row]) -> Table:
    """Return the table for a screen."""
    made = Table(title="Benchmarks")
    for column in COLUMNS:
        made.add_column(column, justify="right" if column == "today" else "left")
    for row in rows:
        *texts, mark = cells(row)
        made.add_row(*texts, f"[bold red]{mark}[/]" if mark == "no" else mark)
    return made


def markdown(rows: list[Row]) -> str:
    """Return the table for a document."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *map(cells, rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def verdict(rows: list[Row]) -> str:
    """Return in one line how many targets are met."""
    judged = [row for row in rows if row["ok"] is not None]
    missed = [str(row["name"]) for row in judged if not row["ok"]]
    text = f"{len(judged) - len(missed)} of {len(judged)} targets are met"
    return text + (": all but " + "; ".join(missed) if missed else "")


def main(arguments: list[str], folder: Path = HERE, build: Path = BUILD) -> int:
    """Return 0 when every benchmark ran and, if strict, met its targets; 2 for unknown names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--strict", action="store_true", help="fail where a target is missed")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args(arguments)
    known = {path.stem.removeprefix("bench_"): path for path in sorted(folder.glob("bench_*.py"))}
    if set(options.names) - set(known):
        print(f"bench: there are only {', '.join(known)}", file=sys.stderr)
        return 2
    paths = [path for name, path in known.items() if not options.names or name in options.names]
    sys.path.insert(0, str(REPO / "examples"))
    console = Console(width=None if sys.stdout.isatty() else 160)
    rows, broken = measure(paths, console)
    console.print(table(rows))
    console.print(verdict(rows), markup=False)
    build.mkdir(exist_ok=True)
    (build / "bench.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    (build / "bench.md").write_text(f"Measured {state()}.\n\n{markdown(rows)}")
    missed = any(row["ok"] is False for row in rows)
    return 1 if broken or (options.strict and missed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
