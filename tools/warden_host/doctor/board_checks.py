"""Checks of a board at a serial port: what its interpreter says. Nothing is written to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from warden_host.boards.checks import MIN_HEAP, MIN_VERSION
from warden_host.boards.connection import Board
from warden_host.doctor.registry import Finding, check, serious, worth

# The newest one that the project's tests run on.
NEWEST = (1, 28)
_ASK = """
import gc, json, os, sys
gc.collect()
name = sys.implementation
print(json.dumps({"version": list(name.version[:2]), "heap": gc.mem_free(),
    "files": [entry[0] for entry in os.ilistdir("/")]}))
"""
_OURS = frozenset(("boot.py", "main.py", "vault"))


@dataclass(frozen=True)
class BoardFacts:
    """version: of MicroPython. heap: bytes that are free. files: in its root folder."""

    version: tuple[int, ...]
    heap: int
    files: frozenset[str]


def ask(board: Board) -> BoardFacts:
    """Return what an open board says. Raises board-failed, board-lost."""
    said: dict[str, Any] = board.ask(_ASK)
    version = tuple(one for one in said.get("version", ()) if type(one) is int)
    heap = said.get("heap")
    return BoardFacts(
        version[:2], heap if type(heap) is int else 0, frozenset(map(str, said.get("files", ())))
    )


@check("board", "micropython", "the version of MicroPython")
def micropython(facts: BoardFacts) -> Iterator[Finding]:
    shown = ".".join(map(str, facts.version))
    if facts.version < MIN_VERSION:
        yield serious(
            f"MicroPython {shown} is too old for Warden", "`warden flash` of a newer firmware"
        )
    elif facts.version < NEWEST:
        yield worth(
            f"MicroPython {shown}: {'.'.join(map(str, NEWEST))} is the newest tried one",
            "`warden flash` of a newer firmware",
        )


@check("board", "console", "whether its console is open although it has secrets")
def console(facts: BoardFacts) -> Iterator[Finding]:
    if facts.files >= _OURS:
        yield serious(
            "its console is open and it has a vault: anyone there has its secrets",
            "`warden develop DEVICE --end`; new secrets by `warden provision DEVICE --again`",
        )


@check("board", "heap", "memory")
def heap(facts: BoardFacts) -> Iterator[Finding]:
    if facts.heap < MIN_HEAP:
        yield worth(
            f"{facts.heap:,} bytes of heap are free, and Warden needs {MIN_HEAP:,}",
            "a board with more memory, or a firmware with less frozen code",
        )
