"""The build for boards: what boards run is made of the sources of the device package by six
steps, each a module.

1. `lean`: the texts of errors go, their codes stay; annotations, and what is there for type
   checkers, go.
2. `merge`: modules that are loaded together become one file, by the table in `groups`; numbers go
   in where they are used.
3. `shorten`: the package's own names become names that every firmware has in its read-only memory.
4. `release`: short strings of files that are let go of go with them.
5. `order`: the names that a file uses most have its lowest numbers, so that code has them in one
   byte.
6. `archive`: all compiled modules become one file, whose core imports the others from it.

The rules of all steps:

- The result is the same program: `--target=built` runs the device's own tests on it, on 32-bit
  words with `make test-32`.
- A step does what can be seen to be safe from the sources alone; what can't is left, or refused
  with a BuildError. It needs no marks in the sources, and no name or structure there is made for
  it.
- Strings, public names, and names that code outside the package uses (firmware, boards, examples)
  stay. The device's tests follow the names that changed, so that they run on the very files that a
  board gets.
- Same sources, same result.

`build()` makes the sources by the first five, `compiled.compile_package()` what a board gets;
`python -m warden_build` (`make mpy`) does both for every architecture and prints the sizes. For
the firmware itself (boards/*/manifest.py) the sources are the last form: frozen modules take no
files.
"""

import ast
import copy
from typing import NamedTuple

from warden_build.archive import check_names
from warden_build.groups import CORE_PATH
from warden_build.lean import lean
from warden_build.merge import merge
from warden_build.order import order_names
from warden_build.release import release_strings
from warden_build.scopes import BuildError
from warden_build.shorten import held_names, shorten

__all__ = ["BuildError", "Built", "build"]


class Built(NamedTuple):
    """What build() makes."""

    sources: dict[str, str]  # of the package, by their paths below lib
    users: dict[str, str]  # users, by the paths that were given
    names: dict[str, str]  # name in the sources → name on a board, of those that differ


def build(
    sources: dict[str, str], users: dict[str, str], outside: dict[str, str] | None = None
) -> Built:
    """Return the sources of the package as boards run them.

    sources: path below lib, such as warden/ota/boot.py → text
    users: path → text of code that imports the package, and follows its new names
    outside: the same, of code whose names the package keeps
    Raises BuildError where the sources break a rule of a step.
    """
    following, kept = _trees(users), _trees(outside or {})
    leaned = lean(_trees(sources))
    before = copy.deepcopy(leaned)
    everyone = following | kept
    tree, _ = merge(leaned, everyone)
    following = {path: everyone[path] for path in following}
    names = shorten(before, tree, {path: everyone[path] for path in kept}, following)
    release_strings(tree, held_names())
    order_names(tree)
    if CORE_PATH in tree:
        check_names(tree[CORE_PATH])
    return Built(_texts(tree), _texts(following | {path: everyone[path] for path in kept}), names)


def _trees(texts: dict[str, str]) -> dict[str, ast.Module]:
    return {path: ast.parse(text, path) for path, text in texts.items()}


def _texts(tree: dict[str, ast.Module]) -> dict[str, str]:
    return {path: ast.unparse(ast.fix_missing_locations(module)) for path, module in tree.items()}
