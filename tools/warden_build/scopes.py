"""What each name in a module stands for: a symbol of some module of the package, a module, an
import from outside, or a local.

`annotate()` reads a module and lists its references: nodes with what they stand for. Scopes are
those of the language: functions, lambdas and comprehensions have names of their own, a class body
has names that its methods don't see.
"""

import ast
from collections.abc import Iterator
from typing import NamedTuple

from warden_build.walk import walk

ROOT = "warden"
# What an attribute of a module outside the package is marked with.
OUTSIDE = "_warden_outside"
Tree = dict[str, ast.Module]
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class BuildError(Exception):
    """The sources can't be built as they are: the text says where and why."""


class Origin(NamedTuple):
    """What a name stands for. module: of the package, dotted, or outside of it. name: a symbol
    there; empty for the module."""

    module: str
    name: str = ""
    outside: bool = False


class Reference(NamedTuple):
    """A place that speaks of an origin.

    local: whether a function's own import gave it the name. held: whether the value itself is
    used, not only a name in it. around: what the scopes around it bind.
    """

    node: ast.AST
    origin: Origin
    local: bool
    held: bool
    around: frozenset[tuple[str, Origin | None]]


def dotted(path: str) -> str:
    """Return the name of a module: `warden/ota/boot.py` → `warden.ota.boot`,
    `warden/ota/__init__.py` → `warden.ota`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def bound_names(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield the names that a scope's own statements bind, as often as they do, each with the node
    that does it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child.name, child
        elif isinstance(child, (ast.Lambda, *_COMPREHENSIONS)):
            pass
        elif isinstance(child, ast.Name):
            if not isinstance(child.ctx, ast.Load):
                yield child.id, child
        elif isinstance(child, ast.Import | ast.ImportFrom):
            for alias in child.names:
                yield alias.asname or alias.name.partition(".")[0], child
        else:
            if isinstance(child, ast.ExceptHandler) and child.name:
                yield child.name, child
            yield from bound_names(child)


def global_names(node: ast.AST) -> set[str]:
    """Return what a function declares as global or nonlocal, itself or in a function inside."""
    return {
        name
        for part in walk(node)
        if isinstance(part, ast.Global | ast.Nonlocal)
        for name in part.names
    }


class Names:
    """The modules of the package, and what their names stand for."""

    def __init__(self, tree: Tree) -> None:
        self.modules = {dotted(path): module for path, module in tree.items()}
        self._known: dict[str, list[str]] = {}
        self.packages = {dotted(path) for path in tree if path.endswith("/__init__.py")}
        self._imports = {name: self.imports_of(name, tree) for name, tree in self.modules.items()}
        self.symbols = {name: self._symbols(name) for name in self.modules}

    def imports_of(self, name: str, tree: ast.Module) -> dict[str, Origin]:
        """Return what the imports at the top of a module bind once, and nothing else binds.

        Of one inside a `try` or an `if` only the module may say which: its names are symbols of
        the module.
        """
        bound = [known for known, _ in bound_names(tree)]
        for node in walk(tree):
            if isinstance(node, ast.Global):
                bound += node.names
        found: dict[str, Origin] = {}
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                for known, origin in self.origins(name, node):
                    if bound.count(known) == len([one for one in found if one == known]) + 1:
                        found[known] = origin
        return found

    def _symbols(self, name: str) -> set[str]:
        tree = self.modules[name]
        found = {known for known, _ in bound_names(tree)}
        for node in walk(tree):
            if isinstance(node, ast.Global):
                found |= set(node.names)
        return found - set(self._imports[name])

    def base(self, name: str, node: ast.ImportFrom) -> str:
        """Return the full name of the module that an import names first."""
        if not node.level:
            return node.module or ""
        parts = name.split(".")
        parts = parts[: len(parts) - node.level + (name in self.packages)]
        return ".".join(parts + (node.module.split(".") if node.module else []))

    def origins(
        self, name: str, node: ast.Import | ast.ImportFrom
    ) -> Iterator[tuple[str, Origin]]:
        """Yield what an import in the module `name` binds: (the name there, what it stands
        for)."""
        for alias in node.names:
            known = alias.asname or alias.name.partition(".")[0]
            if isinstance(node, ast.Import):
                full = alias.name if alias.asname else known
                ours = full.partition(".")[0] == ROOT
                yield known, Origin(full, "", not ours)
                continue
            base = self.base(name, node)
            if base.partition(".")[0] != ROOT:
                yield known, Origin(base, alias.name, True)
            elif f"{base}.{alias.name}" in self.modules:
                yield known, Origin(f"{base}.{alias.name}")
            else:
                yield known, self.find(base, alias.name, f"{name}:{node.lineno}")

    def find(self, module: str, name: str, where: str) -> Origin:
        """Return where a symbol that a module has is really defined."""
        if module not in self.modules:
            raise BuildError(f"{where}: there is no module {module}")
        bound = self._bound(module)
        if module == ROOT and name not in bound:
            for node in walk(self.modules[ROOT]):  # what the package resolves when it is asked
                if isinstance(node, ast.ImportFrom):
                    for alias in node.names:
                        if alias.name == name:
                            return self.find(self.base(ROOT, node), name, where)
        if bound.count(name) == 1:
            for node in self.modules[module].body:
                if isinstance(node, ast.ImportFrom):
                    for alias in node.names:
                        if (alias.asname or alias.name) == name:
                            return dict(self.origins(module, node))[name]
        return Origin(module, name)

    def _bound(self, module: str) -> list[str]:
        """What the top of a module binds, as often as it does."""
        if module not in self._known:
            self._known[module] = [known for known, _ in bound_names(self.modules[module])]
        return self._known[module]

    def top(self, module: str, name: str) -> Origin | None:
        """Return what a name means at the top of a module; None for one of the language."""
        if name in self._imports[module]:
            return self._imports[module][name]
        return Origin(module, name) if name in self.symbols[module] else None

    def add_user(self, name: str, tree: ast.Module) -> None:
        """Know a module outside the package, too: one that imports it."""
        self.modules[name] = tree
        self._imports[name] = self.imports_of(name, tree)
        self.symbols[name] = self._symbols(name)


class _Scope:
    """A function's. names: what is its own, with the origin of those that one import alone
    binds."""

    def __init__(self, is_class: bool = False) -> None:
        self.is_class = is_class
        self.names: dict[str, Origin | None] = {}
        self.globals: set[str] = set()


class Annotator(ast.NodeVisitor):
    """Reads one module: references, names of the language that it uses, and imports that are no
    fixed bindings."""

    def __init__(self, names: Names, module: str) -> None:
        self._names = names
        self._module = module
        self._scopes: list[_Scope] = []
        self._every_scope: list[_Scope] = []  # so that no two have one id
        self._around: dict[tuple[int, ...], frozenset[tuple[str, Origin | None]]] = {}
        self._resolved: dict[int, Origin] = {}
        self.references: list[Reference] = []
        self.builtins: set[str] = set()
        self.opaque: set[str] = set()  # modules whose names can't change: a value holds them
        self.loose: set[tuple[int, str]] = (
            set()
        )  # (id of an import, a name that it binds as an ordinary one)
        tree = names.modules[module]
        self._note_loose(tree, {known: names.top(module, known) for known, _ in bound_names(tree)})
        self.visit(tree)
        self._mark_held()

    def _note_loose(self, node: ast.AST, meaning: dict[str, Origin | None]) -> None:
        for known, binder in bound_names(node):
            if isinstance(binder, ast.Import | ast.ImportFrom):
                (origin,) = [
                    one for name, one in self._names.origins(self._module, binder) if name == known
                ][:1]
                if meaning.get(known) != origin:
                    self.loose.add((id(binder), known))
                    if not origin.name and not origin.outside:
                        self.opaque.add(origin.module)

    # -- scopes -----------------------------------------------------------------------------------

    def _open(
        self, node: ast.AST, arguments: ast.arguments | None, is_class: bool = False
    ) -> None:
        scope = _Scope(is_class)
        bound: dict[str, list[Origin | None]] = {}
        for known, binder in bound_names(node):
            if isinstance(binder, ast.Import | ast.ImportFrom):
                bound.setdefault(known, []).extend(
                    one for name, one in self._names.origins(self._module, binder) if name == known
                )
            else:
                bound.setdefault(known, []).append(None)
        if arguments is not None:
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            every += [one for one in (arguments.vararg, arguments.kwarg) if one]
            for argument in every:
                bound.setdefault(argument.arg, []).append(None)
        scope.names = {
            known: ones[0] if len(set(ones)) == 1 else None for known, ones in bound.items()
        }
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own = [one for one in node.body]
            scope.globals = {
                name
                for statement in own
                for part in _own_nodes(statement)
                if isinstance(part, ast.Global)
                for name in part.names
            }
            for name in scope.globals:
                scope.names.pop(name, None)
        self._note_loose(node, scope.names)
        self._scopes.append(scope)
        self._every_scope.append(scope)

    def _meaning(self, name: str) -> tuple[Origin | None, bool]:
        """Return what a name means here, and whether a scope of a function or class says so."""
        for depth, scope in enumerate(reversed(self._scopes)):
            if scope.is_class and depth:
                continue
            if name in scope.globals:
                break
            if name in scope.names:
                return scope.names[name], True
        origin = self._names.top(self._module, name)
        if origin is None:
            self.builtins.add(name)
        return origin, False

    def _refer(self, node: ast.AST, origin: Origin, local: bool = False) -> None:
        self._resolved[id(node)] = origin
        key = tuple(id(scope) for scope in self._scopes)
        around = self._around.get(key)
        if around is None:
            around = self._around[key] = frozenset(
                pair
                for depth, scope in enumerate(reversed(self._scopes))
                if not (scope.is_class and depth)
                for pair in scope.names.items()
            )
        self.references.append(Reference(node, origin, local, True, around))

    # -- nodes ------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._define(node, node.name)
        for outer in [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]:
            if outer is not None:
                self.visit(outer)
        self._open(node, node.args)
        for statement in node.body:
            self.visit(statement)
        self._scopes.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for outer in [*node.args.defaults, *node.args.kw_defaults]:
            if outer is not None:
                self.visit(outer)
        self._open(ast.Module([], []), node.args)
        self.visit(node.body)
        self._scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._define(node, node.name)
        for outer in [*node.decorator_list, *node.bases]:
            self.visit(outer)
        self._open(node, None, is_class=True)
        for statement in node.body:
            self.visit(statement)
        self._scopes.pop()

    def _define(self, node: ast.AST, name: str) -> None:
        origin, local = self._meaning(name)
        if origin is not None:
            self._refer(node, origin, local)

    def _comprehension(self, node: ast.AST) -> None:
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        self.visit(generators[0].iter)
        scope = _Scope()
        for generator in generators:
            for name, _ in bound_names(ast.Module([ast.Expr(generator.target)], [])):
                scope.names[name] = None
        self._scopes.append(scope)
        self._every_scope.append(scope)
        for number, generator in enumerate(generators):
            if number:
                self.visit(generator.iter)
            self.visit(generator.target)
            for condition in generator.ifs:
                self.visit(condition)
        for field in ("elt", "key", "value"):
            if hasattr(node, field):
                self.visit(getattr(node, field))
        self._scopes.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Name(self, node: ast.Name) -> None:
        self._define(node, node.id)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._define(node, node.name)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        for name in node.names:
            origin = self._names.top(self._module, name)
            if origin is not None:
                self._refer(node, origin)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.visit(node.value)
        value = self._resolved.get(id(node.value))
        if value is None or value.name or value.outside:
            return
        full = f"{value.module}.{node.attr}"
        if full in self._names.modules:
            self._refer(node, Origin(full))
        elif value.module in self._names.modules:
            origin = self._names.find(value.module, node.attr, f"{self._module}:{node.lineno}")
            if origin.outside or origin.name in self._names.symbols.get(origin.module, ()):
                self._refer(node, origin)

    def _mark_held(self) -> None:
        """Of the value of an attribute that is known, only that name is used."""
        inner = {
            id(node.value)
            for node in walk(self._names.modules[self._module])
            if isinstance(node, ast.Attribute) and id(node) in self._resolved
        }
        self.references = [one._replace(held=id(one.node) not in inner) for one in self.references]
        for one in self.references:
            load = isinstance(getattr(one.node, "ctx", None), ast.Load)
            if one.held and load and not one.origin.name and not one.origin.outside:
                self.opaque.add(one.origin.module)


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node of a statement, without those of functions and classes inside."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
            yield from _own_nodes(child)
