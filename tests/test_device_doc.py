"""docs/device.md, the stubs for editors and the device package have the same public names."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_errors_doc import registry

# Section of the page → where the class is: stub, source, and its name in the source.
CLASSES = {
    "Device": ("__init__", "agent/device"),
    "Refused": ("__init__", "session/command"),
    "Call": ("__init__", "session/inbox"),
    "Secrets": ("__init__", "vault/secrets"),
    "Vault": ("vault", "vault/__init__"),
}
# Rows that are the class itself, or a statement of the language.
CONSTRUCTED = {"Refused": "Refused(code)", "Vault": "Vault(store, root_key)"}
STATEMENTS = {"async with": "__aenter__"}


def class_of(path: Path, name: str) -> ast.ClassDef:
    """Return the class's definition in a source or a stub."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise AssertionError(f"{path} has no class {name}")


def members(node: ast.ClassDef, attributes: bool = True) -> dict[str, list[str]]:
    """Public member → its parameters, with = where one has a default. Attributes have none."""
    found: dict[str, list[str]] = {}
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            found[one.target.id] = []
        if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if one.name == "__init__" and attributes:
            found |= {name: [] for name in own_attributes(one)}
        if one.name.startswith("_") and one.name not in ("__aenter__", "__init__"):
            continue
        names = [arg.arg for arg in one.args.args if arg.arg != "self"]
        first = len(names) - len(one.args.defaults)
        parameters = [name + ("=" if number >= first else "") for number, name in enumerate(names)]
        found.setdefault(one.name, parameters)  # the first of several overloads has the defaults
    return found


def own_attributes(init: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the public attributes that __init__() sets."""
    return {
        node.attr
        for node in ast.walk(init)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and not node.attr.startswith("_")
    }


def sections(repo: Path) -> dict[str, list[tuple[str, str]]]:
    """Section of the page's reference → (what its first column has as code, the last column)."""
    found: dict[str, list[tuple[str, str]]] = {}
    section = ""
    reference = (repo / "docs/device.md").read_text().split("\n## Reference\n")[1]
    for line in reference.splitlines():
        if line.startswith("### "):
            section = line.removeprefix("### ")
        row = re.match(r"\| `([^`]+)` \|(.+)\|$", line)
        if row:
            found.setdefault(section, []).append((row[1], row[2].rpartition("|")[2]))
    return found


def signature(code: str) -> tuple[str, list[str]]:
    """`publish(event, qos=0)` → ("publish", ["event", "qos="])."""
    name, _, rest = code.partition("(")
    parameters = [part.strip() for part in rest.rstrip(")").split(",") if part.strip()]
    return name, [part.split("=")[0] + ("=" if "=" in part else "") for part in parameters]


def test_what_is_read() -> None:
    assert signature("publish(event, to=None)") == ("publish", ["event", "to="])
    assert signature("connected") == ("connected", [])
    source = (
        "class A:\n    x: int\n    def __init__(self, a, b=1): self.c = a\n    def _d(self): ...\n"
    )
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.ClassDef)
    assert members(node) == {"x": [], "c": [], "__init__": ["a", "b="]}


@pytest.mark.parametrize("name", CLASSES)
def test_stub_and_source_agree(repo: Path, name: str) -> None:
    stub_file, source_file = CLASSES[name]
    stub = members(class_of(repo / f"stubs/warden/{stub_file}.pyi", name))
    source = members(class_of(repo / f"lib/warden/{source_file}.py", name))
    # A decorator, which the source returns from a property.
    if name == "Device":
        assert stub.pop("health") == ["function"]
        assert source.pop("health") == []
        del source["__init__"]  # programs use from_board()
    if name == "Secrets":
        del source["__init__"]
    if name in ("Call", "Vault"):  # what else their sources have is not for programs
        source = {member: source[member] for member in stub}
    assert stub == source


@pytest.mark.parametrize("name", CLASSES)
def test_page_and_stub_agree(repo: Path, name: str) -> None:
    stub = members(class_of(repo / f"stubs/warden/{CLASSES[name][0]}.pyi", name))
    parameters = stub.pop("__init__", [])
    listed = [code for code, _ in sections(repo)[name]]
    if name in CONSTRUCTED:
        assert listed.pop(0) == CONSTRUCTED[name]
        assert signature(CONSTRUCTED[name]) == (name, parameters)
    page = {}
    for code in listed:
        member, arguments = signature(code)
        page[STATEMENTS.get(member, member)] = arguments
    assert len(page) == len(listed)
    assert page == stub


def test_page_has_a_section_for_each_class(repo: Path) -> None:
    assert set(sections(repo)) == set(CLASSES)
    stub = ast.parse((repo / "stubs/warden/__init__.pyi").read_text())
    public = {node.name for node in stub.body if isinstance(node, ast.ClassDef)}
    assert public | {"Vault"} == set(CLASSES)


def test_error_classes(repo: Path) -> None:
    """Those of the page, of the stub and of the source, with the same bases."""

    def classes(path: Path) -> dict[str, str]:
        found = {}
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                assert isinstance(node.bases[0], ast.Name)
                found[node.name] = node.bases[0].id
        return found

    source = classes(repo / "lib/warden/errors.py")
    assert classes(repo / "stubs/warden/errors.pyi") == source
    page = (repo / "docs/device.md").read_text().split("## Reference")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == set(source)


def test_codes_are_registered(repo: Path) -> None:
    codes = {code for each in registry(repo).values() for code in each}
    raised = {
        code
        for rows in sections(repo).values()
        for _, column in rows
        for code in re.findall(r"`([a-z]+(?:-[a-z]+)+|closed|wiped)`", column)
    }
    assert "link-timeout" in raised
    assert raised <= codes


def test_codes_of_progress(repo: Path) -> None:
    """Of the codes that the default does not print, none is an error's but the gate's.

    tests/test_errors_doc.py ties them to the page that lists them.
    """
    source = (repo / "lib/warden/agent/device.py").read_text()
    found = re.search(r"_PROGRESS = const\((.*?)\n\)", source, re.S)
    assert found is not None
    progress = set(ast.literal_eval(f"({found[1]})").split())
    codes = {code for each in registry(repo).values() for code in each}
    assert progress & codes == {"gate-open"}
    # Each is logged by some module, under this name.
    lib = "".join(path.read_text() for path in (repo / "lib").rglob("*.py"))
    assert [code for code in progress if f'log("{code}"' not in lib] == []


def blocks(text: str) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def test_examples_use_what_is_documented(repo: Path) -> None:
    device = {signature(code)[0] for code, _ in sections(repo)["Device"]}
    pages = ("docs/device.md", "docs/umqtt.md", "README.md")
    found = [block for page in pages for block in blocks((repo / page).read_text())]
    assert len(found) > 5
    for block in found:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "device":
                assert node.attr in device, node.attr


# -- the stubs, as an editor reads them ----------------------------------------------------------

GOOD = """
import asyncio
from typing import Any

from warden import Call, Device, Refused
from warden.errors import LinkError, WardenError
from warden.vault import Vault

device = Device.from_board(log=None)


@device.command("a")
def plain(args: dict[str, Any]) -> int:
    return 1


@device.command("b", call=True)
async def with_call(args: dict[str, Any], call: Call) -> None:
    left: int | None = call.left_ms
    if left is not None and left < 100:
        raise Refused("too-late")
    print(call.appid, call.command)


@device.health
async def well() -> bool:
    return device.connected and len(device.session) > 0


async def main() -> None:
    await device.start(timeout=30)
    async with device as same:
        try:
            await same.publish("x", {"a": 1}, to="home", qos=1, timeout=2.5)
            await same.changed(timeout=60)
        except LinkError as error:
            error_is: WardenError = error
            print(error_is.code, error_is.text)
        token: bytes | None = device.secrets.get("token")
        device.secrets.set("token", token or b"")
        names: list[str] = device.secrets.names()
        print(names, Vault)


asyncio.run(main())
"""
# A line that replaces the one of GOOD before →: what mypy must say of it.
BAD = [
    ("call: Call) -> None:", "call: Call, more: int) -> None:", "type-var"),
    ("(args: dict[str, Any]) -> int:", "() -> int:", "type-var"),
    ("qos=1", "qos=2", "arg-type"),
    ('{"a": 1}', "5", "arg-type"),
    ("timeout=30", 'timeout="30"', "arg-type"),
    ('"token", token or b""', '"token", "text"', "arg-type"),
    ("call.left_ms", "call.left_s", "attr-defined"),
    ("device.connected", "device.connectd", "attr-defined"),
    ('Refused("too-late")', "Refused()", "call-arg"),
]


def check_types(repo: Path, folder: Path, source: str) -> str:
    """Return what mypy says of a program, with the stubs alone."""
    program = folder / "program.py"
    program.write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", program.name],
        cwd=folder,
        env={"MYPYPATH": str(repo / "stubs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def test_stubs_pass_a_program(repo: Path, tmp_path: Path) -> None:
    assert "Success" in check_types(repo, tmp_path, GOOD)


def test_stubs_find_mistakes(repo: Path, tmp_path: Path) -> None:
    """Each in a copy of the good program; all in one run, which takes seconds."""
    programs = []
    for before, after, _ in BAD:
        assert GOOD.count(before) == 1, before
        programs.append(GOOD.replace(before, after))
    for number, program in enumerate(programs[1:], 1):
        (tmp_path / f"program{number}.py").write_text(program)
    imports = "".join(f"import program{number}\n" for number in range(1, len(programs)))
    said = check_types(repo, tmp_path, imports + programs[0])
    for number, (before, _, kind) in enumerate(BAD):
        name = f"program{number or ''}.py"
        mistakes = re.findall(rf"^{re.escape(name)}:\d+: error: .*\[([a-z-]+)\]$", said, re.M)
        assert kind in mistakes, (before, said)


def test_the_examples_have_the_types_of_the_stubs(repo: Path, tmp_path: Path) -> None:
    """As they are: without annotations, which a program for MicroPython seldom has."""
    (tmp_path / "relay.py").write_text((repo / "examples/relay/app.py").read_text())
    (tmp_path / "program.py").write_text(blocks((repo / "README.md").read_text())[0])
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "mypy", "--config-file=", "--check-untyped-defs", "relay.py", "program.py"),
        ],
        cwd=tmp_path,
        env={"MYPYPATH": str(repo / "stubs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Success" in done.stdout, done.stdout + done.stderr
