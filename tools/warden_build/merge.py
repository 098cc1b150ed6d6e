"""Merge the modules of each group into one file, and rewrite what imports them.

A file has one namespace, so a name that two of its modules have is changed in one of them: `begin` of `warden.ota.service`
becomes `service_begin`. Between modules of one file imports go: `cbor.encode(x)` is `encode(x)`. Between files they are rewritten, and stay
where they are: an import inside a function loads the other file when the function runs, and no sooner.

What can't be seen to be right from the sources is refused with a BuildError, never guessed:

- An import of a module in the same file by a name that is bound in another way, too.
- A public name (groups.PUBLIC) that another module of its file has as well.
- A string that is a module's full name in the core, other than for what is asked of `unload`.
"""

import ast
import graphlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from warden_build.groups import CORE, PUBLIC, ROOT, Group, file_name, file_path, group_of
from warden_build.scopes import Annotator, bound_names, BuildError, Names, Origin, Reference, Tree, dotted

_DOTTED = re.compile(r"\bwarden(?:\.\w+)+")
_HERE = Origin(ROOT, "__here__", True)  # the file's own module object


class Merged(NamedTuple):
    """What merge() makes. symbols: (module, name there) → its name on a board."""

    tree: Tree
    symbols: dict[tuple[str, str], str]


def is_prose(module: ast.Module) -> bool:
    """Return whether a module holds nothing but a docstring."""
    return all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in module.body
    )


class _Merger:
    def __init__(self, tree: Tree, users: Tree) -> None:
        self.names = Names(tree)
        self.paths = {dotted(path): path for path in tree}
        self.groups: dict[str, Group] = {}
        self.members: dict[str, list[str]] = {}
        for name, module in self.names.modules.items():
            if name == ROOT or not (name in self.names.packages and is_prose(module)):
                self.groups[name] = group_of(name)
                self.members.setdefault(self.groups[name].name, []).append(name)
        files: dict[str, str] = {}
        for name, group in self.groups.items():
            if files.setdefault(file_path(group), group.name) != group.name:
                raise BuildError(f"{name}: two groups would have the file {file_path(group)}")
        self.files = {file_name(group) for group in self.groups.values()}
        self.notes = {name: Annotator(self.names, name) for name in self.groups}
        self.opaque = {one for note in self.notes.values() for one in note.opaque}
        self.numbers = self._numbers()
        self.users: dict[str, str] = {}
        for path, module in users.items():
            name = path.removesuffix(".py")
            self.names.add_user(name, module)
            self.users[name] = path
            self.notes[name] = Annotator(self.names, name)
        self.chosen: dict[str, dict[Origin, str]] = {}  # group → what its file calls each thing
        for group in self.members:
            self.members[group] = self._in_order(group)
            self.chosen[group] = self._choose(group)

    def _in_order(self, group: str) -> list[str]:
        """Modules behind those that they need."""
        members = self.members[group]
        needs: dict[str, list[str]] = {name: [] for name in members}
        for name in members:
            if name != ROOT:
                found = {one.origin.module for one in self.notes[name].references}
                needs[name] = sorted((found & set(members)) - {name})
        return list(graphlib.TopologicalSorter(needs).static_order())

    def group(self, origin: Origin) -> str:
        """The group of what lies in the package; a package of prose counts as the core."""
        found = self.groups.get(origin.module)
        return found.name if found else CORE

    def file_of(self, module: str) -> str:
        """The module on a board for one in the sources; of a package of prose, its folder if there is one, else the root."""
        if module in self.groups:
            return file_name(self.groups[module])
        folder = any(file_name(group).startswith(module + ".") for group in self.groups.values())
        return module if folder else ROOT

    # -- names ------------------------------------------------------------------------------------

    def _numbers(self) -> dict[Origin, int | bytes]:
        """Public constants whose value goes in where they are used: they need no name at run time."""
        found = {}
        for name, module in self.names.modules.items():
            if name not in self.groups or name in self.opaque:
                continue
            bound = [known for known, _ in bound_names(module)]
            for node in module.body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    known, value = node.targets[0].id, _number(node.value, name)
                    public = known.isupper() and not known.startswith("_")
                    if value is not None and public and bound.count(known) == 1:
                        found[Origin(name, known)] = value
        return found

    def _key(self, group: str, one: Reference) -> Origin | None:
        """What the file of a group has a name for because of a reference; None where a local name serves."""
        origin = one.origin
        if origin in self.numbers:
            return None
        if not origin.outside and self.group(origin) == group:
            if origin.name:
                return origin
            return _HERE if one.origin.module in self.opaque and one.held else None
        if one.local or isinstance(one.node, ast.Attribute):
            return None
        if origin.outside or origin.name:
            return origin
        return Origin(origin.module)

    def _choose(self, group: str) -> dict[Origin, str]:
        hidden: dict[Origin, set[str]] = {}
        wanted: dict[Origin, str] = {}
        # A file that is loaded becomes an attribute of the package, which is the core.
        taken = {file.split(".")[1] for file in self.files if "." in file} if group == CORE else set()
        for name in self.members[group]:
            note = self.notes[name]
            taken |= note.builtins
            for symbol in sorted(self.names.symbols[name]):
                if Origin(name, symbol) not in self.numbers:
                    wanted[Origin(name, symbol)] = symbol
            for one in note.references:
                key = self._key(group, one)
                if key is None:
                    continue
                hidden.setdefault(key, set()).update(
                    known
                    for known, origin in one.around
                    if origin is None or origin.outside or self.group(origin) != group
                )
                if key not in wanted:
                    spoken = getattr(one.node, "id", key.name or key.module.split(".")[-1])
                    wanted[key] = "here" if key == _HERE else spoken
        chosen: dict[Origin, str] = {}
        own = set(self.members[group])
        fixed_ones = {one for one in wanted if one.name and one.module in own and self._is_fixed(one)}
        for key in sorted(wanted, key=lambda one: (one not in fixed_ones, not one.outside)):
            fixed, name = key in fixed_ones, wanted[key]
            for candidate in [name] if fixed else self._candidates(key, name):
                if candidate not in taken | hidden.get(key, set()):
                    chosen[key] = candidate
                    taken.add(candidate)
                    break
            else:
                raise BuildError(f"{key.module}: the name {name} is not free in the file of {group}")
        return chosen

    def _is_fixed(self, key: Origin) -> bool:
        return key.module in (*PUBLIC, ROOT, *self.opaque) or key.name.startswith("__")

    @staticmethod
    def _candidates(key: Origin, name: str) -> Iterable[str]:
        yield name
        last = key.module.split(".")[-1]
        plain = f"{last.strip('_')}_{name.strip('_')}"
        plain = ("_" if name.startswith("_") else "") + plain
        yield plain
        yield from (f"{plain}{number}" for number in range(2, 9))

    def symbol(self, origin: Origin) -> str:
        """The name of a symbol of the package in its file."""
        return self.chosen[self.group(origin)].get(origin, origin.name)

    # -- files ------------------------------------------------------------------------------------

    def file(self, group: str) -> ast.Module:
        """The merged modules of a group, with their imports at the top."""
        body: list[ast.stmt] = []
        for name in self.members[group]:
            module = _Applier(self, name, group).visit(self.names.modules[name])
            body += module.body
        head: list[ast.stmt] = []
        for key, known in self.chosen[group].items():
            if key.outside or not key.name or key.module not in self.members[group]:
                head.append(self.statement(group, key, known))
        return ast.Module(_joined(head) + body, [])

    def statement(self, group: str, key: Origin, known: str) -> ast.stmt:
        """The statement that makes `known` mean a thing that is no symbol of the file."""
        if key == _HERE:
            text = f"{known} = __import__('sys').modules[__name__]"
            return ast.parse(text).body[0]
        if key.outside:
            if key.name:
                return ast.ImportFrom(key.module, [_alias(key.name, known)], 0)
            return ast.Import([_alias(key.module, known)])
        if key.name:
            return self.imported(group, self.groups[key.module], self.symbol(key), known)
        return self.imported_module(group, self.file_of(key.module), known)

    def imported(self, group: str | None, owner: Group, name: str, known: str) -> ast.stmt:
        """`from OWNER import NAME as KNOWN`; group: of the file that says so, None for a file outside the package."""
        below = "" if owner.name == CORE else owner.name
        if group is None:
            return ast.ImportFrom(file_name(owner), [_alias(name, known)], 0)
        level = 1 + group.count(".")
        return ast.ImportFrom(below or None, [_alias(name, known)], level)

    def imported_module(self, group: str | None, file: str, known: str) -> ast.stmt:
        """The same of a whole file, by its name as a module."""
        if file == ROOT:
            return ast.Import([_alias(ROOT, known)])
        base, _, last = file.rpartition(".")
        if group is None:
            return ast.ImportFrom(base, [_alias(last, known)], 0)
        below = base.removeprefix(ROOT).removeprefix(".")
        return ast.ImportFrom(below or None, [_alias(last, known)], 1 + group.count("."))


def _number(node: ast.expr, module: str) -> int | bytes | None:
    """The value of `const(…)`, or of a plain number of a protocol: a whole number, or a tag of at most four bytes."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "const" and node.args:
        node = node.args[0]
    elif module.split(".")[1:2] not in (["wire"], ["crypto"]):
        return None
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    small = type(value) is int or (isinstance(value, bytes) and len(value) <= 4)
    return value if small else None


def _constant(value: int | bytes) -> ast.expr:
    """As a parser makes it: a sign binds less than a power or an attribute does."""
    if isinstance(value, int) and value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


def _joined(imports: list[ast.stmt]) -> list[ast.stmt]:
    """Imports from outside before those of the package, and one statement for each place."""
    made: dict[object, ast.stmt] = {}
    for one in imports:
        if isinstance(one, ast.ImportFrom):
            first = made.setdefault((one.module, one.level), one)
            if first is not one and isinstance(first, ast.ImportFrom):
                first.names += one.names
        else:
            made[len(made)] = one
    return sorted(made.values(), key=lambda one: isinstance(one, ast.ImportFrom) and one.level > 0)


def _alias(name: str, known: str) -> ast.alias:
    return ast.alias(name, None if name == known else known)


class _Applier(ast.NodeTransformer):
    """Rewrites one module. group: of its file; None for a user."""

    def __init__(self, merger: _Merger, module: str, group: str | None) -> None:
        self._merger = merger
        self._module = module
        self._group = group
        note = merger.notes[module]
        self._loose = note.loose
        self._depth = 0  # functions around
        self._top = {id(node) for node in merger.names.modules[module].body}
        self._references: dict[int, list[Reference]] = {}
        for one in note.references:
            self._references.setdefault(id(one.node), []).append(one)

    def _one(self, node: ast.AST) -> Reference | None:
        return (self._references.get(id(node)) or [None])[0]

    def _new(self, node: ast.AST, name: str) -> str:
        """The name in the file for a node that speaks by a plain one."""
        one = self._one(node)
        if one is None or self._group is None:
            return name
        key = self._merger._key(self._group, one)
        return self._merger.chosen[self._group].get(key, name) if key is not None else name

    # -- names ------------------------------------------------------------------------------------

    def _value(self, node: ast.AST) -> ast.expr | None:
        one = self._one(node)
        value = self._merger.numbers.get(one.origin) if one is not None else None
        return None if value is None else ast.copy_location(_constant(value), node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        if self._group is not None and self._value(node.targets[0]) is not None:
            return None
        return self.generic_visit(node)

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
            node.outside = True  # type: ignore[attr-defined]  (shorten.py leaves its name)
        if one is None:
            if value is not None and not value.origin.name and not value.origin.outside and self._group is not None:
                raise BuildError(f"{self._module}:{node.lineno}: {value.origin.module} has no {node.attr}")
            return self.generic_visit(node)
        merger, origin = self._merger, one.origin
        if not origin.name and not origin.outside:  # a module by its full name
            return self._module_by_name(node, origin)
        owner = value.origin if value is not None else origin
        group = merger.group(owner)
        if group == self._group and not origin.outside and merger.group(origin) == group:
            return ast.copy_location(ast.Name(merger.symbol(origin), node.ctx), node)
        # As the file that is reached has it: its own symbol, or what it imports from elsewhere.
        node.value = self.visit(node.value)
        node.attr = merger.chosen[group].get(origin, node.attr)
        return node

    def _module_by_name(self, node: ast.Attribute, origin: Origin) -> ast.AST:
        file = self._merger.file_of(origin.module)
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
            chosen = self._merger.chosen[self._group]
            found = {one.origin.name: chosen[one.origin] for one in self._references.get(id(node), ())}
            node.names = [found.get(name, name) for name in node.names]
        return node

    # -- imports ----------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> ast.AST | list[ast.stmt] | None:
        return self._import(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.stmt] | None:
        return self._import(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> list[ast.stmt] | ast.AST:
        merger, made = self._merger, []
        for (known, origin), alias in zip(
            merger.names.origins(self._module, node), node.names, strict=True
        ):
            if origin in merger.numbers:
                continue
            loose = (id(node), known) in self._loose
            top = id(node) in self._top
            if self._group is not None and top and not loose:
                continue  # at the head of the file
            if origin.outside:
                name = known if self._group is None else self._known(node, known)
                if isinstance(node, ast.Import):
                    made.append(ast.Import([_alias(alias.name, name) if alias.asname or name != known else alias]))
                else:
                    made.append(ast.ImportFrom(node.module, [_alias(alias.name, name)], 0))
                continue
            if self._group is not None and merger.group(origin) == self._group:
                if loose:
                    raise BuildError(f"{self._module}:{node.lineno}: {known} lies in the same file, and has two meanings")
                continue
            made.append(self._rewritten(node, alias, known, origin))
        return [ast.copy_location(one, node) for one in made] or ast.Pass()

    def _known(self, node: ast.stmt, known: str) -> str:
        """The name that an import binds which is no fixed binding: a symbol's at the top, else a local one."""
        if self._group is None:
            return known
        if (id(node), known) in self._loose and not self._depth:
            return self._merger.chosen[self._group].get(Origin(self._module, known), known)
        return known

    def _rewritten(
        self, node: ast.Import | ast.ImportFrom, alias: ast.alias, known: str, origin: Origin
    ) -> ast.stmt:
        merger = self._merger
        owner = merger.groups.get(origin.module)
        if isinstance(node, ast.Import) and not alias.asname:  # binds the package
            return ast.Import([ast.alias(merger.file_of(alias.name), None)])
        known = self._known(node, known)
        if origin.name and owner is not None:
            return merger.imported(self._group, owner, merger.symbol(origin), known)
        return merger.imported_module(self._group, merger.file_of(origin.module), known)

    # -- strings ----------------------------------------------------------------------------------

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and ROOT + "." in node.value:
            node.value = self._text(node.value, node.lineno)
        return node

    def _text(self, text: str, line: int) -> str:
        groups = self._merger.groups
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
            if name in self._merger.names.modules:
                return ".".join([self._merger.file_of(name), *parts[length:]])
        return match.group()

    # -- unloading --------------------------------------------------------------------------------

    def _ends(self, module: str) -> bool:
        """Whether what unloads a module unloads its file."""
        group = self._merger.groups.get(module)
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
            if isinstance(one, ast.Constant) and self._ends(one.value):
                group = self._merger.groups.get(one.value)
                files.setdefault(file_name(group) if group else one.value, one)
        return list(files.values())

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if self._group is not None and self._is_unload(node):
            call = node.value
            names = [one.value for one in call.args if isinstance(one, ast.Constant)]  # type: ignore[attr-defined]
            if names:
                call.args = self._ending(call.args)  # type: ignore[attr-defined]
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


def merge(tree: Tree, users: Tree) -> Merged:
    """Return the files of a board; users, code outside the package that imports it, are changed in place."""
    merger = _Merger(tree, users)
    files = {}
    for group in merger.members:
        files[file_path(merger.groups[merger.members[group][0]])] = merger.file(group)
    for group, members in merger.members.items():
        owner = merger.groups[members[0]]
        other = [name for name in PUBLIC if name in members and name != file_name(owner)]
        if other:
            text = "".join(f"sys.modules[{name!r}] = " for name in other)
            files[file_path(owner)].body += ast.parse(f"import sys\n{text}sys.modules[__name__]").body
    for name, path in merger.users.items():
        users[path] = _Applier(merger, name, None).visit(users[path])
    symbols = {
        (key.module, key.name): known
        for group in merger.chosen.values()
        for key, known in group.items()
        if key.name and not key.outside
    }
    for module in [*files.values(), *users.values()]:
        ast.fix_missing_locations(module)
    return Merged(dict(sorted(files.items())), symbols)
