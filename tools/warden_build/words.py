"""What a tree of files speaks of: its words, and which of them the build leaves as they are."""

import ast
from collections.abc import Iterator

from warden_build.arguments import arguments
from warden_build.groups import API
from warden_build.scopes import Tree, bound_names, dotted, global_names
from warden_build.walk import walk


class Words(ast.NodeVisitor):
    """What a tree of files speaks of: identifiers in any place, those that it defines, strings,
    and arguments by name."""

    def __init__(self, tree: Tree) -> None:
        self.all: set[str] = set()
        self.defined: set[str] = set()
        self.strings: set[str] = set()
        # Those that are no argument of a call: texts for a person are.
        self.listed: set[str] = set()
        self.keywords: set[str] = set()
        self.imported: set[str] = set()
        for module in tree.values():
            self.visit(module)

    def visit_FunctionDef(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    ) -> None:
        self.defined.add(node.name)
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def visit_arg(self, node: ast.arg) -> None:
        self.defined.add(node.arg)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.all.add(node.id)
        if not isinstance(node.ctx, ast.Load):
            self.defined.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.all.add(node.attr)
        if not isinstance(node.ctx, ast.Load):
            self.defined.add(node.attr)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg:
            self.keywords.add(node.arg)
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring is nothing at run time
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        said = [one for one in node.args if isinstance(one, ast.Constant)]
        if getattr(node.func, "id", "") == "const":
            said = []
        self.visit(node.func)
        for one in [*node.args, *node.keywords]:
            if one not in said:
                self.visit(one)
        self.strings |= {one.value for one in said if isinstance(one.value, str)}

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.strings.add(node.value)
            self.listed.add(node.value)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.all.add(node.name or "")
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        self.all |= set(node.names)

    visit_Nonlocal = visit_Global

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.imported |= {*alias.name.split("."), alias.asname or ""}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        ours = node.level > 0 or (node.module or "").partition(".")[0] == "warden"
        self.imported |= set((node.module or "").split("."))
        for alias in node.names:
            (self.all if ours else self.imported).add(alias.name)
            self.all.add(alias.asname or alias.name)


def public_names(sources: Tree) -> set[str]:
    """Names of the public interface: of classes and functions, their arguments, and the attributes
    that a class sets on itself."""
    found: set[str] = set()
    for path, module in sources.items():
        wanted = API.get(dotted(path), "").split()
        for node in module.body:
            names = [one for one in plain_names(node) if one in wanted or wanted == ["*"]]
            if isinstance(node, ast.Assign):
                names = _stored(node) if wanted == ["*"] else []
            if not names:
                continue
            found |= set(names)
            if isinstance(node, ast.ClassDef):
                found |= {name for name, _ in attributes(node)}
            for one in (node, *getattr(node, "body", ())):
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                    found |= {arg.arg for arg in arguments(one)} if _is_open(one) else set()
    return {name for name in found if not name.startswith("_")}


def asked_names(outside: Tree) -> set[str]:
    """Names that code which keeps the package's names may use of it, or the package of that code:
    attributes, what it imports from the package, what its files and classes define. Other names
    are its own."""
    found: set[str] = set()
    for module in outside.values():
        found |= {name for name, _ in bound_names(module)}
        for node in walk(module):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.ClassDef):
                found |= {name for name, _ in attributes(node)}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("warden"):
                found |= {alias.name for alias in node.names}
    return found


def _is_open(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return node.name == "__init__" or not node.name.startswith("_")


def _stored(node: ast.AST) -> list[str]:
    return [
        one.id
        for one in walk(node)
        if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)
    ]


def looked_up(users: Tree) -> set[str]:
    """Strings of users that may be names which they look up.

    Where a file looks up a computed name, `getattr(module, name)`, any of its strings; else those
    that it looks up themselves.
    """
    found: set[str] = set()
    for path, module in users.items():
        names = [
            node.args[1]
            for node in walk(module)
            if isinstance(node, ast.Call)
            and getattr(node.func, "id", "") in ("getattr", "setattr", "hasattr", "delattr")
            and len(node.args) > 1
        ]
        constants = {
            one.value
            for one in names
            if isinstance(one, ast.Constant) and isinstance(one.value, str)
        }
        found |= constants if len(constants) == len(names) else Words({path: module}).strings
    return found


def foreign_names(tree: Tree) -> set[str]:
    """What classes with a base from outside of the package say of themselves: it may be their
    base's."""
    ours = {
        node.name
        for module in tree.values()
        for node in walk(module)
        if isinstance(node, ast.ClassDef)
    }
    found: set[str] = set()
    for module in tree.values():
        for node in walk(module):
            if isinstance(node, ast.ClassDef):
                bases = {getattr(base, "id", getattr(base, "attr", "?")) for base in node.bases}
                if bases - ours - {"Exception", "object"}:
                    found |= Words({"": ast.Module([node], [])}).all
    return found


def constant_names(tree: Tree) -> set[str]:
    """Private names that const() keeps at compile time: they are none at run time, and mpy-cross
    wants the underscore."""
    return {
        target.id
        for module in tree.values()
        for node in module.body
        if isinstance(node, ast.Assign)
        and getattr(getattr(node.value, "func", None), "id", "") == "const"
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.startswith("_")
    }


def attributes(node: ast.ClassDef, own: bool = False) -> Iterator[tuple[str, ast.AST]]:
    """What a class has: its methods and names, and what its methods set on `self`. own: without
    the latter."""
    for one in node.body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield one.name, one
        for part in walk(one) if isinstance(one, ast.Assign) else ():
            if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
                yield part.id, part
    for part in () if own else walk(node):
        if isinstance(part, ast.Attribute) and not isinstance(part.ctx, ast.Load):
            if isinstance(part.value, ast.Name) and part.value.id == "self":
                yield part.attr, part


def plain_names(node: ast.AST) -> list[str]:
    """Names that a node has by themselves, not as an attribute of something."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.alias):
        return [node.asname or node.name, node.name]
    if isinstance(node, ast.ExceptHandler):
        return [node.name or ""]
    return list(node.names) if isinstance(node, ast.Global | ast.Nonlocal) else []


def kept_at_run_time(tree: Tree) -> set[str]:
    """Names that a compiled module holds: of attributes, arguments, functions, classes, and
    globals."""
    found: set[str] = set()
    for module in tree.values():
        found |= {name for name, _ in bound_names(module)} | global_names(module)
        for node in walk(module):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.arg):
                found.add(node.arg)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
                if isinstance(node, ast.ClassDef):
                    found |= {name for name, _ in attributes(node)}
    return found
