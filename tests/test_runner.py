"""The runner of device tests itself: a failure must never look like a pass, and the way to a board
works."""

import ast
import os
import pty
import re
import shutil
import subprocess
import sys
import tty
from pathlib import Path

import pytest
from process_kit import PATIENCE_S


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Only what the runner needs: the plugins take a second to load.
    without = ["cacheprovider", "xdist", "hypothesispytest", "anyio"]
    options = [word for name in without for word in ("-p", "no:" + name)]
    command = [sys.executable, "-m", "pytest", *options]
    return subprocess.run(
        [*command, "--color=no", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture
def copy(repo: Path, tmp_path: Path, micropython: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own with the runner in it and no tests yet."""
    for name in (
        "tests/unit/kit/harness.py",
        "tests/unit/run.py",
        "tests/conftest.py",
        "tests/extra_kit.py",
        "pyproject.toml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repo / name, tmp_path / name)
    (tmp_path / "tests/unit/base").mkdir()
    shutil.copytree(repo / "tests/cpython", tmp_path / "tests/cpython")
    shutil.copytree(repo / "lib", tmp_path / "lib")
    monkeypatch.setenv("MICROPYTHON", micropython)
    return tmp_path


def test_the_longest_modules_are_there(repo: Path) -> None:
    text = (repo / "tests/conftest.py").read_text()
    [names] = re.findall(r"LONGEST = \((.*?)\)", text, re.DOTALL)
    names = "".join(re.findall(r'"(.*?)"', names)).split()
    assert len(names) > 10
    assert [name for name in names if not (repo / "tests" / f"{name}.py").is_file()] == []


def imported(path: Path) -> set[str]:
    """Names of the modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
    return found


def test_modules_that_tests_import_have_one_name(repo: Path) -> None:
    """A bare name is whatever was found first under it: who is collected before must not change
    that. Device tests have a process each."""
    patterns = ("", "cpython/", "e2e/", "faults/", "fuzz/", "host/", "unit/*/")
    files = [path for pattern in patterns for path in (repo / "tests").glob(pattern + "*.py")]
    names = [path.stem for path in files]
    twice = {name for name in names if names.count(name) > 1}
    assert "test_rotation" in twice
    for path in files:
        if path.parent.parent.name != "unit":
            assert not imported(path) & twice, path


def test_modules_of_device_tests_have_one_name(repo: Path) -> None:
    """They import each other by bare names, from every folder that the harness puts on the
    path."""
    unit = repo / "tests" / "unit"
    names = [path.stem for path in unit.rglob("*.py")]
    assert len(names) == len(set(names)) > 80
    folders = {path.parent.name for path in unit.glob("*/test_*.py")}
    source = ast.parse((unit / "kit" / "harness.py").read_text())
    (listed,) = [
        ast.unparse(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FOLDERS"
    ]
    assert folders == set(re.findall(r"\w+", listed)) - {"split"}


BROKEN = {
    "a check that fails": (
        "def test_x():\n    print('the word before')\n    check(False, 'the reason')\n",
        "the reason",
    ),
    "a test that checks nothing": ("def test_x():\n    pass\n", "the test checked nothing"),
    "an exception": ("def test_x():\n    {}['key']\n", "KeyError"),
    "an error at import": ("import nowhere\n\ndef test_x():\n    check(True)\n", "nowhere"),
    "no test at all": ("x = 1\n", "no result"),
    "an end in the middle": ("import sys\n\ndef test_x():\n    sys.exit(0)\n", "no result"),
    "a test under another name": (
        "def test_x():\n    check(True)\n\ntest_y = test_x\n",
        "not in the source",
    ),
}


def test_broken_modules_fail(copy: Path) -> None:
    for number, (source, _) in enumerate(BROKEN.values()):
        text = "PURE = True\nfrom harness import check\n\n" + source
        (copy / f"tests/unit/base/test_{number}.py").write_text(text)
    done = run_pytest(copy, "tests/unit")
    assert done.returncode == 1, done.stdout
    # On every target: plain, without assert, and under CPython.
    assert f"{3 * len(BROKEN)} failed" in done.stdout, done.stdout
    assert "passed" not in done.stdout, done.stdout
    for name, (_, words) in BROKEN.items():
        assert done.stdout.count(words) >= 3, name


def test_a_module_that_never_ends_is_ended_by_its_cpu_time(copy: Path) -> None:
    runner = copy / "tests/conftest.py"
    text = runner.read_text()
    assert "CPU_S = 600\n" in text
    runner.write_text(text.replace("CPU_S = 600\n", "CPU_S = 1\n"))
    source = "def test_a():\n    while True:\n        pass\n"
    (copy / "tests/unit/base/test_endless.py").write_text("PURE = True\n" + source)
    done = run_pytest(copy, "tests/unit")
    assert "3 failed" in done.stdout, done.stdout
    assert done.stdout.count("it may take 1 s of CPU time") >= 3


def test_each_target_is_an_item(copy: Path) -> None:
    source = "from harness import check\n\n\ndef test_a():\n    check(True)\n\n\ndef test_b():\n    check(True)\n"
    (copy / "tests/unit/base/test_two.py").write_text(source)
    (copy / "tests/unit/base/test_pure.py").write_text("PURE = True\n" + source)
    done = run_pytest(copy, "tests/unit", "--collect-only")
    assert "tests/unit/base/test_two.py::unix -O::test_b" in done.stdout
    assert "tests/unit/base/test_pure.py::cpython::test_a" in done.stdout
    assert "test_two.py::cpython" not in done.stdout
    assert "10 passed" in run_pytest(copy, "tests/unit").stdout
    assert "2 passed" in run_pytest(copy, "tests/unit", "--target=cpython").stdout


def test_heap(copy: Path) -> None:
    """A module that names its heap gets that one."""
    source = (
        "from harness import check\n\n\ndef test_a():\n    check(len(bytearray(200000)) > 0)\n"
    )
    (copy / "tests/unit/base/test_large.py").write_text(source)
    assert "2 passed" in run_pytest(copy, "tests/unit").stdout
    (copy / "tests/unit/base/test_large.py").write_text('HEAP = "128k"\n' + source)
    done = run_pytest(copy, "tests/unit")
    assert "MemoryError" in done.stdout
    assert "2 failed" in done.stdout


@pytest.mark.parametrize("named", [None, ""], ids=["absent", "empty, as make exports it"])
def test_a_skip_on_a_foreign_interpreter_only(
    copy: Path, micropython: str, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    """The interpreter that `make setup` installs has everything: what skips a test there fails
    it."""
    source = "from harness import check, need\n\n\ndef test_a():\n    need('sys', 'sys.path', 'sys.tea')\n    check(True)\n"
    (copy / "tests/unit/base/test_tea.py").write_text(source)
    done = run_pytest(copy, "-rs", "tests/unit")
    assert "2 skipped" in done.stdout
    assert "this interpreter has no sys.tea" in done.stdout
    (copy / ".venv/bin").mkdir(parents=True)
    (copy / ".venv/bin/micropython").symlink_to(micropython)
    monkeypatch.delenv("MICROPYTHON")
    if named is not None:
        monkeypatch.setenv("MICROPYTHON", named)
    done = run_pytest(copy, "tests/unit")
    assert "2 failed" in done.stdout
    assert "this interpreter has no sys.tea" in done.stdout


def test_a_module_for_the_build_alone(copy: Path) -> None:
    (copy / "tests/unit/base/test_tea.py").write_text(
        'BUILT = "only"\n\n\ndef test_a():\n    pass\n'
    )
    listed = run_pytest(copy, "--collect-only", "tests/unit").stdout
    assert "test_tea.py::built::test_a" in listed and "unix" not in listed


@pytest.fixture
def board(micropython: str) -> str:
    """The unix port behind a pseudo-terminal: mpremote talks to it as to a board on a serial
    port."""
    near, far = pty.openpty()
    tty.setraw(far)
    child = subprocess.Popen([micropython, "-i"], stdin=near, stdout=near, stderr=near)
    try:
        yield os.ttyname(far)
    finally:
        child.kill()
        child.wait()
        os.close(near)
        os.close(far)


def test_board(board: str, repo: Path) -> None:
    done = run_pytest(repo, f"--target={board}", "-v", "tests/unit/base/test_errors.py")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout and "failed" not in done.stdout, done.stdout
