"""Write package.json, the list that mip installs from: every file of the device package, by an
address relative to the list itself.

A module that does nothing on a device is left out: an `__init__` of prose alone (a folder is a
package without it), and what is there for type checkers. Each would cost a board 4 KB of its
flash.

Relative, because the same file then serves a clone, a fork and a tag: mip puts the folder that
package.json came from before each.
"""

import ast
import json
import re
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent


def is_prose(source: str) -> bool:
    """Return whether a module holds nothing but a docstring and code for type checkers."""
    return all(
        (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or ast.unparse(node).startswith(("TYPE_CHECKING = ", "if TYPE_CHECKING:"))
        for node in ast.parse(source).body
    )


def main() -> None:
    """A row a file, so that a change shows as one line."""
    lib = REPO / "lib"
    files = [path for path in lib.rglob("*.py") if not is_prose(path.read_text())]
    names = sorted(path.relative_to(lib).as_posix() for path in files)
    source = (lib / "warden" / "__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    rows = ",\n".join("    " + json.dumps([name, "lib/" + name]) for name in names)
    text = (
        f'{{\n  "version": "{version}",\n  "deps": [["umqtt.simple", "latest"]],\n'
        f'  "urls": [\n{rows}\n  ]\n}}\n'
    )
    (REPO / "package.json").write_text(text)


if __name__ == "__main__":
    main()
