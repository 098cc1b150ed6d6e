"""Keep short strings of files that are let go of out of MicroPython's name pools.

A string of at most ten characters in code becomes a name, and a name stays for good: the words
that a start alone compares would outlive its code. As a member of a constant tuple a string is an
object that goes with its file: `kind == "wired"` becomes `kind == ("wired",)[0]`.
"""

import ast
from collections.abc import Container

from warden_build.groups import PASSING, STAYING
from warden_build.scopes import Tree
from warden_build.words import Words, kept_at_run_time

_INTERNED = 10  # characters, at most (MICROPY_ALLOC_PARSE_INTERN_STRING_LEN)


class _Wrapper(ast.NodeTransformer):
    def __init__(self, known: Container[str]) -> None:
        self._known = known

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        text = node.value
        if not isinstance(text, str) or not 0 < len(text) <= _INTERNED or text in self._known:
            return node
        return ast.copy_location(
            ast.Subscript(ast.Tuple([node], ast.Load()), ast.Constant(0), ast.Load()), node
        )

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        whole = all(isinstance(one, ast.Constant) for one in node.elts)
        return node if whole else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Leave what is looked up: it becomes a name in any case."""
        if getattr(node.func, "id", "") in ("getattr", "setattr", "hasattr", "const"):
            return node
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node


def release_strings(tree: Tree, firmware: set[str]) -> None:
    """Change in place, in the files that are let go of.

    firmware: names that every firmware holds; those of files that stay are names in any case, too
    """
    stays = {path: module for path, module in tree.items() if path in STAYING}
    known = firmware | kept_at_run_time(stays) | Words(stays).strings
    for path, module in tree.items():
        if path in PASSING:
            _Wrapper(known | kept_at_run_time({path: module})).visit(module)
