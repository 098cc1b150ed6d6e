"""Runs the device's own tests under pytest, and gives host tests what they need.

`tests/unit/*/test_*.py` are not pytest modules: they speak through `harness.py` and run on the
device. Here each becomes one process for each target, and each of its functions an item, such as
`tests/unit/wire/test_cbor.py::unix -O::test_limits`:

unix, unix -O   the unix port; with -O `assert` is gone, so nothing may lean on it
cpython         modules that say `PURE = True`, with tests/cpython for MicroPython's modules
built           the unix port, on the compiled build for boards (tools/warden_build): modules that
                say `BUILT = True`, and with `--target=built` every one; `BUILT = "only"` runs
                nowhere else. There harness.built is True
PORT            a board on a serial port, by mpremote: `pytest --target=/dev/ttyACM0 tests/unit`

A module may say `HEAP = "128k"` to run in a heap of that size (the unix port only), and
`SLOW = True` to run without -O alone, where each further run costs ten seconds or more: lint
refuses an `assert` in the package anyway. Without --target everything but a board is run.
"""

import ast
import atexit
import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from extra_kit import (  # noqa: F401  (hooks of pytest)
    pytest_make_collect_report,
    pytest_runtest_makereport,
)

REPO = Path(__file__).resolve().parent.parent
UNIT = REPO / "tests" / "unit"
HEAP = "2m"
# A module that hangs is ended by the CPU time that it takes, and one that waits for what never
# comes by the clock: how fast the machine is and what else it does decides nothing.
CPU_S = 600
PATIENCE_S = 3600
# Modules of more than ten seconds: workers get them first, so that none is left with one alone at
# the end. tests/test_runner.py looks that they are there.
LONGEST = (
    "faults/test_stores_power e2e/test_board host/broker/test_broker_versions e2e/test_heap "
    "faults/test_update_power host/boards/test_batch host/chips/test_harden test_runner "
    "test_build e2e/test_rotation e2e/test_demo faults/test_otp_power faults/test_vault_power "
    "host/release/test_manifest_plan host/release/test_suit e2e/test_rollout test_layers "
    "host/device/test_crypto unit/hal/test_store_file host/boards/test_package test_packages"
).split()
# What a module may use that is not in the device package: see tools/setup/umqtt.py.
UMQTT = REPO / "build" / "umqtt"

# A job in the background of a shell starts with Ctrl-C ignored, and so would its children: those
# that tests end by Ctrl-C would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--target", help="unix, cpython, built or a board's serial port; all but boards if absent"
    )


def pytest_configure() -> None:
    """Let all tests use the mosquitto that MOSQUITTO names: a suite of Debian, or a program."""
    named = os.environ.get("MOSQUITTO")
    if named:
        import mosquitto_kit  # here, because the runner runs without the tests of the host

        os.environ.update(mosquitto_kit.named(named).environment)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first, for xdist's --no-loadscope-reorder."""
    places = {f"{name}.py": place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> int:
        if not item.path.is_relative_to(REPO / "tests"):
            return len(LONGEST)
        return places.get(item.path.relative_to(REPO / "tests").as_posix(), len(LONGEST))

    items.sort(key=place)


def micropython_path() -> str | None:
    """The unix port: MICROPYTHON from the environment, or what `make setup` installed."""
    named = os.environ.get("MICROPYTHON")
    return shutil.which(named or str(REPO / ".venv" / "bin" / "micropython"))


@pytest.fixture(scope="session")
def repo() -> Path:
    """The top of the repository."""
    return REPO


@pytest.fixture(scope="session")
def micropython() -> str:
    """The path of the unix port's program."""
    path = micropython_path()
    if path is None:
        pytest.fail("there is no MicroPython: run `make setup`")
    return path


@pytest.fixture(scope="session")
def umqtt_path() -> Path:
    """The folder to put on MicroPython's sys.path so that `umqtt.simple` (1.3.4) can be
    imported."""
    if not (UMQTT / "umqtt" / "simple.py").is_file():
        pytest.fail("umqtt.simple is missing: run `make setup`")
    return UMQTT


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Collector | None:
    """Keep pytest from importing a device test; None leaves every other module to it."""
    if module_path.parent.parent == UNIT:
        return DeviceModule.from_parent(parent, path=module_path)
    return None


@functools.cache
def built_tree() -> Path:
    """A folder like the repository with the build for boards in lib, and tests that import its
    modules; made once a process."""
    # Here: most runs need neither.
    sys.path.append(str(REPO / "tools"))
    from warden_build.compiled import build_repository, lay_out

    folder = tempfile.TemporaryDirectory(prefix="warden-built-")
    atexit.register(folder.cleanup)
    # Machine code of the interpreter's own kind; another kind of it is refused, and plain modules
    # take over.
    asked = [micropython_path() or "", "-c", "import sys; print(sys.maxsize)"]
    narrow = (
        subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "2147483647\n"
    )
    lay_out(build_repository(), Path(folder.name), "x86" if narrow else "x64")
    return Path(folder.name)


class DeviceModule(pytest.File):
    """A module of tests/unit, read but never imported."""

    def collect(self) -> Iterator["DeviceRun"]:
        tree = ast.parse(self.path.read_bytes(), str(self.path))
        tests: list[str] = []
        settings: dict[str, object] = {}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if node.name.startswith("test_"):
                    tests.append(node.name)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        settings[target.id] = node.value.value
        for target_name in self.targets(bool(settings.get("PURE")), settings.get("BUILT")):
            if settings.get("SLOW") and target_name == "unix -O":
                continue
            yield DeviceRun.from_parent(
                self, name=target_name, tests=sorted(tests), heap=str(settings.get("HEAP", HEAP))
            )

    def targets(self, pure: bool, built: object) -> list[str]:
        wanted = self.config.getoption("--target")
        unix = [] if built == "only" else ["unix", "unix -O"]
        cpython = ["cpython"] if pure else []
        if wanted is None:
            return unix + cpython + (["built"] if built else [])
        return {"unix": unix, "cpython": cpython}.get(wanted, [wanted])


class DeviceRun(pytest.Collector):
    """One module on one target: one process, started when its first test is asked for."""

    def __init__(self, *, name: str, tests: list[str], heap: str, **keywords: object) -> None:
        super().__init__(name=name, **keywords)
        self.tests = tests
        self.heap = heap
        self.results: dict[str, tuple[bool | None, str]] | None = None
        self.problem = ""
        self.pinned = name.startswith("unix") and not os.environ.get("MICROPYTHON")

    def collect(self) -> Iterator["DeviceTest"]:
        # A module without tests must not pass by having nothing to report.
        for name in self.tests or ["no test_ function"]:
            yield DeviceTest.from_parent(self, name=name)

    def command(self) -> list[str]:
        module = self.path.stem
        if self.name == "built":
            path = "['tests/unit/kit', 'lib', 'build/umqtt', '.frozen']"
            code = f"import sys; sys.path[:] = {path}; import harness; "
            code += f"harness.built = True; sys.exit(1 if harness.run({module!r}) else 0)"
            return [self.program(), "-X", "heapsize=" + self.heap, "-c", code]
        if self.name == "cpython":
            return [sys.executable, "-B", "tests/cpython/run.py", module]
        if self.name.startswith("unix"):
            program = self.program()
            options = ["-O"] if self.name.endswith("-O") else []
            heap = ["-X", "heapsize=" + self.heap]
            return [program, *options, *heap, "tests/unit/run.py", module]
        # A board sees the repository as /remote; each mpremote starts it anew, so modules don't
        # meet.
        paths = (
            "['/remote/tests/unit/kit', '/remote/lib', '/remote/build/umqtt', '.frozen', '/lib']"
        )
        code = f"import sys; sys.path[:] = {paths}; import harness; harness.run({module!r})"
        mpremote = [sys.executable, "-m", "mpremote"]
        # A simulated board, the unix port behind a pseudo-terminal, would end on the soft reset
        # that a board gets first.
        resume = ["resume"] if os.path.realpath(self.name).startswith("/dev/pts/") else []
        return [*mpremote, "connect", self.name, *resume, "mount", str(REPO), "exec", code]

    def program(self) -> str:
        program = micropython_path()
        if program is None:
            raise DeviceError("there is no MicroPython: run `make setup`")
        return program

    def run_once(self) -> None:
        if self.results is not None:
            return
        self.results = {}
        try:
            done = subprocess.run(
                self.command(),
                cwd=built_tree() if self.name == "built" else REPO,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE_S,
                check=False,
                preexec_fn=limit_cpu,
            )
        except subprocess.TimeoutExpired as error:
            tail = (error.stdout or b"").decode(errors="replace")[-4000:]
            self.results = read_results(tail)
            self.problem = f"no end after {PATIENCE_S} s\n{tail}"
            return
        except DeviceError as error:
            self.problem = str(error)
            return
        output = done.stdout.decode(errors="replace")
        self.results = read_results(output)
        failed = any(passed is False for passed, _ in self.results.values())
        unknown = sorted(set(self.results) - set(self.tests))
        tail = output[-4000:]
        if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            self.problem = f"ended by a signal; it may take {CPU_S} s of CPU time\n{tail}"
        elif not self.results:
            self.problem = f"the module printed no result, exit status {done.returncode}\n{tail}"
        elif unknown:
            self.problem = f"results of tests that are not in the source: {unknown}"
        elif done.returncode and not failed:
            self.problem = f"exit status {done.returncode} without a failed test\n{tail}"


class DeviceTest(pytest.Item):
    """One function of a device test module."""

    parent: DeviceRun

    def runtest(self) -> None:
        run = self.parent
        run.run_once()
        assert run.results is not None
        passed, output = run.results.get(self.name, (False, ""))
        if passed is None:
            # The pinned interpreter has everything: a skip there would hide a test for good.
            if run.pinned:
                raise DeviceError(output)
            pytest.skip(output)
        if not passed:
            raise DeviceError(output or run.problem or "the run ended before this test")
        if run.problem:
            raise DeviceError(run.problem)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:
        # The device's words; a traceback of this file would only hide them.
        if isinstance(excinfo.value, DeviceError):
            return f"on {self.parent.name}:\n{excinfo.value}"
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.parent.name}: {self.name}"


MARKS = {"ok": True, "FAIL": False, "skip": None}


class DeviceError(Exception):
    """The device said so."""


def limit_cpu() -> None:
    """Let the process that is about to start take so much CPU time."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))


def read_results(output: str) -> dict[str, tuple[bool | None, str]]:
    """Take `ok NAME COUNT`, `skip NAME REASON` and `FAIL NAME` lines apart; what stands around a
    FAIL goes with it.

    Returns: name -> (True, False, or None where the test was skipped, its text)
    """
    results: dict[str, tuple[bool | None, str]] = {}
    before: list[str] = []
    failing = ""
    for line in output.splitlines():
        words = line.split()
        mark = words[0] if words else ""
        if mark in MARKS and len(words) > 1 and words[1].startswith("test_"):
            failing = words[1] if mark == "FAIL" else ""
            text = " ".join(words[2:]) if mark == "skip" else "\n".join([*before, line])
            results[words[1]] = (MARKS[mark], text)
            before = []
        elif failing:
            results[failing] = (False, results[failing][1] + "\n" + line)
        else:
            before.append(line)
    return results
