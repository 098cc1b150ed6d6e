"""docs/incidents.md lists each code that the authority records as an incident, and where."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from warden_host.reactions.settings import CODES

HEAD = "| code | refused or found by the authority |"
# What makes an incident, and which of its arguments is the code.
MAKERS = {"Refused": 1, "add_incident": 2}
FOLDERS = ("engine", "otp", "service")
# What the protocol raises about a device's message becomes Session.receive()'s Refused.
PROTOCOL = ("cose", "handshake", "plain", "sealing", "session", "strictcbor")
# Raised there for what this host sends, or by a caller's mistake.
OWN = {"bad-argument", "counter-exhausted"}
# No reaction can be given: this host's own faults.
NO_REACTION = {"clock-jumped", "otp-delivery"}
# Names of other codes, whose values are in the table of the module that they come from.
PASSED_ON = {"code", "error.code", "report.code", "job.code", "answer.why", "verdict.why"}


def constants(tree: ast.AST) -> dict[str, str]:
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            values = value.elts if isinstance(value, ast.Tuple) else [value]
            for name, one in zip(names, values, strict=False):
                if isinstance(name, ast.Name) and isinstance(one, ast.Constant):
                    found[name.id] = one.value
    return found


def calls(tree: ast.AST) -> Iterator[tuple[str, list[ast.expr]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            yield name, node.args


@pytest.fixture(scope="module")
def recorded(repo: Path) -> set[str]:
    """Codes, and expressions that give one, of all incidents that the host makes."""
    host, client = repo / "tools/warden_host", repo / "tools/warden_client/protocol"
    known: dict[str, str] = {}
    for path in (*host.rglob("*.py"), *client.rglob("*.py")):
        known |= {
            name: value
            for name, value in constants(ast.parse(path.read_text())).items()
            if isinstance(value, str) and re.fullmatch("[a-z]+(-[a-z]+)*", value)
        }
    found = set()

    def add(node: ast.expr, own: dict[str, str]) -> None:
        if isinstance(node, ast.Constant):
            found.add(node.value)
        else:
            text = ast.unparse(node)
            found.add(own.get(text) or known.get(text, text))

    for folder in FOLDERS:
        for path in (host / folder).rglob("*.py"):
            tree = ast.parse(path.read_text())
            own = constants(tree)
            for name, args in calls(tree):
                if len(args) > MAKERS.get(name, 99):
                    add(args[MAKERS[name]], own)
    for module in PROTOCOL:
        tree = ast.parse((client / f"{module}.py").read_text())
        for name, args in calls(tree):
            if name in ("HostError", "Refused"):
                add(args[name == "Refused"], constants(tree))
    return found


@pytest.fixture(scope="module")
def documented(repo: Path) -> set[str]:
    _, _, table = (repo / "docs/incidents.md").read_text().partition(HEAD)
    rows = table.partition("\n\n")[0].splitlines()[2:]
    return {code for row in rows for code in re.findall("`([a-z-]+)`", row.split("|")[1])}


def test_the_table_has_what_the_code_records(recorded, documented):
    otp = {code for code in documented if code.startswith("otp-")}
    assert {"otp-wrong", "otp-late", "otp-replayed", "otp-limit"} <= otp
    literal = recorded - PASSED_ON - OWN
    assert literal <= documented, literal - documented
    # By an expression: what verify() and ask() answer with, and the reactor's two meters.
    assert documented - literal <= otp | {"account-shared", "plain-refused", "sealed-refused"}


def test_each_may_have_a_reaction(documented):
    assert documented - CODES == NO_REACTION


def test_each_has_a_meaning(repo, documented):
    text = "".join((repo / f"docs/{name}.md").read_text() for name in ("errors", "otp"))
    assert {code for code in documented if f"`{code}`" not in text} == set()


def test_the_authority_makes_a_row_of_each_refusal(repo):
    """No code is left out: record_refusal() makes one under no condition of its code."""
    tree = ast.parse((repo / "tools/warden_host/engine/engine.py").read_text())
    (function,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "record_refusal"
    )
    top = [ast.unparse(node) for node in function.body]
    assert "self.store.add_incident(name, 'host', code, event, 1)" in top
