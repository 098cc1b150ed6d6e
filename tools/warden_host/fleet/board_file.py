"""Read a board.py as data, and check it by the device's own table (lib/warden/board/check.py).

Nothing of a board.py is run: its names are those of assignments with a literal value.
"""

import ast
import functools
import runpy
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warden_host.errors import HostError
from warden_host.fleet import device_tree

_SLOTS = 'SLOTS = ("file", "/slots", ("app",), 2)\n'
_MAX_BYTES = 65536
# Held while Python is parsed: CPython 3.11 counts the depth of a syntax tree for all threads
# together, so that trees made at the same time can end in a SystemError.
PARSER = threading.RLock()


@dataclass(frozen=True)
class BoardFile:
    """A board.py that passed the check: its text, and its names and values."""

    text: str
    # They follow from the text.
    values: dict[str, Any] = field(repr=False, compare=False)

    @property
    def joins_wifi(self) -> bool:
        """Return whether the board needs the networks of a bundle."""
        network = self.values["NETWORK"]
        return bool((network if isinstance(network, str) else network[0]) == "wifi")

    @property
    def needs_pin(self) -> bool:
        """Return whether the board's root key needs a PIN."""
        return bool(self.values["ROOT_KEY"][0] == "pin")

    def with_slots(self) -> "BoardFile":
        """Return it with two slots for updates of the application, unless it has SLOTS."""
        if "SLOTS" in self.values:
            return self
        return parse(f"{self.text.rstrip()}\n{_SLOTS}", "board.py")

    def without_slots(self) -> "BoardFile":
        """Return it without SLOTS. Raises no-board where those are no statement of their own."""
        lines = self.text.splitlines(keepends=True)
        with PARSER:
            module = ast.parse(self.text)
        for node in reversed(module.body):
            if isinstance(node, ast.Assign) and [*map(ast.unparse, node.targets)] == ["SLOTS"]:
                del lines[node.lineno - 1 : node.end_lineno]
        try:
            made = parse("".join(lines), "board.py")
        except HostError:
            made = self
        if made.values != {name: self.values[name] for name in self.values if name != "SLOTS"}:
            raise HostError("no-board", "board.py: write SLOTS = … in lines of its own")
        return made


def load(name: str) -> BoardFile:
    """Return the board.py of one of the boards that are there.

    Raises bad-argument for an unknown one; no-board.
    """
    return read(device_tree.tree().board(name) / "board.py")


def read(path: Path) -> BoardFile:
    """Return a board.py that passes the check.

    Raises no-board, with a sentence for each thing that is wrong.
    """
    label = f"{path.parent.name}/{path.name}" if path.parent.name else path.name
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise HostError("no-board", f"{label}: the file is missing") from None
    except OSError as error:
        raise HostError("no-board", f"{label}: it can't be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise HostError("no-board", f"{label}: it has more than {_MAX_BYTES:,} bytes")
    try:
        return parse(data.decode(), label)
    except UnicodeDecodeError:
        raise HostError("no-board", f"{label}: the file is not UTF-8") from None


def parse(text: str, label: str) -> BoardFile:
    """Return the board.py with this text. label: names it in errors. Raises no-board."""
    board, found = _names(text)
    if not found:
        found = [*_problems()(board)]
    if found:
        raise HostError("no-board", f"{label}: " + "; ".join(found))
    return BoardFile(text, board)


def _names(text: str) -> tuple[dict[str, Any], list[str]]:
    """Return the names and values, and what can't be read as data."""
    try:
        with PARSER:
            tree = ast.parse(text)
    except SyntaxError as error:
        return {}, [f"line {error.lineno or 1} is not Python: {error.msg}"]
    except (MemoryError, RecursionError, ValueError) as error:  # too deep; a null byte
        return {}, [f"the file is not Python: {error}"]
    board: dict[str, Any] = {}
    found: list[str] = []
    for name, value in _assignments(tree):
        try:
            board[name] = ast.literal_eval(value)
        except (RecursionError, TypeError, ValueError):
            if name.isupper():
                found.append(f"{name} in line {value.lineno} is no plain value")
    return board, found


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Return names and values of `A = 1`, `A = B = 1` and `A, B = 1, 2`."""
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            pairs: list[tuple[ast.expr, ast.expr]] = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            for name, value in pairs:
                if isinstance(name, ast.Name):
                    yield name.id, value


@functools.lru_cache(1)
def _problems() -> Callable[[dict[str, Any]], list[str]]:
    """Return problems() of the device's check.py."""
    names = runpy.run_path(str(device_tree.tree().library / "board" / "check.py"))
    problems: Callable[[dict[str, Any]], list[str]] = names["problems"]
    return problems
