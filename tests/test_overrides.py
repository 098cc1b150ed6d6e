"""A stand-in that overrides a method which its base class no longer has is never called, so it
tests nothing. Each method of a subclass in the tests is therefore named by some code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

Tree = dict[str, str]
FOLDERS = ("tests", "lib", "tools", "examples", "boards", "firmware")
LONGEST = 3000  # of a text that names methods: not a whole program


def classes(tree: Tree) -> dict[str, list[ast.ClassDef]]:
    found: dict[str, list[ast.ClassDef]] = {}
    for source in tree.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


def base_names(node: ast.ClassDef) -> list[str]:
    """The last part of each base's name: Rig of agent_kit.Rig."""
    return [getattr(base, "attr", getattr(base, "id", "")) for base in node.bases]


def named(tree: Tree) -> set[str]:
    """What any code calls or says: attributes, and words of texts, for getattr() and patches."""
    found: set[str] = set()
    for source in tree.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                if len(node.value) < LONGEST:
                    found.update(node.value.replace(".", " ").split())
    return found


def dead_overrides(tree: Tree) -> Iterator[str]:
    """Methods of subclasses in tests/ that nothing calls.

    A class with a base from outside the tree is left out: what calls it is there.
    """
    known, called = classes(tree), named(tree)

    def is_ours(name: str, seen: frozenset[str] = frozenset()) -> bool:
        if name in seen or name not in known:
            return name == "object"
        return all(
            is_ours(base, seen | {name}) for node in known[name] for base in base_names(node)
        )

    for path, source in tree.items():
        for node in ast.walk(ast.parse(source)) if path.startswith("tests/") else ():
            if not isinstance(node, ast.ClassDef) or not node.bases:
                continue
            if not all(is_ours(base) for base in base_names(node)):
                continue
            for method in node.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    if not method.name.startswith("__") and method.name not in called:
                        yield f"{path}:{method.lineno} nothing calls {node.name}.{method.name}"


def test_every_override_is_called(repo: Path) -> None:
    tree = {
        path.relative_to(repo).as_posix(): path.read_text()
        for folder in FOLDERS
        for path in (repo / folder).rglob("*.py")
    }
    assert list(dead_overrides(tree)) == []


BASE = "class Store:\n    def write(self): pass\ndef f(store): store.write()\n"


@pytest.mark.parametrize(
    ("test", "found"),
    [
        ("class Full(Store):\n    def write(self): pass\n", []),
        ("class Full(kit.Store):\n    def _put(self): pass\n", ["_put"]),
        ("class Half(Store): pass\nclass Full(Half):\n    async def put(self): pass\n", ["put"]),
        ("class Full(Store):\n    def put(self): pass\nFull().put()\n", []),
        ("class Full(Store):\n    def put(self): pass\nsetattr(x, 'put', 1)\n", []),
        ("class Full(io.IOBase):\n    def ioctl(self): pass\n", []),
        ("class Half(Item): pass\nclass Full(Half):\n    def runtest(self): pass\n", []),
    ],
)
def test_the_rule_fires(test: str, found: list[str]) -> None:
    tree = {"lib/warden/hal/store.py": BASE, "tests/unit/test_a.py": test}
    assert [line.rpartition(".")[2] for line in dead_overrides(tree)] == found
