"""Give the arguments of functions names that every firmware holds: those of each function anew.

Arguments have names at run time, unlike other local variables, but only a call that passes one by
its name ever asks for it. A function keeps its arguments that some call anywhere passes by name,
and all that are public; one that a function inside of it binds anew stays, too.
"""

import ast
from collections.abc import Container, Iterable, Iterator

from warden_build.scopes import Tree
from warden_build.walk import walk

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_SCOPES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.Lambda,
    ast.ClassDef,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)


def arguments(node: Function) -> list[ast.arg]:
    """Return the arguments of a function."""
    args = node.args
    found = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    return found + [one for one in (args.vararg, args.kwarg) if one is not None]


def passed_by_name(tree: Tree, outside: Tree, users: Tree) -> set[str]:
    """Return the arguments that some call passes by name.

    users: the arguments of their own functions are no matter of the package's.
    """
    known = {name for module in tree.values() for name in _defined(module)}
    own = {name for module in users.values() for name in _defined(module)} - known
    own -= {name for module in users.values() for name in _forwarding(module)}
    found: set[str] = set()
    for part, foreign in ((tree, set()), (outside, set()), (users, own)):
        for module in part.values():
            here = _closed(module) if part is users else set()
            for node in walk(module):
                if isinstance(node, ast.Call):
                    called = getattr(node.func, "id", getattr(node.func, "attr", ""))
                    if called not in foreign and getattr(node.func, "id", "") not in here:
                        found |= {one.arg for one in node.keywords if one.arg}
    return found


def _closed(module: ast.Module) -> set[str]:
    """Return the functions at the top of a file that take no argument by any name: what a call of
    one passes by name is the file's own, whatever else has that function's name."""
    return {
        node.name
        for node in module.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.kwarg is None
    }


def _defined(module: ast.Module) -> Iterator[str]:
    """Yield the names of functions and classes."""
    for node in walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def _forwarding(module: ast.Module) -> Iterator[str]:
    """Yield the names of functions, and of classes with such a function, that take any argument by
    name: they may pass it on."""
    for node in walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = [one for one in walk(node) if isinstance(one, ast.arguments)]
            if any(one.kwarg for one in inside):
                yield node.name


def rename_arguments(
    tree: Tree,
    public: Container[str],
    by_name: Container[str],
    held: Container[str],
    firmware: Iterable[str],
) -> None:
    """Rename in place, in all functions of a tree.

    public: functions that keep their arguments, and names that stay in classes. by_name: arguments
    that calls pass by name. held: names that stay since they cost nothing. firmware: new names
    """
    for module in tree.values():
        # From the outside in: what a function inside takes from around it has its new name then.
        for node in walk(module):
            if isinstance(node, Function) and getattr(node, "name", "") not in public:
                _rename(node, by_name, held, firmware)


def _rename(
    node: Function, by_name: Container[str], held: Container[str], firmware: Iterable[str]
) -> None:
    used = {name for one in walk(node) for name in _spoken(one)}
    fixed = set(_bound_inside(node))
    free = (name for name in firmware if name not in used)
    names = {
        arg.arg: next(free)
        for arg in arguments(node)
        if arg.arg not in held and arg.arg not in by_name and arg.arg not in fixed
    }
    for arg in arguments(node):
        arg.arg = names.get(arg.arg, arg.arg)
    for part in node.body if isinstance(node.body, list) else [node.body]:
        for one in walk(part):
            if isinstance(one, ast.Name):
                one.id = names.get(one.id, one.id)


def _spoken(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node has by itself, not as an attribute of something."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    else:
        yield from _other(node)


def _other(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node binds or declares, other than as a variable or an argument."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif isinstance(node, ast.ExceptHandler):
        yield node.name or ""
    elif isinstance(node, ast.Global | ast.Nonlocal):
        yield from node.names


def _bound_inside(node: Function) -> Iterator[str]:
    """Yield names that stay in a function: those that a scope inside of it binds, and those bound
    in another way than by an assignment."""
    for one in walk(node):
        if one is node:
            continue
        yield from _other(one)
        if isinstance(one, _SCOPES):
            for part in walk(one):
                if isinstance(part, ast.arg):
                    yield part.arg
                elif isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
                    yield part.id
