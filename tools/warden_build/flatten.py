"""Lay the modules of packages beside each other, for the compiled modules that boards run.

A folder costs a board two blocks of its filesystem (8 KB of littlefs), a module object for the package, and a look-up at
each import. The sources have packages for their readers; a board has one folder, and beside it those whose names an
application may use:

- `warden/ota/download.py` becomes `warden/download.py`. Where two packages have a module of one name, both are named
  after their package as well: `warden/policy_otp.py`.
- A package whose `__init__` has code is a module of the package's name: `warden/vault/__init__.py` becomes
  `warden/vault.py`, so `from warden.vault import Vault` works in both forms. An `__init__` of prose is left out.
- `crypto`, `wire` and `hal` stay folders: they are imported by name, and `hal` by names that board.py gives.
- Every import is rewritten, and every string that is a module's full name. A name that is put together at run time can't
  be seen here: in the package only `"warden.hal." + …` is, anything else is refused.
"""

import ast
import re

Tree = dict[str, ast.Module]

_ROOT = "warden"
_FOLDERS = ("crypto", "wire", "hal")
_DOTTED = re.compile(r"\bwarden(?:\.\w+)+")


class BuildError(Exception):
    """The sources can't be built as they are: the text says where and why."""


def is_prose(module: ast.Module) -> bool:
    """Return whether a module holds nothing but a docstring."""
    return all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in module.body
    )


def dotted(path: str) -> str:
    """Return the name of a module: `warden/ota/boot.py` → `warden.ota.boot`, `warden/ota/__init__.py` → `warden.ota`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def flat_names(tree: Tree) -> dict[str, str]:
    """Return module → its name on a board, for each module and package of the tree."""
    names: dict[str, str] = {}
    packed: list[tuple[str, str]] = []  # what lies in a package that is taken apart
    for path, module in tree.items():
        name = dotted(path)
        parts = name.split(".")
        if len(parts) == 1 or parts[1] in _FOLDERS:
            names[name] = name
        elif len(parts) == 2:
            prose = path.endswith("/__init__.py") and is_prose(module)
            names[name] = _ROOT if prose else name
        elif len(parts) == 3 and not path.endswith("/__init__.py"):
            packed.append((name, parts[-1]))
        else:
            raise BuildError(f"{path}: a package in a package")
    taken = list(names.values()) + [f"{_ROOT}.{last}" for _, last in packed]
    for name, last in packed:
        flat = f"{_ROOT}.{last}"
        names[name] = flat if taken.count(flat) == 1 else f"{_ROOT}.{name.split('.')[1]}_{last}"
    kept = [flat for flat in names.values() if flat != _ROOT]
    if len(kept) != len(set(kept)):
        raise BuildError("two modules would have one name: " + ", ".join(sorted(kept)))
    return names


class _Flattener(ast.NodeTransformer):
    """One file. package: the dotted package that its relative imports count from, and the one after the move; empty for a
    file outside the package, which imports by full names."""

    def __init__(self, path: str, names: dict[str, str], package: str, flat_package: str) -> None:
        self._path = path
        self._names = names
        self._package = package
        self._flat_package = flat_package

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.stmt]:
        base = self._base(node)
        if base != _ROOT and not base.startswith(_ROOT + "."):
            return node
        found: dict[str, list[ast.alias]] = {}
        for alias in node.names:
            flat = self._names.get(f"{base}.{alias.name}")
            if flat is not None and flat != _ROOT:
                owner, _, name = flat.rpartition(".")
                known = alias.asname or (alias.name if alias.name != name else None)
                found.setdefault(owner, []).append(ast.alias(name, known))
            elif base in self._names:
                found.setdefault(self._names[base], []).append(alias)
            else:
                raise BuildError(f"{self._path}:{node.lineno}: there is no module {base}")
        return [
            ast.copy_location(ast.ImportFrom(*self._spelled(owner, aliases)), node)
            for owner, aliases in found.items()
        ]

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self._package.split(".")
        parts = parts[: len(parts) - node.level + 1]
        return ".".join(parts + (node.module.split(".") if node.module else []))

    def _spelled(
        self, owner: str, aliases: list[ast.alias]
    ) -> tuple[str | None, list[ast.alias], int]:
        """The parts of a `from … import` of the module `owner`, relative inside the package."""
        if not self._flat_package:
            return owner, aliases, 0
        to, here = owner.split("."), self._flat_package.split(".")
        shared = 0
        while shared < min(len(to), len(here)) and to[shared] == here[shared]:
            shared += 1
        return ".".join(to[shared:]) or None, aliases, len(here) - shared + 1

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for alias in node.names:
            alias.name = self._names.get(alias.name, alias.name)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`warden.ota.boot`, after `import warden.ota.boot`."""
        flat = self._names.get(ast.unparse(node)) if _is_dotted(node) else None
        if flat is None:
            return self.generic_visit(node)
        made = ast.parse(flat, mode="eval").body
        if isinstance(made, ast.Attribute):
            made.ctx = node.ctx
        return ast.copy_location(made, node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and _ROOT + "." in node.value:
            node.value = self._text(node.value, node.lineno)
        return node

    def _text(self, text: str, line: int) -> str:
        if self._package:
            if text in self._names:
                return self._names[text]
            if _DOTTED.fullmatch(text.rstrip(".")) and text != f"{_ROOT}.hal.":
                raise BuildError(f"{self._path}:{line}: {text!r} is no module's full name")
            return text
        return _DOTTED.sub(self._replaced, text)

    def _replaced(self, match: re.Match[str]) -> str:
        """The longest beginning of a dotted name that is a module, in a text of a user."""
        parts = match.group().split(".")
        for length in range(len(parts), 1, -1):
            flat = self._names.get(".".join(parts[:length]))
            if flat is not None:
                return ".".join([flat, *parts[length:]])
        return match.group()


def _is_dotted(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id == _ROOT


def _package(name: str, is_package: bool) -> str:
    """The package that the relative imports of a module count from."""
    return name if is_package else name.rpartition(".")[0]


def flatten(tree: Tree, users: Tree) -> Tree:
    """Return the tree by its paths on a board; users, code outside the package that imports it, are changed in place."""
    names = flat_names(tree)
    flat: Tree = {}
    for path, module in tree.items():
        name = dotted(path)
        if names[name] == _ROOT and name != _ROOT:
            continue  # prose alone
        package = _package(name, path.endswith("/__init__.py"))
        stays = path.endswith("/__init__.py") and name.split(".")[-1] in (_ROOT, *_FOLDERS)
        flat_package = _package(names[name], stays)
        new_path = names[name].replace(".", "/") + ("/__init__.py" if stays else ".py")
        flat[new_path] = _Flattener(path, names, package, flat_package).visit(module)
    for path, module in users.items():
        _Flattener(path, names, "", "").visit(module)
    for module in [*flat.values(), *users.values()]:
        ast.fix_missing_locations(module)
    return dict(sorted(flat.items()))
