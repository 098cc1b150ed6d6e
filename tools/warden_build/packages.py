"""Lists that mip installs from: the whole package, its parts, and what a board needs.

In the repository `package.json` and `lib/PART.json` list the sources, and `build/mip` holds what a
web server gives to boards: a folder for the sources and one for each architecture. Addresses are
relative to the list, so that the same file serves a clone, a fork, a tag and a mirror; none goes
upwards, for not every server follows that.
"""

import ast
import json
import re
from fnmatch import fnmatchcase
from typing import NamedTuple


class Part(NamedTuple):
    """modules: what the part is for; what they import comes with them.

    without: what they import only where it is loaded already.
    """

    modules: str
    without: str = ""


PARTS = {
    "vault": Part("warden.vault warden.vault.* warden.hal.store_* warden.hal.rootkey_*"),
    "link": Part(
        "warden.net.* warden.standalone warden.hal.clock_rtc",
        "warden.board.* warden.vault warden.vault.*",
    ),
    "session": Part("warden.session.*"),
    "updates": Part("warden.ota.* warden.hal.slots_* warden.hal.watchdog"),
    "gate": Part(
        "warden.gate.* warden.policy.otp warden.hal.keypad_* warden.hal.display_*", "warden.ota.*"
    ),
}
UMQTT = "umqtt.simple"
_NEEDS_UMQTT = "warden/net/umqtt_adapter"
# What a board has in its root; mip's target is /lib.
FIRMWARE = ("boot.py", "main.py")


def is_prose(source: str) -> bool:
    """Return whether a module holds nothing but a docstring and code for type checkers.

    A folder is a package without such an `__init__`, which would cost a board 4 KB of its flash.
    """
    return all(
        (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or ast.unparse(node).startswith(("TYPE_CHECKING = ", "if TYPE_CHECKING:"))
        for node in ast.parse(source).body
    )


def module_of(path: str) -> str:
    """Return the module of a path below lib: warden/vault/__init__.py is warden.vault."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported(tree: dict[str, str], path: str) -> set[str]:
    """Return the paths of the modules that a module imports when it runs, in functions too."""
    paths = {module_of(one): one for one in tree}
    package = path.rpartition("/")[0].replace("/", ".").split(".")
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(tree[path])]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                for name in (".".join([*base, alias.name]), ".".join(base)):
                    if name in paths and name != "warden":
                        found.add(paths[name])
    return found


def _any(path: str, patterns: str) -> bool:
    return any(fnmatchcase(module_of(path), pattern) for pattern in patterns.split())


def part_files(tree: dict[str, str], part: Part) -> list[str]:
    """Return the paths of a part: its modules, what they import, and the package's root."""
    waiting = [path for path in tree if _any(path, part.modules)]
    found = {"warden/__init__.py"}
    while waiting:
        path = waiting.pop()
        if path not in found and not _any(path, part.without):
            found.add(path)
            waiting += imported(tree, path)
    return sorted(path for path in found if not is_prose(tree[path]))


def version_of(tree: dict[str, str]) -> str:
    """Return the package's version."""
    (version,) = re.findall(r'^__version__ = "(.+)"$', tree["warden/__init__.py"], re.MULTILINE)
    return str(version)


def text_of(version: str, files: list[tuple[str, str]], umqtt: bool) -> str:
    """Return the list as JSON, a row a file, so that a change shows as one line.

    files: (path on the board below its lib, address).
    """
    deps = json.dumps([[UMQTT, "latest"]] if umqtt else [])
    rows = ",\n".join("    " + json.dumps(list(row)) for row in files)
    return f'{{\n  "version": "{version}",\n  "deps": {deps},\n  "urls": [\n{rows}\n  ]\n}}\n'


def needs_umqtt(files: list[tuple[str, str]]) -> bool:
    """Return whether a list's files import the MQTT client."""
    return any(path.rpartition(".")[0] == _NEEDS_UMQTT for path, _ in files)


def repository_lists(tree: dict[str, str]) -> dict[str, str]:
    """Return path in the repository → text of its list. tree: path below lib → source."""
    version = version_of(tree)
    whole = [path for path in sorted(tree) if not is_prose(tree[path])]
    lists = {"package.json": text_of(version, [(path, "lib/" + path) for path in whole], True)}
    for name, part in PARTS.items():
        rows = [(path, path) for path in part_files(tree, part)]
        lists[f"lib/{name}.json"] = text_of(version, rows, needs_umqtt(rows))
    return lists


def board_list(version: str, files: list[tuple[str, str]], board: str) -> str:
    """Return the list of what a board needs: these files, its board.py, boot.py and main.py.

    files: (path on the board below its lib, address). board: address.
    """
    own = [("board.py", board), *(("../" + name, name) for name in FIRMWARE)]
    return text_of(version, [*files, *own], umqtt=False)
