"""Gives private names short ones, over the whole package at once, for the compiled modules that boards run.

MicroPython keeps every name of a module for ever, in pools that double: the 621st name of a 64-bit port takes 7 KB of the heap at once. A private
name (one leading underscore) is not known outside its class or module, so unrelated classes can share a few names: first those that the
firmware has in any case, then `_a`, `_b`, ….

A name is renamed only where that can be seen to be safe from the sources alone:

- an attribute or method, if every place in the package that speaks of it says `self._name` or `super()._name`, in a class whose bases are all the package's own;
- a function, class or variable of a module, if no other module imports it or reaches for it.

Whatever appears in a string is left alone, and so is all that the examples or the firmware name. `make mpy` writes the map to names.json, for
those who read a board's traceback.
"""

import ast
from collections.abc import Iterator

Tree = dict[str, ast.Module]


def _own(node: ast.Attribute) -> bool:
    """`self._name`, or `super()._name` of the same family."""
    value = node.value
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "super":
        return True
    return isinstance(value, ast.Name) and value.id == "self"


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


# Names of built-in methods and functions, which every firmware since 1.23 holds in its read-only name pool: as a name of ours each
# costs no place in the pool of the heap. None is a built-in of the language, and the interpreter looks none of them up on our objects.
_IN_FIRMWARE = (
    "acos acosh asin asinh atan atan2 atanh calcsize ceil center copysign cosh degrees difference difference_update "
    "fabs floor fmod frexp intersection intersection_update isalpha isdigit isdisjoint isfinite isinf islower isnan "
    "isspace issubset issuperset isupper ldexp lstrip modf pack_into partition popitem popleft radians rindex rpartition "
    "rsplit rstrip setdefault sinh splitlines sqrt symmetric_difference symmetric_difference_update tanh trunc union "
    "unpack_from"
).split()


def _short() -> Iterator[str]:
    yield from _IN_FIRMWARE
    letters = "abcdefghijklmnopqrstuvwxyz"
    yield from (f"_{one}" for one in letters)
    yield from (f"_{one}{two}" for one in letters for two in letters)


def _spoken(tree: Tree) -> set[str]:
    """Names that some code knows as text, imports, or reaches for on anything but `self`."""
    found: set[str] = set()
    for module in tree.values():
        for node in ast.walk(module):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.ImportFrom | ast.Import):
                for alias in node.names:
                    found |= {alias.name, alias.asname or alias.name}
            elif isinstance(node, ast.Attribute):
                if not _own(node):
                    found.add(node.attr)
            elif isinstance(node, ast.keyword) and node.arg:
                found.add(node.arg)
    return found


def _families(tree: Tree) -> dict[str, str]:
    """Class → the first of its family: classes that inherit from each other share their attributes. One with a foreign base has none."""
    bases: dict[str, list[str]] = {}
    for module in tree.values():
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef):
                named = [
                    base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "?")
                    for base in node.bases
                ]
                # Two classes of one name can't be told apart here.
                bases[node.name] = ["?"] if node.name in bases else named
    parent = {name: name for name in bases}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    foreign = {"?"} | {base for named in bases.values() for base in named if base not in bases}
    for name, named in bases.items():
        for base in named:
            if base in bases:
                parent[root(name)] = root(base)
    barred = {root(name) for name, named in bases.items() if foreign & set(named)}
    return {name: root(name) for name in bases if root(name) not in barred}


class _Renamer(ast.NodeTransformer):
    def __init__(
        self,
        families: dict[str, str],
        attributes: dict[str, dict[str, str]],
        names: dict[str, str],
    ) -> None:
        self._families = families
        self._attributes = attributes
        self._names = names
        self._class: list[str] = []

    def _mine(self) -> dict[str, str]:
        family = self._families.get(self._class[-1]) if self._class else None
        return self._attributes.get(family, {}) if family else {}

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._names.get(node.name, node.name) if not self._class else node.name
        node.bases = [self.visit(base) for base in node.bases]
        self._class.append(
            node.name if node.name not in self._names.values() else self._original(node.name)
        )
        node.body = [self.visit(one) for one in node.body]
        self._class.pop()
        return node

    def _original(self, short: str) -> str:
        return next(name for name, other in self._names.items() if other == short)

    def _visit_function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, inside: bool
    ) -> ast.AST:
        node.name = (self._mine() if inside else self._names).get(node.name, node.name)
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._visit_function(node, bool(self._class))

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._visit_function(node, bool(self._class))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if _own(node):
            node.attr = self._mine().get(node.attr, node.attr)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._names.get(node.id, node.id)
        return node

    def visit_Global(self, node: ast.Global) -> ast.AST:
        node.names = [self._names.get(name, name) for name in node.names]
        return node


def _of_module(module: ast.Module) -> set[str]:
    """Private functions, classes and variables of a module that nothing inside it shadows."""
    found: set[str] = set()
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            # const() keeps the value of a private name at compile time: it has no name at run time.
            if isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "const":
                found -= {target.id for target in node.targets if isinstance(target, ast.Name)}
    shadows = {node.arg for node in ast.walk(module) if isinstance(node, ast.arg)}
    return {name for name in found if _private(name)} - shadows


def shorten(tree: Tree, users: list[ast.Module]) -> dict[str, dict[str, str]]:
    """Renames in place; returns {class or module: {short name: name}}. users: code outside the package whose names are to stay."""
    spoken, families = _spoken(tree), _families(tree)
    spoken |= _spoken({str(number): user for number, user in enumerate(users)})
    members: dict[str, set[str]] = {}
    loose: set[str] = set()
    for module in tree.values():
        inside: set[int] = set()
        for node in ast.walk(module):
            if not isinstance(node, ast.ClassDef):
                continue
            names = {
                one.name
                for one in node.body
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            for part in ast.walk(node):
                if isinstance(part, ast.Attribute) and _own(part):
                    names.add(part.attr)
                    inside.add(id(part))
            # What a class body says by a bare name (a decorator, another attribute) is not followed.
            bare = {
                part.id
                for one in node.body
                for part in ast.walk(one)
                if isinstance(part, ast.Name)
            }
            if node.name in families:
                members.setdefault(families[node.name], set()).update(names - bare)
            else:
                loose |= names
        for node in ast.walk(module):
            if isinstance(node, ast.Attribute) and id(node) not in inside:
                loose.add(node.attr)
    attributes: dict[str, dict[str, str]] = {}
    report: dict[str, dict[str, str]] = {}
    known = {
        getattr(node, "attr", getattr(node, "name", ""))
        for module in tree.values()
        for node in ast.walk(module)
    }
    for family, names in members.items():
        short = (one for one in _short() if one not in known | spoken)
        old = sorted(name for name in names if _private(name) and name not in spoken | loose)
        attributes[family] = dict(zip(old, short, strict=False))
        report[family] = {new: name for name, new in attributes[family].items()}
    for path, module in tree.items():
        taken = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}
        short = (one for one in _short() if one not in taken | known | spoken)
        old = sorted(_of_module(module) - spoken)
        renamed = dict(zip(old, short, strict=False))
        report[path] = {new: name for name, new in renamed.items()}
        _Renamer(families, attributes, renamed).visit(module)
        ast.fix_missing_locations(module)
    return {where: names for where, names in report.items() if names}
