"""Lists for mip: of the repository, and what a web server gives to boards (build/mip)."""

import json
import subprocess
from pathlib import Path

import pytest
from mip_kit import Installed, serving
from mpremote import mip as mpremote_mip
from process_kit import PATIENCE_S
from warden_build import mip, packages
from warden_build.compiled import build_repository

REPO = Path(__file__).resolve().parent.parent
PARTS = sorted(packages.PARTS)
# What each part's user imports first.
IMPORTS = {
    "vault": ("warden.vault", "warden.hal.store_file", "warden.hal.rootkey_software"),
    "link": ("warden.net.link", "warden.net.mqtt", "warden.net.clock"),
    "session": ("warden.session.session", "warden.session.inbox", "warden.session.plain"),
    "updates": ("warden.ota.boot", "warden.ota.service", "warden.hal.slots_file"),
    "gate": ("warden.gate.gate", "warden.gate.codes", "warden.hal.keypad_matrix"),
}
# No list of a part may bring another part's heart.
FOREIGN = {
    "vault": ("net/", "session/", "ota/", "gate/", "agent/"),
    "link": ("vault/", "session/", "ota/", "gate/", "agent/"),
    "session": ("net/link", "net/mqtt", "ota/", "gate/", "agent/", "vault/wipe"),
    "updates": ("net/mqtt", "session/inbox", "gate/", "agent/"),
    "gate": ("net/link", "net/mqtt", "ota/", "agent/"),
}
BLOCK, BLOCKS = 4096, 212  # of the filesystem of a stock Pico W
LEFT = 570_000  # bytes for the application and updates


def tree_of(repo: Path) -> dict[str, str]:
    lib = repo / "lib"
    return {path.relative_to(lib).as_posix(): path.read_text() for path in lib.rglob("*.py")}


def run(micropython: str, code: str, folder: Path) -> str:
    done = subprocess.run(
        [micropython, "-X", "heapsize=16m", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> Path:
    """build/mip with the sources, this machine's build and the Pico W's."""
    out = tmp_path_factory.mktemp("mip")
    given = mip.inputs(build_repository())
    mip.write_sources(given, out / "py")
    for architecture in ("x64", "armv6m"):
        mip.write_compiled(given, architecture, out / architecture)
    return out


@pytest.fixture(scope="session")
def server(folders: Path):
    with serving(folders) as port:
        yield f"http://127.0.0.1:{port}"


# --- the repository's lists ----------------------------------------------------------------------


def test_the_lists_are_up_to_date(repo: Path) -> None:
    """`make format` writes them."""
    lists = packages.repository_lists(tree_of(repo))
    assert set(lists) == {"package.json", *(f"lib/{part}.json" for part in PARTS)}
    for path, text in lists.items():
        assert (repo / path).read_text() == text, path
        json.loads(text)
    assert {path.name for path in (repo / "lib").glob("*.json")} == {
        f"{one}.json" for one in PARTS
    }


def test_addresses_do_not_go_upwards(repo: Path, folders: Path) -> None:
    lists = [repo / "package.json", *repo.glob("lib/*.json"), *folders.glob("*/*.json")]
    for path in lists:
        for _, address in json.loads(path.read_text())["urls"]:
            assert ".." not in address
            assert (path.parent / address).is_file(), (path, address)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_brings_what_it_needs_and_no_other_part(part: str, repo: Path) -> None:
    files = packages.part_files(tree_of(repo), packages.PARTS[part])
    for name in FOREIGN[part]:
        assert not [path for path in files if path.startswith("warden/" + name)]


def test_what_a_module_imports() -> None:
    tree = {
        "warden/__init__.py": "",
        "warden/a.py": "from . import b\ndef f():\n    from .p.c import x\n    from .p import d, y\n",
        "warden/b.py": "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from . import a\nimport os\n",
        "warden/p/__init__.py": "",
        "warden/p/c.py": "from .. import b\nfrom ..a import z\n",
        "warden/p/d.py": "",
    }
    assert packages.imported(tree, "warden/a.py") == {
        "warden/b.py",
        "warden/p/__init__.py",
        "warden/p/c.py",
        "warden/p/d.py",
    }
    assert packages.imported(tree, "warden/b.py") == set()
    assert packages.imported(tree, "warden/p/c.py") == {"warden/b.py", "warden/a.py"}


# --- installed from a web server -----------------------------------------------------------------

# A filesystem as a stock Pico W's on a block device in memory, as "/".
DISK = f"""
import vfs
class Flash:
    def __init__(self):
        self.data = bytearray({BLOCK * BLOCKS})
    def readblocks(self, block, data, offset=0):
        at = block * {BLOCK} + offset
        data[:] = self.data[at : at + len(data)]
    def writeblocks(self, block, data, offset=None):
        at = block * {BLOCK} + (offset or 0)
        self.data[at : at + len(data)] = data
    def ioctl(self, op, arg):
        return {{4: {BLOCKS}, 5: {BLOCK}, 6: 0}}.get(op)
flash = Flash()
vfs.VfsLfs2.mkfs(flash, progsize=256)
vfs.umount("/")
vfs.mount(vfs.VfsLfs2(flash, progsize=256), "/")
import os, sys
os.mkdir("/lib")
sys.path[:] = [".frozen", "/lib"]
"""
LARGE = DISK.replace(f"bytearray({BLOCK * BLOCKS})", f"bytearray({BLOCK * 400})").replace(
    f"4: {BLOCKS}", "4: 400"
)
INSTALL = """
import mip
mip.install({address!r}, index="http://127.0.0.1:1", target="/lib")
"""


@pytest.mark.parametrize("kind", ["py", "x64"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_alone(part: str, kind: str, server: str, micropython: str, tmp_path: Path) -> None:
    """Installed into an empty board, from a server alone, it can be imported."""
    address = f"{server}/{kind}/{part}.json"
    code = DISK + INSTALL.format(address=address)
    code += "".join(f"import {name}\n" for name in IMPORTS[part])
    code += "print(sorted(sys.modules))"
    said = run(micropython, code, tmp_path)
    assert "Done" in said
    for name in IMPORTS[part]:
        assert f"'{name}'" in said


@pytest.mark.parametrize("kind", ["py", "x64"])
def test_the_whole(kind: str, server: str, micropython: str, tmp_path: Path) -> None:
    code = LARGE if kind == "py" else DISK
    code += INSTALL.format(address=f"{server}/{kind}/UNIX.json")
    code += "import board\nprint(sorted(os.listdir('/')), board.NAME)\nfrom warden import Device\n"
    code += "from warden.provisioning.provision import main"
    assert "['boot.py', 'lib', 'main.py'] UNIX" in run(micropython, code, tmp_path)


def test_mpremote_installs_a_boards_list(folders: Path) -> None:
    board = Installed()
    given = folders / "armv6m" / "RPI_PICO_W.json"
    mpremote_mip._install_package(board, str(given), "no index", "/lib", None, True)
    names = {"/lib/../boot.py", "/lib/../main.py", "/lib/board.py", "/lib/umqtt/simple.mpy"}
    assert names <= set(board.files)
    assert board.files["/lib/board.py"] == (REPO / "boards/RPI_PICO_W/board.py").read_bytes()
    assert len(board.files) == len(json.loads(given.read_text())["urls"])


def test_from_the_repository_with_an_index_of_ones_own(
    repo: Path, folders: Path, micropython: str, umqtt_path: Path, tmp_path: Path
) -> None:
    """package.json wants umqtt.simple from an index; `index` names one that is at hand."""
    site = tmp_path / "site"
    (site / "package/6/umqtt.simple").mkdir(parents=True)
    (site / "package.json").write_bytes((repo / "package.json").read_bytes())
    (site / "lib").symlink_to(repo / "lib")
    (site / "simple.py").write_bytes((umqtt_path / "umqtt" / "simple.py").read_bytes())
    with serving(site) as port:
        server = f"http://127.0.0.1:{port}"
        text = json.dumps({"version": "1", "urls": [["umqtt/simple.py", server + "/simple.py"]]})
        (site / "package/6/umqtt.simple/latest.json").write_text(text)
        code = LARGE
        code += (
            f"import mip\nmip.install('{server}/package.json', index='{server}', target='/lib')\n"
        )
        code += "from warden import Device\nimport umqtt.simple\nprint('both')"
        assert run(micropython, code, tmp_path).endswith("both\n")


# Bytes of the files of a vault with one application and a release key, its slot record and the
# table of the release key.
VAULT = (31, 39, 62, 62, 69, 77, 87, 128, 156, 600, 120, 2600)


def test_a_stock_pico_w_has_570_kb_left(server: str, micropython: str, tmp_path: Path) -> None:
    """What boards/RPI_PICO_W needs, with a vault's files and its reserve, in 212 blocks."""
    code = DISK + INSTALL.format(address=f"{server}/armv6m/RPI_PICO_W.json")
    code += f"""
os.mkdir("/vault")
os.mkdir("/slots")
files = [("/vault/" + str(at), size) for at, size in enumerate({VAULT})]
for name, size in files + [("/vault.reserve", 8192), ("/salt", 32)]:
    with open(name, "wb") as file:
        file.write(bytes(size))
space = os.statvfs("/")
print("left", space[0], space[2], space[3])
"""
    said = run(micropython, code, tmp_path).split("left ")[1].split()
    block, blocks, free = (int(word) for word in said)
    assert (block, blocks) == (BLOCK, BLOCKS)
    print(f"\n{free} of {blocks} blocks are free: {free * block:,} bytes")
    assert free * block >= LEFT
