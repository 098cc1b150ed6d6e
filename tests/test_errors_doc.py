"""The registries of errors, the sources that raise them, the tests that provoke them and
docs/errors.md say the same."""

import ast
import functools
import re
from pathlib import Path

import pytest

CLASSES = {
    "UsageError": "USAGE",
    "LinkError": "LINK",
    "PeerError": "PEER",
    "StoreError": "STORE",
    "OutOfMemory": "MEMORY",
}
HOST = "Host: "  # of a section of the page for codes that only the host raises
# Choices among codes that no class could make, each with its reason.
NAMED = {
    # What SUIT calls a condition that does not hold: another branch is tried.
    "lib/warden/wire/suit_commands.py: error.code not in ('suit-condition', 'wrong-device')",
    "tools/warden_host/release/manifest_plan.py: error.code not in _CONDITION_FAILED",
    # What a device that left the fleet in the middle of a rollout ends with.
    "tools/warden_host/rollout/device_job.py: error.code in ('revoked', 'device-unknown')",
    # Where no later attempt helps.
    "tools/warden_host/bridge/bridge.py: error.code in ('operator-unknown', 'role-missing')",
    # The offer to make what is missing.
    "tools/warden_host/cli/release.py: error.code not in ('fleet-missing', 'bad-name')",
    # The codes with which Warden answers an application's command: no handler may take them.
    "lib/warden/agent/device.py: code not in _PROGRESS.split()",
    "lib/warden/session/command.py: code not in _OWN_CODES.split()",
    "tools/warden_host/cli/refusals.py: code not in OWN_REPLIES",
    # What a captive portal answers with, among all that a hand-shake is refused for.
    "lib/warden/agent/link_failure.py: code in _OTHER_SERVER",
    # Codes that the reactor itself decides on, which are in no message of a device.
    "tools/warden_host/service/reactor.py: job.code in (FLOOD, SHARED)",
    # Incidents that the doctor shows, of all that a device may report.
    "tools/warden_host/doctor/device_checks.py: one.code in _ATTACKS",
    # Labels of metrics: a stranger's word is none.
    "tools/warden_host/service/tally.py: code in self._codes",
    # Registries, not choices.
    "tools/warden_client/errors.py: code not in _classes",
    "tools/warden_host/control_client.py: code in CODES",
    # Exit codes of a process.
    "tools/warden_host/sim/simulated.py: code not in _RESETS",
}
SLUG = re.compile(r"[a-z]+(-[a-z]+)*$")


def literals(repo: Path, *folders: str, but: frozenset[str] = frozenset()) -> set[str]:
    """Every string in the code of these folders, docstrings aside: they are no use of a code."""
    found: set[str] = set()
    for folder in folders:
        for path in (repo / folder).rglob("*.py"):
            if path.relative_to(repo).as_posix() in but:
                continue
            found |= strings(path.read_text())
    return found


@functools.cache
def strings(source: str) -> frozenset[str]:
    return frozenset(
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def registry(repo: Path) -> dict[str, set[str]]:
    """Class → codes, read without importing: MicroPython's code is not for this interpreter."""
    names = {name: cls for cls, name in CLASSES.items()}
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse((repo / "lib/warden/errors.py").read_bytes())):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in names:
                found[names[node.targets[0].id]] = set(ast.literal_eval(node.value))
    return found


def host_registry() -> dict[str, str]:
    """Return the class of every code that the host raises."""
    from warden_host import errors

    return {code: errors.class_of(code).__name__ for code in errors.CODES}


def device_registry(repo: Path) -> dict[str, str]:
    """Return the class of every code that a device raises."""
    return {code: cls for cls, codes in registry(repo).items() for code in codes}


def documented(repo: Path) -> dict[str, list[str]]:
    """Section of docs/errors.md → its codes, in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (repo / "docs/errors.md").read_text().splitlines():
        if line.startswith(("## ", "### " + HOST)):
            section = line.lstrip("# ")
        row = re.match(r"\| `([^`]+)` \| [^|]{10,} \| [^|]{5,} \|$", line)
        if section == "Progress":
            continue
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


def test_codes_found_in_a_source() -> None:
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
    for code, cls in host_registry().items():
        if code not in device_registry(repo):
            title = HOST + ("no other class" if cls == "HostError" else cls)
            codes.setdefault(title, set()).add(code)
    assert set(page) == set(codes)
    for cls, listed in page.items():
        assert len(listed) == len(set(listed)), cls
        wrong = sorted(set(listed) ^ codes[cls])
        assert not wrong, f"{cls}: on one side only: {wrong}"


def test_the_pages_table_of_progress_is_the_devices(repo: Path) -> None:
    from warden_host.fleet import errors_page

    source = (repo / "lib/warden/agent/device.py").read_text()
    found = re.search(r"_PROGRESS = const\(([^)]+)\)", source)
    assert found is not None
    assert set(errors_page.progress()) == set(found[1].replace('"', "").split())
    assert errors_page.entry("link-up").class_name == "Progress"
    assert errors_page.entry("gate-open").class_name == "PeerError"


def test_every_code_is_provoked(repo: Path) -> None:
    """By a test that names it; the list of codes in this test is none."""
    named = literals(repo, "tests", but=frozenset({"tests/test_errors_doc.py"}))
    # Vectors name the outcome that they expect.
    for path in (repo / "tests").rglob("*.json"):
        named |= set(re.findall(r'"([a-z-]+)"', path.read_text()))
    every = [code for one in registry(repo).values() for code in one]
    every += sorted(set(host_registry()) - set(every))
    missing = [code for code in every if code not in named]
    assert not missing, " ".join(missing)


def test_host_shares_the_class(repo: Path) -> None:
    """A code of the device has the device's class in the host too, also where only a reply has
    it."""
    from warden_client import errors

    device, host = device_registry(repo), host_registry()
    assert {code: cls for code, cls in host.items() if device.get(code, cls) != cls} == {}
    for cls in ("LinkError", "StoreError", "OutOfMemory"):
        codes = registry(repo)[cls]
        assert {code for code in codes if errors.class_of(code).__name__ != cls} == set()
        foreign = {code for code, of in errors.CLASSES_OF_DEVICES.items() if of.__name__ == cls}
        assert foreign <= codes - set(host)


def test_host_codes_are_used(repo: Path) -> None:
    own = {"tools/warden_client/errors.py", "tools/warden_host/errors.py"}
    used = literals(repo, "tools", but=frozenset(own))
    for name in own:
        used |= {code for _, code, _ in raised((repo / name).read_text())}
    unused = sorted(code for code in host_registry() if code not in used)
    assert not unused, " ".join(unused)


def test_codes_of_replies_are_the_same_on_both_sides(repo: Path) -> None:
    """The device keeps handlers from answering with them; the host explains no other as
    Warden's."""
    from warden_host.cli import refusals

    source = (repo / "lib/warden/session/command.py").read_text()
    found = re.search(r'_OWN_CODES = const\(\s*"([^)]+)"', source)
    assert found is not None
    assert set(found[1].replace('"', "").split()) == refusals.OWN_REPLIES
    assert {code for codes in registry(repo).values() for code in codes} >= refusals.OWN_REPLIES
    protocol = (repo / "docs/protocol.md").read_text()
    replies = protocol[protocol.index("- Codes in a reply") :].split("\n- ")[0]
    assert set(re.findall(r"`([a-z-]+)`", replies)) == refusals.OWN_REPLIES


def test_a_host_errors_class_follows_its_code() -> None:
    from warden_host import errors

    for code, cls in host_registry().items():
        error = errors.HostError(code, "text")
        assert (type(error).__name__, str(error)) == (cls, code + ": text")
    with pytest.raises(ValueError, match="unregistered"):
        errors.HostError("busy")  # a device's: the host never raises it
    assert issubclass(errors.LinkError, errors.PeerError)
    assert errors.class_of("door-open") is errors.PeerError


def test_no_list_of_codes_decides(repo: Path) -> None:
    """A choice by class is written as a class: no error's code is looked up among several."""
    found = []
    for folder in ("lib", "firmware", "tools"):
        for path in sorted((repo / folder).rglob("*.py")):
            source = path.read_text()
            for node in ast.walk(ast.parse(source)) if "code" in source else ():
                if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
                    left = ast.unparse(node.left)
                    if left == "code" or left.endswith((".code", "_code")):
                        found.append(f"{path.relative_to(repo)}: {ast.unparse(node)}")
    assert set(found) == set(NAMED), found
