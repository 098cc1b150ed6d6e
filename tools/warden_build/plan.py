"""Which file each module of the package goes into, and which name each thing has there."""

import ast
import graphlib
from collections.abc import Iterable

from warden_build.groups import CORE, PUBLIC, ROOT, Group, file_name, file_path, group_of, makes
from warden_build.scopes import (
    Annotator,
    BuildError,
    Names,
    Origin,
    Reference,
    Tree,
    bound_names,
    dotted,
)

HERE = Origin(ROOT, "__here__", True)  # the file's own module object


def is_prose(module: ast.Module) -> bool:
    """Return whether a module holds nothing but a docstring."""
    return all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in module.body
    )


class Plan:
    """Of a build: made once from the package and the code that uses it."""

    def __init__(self, tree: Tree, users: Tree) -> None:
        self.names = Names(tree)
        self.paths = {dotted(path): path for path in tree}
        self.groups: dict[str, Group] = {}
        self.members: dict[str, list[str]] = {}
        for name, module in self.names.modules.items():
            if name == ROOT or not is_prose(module):
                self.groups[name] = group_of(name)
                self.members.setdefault(self.groups[name].name, []).append(name)
        files: dict[str, Group] = {}
        for name, group in self.groups.items():
            if files.setdefault(file_path(group), group) != group:
                raise BuildError(f"{name}: two groups would have the file {file_path(group)}")
        self.files = {file_name(group) for group in self.groups.values()}
        self.notes = {name: Annotator(self.names, name) for name in self.groups}
        self.opaque = {one for note in self.notes.values() for one in note.opaque}
        self.numbers = self._numbers()
        found = {name: makes(name, self.names.symbols[name]) for name in self.groups}
        self.drivers = {name: driver for name, driver in found.items() if driver}
        self.users: dict[str, str] = {}
        for path, module in users.items():
            name = path.removesuffix(".py")
            self.names.add_user(name, module)
            self.users[name] = path
            self.notes[name] = Annotator(self.names, name)
        self.chosen: dict[str, dict[Origin, str]] = {}  # group → what its file calls each thing
        for file in self.members:
            self.members[file] = self._in_order(file)
            self.chosen[file] = self._choose(file)

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
        """The module on a board for one in the sources; of a package of prose, its folder if there
        is one, else the root."""
        if module in self.groups:
            return file_name(self.groups[module])
        folder = any(file_name(group).startswith(module + ".") for group in self.groups.values())
        return module if folder else ROOT

    # -- names ------------------------------------------------------------------------------------

    def _numbers(self) -> dict[Origin, int | bytes]:
        """Public constants whose value goes in where they are used: they need no name at run
        time."""
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

    def key(self, group: str, one: Reference) -> Origin | None:
        """What the file of a group has a name for because of a reference; None where a local name
        serves."""
        origin = one.origin
        if origin in self.numbers:
            return None
        if not origin.outside and self.group(origin) == group:
            if origin.name:
                return origin
            return HERE if one.origin.module in self.opaque and one.held else None
        if one.local or isinstance(one.node, ast.Attribute):
            return None
        if origin.outside or origin.name:
            return origin
        return Origin(origin.module)

    def _choose(self, group: str) -> dict[Origin, str]:
        hidden: dict[Origin, set[str]] = {}
        wanted: dict[Origin, str] = {}
        # A file that is loaded becomes an attribute of the package, which is the core.
        taken = (
            {file.split(".")[1] for file in self.files if "." in file} if group == CORE else set()
        )
        for name in self.members[group]:
            note = self.notes[name]
            taken |= note.builtins
            for symbol in sorted(self.names.symbols[name]):
                if Origin(name, symbol) not in self.numbers:
                    driver = symbol == "make" and self.drivers.get(name)
                    wanted[Origin(name, symbol)] = driver or symbol
            for one in note.references:
                key = self.key(group, one)
                if key is None:
                    continue
                hidden.setdefault(key, set()).update(
                    known
                    for known, origin in one.around
                    if origin is None or origin.outside or self.group(origin) != group
                )
                if key not in wanted:
                    spoken = getattr(one.node, "id", key.name or key.module.split(".")[-1])
                    wanted[key] = "here" if key == HERE else spoken
        chosen: dict[Origin, str] = {}
        own = set(self.members[group])
        fixed_ones = {
            one for one in wanted if one.name and one.module in own and self._is_fixed(one)
        }
        for key in sorted(wanted, key=lambda one: (one not in fixed_ones, not one.outside)):
            fixed, name = key in fixed_ones, wanted[key]
            for candidate in [name] if fixed else self._candidates(key, name):
                if candidate not in taken | hidden.get(key, set()):
                    chosen[key] = candidate
                    taken.add(candidate)
                    break
            else:
                raise BuildError(
                    f"{key.module}: the name {name} is not free in the file of {group}"
                )
        return chosen

    def _is_fixed(self, key: Origin) -> bool:
        if key.name == "make" and key.module in self.drivers:
            return True
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

    # -- imports ----------------------------------------------------------------------------------

    def statement(self, group: str, key: Origin, known: str) -> ast.stmt:
        """The statement that makes `known` mean a thing that is no symbol of the file."""
        if key == HERE:
            text = f"{known} = __import__('sys').modules[__name__]"
            return ast.parse(text).body[0]
        if key.outside:
            if key.name:
                return ast.ImportFrom(key.module, [alias_of(key.name, known)], 0)
            return ast.Import([alias_of(key.module, known)])
        if key.name:
            return self.imported(group, self.groups[key.module], self.symbol(key), known)
        return self.imported_module(group, self.file_of(key.module), known)

    def imported(self, group: str | None, owner: Group, name: str, known: str) -> ast.stmt:
        """`from OWNER import NAME as KNOWN`; group: of the file that says so, None for a file
        outside the package."""
        below = "" if owner.name == CORE else owner.name
        if group is None:
            return ast.ImportFrom(file_name(owner), [alias_of(name, known)], 0)
        level = 1 + group.count(".")
        return ast.ImportFrom(below or None, [alias_of(name, known)], level)

    def imported_module(self, group: str | None, file: str, known: str) -> ast.stmt:
        """The same of a whole file, by its name as a module."""
        if file == ROOT:
            return ast.Import([alias_of(ROOT, known)])
        base, _, last = file.rpartition(".")
        if group is None:
            return ast.ImportFrom(base, [alias_of(last, known)], 0)
        below = base.removeprefix(ROOT).removeprefix(".")
        return ast.ImportFrom(below or None, [alias_of(last, known)], 1 + group.count("."))


def _number(node: ast.expr, module: str) -> int | bytes | None:
    """The value of `const(…)`, or of a plain number of a protocol: a whole number, or a tag of at
    most four bytes."""
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


def alias_of(name: str, known: str) -> ast.alias:
    return ast.alias(name, None if name == known else known)
