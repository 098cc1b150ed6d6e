"""Makes the sources lean for boards: error texts go, codes stay, and what is there for type checkers alone goes too.

The texts speak to whoever develops against the package, and they take 12 KB of a 64-bit heap and half of that on a board, where nobody reads
them. A board that runs the compiled modules raises the same errors with the same codes; docs/errors.md says what each means.
"""

import ast

from inline import inline
from shorten import shorten

_ERRORS = {"PeerError": 1, "UsageError": 1, "StoreError": 1, "ensure": 2}


class _Lean(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        keep = _ERRORS.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if keep is not None:
            node.args = node.args[:keep]
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if _is_checking(node.targets[0]) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if _is_checking(node.test) and not node.orelse else self.generic_visit(node)


def _is_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"


def lean(
    sources: dict[str, str], users: list[str]
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """All modules of a package, {path: source}, without the texts of their errors and without TYPE_CHECKING, and with short private names:
    the sources, and the names that were shortened. users: sources outside the package that know it, whose names stay. A module that was a docstring alone is left out: a folder is a package without it."""
    tree = {path: _Lean().visit(ast.parse(source)) for path, source in sources.items()}
    tree = {path: module for path, module in tree.items() if not _is_prose(module)}
    inline(tree, [ast.parse(user) for user in users])
    names = shorten(tree, [ast.parse(user) for user in users])
    return {
        path: ast.unparse(ast.fix_missing_locations(module)) for path, module in tree.items()
    }, names


def _is_prose(module: ast.Module) -> bool:
    return all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in module.body
    )
