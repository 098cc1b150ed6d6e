"""What the repository itself promises: nothing in it that ties it to one machine, and lists that
equal the tree."""

import ast
import fnmatch
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from mip_kit import Installed

# Pieces put together here, so that this file does not find itself.
MACHINE = re.compile(
    "(?<![\\w.~-])/(" + "|".join(["ro" + "ot", "ho" + "me", "wo" + "rk"]) + ")/[\\w.]"
)
# A temporary file belongs in tmp_path or TMPDIR; a fixed name in a shared folder is also an
# attack.
TEMPORARY = re.compile("[\"'= ]/tm" + "p/[\\w.]")
HOSTS = re.compile(
    "(pypi\\.|pytho" + "nhosted|deb\\.deb" + "ian|npm" + "js|regis" + "try\\.[a-z]+\\.)"
)
SECRET = re.compile("-----BEGIN [A-Z ]*PRIV" + "ATE KEY-----\\s+[A-Za-z0-9+/]{20}")
# Text that is no source: vectors may hold long lines of anything.
BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
# Pictures of the documents, which tests take where SCREENSHOTS is set.
PICTURE = re.compile(r"docs/images/[a-z-]+\.png\Z")
MAX_PICTURE = 100_000  # bytes


@pytest.fixture(scope="module")
def files(repo: Path) -> dict[str, bytes]:
    """Every tracked file, and every new one that would be."""
    git = ["git", "-C", str(repo), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(git, capture_output=True, check=True)
    names = [name for name in done.stdout.decode().split("\0") if name]
    return {name: (repo / name).read_bytes() for name in names if (repo / name).is_file()}


def matches(files: dict[str, bytes], pattern: re.Pattern[str]) -> list[str]:
    found = []
    for name, data in files.items():
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{name}:{number}")
    return found


def test_no_machine_paths(files: dict[str, bytes]) -> None:
    assert matches(files, MACHINE) == []
    assert matches(files, TEMPORARY) == []


def test_no_registry_host_names(files: dict[str, bytes]) -> None:
    assert matches(files, HOSTS) == []


def test_no_binaries(files: dict[str, bytes]) -> None:
    binaries = [name for name, data in files.items() if BINARY.search(data)]
    assert [name for name in binaries if not PICTURE.match(name)] == []


def test_pictures_are_small_and_shown(files: dict[str, bytes]) -> None:
    documents = b"".join(data for name, data in files.items() if name.endswith(".md"))
    for name, data in files.items():
        if PICTURE.match(name):
            assert data.startswith(b"\x89PNG\r\n") and len(data) < MAX_PICTURE, name
            assert f"images/{Path(name).name})".encode() in documents, f"{name} is in no document"


def test_no_secrets(files: dict[str, bytes]) -> None:
    found = [name for name, data in files.items() if SECRET.search(data.decode(errors="replace"))]
    assert found == []


def test_patterns_find_what_they_are_for() -> None:
    assert MACHINE.search('"/ho' + 'me/me/x"')
    assert not MACHINE.search("sys.path ~/wo" + "rk/x of lib/ho" + "me/x")
    assert TEMPORARY.search("x = '/tm" + "p/x'")
    assert HOSTS.search("https://py" + "pi.org/simple")
    assert SECRET.search("-----BEGIN EC PRIV" + "ATE KEY-----\n" + "MHcCAQEEIE1hZ2ljIG51bWJl\n")
    assert BINARY.search(b"\x7fELF\x02\x01\x01\x00")


def test_make_help_lists_every_target(repo: Path) -> None:
    makefile = (repo / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    done = subprocess.run(
        ["make", "-C", str(repo), "--no-print-directory"],
        capture_output=True,
        text=True,
        check=True,
    )
    listed = re.findall(r"^ +make ([\w-]+) +\S", done.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony.split())
    targets = re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE)
    assert sorted(targets) == sorted(listed)


def test_everything_goes_through_setup(repo: Path) -> None:
    makefile = (repo / "Makefile").read_text()
    for target in ("test", "lint", "format", "mpy", "bench", "demo"):
        assert re.search(rf"^{target}: setup\b", makefile, re.MULTILINE), target


def test_pinned_by_hash(repo: Path) -> None:
    """A package without a hash would be whatever the registry says it is that day."""
    for name in ("requirements.txt", "micropython.txt", "stubs.txt"):
        text = (repo / "tools/setup" / name).read_text().replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        assert lines
        for line in lines:
            assert "==" in line, line
            assert "--hash=sha256:" in line, line


# --- what the documentation names ----------------------------------------------------------------

# Words that stand for a name of the reader's own, and a folder that the reader makes.
PLACEHOLDER = re.compile("(?<![A-Za-z])(BOARD|KIND|NAME|TYPE-VERSION)(?![A-Za-z])")
READERS_OWN = {"app/"}
SOURCES = (".py", ".pyi", ".sh", ".mjs", ".md")
# `fleet.db` is a file of the fleet and no member of fleet.py.
FILE_ENDINGS = {
    "py",
    "md",
    "sh",
    "db",
    "age",
    "crt",
    "toml",
    "log",
    "conf",
    "config",
    "json",
    "key",
    "pub",
    "img",
    "unsigned",
}


def defined_in(source: str) -> set[str]:
    """Return every name that the source defines or binds, of a module, a class or a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def missing_path(word: str, tree: dict[str, str], folder: str) -> bool:
    """Report whether the word is a path of this repository that does not exist.

    word: a path from the top, from the document's folder, or the end of one (`wire/cbor.py`).
    tree: path → text of every file.
    folder: of the document, with a slash at its end, "" for the top.
    """
    path, _, function = word.partition("::")
    if path.startswith(("/", ".", "build/")) or path in READERS_OWN or PLACEHOLDER.search(path):
        return False
    top = {name.split("/")[0] for name in tree if "/" in name}
    if "/" in path and path.split("/")[0] in top and not path.endswith(SOURCES):
        inside = path.rstrip("/") + "/"
        if "*" in path:
            return not fnmatch.filter(tree, path)
        return path not in tree and not any(name.startswith(inside) for name in tree)
    if path.endswith("/"):
        return not any("/" + path in "/" + name for name in tree)
    if not path.endswith(SOURCES):
        return False
    if "*" in path:
        return not fnmatch.filter(tree, path)
    hits = [name for name in tree if ("/" + name).endswith("/" + path) or name == folder + path]
    return not any(not function or function in defined_in(tree[name]) for name in hits)


def missing_name(word: str, tree: dict[str, str]) -> bool:
    """Report whether the word is a dotted name below one of our modules that does not exist.

    word: a full name (`warden.ota.boot.boot_result`) or a module's last name and a member
    (`ct.equal`).
    """
    if (
        not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", word)
        or word.split(".")[-1] in FILE_ENDINGS
    ):
        return False
    # The one name that the package resolves when asked.
    parts = re.sub(r"^warden\.Device\b", "warden.agent.device.Device", word).split(".")
    sources = {name: text for name, text in tree.items() if name.endswith(".py")}
    if parts[0] in ("warden", "warden_client", "warden_host", "warden_build"):
        modules = {}
        for name, text in sources.items():
            if name.startswith(("lib/", "tools/")):
                dotted = name.split("/", 1)[1].removesuffix(".py").removesuffix("/__init__")
                modules[dotted.replace("/", ".")] = text
        length = next(n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in modules)
        return not set(parts[length:]) <= defined_in(modules[".".join(parts[:length])])
    stem = f"/{parts[0]}.py"
    # A class may have the member from a module beside it: `device.health`.
    folders = {name.rpartition("/")[0] for name in sources if name.endswith(stem)}
    hits = [text for name, text in sources.items() if name.rpartition("/")[0] in folders]
    return bool(hits) and not any(set(parts[1:]) <= defined_in(text) for text in hits)


def missing_names(tree: dict[str, str], document: str) -> list[str]:
    """Return what a document names in backticks or links to and the tree does not have."""
    folder = document[: document.rfind("/") + 1]
    # Released versions keep the names that they had.
    text = re.split(r"^## \[\d", tree[document], flags=re.MULTILINE)[0]
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    found = []
    for link in links:
        path = (Path("/") / folder / link).as_posix()
        parts: list[str] = []
        for part in path.strip("/").split("/"):
            parts = parts[:-1] if part == ".." else [*parts, part]
        inside = "/".join(parts)
        if inside not in tree and not any(name.startswith(inside + "/") for name in tree):
            found.append(link)
    for block in re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL):
        words = (word for word in block.split() if "/" in word)
        tops = ("lib/", "tools/", "tests/", "docs/", "boards/", "firmware/")
        found += [word for word in words if word.startswith(tops) and missing_path(word, tree, "")]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`\n]+)`", prose):
        for word in span.split():
            if re.fullmatch(r"[\w./:*-]+(\(\))?", word):
                word = word.removesuffix("()")
                if missing_path(word, tree, folder) or missing_name(word, tree):
                    found.append(word)
    return found


def test_documents_name_what_exists(files: dict[str, bytes]) -> None:
    """A path, a module or a function in backticks, and each link, leads somewhere in this tree."""
    tree = {name: data.decode(errors="replace") for name, data in files.items()}
    documents = sorted(name for name in tree if name.endswith(".md"))
    assert "README.md" in documents and "docs/protocol.md" in documents
    found = [f"{name}: {word}" for name in documents for word in missing_names(tree, name)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("see `lib/warden/made_up.py`", ["lib/warden/made_up.py"]),
        ("see `wire/made_up.py` and `wire/cbor.py`", ["wire/made_up.py"]),
        ("see `made_up.py` and `cbor.py`", ["made_up.py"]),
        ("run `pytest tests/unit/made_up.py -k x`", ["tests/unit/made_up.py"]),
        ("see `tests/host`, `tests/unit/`, `unit/` and `hosts/`", ["tests/host", "hosts/"]),
        ("`warden.wire.cbor.encode`, `warden.cbor`", ["warden.cbor"]),
        ("`cbor.encode()`, `cbor.decode()`, `os.urandom`, `fleet.db`", ["cbor.decode"]),
        (
            "`tests/unit/test_a.py::test_b` `tests/unit/test_a.py::test_c`",
            ["tests/unit/test_a.py::test_c"],
        ),
        ("[a](../README.md), [b](made_up.md#x), [c](https://example.org/a)", ["made_up.md"]),
        ("```\npytest tests/unit/made_up.py\n```\n", ["tests/unit/made_up.py"]),
        ("`tests/unit/test_*.py`, `tests/host/test_*.py`", ["tests/host/test_*.py"]),
        ("`/app/app.py`, `boards/BOARD/board.py`, `app/`, `build/mpy/x.py`", []),
        ("`x.py`\n\n## [0.1.0]\n\n`made_up.py`", ["x.py"]),
    ],
)
def test_documents_that_name_what_does_not_exist(text: str, missing: list[str]) -> None:
    tree = {
        "README.md": "",
        "docs/a.md": text,
        "lib/warden/__init__.py": "",
        "lib/warden/wire/cbor.py": "def encode(): pass",
        "tests/unit/test_a.py": "def test_b(): pass",
        "tools/warden_host/fleet.py": "",
    }
    assert missing_names(tree, "docs/a.md") == missing


def test_documents_wrap_at_120_columns(files: dict[str, bytes]) -> None:
    """A row of a table and code can't be wrapped; every other line is."""
    long = []
    for name in sorted(name for name in files if name.endswith(".md")):
        code = False
        for number, line in enumerate(files[name].decode().splitlines(), 1):
            code ^= line.lstrip().startswith("```")
            one_piece = line.startswith("|") or re.fullmatch(r"\s*`[^`]+`[.,;]?", line)
            if len(line) > 120 and not code and not one_piece:
                long.append(f"{name}:{number}")
    assert long == []


def test_contributing_lists_every_package(repo: Path) -> None:
    page = (repo / "CONTRIBUTING.md").read_text()
    for where in ("lib/warden", "tools/warden_host"):
        packages = {path.parent.name for path in (repo / where).glob("*/__init__.py")}
        assert len(packages) > 10
        assert [one for one in sorted(packages) if f"| `{one}/` |" not in page] == []


def test_readme_links_every_page(files: dict[str, bytes]) -> None:
    pages = {name for name in files if name.startswith("docs/") and name.endswith(".md")}
    readme = files["README.md"].decode()
    assert {name for name in pages if f"]({name})" not in readme} == set()


# --- package.json, for mip -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def package(repo: Path) -> dict[str, object]:
    return dict(json.loads((repo / "package.json").read_text()))


def is_prose(path: Path) -> bool:
    """Return whether the file does nothing on a device: only a docstring and `if
    TYPE_CHECKING:`."""
    checking = re.compile(
        r"^TYPE_CHECKING = False\nif TYPE_CHECKING:\n(\n|    .*\n)*", re.MULTILINE
    )
    code = compile(checking.sub("", path.read_text()), str(path), "exec", optimize=2)
    return not code.co_names or set(code.co_names) == {"__doc__"}


def installed_files(repo: Path) -> list[str]:
    """Below lib: all but an `__init__` of prose, for a folder is a package without it, and each
    takes a block of the flash."""
    files = [path for path in (repo / "lib").rglob("*.py") if not is_prose(path)]
    return sorted(path.relative_to(repo / "lib").as_posix() for path in files)


def test_mip_lists_the_tree(repo: Path, package: dict[str, object]) -> None:
    tree = installed_files(repo)
    assert "warden/vault/__init__.py" in tree and "warden/ota/__init__.py" not in tree
    assert package["urls"] == [[name, "lib/" + name] for name in tree]
    assert package["deps"] == [["umqtt.simple", "latest"]]


def test_mip_version(repo: Path, package: dict[str, object]) -> None:
    (version,) = re.findall(
        r'^__version__ = "(.+)"$', (repo / "lib/warden/__init__.py").read_text(), re.MULTILINE
    )
    assert package["version"] == version
    assert f'version = "{version}"' in (repo / "pyproject.toml").read_text()


def test_mpremote_installs_from_a_clone(
    repo: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    micropython: str,
    umqtt_path: Path,
) -> None:
    """`mpremote mip install package.json`: relative addresses count from the file.

    What is installed can be imported.
    """
    from mpremote import mip

    board = Installed()
    asked = []
    install = mip._install_package

    def only_ours(transport: object, name: str, *rest: object) -> None:
        if name.endswith(".json"):
            install(transport, name, *rest)
        else:
            asked.append(name)  # what the index would be asked for

    monkeypatch.setattr(mip, "_install_package", only_ours)
    only_ours(board, str(repo / "package.json"), "index", "/lib", None, False)
    assert asked == ["umqtt.simple"]
    assert board.files == {
        "/lib/" + name: (repo / "lib" / name).read_bytes() for name in installed_files(repo)
    }
    for name, data in board.files.items():
        (tmp_path / name[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name[1:]).write_bytes(data)
    code = (
        f"import sys; sys.path[:] = ['lib', {str(umqtt_path)!r}, '.frozen']\n"
        "from warden import Device\nfrom warden.ota import boot\nfrom warden.agent.build import build"
    )
    done = subprocess.run([micropython, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_mip_resolves_addresses_of_a_repository(package: dict[str, object]) -> None:
    """On a device `mip.install("github:owner/name")` puts the folder of package.json before each
    relative address."""
    from mpremote import mip

    urls = package["urls"]
    assert isinstance(urls, list)
    for target, url in urls:
        assert not url.startswith(mip._ALLOWED_MIP_URL_PREFIXES)
        full = mip._rewrite_url("github:owner/name/package.json".rpartition("/")[0] + "/" + url)
        assert full.endswith("/owner/name/HEAD/lib/" + target)


# --- the wheel -----------------------------------------------------------------------------------


def test_wheel_carries_the_device_tree(repo: Path, tmp_path: Path) -> None:
    """A tool installed without the repository must still find what it copies to a device."""
    from hatchling.builders.wheel import WheelBuilder

    (built,) = WheelBuilder(str(repo)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
        page = wheel.read("warden_host/_device/docs/errors.md")  # for `warden explain`
    assert page == (repo / "docs/errors.md").read_bytes()
    for part in ("lib", "firmware", "boards"):
        for path in (repo / part).rglob("*.py"):
            assert "warden_host/_device/" + path.relative_to(repo).as_posix() in names
    # Where npm fetched it: its console draws, and brings the licence of what it draws with.
    fetched = (repo / "build/web/node_modules/uplot/dist/uPlot.esm.js").is_file()
    for name in ("uPlot.esm.js", "uPlot.min.css", "LICENSE"):
        assert (f"warden_host/web/_assets/uplot/{name}" in names) == fetched
    assert {"warden_build/compiled.py", "warden_build/firmware_names.txt"} <= names
    assert not [name for name in names if name.endswith((".pyc", ".mpy")) or "/test" in name]
    _provision_with(built, tmp_path)
    place = _python(tmp_path, "-c", "from warden_host.web import assets; print(assets.folder())")
    assert Path(place.strip()) == tmp_path / "site/warden_host/web/_assets/uplot" or not fetched


def _python(folder: Path, *words: str) -> str:
    """Run Python with what a wheel left in the folder; return what it prints."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("WARDEN_")
    } | {"PYTHONPATH": str(folder / "site")}
    command = [sys.executable, "-P", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _provision_with(wheel: str, folder: Path) -> None:
    """A device is made by what the wheel holds alone, with an application and umqtt.simple."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    for words in (["init", "fleet"], ["provision", "D1", "--type", "lock", "--sim"]):
        _python(folder, "-m", "warden_host.cli", *words)
    root = folder / "fleet" / "sim" / "D1" / "root"
    for name in ("lib/umqtt/simple.py", "app/app.py", "lib/warden/errors.py", "main.py"):
        assert (root / name).stat().st_size, name
