"""What boards run is made of the sources by tools/warden_build: it must be the same program, with
fewer words."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from warden_build import BuildError, build  # noqa: E402  (the path must be set first)
from warden_build.compiled import read  # noqa: E402
from warden_build.flatten import flat_names  # noqa: E402
from warden_build.inline import inline  # noqa: E402

SOURCE = """
from micropython import const
from .errors import PeerError
_LIMIT = const(3)
_table = {"_kept": 1}
_cache = []

def _helper(value):
    _cache.append(value)
    return _table

class _Private:
    def __init__(self):
        self._count = 0
        self._seen = 0
        self.public = _helper(1)

    def _step(self):
        self._count += 1
        if self._count > _LIMIT:
            raise PeerError("cbor-limit", "a text")

    def go(self):
        call = lambda: self._step()
        call()
        return self._count

class Other(_Private):
    def more(self):
        self._step()
        return self._count + self._seen

class Third(_Private):
    def _step(self):
        super()._step()
        self._count += 10

class Foreign(list):
    def add(self):
        self._mine = 1
        return self._mine
"""


ERRORS = "class PeerError(Exception):\n    pass\n"


def test_names_and_texts() -> None:
    sources = {"warden/a.py": SOURCE, "warden/b.py": '"""Prose."""', "warden/errors.py": ERRORS}
    slim, _, names = build(sources, {"user.py": "x._seen"})
    assert set(slim) == {"warden/a.py", "warden/errors.py"}
    text = slim["warden/a.py"]
    assert "a text" not in text and "'cbor-limit'" in text
    # Renamed: what only this module and `self` speak of. Kept: const(), what is in a string, what
    # a user names, a foreign class's own.
    for name in ("_helper", "_table", "_cache", "_step", "_count", "_Private"):
        assert name not in text, name
    for name in ("_LIMIT", "_kept", "_seen", "_mine", "public", "more"):
        assert name in text, name
    found = {old for shortened in names.values() for old in shortened.values()}
    assert found == {"_helper", "_table", "_cache", "_step", "_count", "_Private"}


def test_it_is_the_same_program() -> None:
    slim, _, _ = build({"warden/a.py": SOURCE, "warden/errors.py": ERRORS}, {})
    results = []
    for text in (SOURCE, slim["warden/a.py"]):
        body = text.replace("from micropython import const", "const = int").replace(
            "from .errors import PeerError", "PeerError = ValueError"
        )
        space: dict[str, object] = {}
        exec(compile(body, "a", "exec"), space)  # noqa: S102  (our own text)
        other = space["Other"]()  # type: ignore[operator]
        third = space["Third"]()  # type: ignore[operator]
        results.append(
            (other.go(), other.more(), other.public, third.go(), space["Foreign"]().add())  # type: ignore[operator]
        )
    assert results[0] == results[1]
    assert results[0][3] == 11


def test_once_more_changes_nothing_that_matters(repo: Path) -> None:
    """Short names that are there already are not given out a second time."""
    once = build(read(repo / "lib", "warden"), {}).sources
    twice = build(once, {}).sources
    for path, text in twice.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                methods = [
                    one.name
                    for one in node.body
                    if isinstance(one, ast.FunctionDef) and not one.decorator_list
                ]
                assert len(methods) == len(set(methods)), (path, node.name)


LABELS = """
from micropython import const
URI = const(21)
FLOOR = const(-1)
TAG = b"\\xd2"
LONG = b"longer"
TWICE = 1
TWICE = 2
KEPT = const(7)
SHADOWED = 3
SPOKEN = 4
"""
READER = """
from . import labels
from .labels import FLOOR, SHADOWED, TWICE, URI as ADDRESS

def read(item):
    return [labels.URI, ADDRESS, FLOOR, labels.TAG, labels.LONG, TWICE, labels.KEPT, SHADOWED, item]

def other(SHADOWED):
    return SHADOWED
"""
CHOOSER = """
def choose(module):
    return module.SPOKEN
"""


def test_numbers_go_in_where_they_are_used(tmp_path: Path, micropython: str) -> None:
    sources = {
        "warden/__init__.py": "",
        "warden/wire/__init__.py": "",
        "warden/wire/labels.py": LABELS,
        "warden/wire/reader.py": READER,
        "warden/vault.py": "LIMIT = 5\ndef limit():\n    return LIMIT\n",
        "warden/chooser.py": CHOOSER,
    }
    user = "from warden.wire import labels\nprint(labels.KEPT)"
    slim = build(sources, {"user.py": user}).sources
    labels, reader = slim["warden/wire/labels.py"], slim["warden/wire/reader.py"]
    for name in ("URI", "ADDRESS", "FLOOR", "TAG"):
        assert name not in labels + reader, name
    # Kept: too long, assigned twice, a user's, shadowed where it is used, reached for in a way
    # that is not followed; and what is no protocol's.
    for name in ("LONG", "TWICE", "KEPT", "SHADOWED", "SPOKEN"):
        assert name in labels, name
    assert "LIMIT = 5" in slim["warden/vault.py"]
    said = []
    for number, tree in enumerate((sources, slim)):
        root = tmp_path / str(number)
        # A package of prose alone needs no __init__ on a board.
        for path, text in {**sources, **tree}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        code = (
            "import sys; sys.path[:] = ['.', '.frozen']\n"
            "from warden.wire import reader, labels\nfrom warden.chooser import choose\n"
            "print(reader.read(0), reader.other(9), choose(labels))"
        )
        done = subprocess.run(
            [micropython, "-c", code], cwd=root, capture_output=True, text=True, check=True
        )
        said.append(done.stdout)
    assert said[0] == said[1]
    assert said[0].strip() == "[21, 21, -1, b'\\xd2', b'longer', 2, 7, 3, 0] 9 4"


MEANINGS = """
def first():
    from .wire.a import X
    return X

def second():
    from .wire.b import X
    return X

def third():
    from .wire import a as numbers
    return numbers.X

def fourth():
    from .wire import b as numbers
    return numbers.X

def signed():
    from .wire import a as those
    return those.LESS ** 2, those.LESS.bit_length()

def twice():
    from .wire.a import SECOND
    return SECOND

def caught():
    from .wire.a import Y
    try:
        raise ValueError
    except ValueError as Y:
        return type(Y)

def defined():
    from .wire.a import Z
    class Z:
        pass
    return Z.__name__

def foreign():
    from .other import W
    return W

def own():
    from .wire.a import W
    return W
"""
A = "X = 1\nY = 2\nZ = 3\nW = 4\nLESS = -2\nFIRST = SECOND = 5\n"


def test_a_name_of_two_meanings_keeps_both(tmp_path: Path) -> None:
    sources = {"p/__init__.py": "", "p/other.py": "W = 8\n", "p/user.py": MEANINGS}
    sources |= {"p/wire/__init__.py": "", "p/wire/a.py": A, "p/wire/b.py": "X = 9\n"}
    names = ("first", "second", "third", "fourth", "signed", "twice", "caught", "defined")
    calls = ", ".join(f"user.{name}()" for name in (*names, "foreign", "own"))
    tree = {path: ast.parse(text) for path, text in sources.items()}
    inline(tree, [])
    inlined = {path: ast.unparse(module) for path, module in tree.items()}
    assert "LESS" not in inlined["p/user.py"]
    said = []
    for number, files in enumerate((sources, inlined)):
        for path, text in files.items():
            file = tmp_path / str(number) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        program = [sys.executable, "-c", f"from p import user; print({calls})"]
        ran = subprocess.run(program, cwd=tmp_path / str(number), capture_output=True, text=True)
        said.append((ran.stdout, ran.stderr))
    assert said[0] == said[1] and said[0][0]


PACKAGES = {
    "warden/__init__.py": (
        "def __getattr__(name):\n"
        "    if name == 'Device':\n"
        "        from .agent.device import Device\n"
        "        return Device\n"
        "    return __import__(__name__ + '.' + name, None, None, (name,))\n"
    ),
    "warden/errors.py": "class PeerError(Exception):\n    pass\n",
    "warden/vault/__init__.py": "from ..wire import cbor\nclass Vault:\n    kind = cbor.NAME\n",
    "warden/vault/records.py": (
        "from . import Vault\ndef load():\n    from ..ota import order as later\n    return Vault, later\n"
    ),
    "warden/ota/__init__.py": '"""Prose."""',
    "warden/ota/order.py": "import sys\nfrom ..vault import records\nhere = sys.modules['warden.ota.order']\n",
    "warden/ota/otp.py": "value = 'ota'\n",
    "warden/gate/__init__.py": '"""Prose."""',
    "warden/gate/otp.py": "from ..ota import otp\nfrom ..ota.otp import value\nboth = otp.value + value\n",
    "warden/agent/__init__.py": '"""Prose."""',
    "warden/agent/device.py": (
        "from ..gate import otp as gate_otp, otp\nfrom .. import errors\n"
        "class Device:\n    same = gate_otp is otp and errors\n    both = otp.both\n"
    ),
    "warden/wire/__init__.py": '"""Prose."""',
    "warden/wire/cbor.py": "NAME = 'cbor'\n",
}
APP = """
import warden.ota.otp
from warden import Device
from warden.errors import PeerError
from warden.gate.otp import both
from warden.vault import Vault, records
from warden.wire import cbor

assert Device.same.PeerError is PeerError
code = "from warden.ota.otp import value; print(value)"
exec(code)
print(Device.both, both, Vault.kind, records.load()[0] is Vault, cbor.NAME, warden.ota.otp.value)
print(records.load()[1].here is __import__("sys").modules["warden.ota.order"])
"""


def test_packages_are_laid_flat(tmp_path: Path, micropython: str) -> None:
    built = build(PACKAGES, {"app.py": APP})
    assert set(built.sources) == {
        *("warden/__init__.py", "warden/errors.py", "warden/vault.py", "warden/records.py"),
        *("warden/order.py", "warden/ota_otp.py", "warden/gate_otp.py", "warden/device.py"),
        "warden/wire/cbor.py",
    }
    said = []
    for number, files in enumerate((PACKAGES | {"app.py": APP}, built.sources | built.users)):
        root = tmp_path / str(number)
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        code = "import sys; sys.path[:] = ['.', '.frozen']; import app"
        done = subprocess.run([micropython, "-c", code], cwd=root, capture_output=True, text=True)
        said.append((done.stdout, done.stderr))
    assert said[0] == said[1]
    assert said[0] == ("ota\notaota otaota cbor True cbor ota\nTrue\n", "")


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("warden/ota/a.py", "__import__('warden.ota.' + x)\n", "no module's full name"),
        ("warden/ota/a.py", "y = 'warden.ota.gone'\n", "no module's full name"),
        ("warden/ota/a.py", "from ..gone import x\n", "there is no module warden.gone"),
        ("warden/ota/more/a.py", "x = 1\n", "a package in a package"),
        ("warden/ota_otp.py", "x = 1\n", "one name"),
    ],
)
def test_a_tree_that_cannot_be_flattened_is_refused(path: str, text: str, why: str) -> None:
    with pytest.raises(BuildError, match=why):
        build(PACKAGES | {path: text}, {})


def test_names_by_parts_are_fine_for_drivers() -> None:
    """board.py names drivers, which stay in their folder."""
    text = "def find(kind):\n    return __import__('warden.hal.' + kind)\n"
    built = build(PACKAGES | {"warden/ota/a.py": text, "warden/hal/b.py": "x = 1\n"}, {})
    assert "'warden.hal.'" in built.sources["warden/a.py"]


def test_public_paths_stay(repo: Path) -> None:
    """What applications and the firmware's own drivers import has one name in both forms."""
    sources = read(repo / "lib", "warden")
    names = flat_names({path: ast.parse(text) for path, text in sources.items()})
    for name, flat in names.items():
        if name.split(".")[1:2] in (["crypto"], ["wire"], ["hal"], ["errors"], ["vault"]) and (
            name.count(".") == 2 or name == "warden.errors"
        ):
            assert name == flat or name.startswith("warden.vault."), name
    assert names["warden.vault"] == "warden.vault"
    # One folder less a package: only these are left.
    assert {flat.rpartition(".")[0] for flat in names.values()} == {
        *("", "warden", "warden.crypto", "warden.wire", "warden.hal")
    }
