"""Runs a program of tests/faults/device on MicroPython, which cuts the power everywhere and prints
what it counted."""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from process_kit import PATIENCE_S


def run(
    program: str,
    repo: Path,
    micropython: str,
    *arguments: str,
    heap: str = "8m",
) -> "subprocess.CompletedProcess[str]":
    """Its status is the caller's to judge: 1 says that a promise broke, which some tests want."""
    source = f"tests/faults/device/{program}.py"
    return subprocess.run(
        [micropython, "-X", "heapsize=" + heap, source, *arguments],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
        check=False,
    )


def counted(pattern: "re.Pattern[str]", lines: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """What each line counts, by its name: the pattern's first group.

    Each line has to fit, and a name comes once.
    """
    found: dict[str, tuple[int, ...]] = {}
    for line in lines:
        match = pattern.fullmatch(line)
        assert match, line
        name, *numbers = match.groups()
        assert name not in found, line
        found[name] = tuple(map(int, numbers))
    return found
