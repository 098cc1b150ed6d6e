"""Rewrite one module of the package for the file that it goes into, or code outside the package
for the files' names."""

import ast
import re

from warden_build.groups import CORE, PUBLIC, ROOT, file_name
from warden_build.plan import Plan, alias_of
from warden_build.scopes import OUTSIDE, BuildError, Origin, Reference

_DOTTED = re.compile(r"\bwarden(?:\.\w+)+")


class Rewriter(ast.NodeTransformer):
    """Rewrites one module. group: of its file; None for a user."""

    def __init__(self, plan: Plan, module: str, group: str | None) -> None:
        self._plan = plan
        self._module = module
        self._group = group
        note = plan.notes[module]
        self._loose = note.loose
        self._depth = 0  # functions around
        self._top = {id(node) for node in plan.names.modules[module].body}
        self._references: dict[int, list[Reference]] = {}
        for one in note.references:
            self._references.setdefault(id(one.node), []).append(one)

    def _one(self, node: ast.AST) -> Reference | None:
        found = self._references.get(id(node))
        return found[0] if found else None

    def _new(self, node: ast.AST, name: str) -> str:
        """The name in the file for a node that speaks by a plain one."""
        one = self._one(node)
        if one is None or self._group is None:
            return name
        key = self._plan.key(self._group, one)
        return self._plan.chosen[self._group].get(key, name) if key is not None else name

    # -- names ------------------------------------------------------------------------------------

    def _value(self, node: ast.AST) -> ast.expr | None:
        one = self._one(node)
        value = self._plan.numbers.get(one.origin) if one is not None else None
        return None if value is None else ast.copy_location(_constant(value), node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt] | None:
        if self._group is not None and self._value(node.targets[0]) is not None:
            return None
        if self._group is not None and _is_search(node.value):
            return self._search(node)
        return self.generic_visit(node)

    def _search(self, node: ast.Assign) -> list[ast.stmt]:
        """`X = __import__("warden.hal." + NAME, …).make`, for files that several drivers share.

        The table is one text: its words would be names that stay. A driver that is not in it has
        a file of its own.
        """
        plan = self._plan
        files = {driver: file_name(plan.groups[name]) for name, driver in plan.drivers.items()}
        table = " ".join(f"{driver} {file.split('.')[-1]}" for driver, file in files.items())
        name = node.value.value.args[0].right.id  # type: ignore[attr-defined]
        target = ast.unparse(node.targets[0])
        text = (
            f"_files = {table!r}.split()\n"
            f"_file = _files[_files.index({name}) + 1] if {name} in _files else {name}\n"
            f"{target} = getattr(__import__({ROOT + '.'!r} + _file, None, None, ('make',)),"
            f" {name} if {name} in _files else 'make')"
        )
        return [ast.copy_location(one, node) for one in ast.parse(text).body]

    def visit_Name(self, node: ast.Name) -> ast.AST:
        value = self._value(node)
        if value is not None:
            return value
        node.id = self._new(node, node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        number = self._value(node)
        if number is not None:
            return number
        one, value = self._one(node), self._one(node.value)
        if value is not None and value.origin.outside and not value.origin.name:
            setattr(node, OUTSIDE, True)  # shorten.py leaves its name
        if one is None:
            if (
                value is not None
                and not value.origin.name
                and not value.origin.outside
                and self._group is not None
            ):
                raise BuildError(
                    f"{self._module}:{node.lineno}: {value.origin.module} has no {node.attr}"
                )
            return self.generic_visit(node)
        plan, origin = self._plan, one.origin
        if not origin.name and not origin.outside:  # a module by its full name
            return self._module_by_name(node, origin)
        owner = value.origin if value is not None else origin
        group = plan.group(owner)
        if group == self._group and not origin.outside and plan.group(origin) == group:
            return ast.copy_location(ast.Name(plan.symbol(origin), node.ctx), node)
        # As the file that is reached has it: its own symbol, or what it imports from elsewhere.
        node.value = self.visit(node.value)
        node.attr = plan.chosen[group].get(origin, node.attr)
        return node

    def _module_by_name(self, node: ast.Attribute, origin: Origin) -> ast.AST:
        file = self._plan.file_of(origin.module)
        base: ast.AST = node
        while isinstance(base, ast.Attribute):
            base = base.value
        made: ast.expr = base  # type: ignore[assignment]
        for part in file.split(".")[1:]:
            made = ast.Attribute(made, part, ast.Load())
        if isinstance(made, ast.Attribute):
            made.ctx = node.ctx
        return ast.copy_location(made, node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._new(node, node.name)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.name = self._new(node, node.name)
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        if node.name:
            node.name = self._new(node, node.name)
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Global(self, node: ast.Global) -> ast.AST:
        if self._group is not None:
            chosen = self._plan.chosen[self._group]
            found = {
                one.origin.name: chosen[one.origin] for one in self._references.get(id(node), ())
            }
            node.names = [found.get(name, name) for name in node.names]
        return node

    # -- imports ----------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> ast.AST | list[ast.stmt] | None:
        return self._import(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.stmt] | None:
        return self._import(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> list[ast.stmt] | ast.AST:
        plan = self._plan
        made: list[ast.stmt] = []
        for (known, origin), alias in zip(
            plan.names.origins(self._module, node), node.names, strict=True
        ):
            if origin in plan.numbers:
                continue
            loose = (id(node), known) in self._loose
            top = id(node) in self._top
            if self._group is not None and top and not loose:
                continue  # at the head of the file
            if origin.outside:
                name = known if self._group is None else self._known(node, known)
                if isinstance(node, ast.Import):
                    made.append(
                        ast.Import(
                            [
                                alias_of(alias.name, name)
                                if alias.asname or name != known
                                else alias
                            ]
                        )
                    )
                else:
                    made.append(ast.ImportFrom(node.module, [alias_of(alias.name, name)], 0))
                continue
            if self._group is not None and plan.group(origin) == self._group:
                if loose:
                    raise BuildError(f"{self._module}:{node.lineno}: {known} has two meanings")
                continue
            made.append(self._rewritten(node, alias, known, origin))
        return [ast.copy_location(one, node) for one in made] or ast.Pass()

    def _known(self, node: ast.stmt, known: str) -> str:
        """The name that an import binds which is no fixed binding: a symbol's at the top, else a
        local one."""
        if self._group is None:
            return known
        if (id(node), known) in self._loose and not self._depth:
            return self._plan.chosen[self._group].get(Origin(self._module, known), known)
        return known

    def _rewritten(
        self, node: ast.Import | ast.ImportFrom, alias: ast.alias, known: str, origin: Origin
    ) -> ast.stmt:
        plan = self._plan
        owner = plan.groups.get(origin.module)
        if isinstance(node, ast.Import) and not alias.asname:  # binds the package
            return ast.Import([ast.alias(plan.file_of(alias.name), None)])
        known = self._known(node, known)
        if origin.name and owner is not None:
            return plan.imported(self._group, owner, plan.symbol(origin), known)
        return plan.imported_module(self._group, plan.file_of(origin.module), known)

    # -- strings ----------------------------------------------------------------------------------

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and ROOT + "." in node.value:
            node.value = self._text(node.value, node.lineno)
        return node

    def _text(self, text: str, line: int) -> str:
        groups = self._plan.groups
        if self._group is None:
            return _DOTTED.sub(self._replaced, text)
        if text in groups:
            if groups[text].name == CORE and text not in PUBLIC:
                raise BuildError(f"{self._module}:{line}: {text} lies in the core, which stays")
            return file_name(groups[text])
        if _DOTTED.fullmatch(text.rstrip(".")) and text != f"{ROOT}.hal.":
            raise BuildError(f"{self._module}:{line}: {text!r} is no module's full name")
        return text

    def _replaced(self, match: re.Match[str]) -> str:
        """The longest beginning of a dotted name that is a module, in a text of a user."""
        parts = match.group().split(".")
        for length in range(len(parts), 1, -1):
            name = ".".join(parts[:length])
            if name in PUBLIC:
                return match.group()
            if name in self._plan.names.modules:
                return ".".join([self._plan.file_of(name), *parts[length:]])
        return match.group()

    # -- unloading --------------------------------------------------------------------------------

    def _ends(self, module: str) -> bool:
        """Whether what unloads a module unloads its file."""
        group = self._plan.groups.get(module)
        if group is None or not group.ends_with:
            return True
        return module == f"{ROOT}.{group.ends_with}"

    def _is_unload(self, node: ast.AST) -> bool:
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
            return False
        return getattr(node.value.func, "id", "").lstrip("_") == "unload"

    def _ending(self, names: list[ast.expr]) -> list[ast.expr]:
        """Of modules to unload, those whose file goes with them, and each file once."""
        files: dict[str, ast.expr] = {}
        for one in names:
            name = str(one.value) if isinstance(one, ast.Constant) else ""
            if name and self._ends(name):
                group = self._plan.groups.get(name)
                files.setdefault(file_name(group) if group else name, one)
        return list(files.values())

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if self._group is not None and self._is_unload(node):
            call = node.value
            arguments = call.args  # type: ignore[attr-defined]
            if any(isinstance(one, ast.Constant) for one in arguments):
                call.args = self._ending(arguments)  # type: ignore[attr-defined]
                if not call.args:  # type: ignore[attr-defined]
                    return ast.Pass()
        return self.generic_visit(node)

    def visit_For(self, node: ast.For) -> ast.AST:
        if self._group is not None and isinstance(node.iter, ast.Tuple):
            if len(node.body) == 1 and self._is_unload(node.body[0]):
                node.iter.elts = self._ending(node.iter.elts)
                if not node.iter.elts:
                    return ast.Pass()
        return self.generic_visit(node)


def _is_search(node: ast.expr) -> bool:
    """Return whether an expression is `__import__("warden.hal." + NAME, …).make`."""
    call = node.value if isinstance(node, ast.Attribute) and node.attr == "make" else None
    if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "__import__":
        return False
    first = call.args[0]
    return isinstance(first, ast.BinOp) and isinstance(first.right, ast.Name)


def _constant(value: int | bytes) -> ast.expr:
    """As a parser makes it: a sign binds less than a power or an attribute does."""
    if isinstance(value, int) and value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)
