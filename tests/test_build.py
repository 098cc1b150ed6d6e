"""What boards run is built by tools/warden_build: the same program, in fewer files and words."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from warden_build import BuildError, Built, build  # noqa: E402  (the path must be set first)
from warden_build import __main__ as command  # noqa: E402
from warden_build import groups as table  # noqa: E402
from warden_build.arguments import passed_by_name, rename_arguments  # noqa: E402
from warden_build.compiled import (  # noqa: E402
    build_repository,
    compile_all,
    inputs,
    needed,
    read,
)
from warden_build.order import order_names  # noqa: E402
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
        "        from ..ota import service, update\n"
        "        return update.begin(2), service.begin(2), update.present\n"
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
    "warden/ota/update.py": (
        "present = None\ndef begin(number):\n    global present\n    present = number\n"
        "    return ('boot', number)\n"
    ),
    "warden/ota/service.py": (
        "import sys\nfrom . import update\ndef begin(number):\n"
        "    return ('service', number, update.begin(1), 'warden.ota.update' in sys.modules)\n"
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
print(sys.modules["warden.ota.update"] is warden.ota.update, device._counted_calls)
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
    assert set(built.sources) == {"warden/__init__.py", "warden/start.py", "warden/update.py"}
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


def test_words_of_what_is_let_go_of_are_no_names() -> None:
    """Except those that are names in any case: in firmware, in what stays, or of the file."""
    source = (
        "class Policy:\n    name = 'policy'\n"
        "def made(kind, board):\n    'Prose'\n"
        "    if kind == 'wired' or kind in ('wired', 'lan'):\n        return 'cbor', 'append'\n"
        "    return hasattr(board, 'SLOTS'), kind.boxed == 'boxed', 'far too long'\n"
    )
    built = build(PACKAGE | {"warden/policy/policy.py": source}, {})
    start = built.sources["warden/start.py"]
    assert "== ('wired',)[0]" in start and "('policy',)[0]" in start
    for same in ("in ('wired', 'lan')", "('cbor', 'append')", "'SLOTS')", "'far too long'"):
        assert same in start, same
    assert "== 'boxed'" in start or "== ('boxed',)[0]" in start
    assert not any(")[0]" in text for path, text in built.sources.items() if "start" not in path)


def test_a_class_notes_no_names(tmp_path: Path, micropython: str) -> None:
    """MicroPython would keep `__module__` and `__qualname__` in each."""
    built = build(PACKAGE, {"app.py": APP})
    code = "from warden import Device\nprint('__module__' in Device.__dict__, Device.__name__)"
    assert run(tmp_path, built.sources, micropython, code) == ("False Device\n", "")


def test_arguments_of_a_tests_own_functions_are_its_own() -> None:
    """Also where the package has a function of that name; not those that may pass them on."""
    tree = {"warden/one.py": ast.parse("def made(a): pass\ndef given(a): pass")}
    text = "def made(own): pass\ndef given(**more): pass\n"
    text += "made(own=1)\ngiven(passed=2)\nthing.made(foreign=3)"
    assert passed_by_name(tree, {}, {"test.py": ast.parse(text)}) == {"passed", "foreign"}


def test_words_of_a_sentence_are_no_names() -> None:
    """An argument of a call is for a person; a text that is split, or kept, may list names."""
    chip = (
        "def tell(log):\n    log('one unheard here')\n    return 'listed unseen'.split()\n"
        "def unheard():\n    return unseen()\ndef unseen():\n    return unheard\n"
    )
    names = build(PACKAGE | {"warden/hal/chip.py": chip}, {}).names
    assert "unheard" in names and "unseen" not in names


def test_a_text_of_a_user_keeps_a_name_where_it_may_look_it_up() -> None:
    chip = "def unheard():\n    return unseen()\ndef unseen():\n    return unheard\n"
    package = PACKAGE | {"warden/hal/chip.py": chip}
    computed = "x = 'unseen'\ny = getattr(0, x)\n"
    names = build(package, {"a.py": "x = ['unheard']\n", "b.py": computed}).names
    assert "unheard" in names and "unseen" not in names
    names = build(package, {"c.py": "x = 'unseen'\ny = getattr(0, 'unheard', 0)\n"}).names
    assert "unheard" not in names and "unseen" in names


def test_the_same_sources_give_the_same_build(repository: Built) -> None:
    again = build(*inputs())
    assert again.sources == repository.sources and again.users == repository.users


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
    assert len(files) <= 45  # `standalone` is on no device of a fleet, `serial` behind a gateway
    for group in table.GROUPS:
        for pattern in group.patterns.split():
            one = table.Group(group.name, pattern)
            found = [name for name in modules if table.matches(one, name)]
            assert found, f"{group.name}: {pattern} matches no module"


# Policy's values are copied; _Settings has no code. `once` asks for a PIN while the vault opens.
OF_THE_START = {"Policy", "_Settings", "once"}


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


# What a device with every feature has loaded while it is connected, and what works for a moment:
# the first may load nothing of the second with their own import.
CONNECTED = (
    "certificate gate links ota plain romfs serial sleep slots telemetry token usual".split()
)
FOR_A_MOMENT = set(
    "boot deferred dial download failures http image_verify incidents manifest new_certificate"
    " p256 p256_native provisioning recovery rotation start token_fetch update".split()
)


def _imported(repository: Built, name: str) -> set[str]:
    """The files that the import of a file loads, with those that they load."""
    found: set[str] = set()
    new = [name]
    while new:
        tree = ast.parse(repository.sources[f"warden/{new.pop()}.py"])
        nodes: list[ast.AST] = [tree]
        while nodes:
            node = nodes.pop()
            if isinstance(node, ast.ImportFrom) and node.level:
                names = [node.module] if node.module else [one.name for one in node.names]
                fresh = {one for one in names if f"warden/{one}.py" in repository.sources} - found
                found |= fresh
                new += fresh
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                nodes += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("name", CONNECTED)
def test_what_stays_loads_nothing_that_works_for_a_moment(repository: Built, name: str) -> None:
    assert not _imported(repository, name) & FOR_A_MOMENT


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
    stems = {Path(path).stem for path in files}
    assert "usual" in stems
    optional = {
        "panel",
        "esp32_parts",
        "store_flash",
        "slots_partition",
        "rootkey_atecc",
    }
    assert not stems & optional
    assert {Path(path).stem for path in repository.sources} == stems | optional
    boards = {
        'KEYPAD = ("matrix",)': {"panel"},
        'ROOT_KEY = ("pin", ("software",))': {"pin", "usual"},
        'STORE = ("flash", 256, 2, "rp2")': {"store_flash"},
        'NETWORK = ("lan", {})': {"littlefs", "usual"},
        'SLOTS = ("partition", "/slots")': {"slots_partition"},
    }
    for text, wanted in boards.items():
        assert wanted <= {Path(path).stem for path in needed(repository.sources, [text])}, text


def test_what_firmware_is_asked_for_keeps_its_name() -> None:
    """An argument may have the name of a function of a module, and of a method of its objects."""
    chip = (
        "import machine\nclass Chip:\n"
        "    def __init__(self, unheard_of, info):\n"
        "        self._id, self.info = unheard_of or machine.unheard_of, info.info()\n"
        "        self.unheard_of = 1\n"
    )
    built = build(PACKAGE | {"warden/hal/chip.py": chip}, {})
    (text,) = [text for path, text in built.sources.items() if "chip" in path]
    assert "machine.unheard_of" in text and ".info()" in text
    assert built.names["unheard_of"] in firmware_names()


def test_what_applications_use_keeps_its_name(repo: Path, repository: Built) -> None:
    """docs/device.md lists it: classes, their attributes, methods, and arguments of methods."""
    text = (repo / "docs" / "device.md").read_text().split("### Device", 1)[1]
    rows = re.findall(r"^\| `(\w+)(?:\(([^)]*)\))?`", text, re.MULTILINE)
    arguments = {word.partition("=")[0].strip() for _, row in rows for word in row.split(",")}
    used = (
        {name for name, _ in rows} | arguments | set(re.findall(r"^### (\w+)", text, re.MULTILINE))
    )
    assert {"Secrets", "left_ms", "publish", "timeout", "counters"} <= used
    assert not used & set(repository.names)
    sources = "\n".join(repository.sources.values())
    assert not [name for name in arguments if name and not re.search(rf"\b{name}\b", sources)]


def test_only_arguments_that_a_call_names_keep_their_names() -> None:
    """Those of each function become firmware's, the same ones in every function."""
    source = (
        "def first(unheard_one, unheard_two, unheard_named, unheard_inner, len):\n"
        "    again = [unheard_inner for unheard_inner in unheard_one]\n"
        "    unheard_one = lambda unheard_x: unheard_x + unheard_two\n"
        "    return unheard_one, unheard_named, unheard_inner, again, len\n"
        "def second(unheard_three):\n"
        "    return first(unheard_three, 2, unheard_named=3, unheard_inner=4, len=5)\n"
    )
    tree = {"warden/wire/one.py": ast.parse(source)}
    free = ["aes", "len", "buf", "key"]
    rename_arguments(tree, {"Public"}, passed_by_name(tree, {}, {}), {"len"}, free)
    made = ast.unparse(tree["warden/wire/one.py"])
    assert "def first(aes, buf, unheard_named, unheard_inner, len):" in made
    assert "aes = lambda aes: aes + buf" in made
    assert "def second(aes):" in made
    given: dict[str, object] = {}
    exec(made, given)
    second = given["second"]
    assert callable(second)
    with pytest.raises(TypeError, match="not iterable"):
        second(1)
    made_of = second([7])
    assert made_of[0](1) == 3 and made_of[1:] == (3, 4, [7], 5)


def test_the_names_of_most_uses_take_one_byte() -> None:
    """Those of a large file: globals, arguments and attributes, whatever comes first in it."""
    few = [f"field{number} = 0" for number in range(300)]
    many = [
        f"def get{number}(thing):\n    return often(often, often, thing.value)"
        for number in range(100)
    ]
    text = "\n".join([*few, "often = print", *many])
    tree = {"large.py": ast.parse(text), "small.py": ast.parse("\n".join(many))}
    order_names(tree)
    large, small = (ast.unparse(ast.fix_missing_locations(one)) for one in tree.values())
    assert small == ast.unparse(ast.parse("\n".join(many)))
    assert large.startswith("if not __name__:\n    __name__.often.thing.value.")
    sizes = [len(compile_all({"one.py": source})["one.mpy"]) for source in (text, large)]
    # Each of the 100 functions says `often` three times and has `thing`; 126 names take 252 bytes.
    assert sizes[0] - sizes[1] > 100 * 4 - 252 - 20


def test_names_that_firmware_has_cost_nothing(micropython: str) -> None:
    """Each name of the list is interned in firmware: the heap's pool does not grow by it."""
    names = firmware_names()
    assert len(names) == len(set(names))
    code = "import micropython\n" + "".join(f"def f(x): return x.{name}\n" for name in names)
    program = [micropython, "-X", "heapsize=8m", "-c", code + "micropython.qstr_info(1)"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    grown = {line[2:-1] for line in done.stdout.splitlines() if line.startswith("Q(")}
    assert not grown & set(names)


def test_boards_in_use_find_what_installs_a_new_package(repository: Built) -> None:
    """Their boot.py, of an earlier build, imports it from the new package by these names."""
    boot = repository.users["firmware/boot.py"]
    assert "from warden.provisioning import replace\n" in boot
    tree = ast.parse(repository.sources["warden/provisioning.py"])
    assert "replace" in {getattr(node, "name", "") for node in tree.body}


def test_a_name_that_is_no_boards_is_refused_before_anything_is_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "kept.mpy"
    kept.touch()
    monkeypatch.setattr(command, "OUT", tmp_path)
    for asked, told in (
        (["RPI_PICO"], "no board of this name: RPI_PICO (there are ESP32_GENERIC, "),
        (["RPI_PICO_W", "../boards/RPI_PICO_W"], "no board of this name: ../boards/RPI_PICO_W"),
    ):
        with pytest.raises(SystemExit) as ended:
            command.main(asked)
        assert ended.value.code == 2
        assert told in capsys.readouterr().err
    assert kept.exists()
