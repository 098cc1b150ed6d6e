"""Makes the sources lean for boards: error texts go, codes stay, and what is there for type
checkers alone goes too. So do the names that MicroPython notes in each class (`__module__`,
`__qualname__`): nothing asks for them, and a class has a larger table for two names more.

The texts are for developers. They take 12 KB of a 64-bit heap and half of that on a board, where
they are not read. A board that runs the compiled modules raises the
same errors with the same codes; docs/errors.md says what each means.
"""

import ast

from warden_build.scopes import Tree

_ERRORS = {"PeerError": 1, "UsageError": 1, "StoreError": 1, "ensure": 2}


class _Lean(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        keep = _ERRORS.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if keep is not None:
            node.args = node.args[:keep]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if any(ast.unparse(one).endswith(".viper") for one in node.decorator_list):
            return node  # there they are types
        node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body[:0] = ast.parse("del __module__, __qualname__").body
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if _is_checking(node.targets[0]) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if _is_checking(node.test) and not node.orelse else self.generic_visit(node)


def _is_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"


def lean(tree: Tree) -> Tree:
    """Return the tree without the texts of its errors, without annotations, and without
    TYPE_CHECKING."""
    return {path: _Lean().visit(module) for path, module in tree.items()}
