"""Writes package.json, the list that mip installs from: every file of the device package, by an address relative to the list itself.

Relative, because the same file then serves a clone, a fork and a tag: mip puts the folder that package.json came from before each.
"""

import json
import re
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent


def main() -> None:
    """A row a file, so that a change shows as one line."""
    lib = REPO / "lib"
    names = sorted(path.relative_to(lib).as_posix() for path in lib.rglob("*.py"))
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
