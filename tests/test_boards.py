"""Every folder of boards/: its data, its manifest, its partition table, its README."""

import re
from pathlib import Path

import pytest
from boards_kit import Bad, frozen_files, partitions
from warden_build import Built
from warden_build.__main__ import write_sources
from warden_build.compiled import build_repository
from warden_host.chips import chip
from warden_host.errors import HostError
from warden_host.fleet import board_file, device_tree

REPO = Path(__file__).resolve().parent.parent
FOLDERS = sorted(path.parent for path in REPO.glob("boards/*/board.py"))
# Of MicroPython's own names of its builds.
WANTED = """
    ESP32_GENERIC ESP32_GENERIC_C3 ESP32_GENERIC_C6 ESP32_GENERIC_S3 RPI_PICO2_W RPI_PICO_W UNIX
"""
MIN_SLOT = 1536 << 10  # of MicroPython's smallest builds with two slots
MIN_FILES = 500 << 10
# Words of a README about what stays open, whatever the board.
OPEN = ("**Root key**", "**Store**", "**Clock**")


@pytest.fixture(params=FOLDERS, ids=lambda path: path.name)
def folder(request) -> Path:
    return request.param


@pytest.fixture(scope="session")
def built() -> Built:
    return build_repository()


def test_the_boards_that_are_promised() -> None:
    assert set(WANTED.split()) <= {folder.name for folder in FOLDERS}
    assert {path.parent for path in REPO.glob("boards/*/README.md")} == set(FOLDERS)


def test_its_data(folder: Path) -> None:
    """As the device and the host check it; its drivers are there."""
    data = board_file.read(folder / "board.py").values
    assert data["NAME"] == folder.name
    drivers = {"ROOT_KEY": "rootkey", "KEYPAD": "keypad", "DISPLAY": "display"}
    for part, file in drivers.items():
        if part in data:
            assert (REPO / f"lib/warden/hal/{file}_{data[part][0]}.py").is_file()


def test_its_hardware(folder: Path) -> None:
    board = chip.read_board(folder)
    assert board.facts.port in ("esp32", "rp2", "unix")
    assert bool(board.flash) == (board.facts.port != "unix")
    assert (folder / "partitions.csv").is_file() == (board.facts.port == "esp32")


def test_its_readme_says_what_it_can_not_protect(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    state = chip.read_board(folder).state
    if state == "simulated":
        return
    head = {"experimental": "**Experimental**: not run", "emulated": "**Emulated**: `make test"}
    assert head[state] in text
    assert "What it can't protect:" in text
    after = text.partition("What it can't protect:")[2]
    for word in OPEN:
        assert word in after, word
    assert "anyone who reaches" in " ".join(after.split())
    shown = (REPO / "boards/README.md").read_text()
    row = re.search(rf"^\| \[{folder.name}\].*$", shown, re.MULTILINE)
    assert row is not None
    assert ("experimental" in row.group()) == (state == "experimental")
    assert f"| {chip.read_board(folder).flash >> 20} MB" in row.group()


# --- partition tables ----------------------------------------------------------------------------

TABLES = sorted(REPO.glob("boards/*/partitions.csv"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_a_partition_table(path: Path) -> None:
    flash = chip.read_board(path.parent).flash
    rows = {row.name: row for row in partitions(path.read_text(), flash)}
    assert rows["ota_0"].size == rows["ota_1"].size >= MIN_SLOT
    assert rows["vault"].size >= 64 << 10
    assert rows["vfs"].size >= MIN_FILES
    last = max(row.offset + row.size for row in rows.values())
    assert last == flash
    # What the README and boards/README.md say of it.
    size = f"{rows['ota_0'].size >> 10:,} KB"
    assert size in (path.parent / "README.md").read_text() or path.parent.name == "ESP32_GENERIC"
    assert f"2 × {size}" in (REPO / "boards/README.md").read_text()


GOOD = TABLES[0].read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0x10000,", "0x18000,"),  # an application off its 64 KB
        ("0x9000, 0x4000", "0x9000, 0x4001"),
        ("0x9000", "0x8000"),  # over the table
        ("0xd000, 0x2000", "0xd000, 0x1000"),  # otadata of one sector
        ("otadata, data, ota,", "otadata, data, nvs,"),
        ("ota_1, app, ota_1", "ota_1, app, ota_2"),
        ("ota_1, app", "ota_0, app"),
        ("ota_1, app", "a_name_of_sixteen, app"),
        ("0x1b0000, 0x1a0000", "0x1a0000, 0x1a0000"),  # overlaps
        ("vault, data", "vault, dat"),
        ("data, undefined", "data, mystery"),
        ("app, ota_0", "app, test"),
        ("vfs, data, fat, 0x360000, 0xa0000", "vfs, data, fat, 0x360000, 0xa1000"),
        ("nvs, data, nvs, 0x9000, 0x4000", "nvs, data, nvs, 0x9000, 0x2000"),
        ("nvs, data, nvs,", "nvs, data,"),
    ],
)
def test_a_table_that_the_build_refuses(old: str, new: str) -> None:
    assert old in GOOD
    with pytest.raises((Bad, ValueError)):
        partitions(GOOD.replace(old, new, 1), 4 << 20)


# --- manifests -----------------------------------------------------------------------------------


def test_its_manifest(folder: Path, tmp_path: Path, built: Built) -> None:
    """It freezes every module of the build, and nothing that is not there."""
    write_sources(built.sources, tmp_path / "build/mpy/frozen")
    manifest = tmp_path / "boards" / folder.name / "manifest.py"
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes((folder / "manifest.py").read_bytes())
    found = frozen_files(manifest)
    ours = {path for path in found if path.startswith("warden/")}
    assert ours == set(built.sources)
    for path in ours:
        assert found[path].read_text() == built.sources[path]
    # ESP32 builds have umqtt of their own, and no name may be frozen twice.
    assert ("umqtt/simple.py" in found) == (chip.read_board(folder).facts.port != "esp32")


@pytest.mark.parametrize(
    "text",
    [
        'package("warden", base_path=".")\n',  # the board's own modules are missing
        'include("$(BOARD_DIR)/manifest.py")\ninclude("$(PORT_DIR)/boards/manifest.py")\n',
        'include("/somewhere/manifest.py")\n',
        'include("$(BOARD_DIR)/manifest.py")\nrequire("umqtt")\n',
        'include("$(BOARD_DIR)/manifest.py")\nfreeze_all("warden")\n',
        'include("$(BOARD_DIR)/manifest.py")\npackage("warden", path=".")\n',
    ],
)
def test_a_manifest_that_the_build_refuses(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.py").write_text(text)
    with pytest.raises(Bad):
        frozen_files(tmp_path / "manifest.py")


# --- board.json ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"chip": "esp32", "flash_mb": 4}',
        '{"chip": "esp32", "flash_mb": 4, "state": "experimental", "more": 1}',
        '{"chip": "esp8266", "flash_mb": 4, "state": "experimental"}',
        '{"chip": "esp32", "flash_mb": 4, "state": "good"}',
        '{"chip": "esp32", "flash_mb": "4", "state": "experimental"}',
        '{"chip": "esp32", "flash_mb": true, "state": "experimental"}',
        '{"chip": "esp32", "flash_mb": 65, "state": "experimental"}',
        '{"chip": [], "flash_mb": 4, "state": "experimental"}',
    ],
)
def test_a_board_json_that_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "board.json").write_text(text)
    with pytest.raises(HostError) as caught:
        chip.read_board(tmp_path)
    assert caught.value.code == "config-malformed"


def test_an_unknown_board() -> None:
    with pytest.raises(HostError) as caught:
        chip.board(device_tree.tree(), "NO_SUCH_BOARD")
    assert caught.value.code == "bad-argument"
