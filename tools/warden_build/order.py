"""Let the names that a file uses most have its lowest numbers.

A compiled file has a table of its names, and code gives a name by its number there: in one byte up
to 127, in two above that. mpy-cross numbers names as it meets them, attributes first and globals
and arguments behind all of these, so most uses would take two bytes. A statement at the head of
the file, which never runs and is let go of with the code of the module's level, has the names in
the order of their uses. They are attributes there, to come first.
"""

import ast
import keyword
from collections import Counter

from warden_build.scopes import Tree, bound_names, global_names
from warden_build.words import constant_names

# Of one byte, but for those of the file and of its own level, which mpy-cross puts first.
_LOWEST = 126
# Distinct names: in a file with fewer the statement takes as many bytes as it saves.
_MANY = 300
_INTERNED = 10  # characters of a string that becomes a name, at most

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class _Uses(ast.NodeVisitor):
    """Counts the places where code of a file has a name by its number."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._local: set[str] = set()

    def _inside(self, node: _Function, parts: list[ast.AST]) -> None:
        args = [one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)]
        self.found.update(args)
        self.visit(node.args)
        outer = self._local
        self._local = outer | {*args, *(name for name, _ in bound_names(node))}
        self._local -= global_names(node)
        for part in parts:
            self.visit(part)
        self._local = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.found[node.name] += 2  # of the function itself, and where it is stored
        for one in node.decorator_list:
            self.visit(one)
        self._inside(node, list(node.body))

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._inside(node, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.found[node.name] += 2
        self.generic_visit(node)

    def _comprehension(self, node: ast.AST) -> None:
        outer = self._local
        self._local = outer | {
            one.id
            for one in ast.walk(node)
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
        }
        self.generic_visit(node)
        self._local = outer

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Name(self, node: ast.Name) -> None:
        if node.id not in self._local:
            self.found[node.id] += 1

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.found[node.attr] += 1
        self.visit(node.value)

    def visit_keyword(self, node: ast.keyword) -> None:
        self.found[node.arg or ""] += 1
        self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and len(node.value) <= _INTERNED:
            self.found[node.value] += 1

    def visit_alias(self, node: ast.alias) -> None:
        self.found.update({node.name, node.asname or node.name})


def order_names(tree: Tree) -> None:
    """Change in place, in the files that have many names."""
    for path, module in tree.items():
        uses = _Uses()
        uses.visit(module)
        constant = constant_names({path: module})
        names = [
            name
            for name, _ in sorted(uses.found.items(), key=lambda use: (-use[1], use[0]))
            if name.isidentifier() and not keyword.iskeyword(name) and name not in constant
        ]
        if len(names) >= _MANY:
            chain = ".".join(names[:_LOWEST])
            module.body[:0] = ast.parse(f"if not __name__:\n    __name__.{chain}").body
