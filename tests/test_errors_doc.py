"""The registries of errors, the sources that raise them, the tests that provoke them and docs/errors.md say the same."""

import ast
import re
from pathlib import Path

import pytest

CLASSES = {"UsageError": "USAGE", "PeerError": "PEER", "StoreError": "STORE"}
SLUG = re.compile(r"[a-z]+(-[a-z]+)*$")


def literals(repo: Path, *folders: str, but: frozenset[str] = frozenset()) -> set[str]:
    """Every string in the code of these folders, docstrings aside: they are no use of a code."""
    found: set[str] = set()
    for folder in folders:
        for path in (repo / folder).rglob("*.py"):
            if path.relative_to(repo).as_posix() in but:
                continue
            for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


def registry(repo: Path) -> dict[str, set[str]]:
    """Class → codes, read without importing: MicroPython's code is not for this interpreter."""
    names = {name: cls for cls, name in CLASSES.items()}
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse((repo / "lib/warden/errors.py").read_bytes())):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in names:
                found[names[node.targets[0].id]] = set(ast.literal_eval(node.value))
    return found


def host_codes() -> tuple[set[str], set[str]]:
    """The codes that the host shares with the device, and its own."""
    from warden_host import errors

    return set(errors.SHARED), set(errors.OWN)


def documented(repo: Path) -> dict[str, list[str]]:
    """Section of docs/errors.md → its codes, in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (repo / "docs/errors.md").read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ").strip()
        row = re.match(r"\| `([^`]+)` \| [^|]{10,} \| [^|]{5,} \|$", line)
        if row:
            found.setdefault(section, []).append(row[1])
        elif line.startswith("| `"):
            found.setdefault(section, []).append("unreadable row: " + line)
    return found


def constants(node: ast.expr) -> list[str]:
    """The strings that an argument can be; a variable says nothing here."""
    if isinstance(node, ast.IfExp):
        return constants(node.body) + constants(node.orelse)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    return []


def raised(source: str) -> list[tuple[str, str, int]]:
    """(class, code, line) of every error made with a code that is written there."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        name, place = node.func.id, 0
        if name == "ensure":
            name, place = "UsageError", 1
        if name in (*CLASSES, "HostError") and len(node.args) > place:
            found += [(name, code, node.lineno) for code in constants(node.args[place])]
    return found


def test_what_is_read_from_a_source() -> None:
    source = (
        'ensure(x, "a-b")\nraise PeerError("c" if x else "d", "text")\nraise StoreError(code)\n'
    )
    assert raised(source) == [
        ("UsageError", "a-b", 1),
        ("PeerError", "c", 2),
        ("PeerError", "d", 2),
    ]


def test_registry(repo: Path) -> None:
    codes = registry(repo)
    assert set(codes) == set(CLASSES)
    every = [code for one in codes.values() for code in one]
    assert len(every) == len(set(every))
    assert [code for code in every if not SLUG.match(code)] == []


@pytest.mark.parametrize("folder", ["lib", "firmware", "boards"])
def test_raised_codes_are_registered(repo: Path, folder: str) -> None:
    codes = registry(repo)
    wrong = [
        f"{path.relative_to(repo)}:{line} {cls}({code!r})"
        for path in sorted((repo / folder).rglob("*.py"))
        for cls, code, line in raised(path.read_text())
        if code not in codes.get(cls, ())
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_registered_codes_are_used(repo: Path) -> None:
    used = literals(repo, "lib", "firmware", but=frozenset({"lib/warden/errors.py"}))
    unused = [code for one in registry(repo).values() for code in one if code not in used]
    assert not unused, " ".join(unused)


def test_page(repo: Path) -> None:
    page = documented(repo)
    codes = registry(repo)
    codes["HostError"] = host_codes()[1]
    assert set(page) == set(codes)
    for cls, listed in page.items():
        assert len(listed) == len(set(listed)), cls
        wrong = sorted(set(listed) ^ codes[cls])
        assert not wrong, f"{cls}: on one side only: {wrong}"


def test_every_code_is_provoked(repo: Path) -> None:
    """By a test that names it; the list of codes in this test is none."""
    named = literals(repo, "tests", but=frozenset({"tests/test_errors_doc.py"}))
    # Vectors name the outcome that they expect.
    for path in (repo / "tests").rglob("*.json"):
        named |= set(re.findall(r'"([a-z-]+)"', path.read_text()))
    every = [code for one in registry(repo).values() for code in one]
    every += sorted(host_codes()[1])
    missing = [code for code in every if code not in named]
    assert not missing, " ".join(missing)


def test_host_shares_the_meaning(repo: Path) -> None:
    device = {code for one in registry(repo).values() for code in one}
    shared, own = host_codes()
    assert sorted(shared - device) == []
    assert sorted(own & device) == []


def test_host_codes_are_used(repo: Path) -> None:
    used = literals(repo, "tools", but=frozenset({"tools/warden_host/errors.py"}))
    unused = sorted(code for code in set.union(*host_codes()) if code not in used)
    assert not unused, " ".join(unused)


def test_codes_of_replies_are_the_same_on_both_sides(repo: Path) -> None:
    """The device keeps handlers from answering with them; the host explains no other as Warden's."""
    from warden_host.cli import refusals

    source = (repo / "lib/warden/session/command.py").read_text()
    found = re.search(r'_OWN_CODES = const\("([^"]+)"\)', source)
    assert found is not None
    assert set(found[1].split()) == refusals.OWN_REPLIES
    assert {code for codes in registry(repo).values() for code in codes} >= refusals.OWN_REPLIES
    protocol = (repo / "docs/protocol.md").read_text()
    replies = protocol[protocol.index("- Codes in a reply") :].split("\n- ")[0]
    assert set(re.findall(r"`([a-z-]+)`", replies)) == refusals.OWN_REPLIES
