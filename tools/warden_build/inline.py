"""Puts the numbers of a protocol where they are used, for the compiled modules that boards run.

A label that all of the package knows by a name, `suit_labels.URI`, costs a board that name for ever, a place in its module's dictionary, and two look-ups
whenever it is used. `const()` helps inside one module alone.

A number, or a tag of a few bytes, goes in where that can be seen to be safe from the sources alone: it is a public name in capitals of a module in `wire` or `crypto`, assigned once and
shadowed by nothing, and reached by an import that names its module. Its definition goes where nothing is left that could speak of it.
"""

import ast
from pathlib import PurePosixPath

Tree = dict[str, ast.Module]
Numbers = dict[str, dict[str, int | bytes]]

_FOLDERS = ("wire", "crypto")
_MOST_BYTES = 4  # more of them are worth a name


def _number(node: ast.AST) -> int | bytes | None:
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "const" and node.args:
        node = node.args[0]
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return sign * node.value
    if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
        return node.value if len(node.value) <= _MOST_BYTES else None
    return None


def _stored(module: ast.Module) -> list[str]:
    """Every name that something in the module assigns, deletes, defines, or takes as an argument: as often as it does."""
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.append(node.id)
        elif isinstance(node, ast.arg):
            found.append(node.arg)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            found += node.names
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.append(node.name)
    return found


def _bound(path: str, module: ast.Module) -> dict[str, set[tuple[str, str]]]:
    """What each imported name stands for, anywhere in the module: (where it comes from, its name there). Two functions may mean two things by one."""
    found: dict[str, set[tuple[str, str]]] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom):
            source = _source(path, node) if node.level else f"-{node.module}"
            for alias in node.names:
                found.setdefault(alias.asname or alias.name, set()).add((source, alias.name))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                known = alias.asname or alias.name.partition(".")[0]
                found.setdefault(known, set()).add(("-", alias.name))
    return found


def _constant(value: int | bytes) -> ast.expr:
    """As a parser makes it: a sign binds less than a power or an attribute does."""
    if isinstance(value, int) and value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


def _numbers(module: ast.Module) -> dict[str, int | bytes]:
    found: dict[str, int | bytes] = {}
    stored = _stored(module)
    for node in module.body:
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        if isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id, _number(node.value)
            public = name.isupper() and not name.startswith("_")
            if value is not None and public and stored.count(name) == 1:
                found[name] = value
    return found


def _source(path: str, node: ast.ImportFrom) -> str:
    """The module or folder that a relative import names, as a path without its ending."""
    folder = PurePosixPath(path)
    for _ in range(node.level):
        folder = folder.parent
    return str(folder.joinpath(*(node.module or "").split(".")))


class _Inliner(ast.NodeTransformer):
    """One module's uses."""

    def __init__(self, path: str, module: ast.Module, numbers: Numbers) -> None:
        self._path = path
        self._numbers = numbers
        stored = set(_stored(module))
        # What a bare name stands for, and which module: where nothing else in here has that name.
        bound = _bound(path, module)
        own = numbers.get(path.removesuffix(".py"), {})
        self.names = {name: value for name, value in own.items() if name not in bound}
        self._modules: dict[str, str] = {}
        for known, meanings in bound.items():
            if known in stored or len(meanings) > 1:
                continue
            ((source, name),) = meanings
            if name in numbers.get(source, {}):
                self.names[known] = numbers[source][name]
            elif f"{source}/{name}" in numbers:
                self._modules[known] = f"{source}/{name}"

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self._modules:
            value = self._numbers[self._modules[node.value.id]].get(node.attr)
            if value is not None:
                return ast.copy_location(_constant(value), node)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if isinstance(node.ctx, ast.Load) and node.id in self.names:
            return ast.copy_location(_constant(self.names[node.id]), node)
        return node

    def unused(self, module: ast.Module) -> set[str]:
        """Imported names that nothing speaks of any more."""
        left = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}
        return (set(self._modules) | set(self.names)) - left


class _Dropper(ast.NodeTransformer):
    def __init__(self, imports: set[str], definitions: set[str]) -> None:
        self._imports = imports
        self._definitions = definitions

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if node.level:
            node.names = [
                alias for alias in node.names if (alias.asname or alias.name) not in self._imports
            ]
        return node if node.names else None

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        target = node.targets[0]
        gone = isinstance(target, ast.Name) and target.id in self._definitions
        return None if gone else node


def _speaks_of(tree: Tree) -> set[str]:
    found: set[str] = set()
    for module in tree.values():
        for node in ast.walk(module):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.ImportFrom):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Name):
                found.add(node.id)
    return found


def inline(tree: Tree, users: list[ast.Module]) -> None:
    """In place. users: code outside the package; what it speaks of keeps its name."""
    kept = _speaks_of({str(number): user for number, user in enumerate(users)})
    numbers = {
        path.removesuffix(".py"): {
            name: value for name, value in _numbers(module).items() if name not in kept
        }
        for path, module in tree.items()
        if PurePosixPath(path).parent.name in _FOLDERS
    }
    for path, module in tree.items():
        inliner = _Inliner(path, module, numbers)
        inliner.visit(module)
        _Dropper(inliner.unused(module), set()).visit(module)
    spoken = {path: _speaks_of({path: module}) for path, module in tree.items()}
    for path, module in tree.items():
        own = numbers.get(path.removesuffix(".py"))
        if not own:
            continue
        # The names that define them are spoken of by these definitions alone, or they stay.
        rest = set().union(*(names for other, names in spoken.items() if other != path))
        _Dropper(set(), set(own) - rest - _loaded(module)).visit(module)
        spoken[path] = _speaks_of({path: module})


def _loaded(module: ast.Module) -> set[str]:
    return {
        node.id
        for node in ast.walk(module)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
