"""What boards run is built by tools/warden_build: the same program, in fewer files and words."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from warden_build import BuildError, Built, build  # noqa: E402  (the path must be set first)
from warden_build import groups as table  # noqa: E402
from warden_build.compiled import build_repository, inputs, needed, read  # noqa: E402
from warden_build.plan import is_prose  # noqa: E402
from warden_build.scopes import dotted  # noqa: E402
from warden_build.shorten import firmware_names  # noqa: E402

PACKAGE = {
    "warden/__init__.py": (
        "import sys\n"
        "def unload(name):\n    sys.modules.pop(name, None)\n"
        "def __getattr__(name):\n"
        "    if name == 'Device':\n"
        "        from .agent.device import Device\n"
        "        return Device\n"
        "    return __import__(__name__ + '.' + name, None, None, (name,))\n"
    ),
    "warden/errors.py": (
        "class PeerError(Exception):\n    def __init__(self, code, text=''):\n"
        "        super().__init__(code, text)\n        self.code = code\n"
    ),
    "warden/vault/__init__.py": (
        "from micropython import const\nfrom ..wire import cbor\n_LIMIT = const(3)\n"
        "class Vault:\n    kind = cbor.NAME\n    most = _LIMIT\n"
    ),
    "warden/wire/__init__.py": '"""Prose."""',
    "warden/wire/cbor.py": (
        "from micropython import const\nfrom ..errors import PeerError\nNAME = 'cbor'\n"
        "_LIMIT = const(9)\n"
        "URI = const(21)\nFLOOR = const(-1)\n"
        "def encode(value):\n    if value > _LIMIT:\n"
        "        raise PeerError('cbor-limit', 'a text')\n"
        "    return [value]\n"
    ),
    "warden/agent/__init__.py": '"""Prose."""',
    "warden/agent/device.py": (
        "from ..wire import cbor\nfrom ..errors import PeerError\n"
        "class Device:\n"
        "    def __init__(self):\n        self._counted_calls = 0\n        self.shown = 0\n"
        "    def _count_one(self):\n        self._counted_calls += 1\n"
        "    def go(self, amount):\n"
        "        encode = cbor.encode(amount)\n"  # hides a function's name
        "        call = lambda: self._count_one()\n        call()\n"
        "        return encode, self._counted_calls, cbor.URI, cbor.FLOOR\n"
        "    def slots(self):\n"
        "        from ..ota import boot, service\n"
        "        return boot.begin(2), service.begin(2), boot.present\n"
        "    def build(self):\n"
        "        from . import build\n"
        "        from ..policy.policy import Policy\n"
        "        return build.made(self), Policy().name\n"
    ),
    "warden/agent/build.py": "from ..policy.policy import Policy\n"
    "def made(device):\n    return Policy().name, device.shown\n",
    "warden/policy/__init__.py": '"""Prose."""',
    "warden/policy/policy.py": "class Policy:\n    name = 'policy'\n",
    "warden/ota/__init__.py": '"""Prose."""',
    "warden/ota/boot.py": (
        "present = None\ndef begin(number):\n    global present\n    present = number\n"
        "    return ('boot', number)\n"
    ),
    "warden/ota/service.py": (
        "import sys\nfrom . import boot\ndef begin(number):\n"
        "    return ('service', number, boot.begin(1), 'warden.ota.boot' in sys.modules)\n"
    ),
}
APP = """
import sys
import warden.ota.service
from warden import Device
from warden.errors import PeerError
from warden.vault import Vault
from warden.wire import cbor

device = Device()
print(Vault.kind, Vault.most, device.go(4), device.slots(), device.build(), cbor.encode(2))
try:
    cbor.encode(10)
except PeerError as error:
    print(error.code)
print(sys.modules["warden.ota.boot"] is warden.ota.boot, device._counted_calls)
"""


def run(root: Path, files: dict[str, str], micropython: str, code: str) -> tuple[str, str]:
    """Lay files below a folder and run a program there; (its output, its errors)."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    program = [micropython, "-c", "import sys; sys.path[:] = ['.', '.frozen']\n" + code]
    done = subprocess.run(program, cwd=root, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr


@pytest.fixture(scope="session")
def repository() -> Built:
    return build_repository()


def test_it_is_the_same_program(tmp_path: Path, micropython: str) -> None:
    """Imports of every kind, a name of two modules, locals, a global that changes, a string."""
    built = build(PACKAGE, {"app.py": APP})
    assert set(built.sources) == {"warden/__init__.py", "warden/start.py", "warden/ota.py"}
    before = run(tmp_path / "before", PACKAGE | {"app.py": APP}, micropython, "import app")
    after = run(tmp_path / "after", built.sources | built.users, micropython, "import app")
    assert before == after
    assert before == (
        "cbor 3 ([4], 1, 21, -1) (('boot', 2), ('service', 2, ('boot', 1), True), 1)"
        " (('policy', 0), 'policy') [2]\ncbor-limit\nTrue 1\n",
        "",
    )


def test_what_goes_and_what_stays() -> None:
    built = build(PACKAGE, {"app.py": APP})
    core = built.sources["warden/__init__.py"]
    for gone in ("a text", "_counted_calls", "_count_one", "URI", "FLOOR"):
        assert gone not in core, gone
    for stays in (
        "'cbor-limit'",
        "class Device",
        "class Vault",
        "def go(self, amount)",
        "shown",
        "unload",
    ):
        assert stays in core, stays
    assert built.names["_counted_calls"] in firmware_names()


def test_the_same_sources_give_the_same_build(repository: Built) -> None:
    again = build(*inputs())
    assert again.sources == repository.sources and again.number == repository.number


def test_every_module_is_in_exactly_one_file(repo: Path) -> None:
    """A pattern of the table that matches no module any more is a mistake, too."""
    modules = {
        dotted(path): text
        for path, text in read(repo / "lib", "warden").items()
        if path == "warden/__init__.py" or not is_prose(ast.parse(text))
    }
    for name in modules:
        assert table.group_of(name), name
    files = {table.file_path(table.group_of(name)) for name in modules}
    assert len(files) <= 60
    for group in table.GROUPS:
        for pattern in group.patterns.split():
            one = table.Group(group.name, pattern)
            found = [name for name in modules if table.matches(one, name)]
            assert found, f"{group.name}: {pattern} matches no module"


# Policy's values are copied; _Settings has no code. Of the functions made there, `once` asks for a
# PIN while the vault opens; `make` stays on boards whose slots have a firmware that keys must have
# signed, and the file with it.
OF_THE_START = {"Policy", "_Settings", "once", "make"}


def test_nothing_that_outlives_a_start_is_defined_in_it(repository: Built) -> None:
    """An object of its classes with code, or one of its functions, would keep all of it."""
    start = ast.parse(repository.sources["warden/start.py"])
    made = {node.name for node in start.body if isinstance(node, ast.ClassDef)}
    for node in ast.walk(start):
        if isinstance(node, ast.FunctionDef):
            inner = [one for one in ast.walk(node) if one is not node]
            made |= {one.name for one in inner if isinstance(one, ast.FunctionDef | ast.ClassDef)}
            assert not any(isinstance(one, ast.Lambda) for one in inner)
    assert made <= OF_THE_START | {repository.names.get(name, name) for name in OF_THE_START}


def test_every_file_refuses_another_build(tmp_path: Path, micropython: str) -> None:
    built = build(PACKAGE, {})
    other = build(PACKAGE | {"warden/vault/__init__.py": "class Vault:\n    kind = 'other'\n"}, {})
    assert built.number != other.number
    mixed = built.sources | {"warden/start.py": other.sources["warden/start.py"]}
    said = run(
        tmp_path, mixed, micropython, "import warden\nimport warden.ota\nimport warden.start"
    )
    assert "ImportError: warden: files of two builds" in "".join(said)
    whole = run(tmp_path / "whole", built.sources, micropython, "import warden.ota, warden.start")
    assert whole == ("", "")


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("warden/ota/a.py", "__import__('warden.ota.' + x)\n", "no module's full name"),
        ("warden/ota/a.py", "y = 'warden.ota.gone'\n", "no module's full name"),
        ("warden/ota/a.py", "y = 'warden.wire.cbor'\n", "in the core, which stays"),
        ("warden/ota/a.py", "from ..gone import x\n", "there is no module warden.gone"),
        ("warden/session/a.py", "from .. import errors\ny = errors.gone\n", "has no gone"),
        (
            "warden/agent/b.py",
            "try:\n    from .. import errors\nexcept ImportError:\n    errors = None\n",
            "two meanings",
        ),
        ("warden/wire/start.py", "x = 1\n", "two groups would have the file"),
    ],
)
def test_what_cannot_be_built_is_refused(path: str, text: str, why: str) -> None:
    with pytest.raises(BuildError, match=why):
        build(PACKAGE | {path: text}, {})


def test_a_board_gets_its_own_drivers(repo: Path, repository: Built) -> None:
    board = (repo / "boards/RPI_PICO_W/board.py").read_text()
    files = needed(repository.sources, [board])
    drivers = {Path(path).stem for path in files if "/hal/" in path}
    assert {
        "store_file",
        "store_steps",
        "rootkey_chip",
        "rootkey_software",
        "wifi",
        "watchdog",
    } <= drivers
    assert not drivers & {
        "store_nvs",
        "rootkey_efuse",
        "keypad_matrix",
        "display_hd44780",
        "slots_partition",
    }
    assert all(path in files for path in repository.sources if "/hal/" not in path)


def test_what_firmware_is_asked_for_keeps_its_name() -> None:
    """An argument may have the name of a function of a module, and of a method of its objects."""
    chip = (
        "import machine\nclass Chip:\n"
        "    def __init__(self, unheard_of, info):\n"
        "        self._id, self.info = unheard_of or machine.unheard_of, info.info()\n"
    )
    built = build(PACKAGE | {"warden/hal/chip.py": chip}, {})
    (text,) = [text for path, text in built.sources.items() if "chip" in path]
    assert "machine.unheard_of" in text and ".info()" in text
    assert built.names["unheard_of"] in firmware_names()


def test_names_that_firmware_has_cost_nothing(micropython: str) -> None:
    """Each name of the list is interned in firmware: the heap's pool does not grow by it."""
    names = firmware_names()
    assert len(names) == len(set(names))
    code = "import micropython\n" + "".join(f"def f(x): return x.{name}\n" for name in names)
    program = [micropython, "-X", "heapsize=8m", "-c", code + "micropython.qstr_info(1)"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    grown = {line[2:-1] for line in done.stdout.splitlines() if line.startswith("Q(")}
    assert not grown & set(names)
