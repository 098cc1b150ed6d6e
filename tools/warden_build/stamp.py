"""Mark every file with the build that it belongs to, so that files of two builds refuse each
other.

The core holds the build's number, and every other file gives its own to the core before it does
anything: an install that the power cut, or one file that was copied alone, ends in an ImportError
that says so and not in code that half fits. The number is the first 30 bits of SHA-256 over all
files.
"""

import ast
import hashlib

from warden_build.groups import CORE_PATH
from warden_build.scopes import Tree

_CHECK = """
def same_build(number):
    if number != {number}:
        raise ImportError("warden: files of two builds")
"""


def stamp(tree: Tree) -> int:
    """Mark the files in place; return the number."""
    digest = hashlib.sha256()
    for path, module in sorted(tree.items()):
        digest.update(f"{path}\n{ast.unparse(ast.fix_missing_locations(module))}\n".encode())
    number = int.from_bytes(digest.digest()[:4], "big") >> 2
    for path, module in tree.items():
        if path == CORE_PATH:
            module.body[:0] = ast.parse(_CHECK.format(number=number)).body
        else:
            dots = "." * path.count("/")
            text = f"from {dots} import same_build\nsame_build({number})"
            module.body[:0] = ast.parse(text).body
    return number
