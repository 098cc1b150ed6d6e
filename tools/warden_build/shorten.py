"""Give the package's own names others that every firmware holds in its read-only name pool.

MicroPython keeps each name of a module for ever, in pools on the heap that double: the 621st of a
board takes 3.9 KB at once. A name that the firmware has itself costs nothing. So a name of ours
that no firmware has becomes one that all have, the same one everywhere in the package. Firmware
has fewer names than the package, so names that never meet share one: names of classes that have
nothing to do with each other, or of different files. `names.json` maps them back for those who
read a board's traceback.

A name is changed only where that can be seen to be safe from the sources alone. It stays

- where a string of the package is that name, for it may be looked up by it, or be a field of a
  record or a message; and where one of a user is that may look it up;
- where a call passes an argument by it;
- in the public interface: names in the modules of `groups.API` without an underscore, with the
  arguments of their functions;
- where code outside the package speaks of it (firmware, boards, examples), and where it is an
  attribute of something that the package does not define, such as a method of a library that
  firmware does not hold;
- if the firmware holds it, or one letter is all that it has.

A name is never given that the package has for an attribute, an argument or a string, nor one that
the interpreter looks up by itself (`_LOOKED_UP`); to a name of a file, none that the file has for
anything. Names of local variables are none at run time, and stay.
"""

import ast
from pathlib import Path

from warden_build.arguments import passed_by_name, rename_arguments
from warden_build.groups import EVERY_START
from warden_build.scopes import OUTSIDE, Tree, dotted
from warden_build.walk import walk
from warden_build.words import (
    Words,
    asked_names,
    attributes,
    constant_names,
    foreign_names,
    kept_at_run_time,
    looked_up,
    plain_names,
    public_names,
)

FIRMWARE_NAMES = Path(__file__).with_name("firmware_names.txt")
# What the interpreter asks of an object of ours: streams, block devices, filesystems, iterators,
# exceptions, mappings.
_LOOKED_UP = frozenset(
    "read readinto readline write ioctl close seek tell flush open mount umount chdir getcwd"
    " ilistdir mkdir remove rename rmdir"
    " stat statvfs readblocks writeblocks send throw value args errno keys items update".split()
)
# Types of viper code, which are names there.
_VIPER = frozenset("ptr ptr8 ptr16 ptr32 uint int bool object".split())


def firmware_names() -> list[str]:
    """Return the names that every supported firmware holds, the shortest first."""
    lines = FIRMWARE_NAMES.read_text().splitlines()
    return [name for line in lines if line[0] not in "#+" for name in line.split()]


def held_names() -> set[str]:
    """Return these and other names that firmware holds, for what is its own."""
    lines = FIRMWARE_NAMES.read_text().splitlines()
    return {name for line in lines if line[0] != "#" for name in line.split()}


class _Renamer(ast.NodeTransformer):
    """Renames in the package: a name is the same one in every place."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def _define(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        node.name = self._names.get(node.name, node.name)
        return self.generic_visit(node)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _define

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._names.get(node.arg, node.arg)
        return self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        node.arg = self._names.get(node.arg, node.arg) if node.arg else None
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if not hasattr(node, OUTSIDE):  # merge() marks those of modules outside the package
            node.attr = self._names.get(node.attr, node.attr)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._names.get(node.id, node.id)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = self._names.get(node.name, node.name) if node.name else None
        return self.generic_visit(node)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> ast.AST:
        node.names = [self._names.get(name, name) for name in node.names]
        return node

    visit_Nonlocal = visit_Global

    def visit_alias(self, node: ast.alias) -> ast.AST:
        node.name = self._names.get(node.name, node.name)
        node.asname = self._names.get(node.asname, node.asname) if node.asname else None
        return node


class _UserRenamer(ast.NodeTransformer):
    """Renames in code that uses the package: attributes, and what its own classes have for them.
    Its other names are its own."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if not hasattr(node, OUTSIDE):
            node.attr = self._names.get(node.attr, node.attr)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        here = {name for name, _ in attributes(node, own=True)}
        for one in node.body:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                one.name = self._names.get(one.name, one.name)
            else:
                for part in walk(one):
                    if isinstance(part, ast.Name) and part.id in here:
                        part.id = self._names.get(part.id, part.id)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and node.value.startswith("_"):
            node.value = self._names.get(node.value, node.value)
        return node

    def visit_alias(self, node: ast.alias) -> ast.AST:
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if (node.module or "").partition(".")[0] == "warden":
            for alias in node.names:
                new = self._names.get(alias.name, alias.name)
                if new != alias.name:
                    alias.asname = alias.asname or alias.name
                    alias.name = new
        return node


def _parts(tree: Tree, users: Tree) -> dict[str, set[str]]:
    """Name → the classes and files that have it: two names that share none of these may have one
    name on a board.

    A class stands for all that inherit from each other. An attribute that is set from outside of
    the class may be of any: "*".
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    found: dict[str, set[str]] = {}
    for module in [*tree.values(), *users.values()]:
        for node in walk(module):
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    parent[root(node.name)] = root(getattr(base, "id", getattr(base, "attr", "?")))
    own: set[int] = set()
    for module in [*tree.values(), *users.values()]:
        for node in walk(module):
            if isinstance(node, ast.ClassDef):
                for name, one in attributes(node):
                    found.setdefault(name, set()).add("class " + root(node.name))
                    own.add(id(one))
    for path, module in tree.items():
        for node in walk(module):
            if isinstance(node, ast.Attribute):
                if not isinstance(node.ctx, ast.Load) and id(node) not in own:
                    found.setdefault(node.attr, set()).add("*")
            elif id(node) not in own:
                for name in plain_names(node):
                    found.setdefault(name, set()).add(path)
    return found


def shorten(sources: Tree, tree: Tree, outside: Tree, users: Tree) -> dict[str, str]:
    """Rename in place, in the tree and its users; return {name in the sources: name on a board}.

    sources: the modules before they were merged. outside: code whose names the package keeps.
    users: code that follows the new names; what it passes by name or says in a string keeps it,
    and its classes stand in for those of the package.
    """
    public, firmware = public_names(sources), firmware_names()
    by_name = passed_by_name(tree, outside, users)
    rename_arguments(tree, public, by_name, held_names(), firmware)
    words, spoken = Words(tree), Words(outside)
    kept = {part for path in tree for part in dotted(path).split(".")}
    # Of a text of several names, too: the table of drivers is one. None of a sentence, nor of a
    # text in which any word can be no name.
    listed = [text.split() for text in words.listed]
    kept |= {word for text in listed if all(map(str.isidentifier, text)) for word in text}
    kept |= words.strings | by_name | words.imported | foreign_names(tree) | constant_names(tree)
    # What code outside the package calls by a private name is its own.
    about = asked_names(outside) | spoken.imported | spoken.strings | looked_up(users)
    kept |= {name for name in about if not name.startswith("_")} | public | _VIPER
    parts = _parts(tree, users)
    # What only others set on an object is the firmware's: `context.verify_mode = …`.
    kept |= {name for name, here in parts.items() if here == {"*"} and not name.startswith("_")}
    first = kept_at_run_time({path: tree[path] for path in EVERY_START if path in tree})
    changing = sorted(
        (
            name
            for name in (words.defined & kept_at_run_time(tree)) - kept - held_names()
            if len(name) > 1 and not name.startswith("__")
        ),
        key=lambda name: (name not in first, "*" not in parts.get(name, ()), name),
    )
    locals_of = {
        path: {one for node in walk(module) for one in plain_names(node)}
        for path, module in tree.items()
    }
    unusable = (kept_at_run_time(tree) - set(changing)) | kept | _LOOKED_UP
    given: dict[str, set[str]] = {name: set() for name in firmware if name not in unusable}
    names: dict[str, str] = {}
    for name in changing:
        here = parts.get(name, {"*"})
        for new, there in given.items():
            apart = not (here & there or (there and "*" in here) or "*" in there)
            if apart and not any(new in locals_of[path] for path in here if path in locals_of):
                names[name] = new
                there |= here
                break
    for module in tree.values():
        _Renamer(names).visit(module)
    for module in users.values():
        _UserRenamer(names).visit(module)
    return names
