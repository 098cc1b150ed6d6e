"""Merge the modules of each group into one file, and rewrite what imports them.

A file has one namespace, so a name that two of its modules have is changed in one of them: `begin`
of `warden.ota.service` becomes `service_begin`. Between modules of one file imports go:
`cbor.encode(x)` is `encode(x)`. Between files they are rewritten, and stay where they are: an
import inside a function loads the other file when the function runs, and no sooner.

What can't be seen to be right from the sources is refused with a BuildError, never guessed:

- An import of a module in the same file by a name that is bound in another way, too.
- A public name (groups.PUBLIC) that another module of its file has as well.
- A string that is a module's full name in the core, other than for what is asked of `unload`.
"""

import ast
from typing import NamedTuple

from warden_build.groups import PUBLIC, file_name, file_path
from warden_build.plan import Plan
from warden_build.rewrite import Rewriter
from warden_build.scopes import Tree


class Merged(NamedTuple):
    """What merge() makes. symbols: (module, name there) → its name on a board."""

    tree: Tree
    symbols: dict[tuple[str, str], str]


def _file(plan: Plan, group: str) -> ast.Module:
    """The merged modules of a group, with their imports at the top."""
    body: list[ast.stmt] = []
    for name in plan.members[group]:
        module = Rewriter(plan, name, group).visit(plan.names.modules[name])
        body += module.body
    head: list[ast.stmt] = []
    for key, known in plan.chosen[group].items():
        if key.outside or not key.name or key.module not in plan.members[group]:
            head.append(plan.statement(group, key, known))
    return ast.Module(_joined(head) + body, [])


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


def merge(tree: Tree, users: Tree) -> Merged:
    """Return the files of a board; users, code outside the package that imports it, are changed in
    place."""
    plan = Plan(tree, users)
    files = {}
    for group in plan.members:
        files[file_path(plan.groups[plan.members[group][0]])] = _file(plan, group)
    for members in plan.members.values():
        owner = plan.groups[members[0]]
        other = [name for name in PUBLIC if name in members and name != file_name(owner)]
        if other:
            text = "".join(f"sys.modules[{name!r}] = " for name in other)
            files[file_path(owner)].body += ast.parse(
                f"import sys\n{text}sys.modules[__name__]"
            ).body
    for name, path in plan.users.items():
        users[path] = Rewriter(plan, name, None).visit(users[path])
    symbols = {
        (key.module, key.name): known
        for group in plan.chosen.values()
        for key, known in group.items()
        if key.name and not key.outside
    }
    for module in [*files.values(), *users.values()]:
        ast.fix_missing_locations(module)
    return Merged(dict(sorted(files.items())), symbols)
