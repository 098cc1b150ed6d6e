"""Read the PIN of a board's root key (docs/formats.md, Root keys) from a person or a file."""

import ast
from pathlib import Path

from warden_host.cli import secrets_input
from warden_host.devices.provision import MAX_PIN
from warden_host.errors import HostError


def wanted(description: Path) -> bool:
    """Return whether this board.py names a root key that needs a PIN; it is parsed, not run."""
    for node in ast.parse(description.read_bytes()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOT_KEY":
            try:
                return bool(ast.literal_eval(node.value)[0] == "pin")
            except (ValueError, IndexError, TypeError):
                return False
    return False


def read(needed: bool, file: str | None, new: bool) -> bytes:
    """Return the PIN; b"" for a board that needs none.

    Raises bad-argument, and as secrets_input.secret().
    """
    if not needed:
        if file is not None:
            raise HostError("bad-argument", "this board's root key has no PIN")
        return b""
    return read_secret(file, new)


def read_secret(file: str | None, new: bool) -> bytes:
    """Return a PIN. Raises as read()."""
    given = secrets_input.secret(file, "PIN", "--pin-file", MAX_PIN, new)
    if not 0 < len(given) <= MAX_PIN or b"\n" in given or b"\r" in given:
        raise HostError("bad-argument", f"a PIN has 1 to {MAX_PIN} bytes in one line")
    return given
