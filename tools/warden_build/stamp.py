"""Give a build its number, by which the core and the modules of two builds refuse each other.

The core holds it, and the checks of the modules in the archive start from it: an install that the
power cut, or one file that was copied alone, ends in an ImportError that says so and not in code
that half fits. The number is the first 30 bits of SHA-256 over all files, and over what reads them
from the archive.
"""

import ast
import hashlib

from warden_build.archive import LOADER
from warden_build.scopes import Tree


def number_of(tree: Tree) -> int:
    """Return the number of the build that has these files."""
    digest = hashlib.sha256(LOADER.encode())
    for path, module in sorted(tree.items()):
        digest.update(f"{path}\n{ast.unparse(ast.fix_missing_locations(module))}\n".encode())
    return int.from_bytes(digest.digest()[:4], "big") >> 2
