"""A board.py read as data, and checked by the device's own table."""

import runpy
from pathlib import Path

import pytest
from host_kit import refused
from warden_host.errors import HostError
from warden_host.fleet import board_file, device_tree, errors_page

GOOD = """
NAME = "TEST"
STORE = ("file", "/vault")
ROOT_KEY = ("chip", "/salt")
CLOCK = ("chip",)
NETWORK = "wifi"
FLOOR = 1793491200  # a day
"""


def board(folder: Path, text: str | bytes) -> Path:
    path = folder / "TEST" / "board.py"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(HostError) as caught:
        board_file.read(board(folder, text))
    assert caught.value.code == "no-board"
    assert caught.value.text.startswith("TEST/board.py: ")
    return caught.value.text.removeprefix("TEST/board.py: ")


def test_every_board_of_the_tree(repo: Path) -> None:
    boards = sorted((repo / "boards").glob("*/board.py"))
    assert len(boards) >= 4
    for path in boards:
        assert board_file.read(path).values["NAME"] == path.parent.name


def test_names_and_values(tmp_path: Path) -> None:
    made = board_file.read(board(tmp_path, GOOD + 'a, WATCHDOG = 1, 30000\nimport sys\n"""."""\n'))
    assert made.values["STORE"] == ("file", "/vault") and made.values["WATCHDOG"] == 30000
    assert made.joins_wifi


@pytest.mark.parametrize(
    ("network", "wifi"),
    [('"wifi"', True), ('("wifi", "DE")', True), ('"wired"', False), ('("lan",)', False)],
)
def test_whether_it_joins_wifi(tmp_path: Path, network: str, wifi: bool) -> None:
    text = GOOD.replace('"wifi"', network)
    assert board_file.read(board(tmp_path, text)).joins_wifi is wifi


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD + "SLOTS = (\n", "line 8 is not Python"),
        (GOOD + "WATCHDOG = 30000\x00\n", "null byte"),
        (GOOD + 'WATCHDOG = int("30000")\n', "WATCHDOG in line 8 is no plain value"),
        (GOOD + "WATCHDOG = {[]: 1}\n", "WATCHDOG in line 8 is no plain value"),
        (GOOD + "WATCHDOG = " + "-" * 9000 + "1\n", "the file is not Python"),
        (GOOD + "WATCHDGO = 30000\n", "WATCHDGO is no name of board.py: do you mean WATCHDOG?"),
        (GOOD.replace("CLOCK", "CLOK"), "CLOCK is missing"),
        (GOOD.replace("chip", "tea"), "ROOT_KEY has no kind 'tea'"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in refusal(tmp_path, text)


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    assert "the file is not UTF-8" in refusal(tmp_path, GOOD.encode() + b"# \xff\n")
    with pytest.raises(HostError, match="65,536 bytes"):
        board_file.read(board(tmp_path / "large", GOOD + "#" * 65536))
    with pytest.raises(HostError, match="can't be read"):
        board_file.read(tmp_path)


def test_slots_added_and_left_out(tmp_path: Path) -> None:
    plain = board_file.read(board(tmp_path, GOOD))
    slots = plain.with_slots()
    assert slots.values == plain.values | {"SLOTS": ("file", "/slots", ("app",), 2)}
    assert slots.with_slots() == slots
    assert slots.without_slots().values == plain.values == plain.without_slots().values
    long = 'SLOTS = (\n    "partition", "/s",\n    ("app", "firmware"), 3,\n)\nWATCHDOG = 30000\n'
    made = board_file.parse(GOOD + long, "board.py")
    assert made.with_slots() == made
    assert made.without_slots().values == plain.values | {"WATCHDOG": 30000}


@pytest.mark.parametrize(
    "line",
    [
        'SLOTS, WATCHDOG = ("file", "/s", ("app",), 2), 30000\n',
        'SLOTS = ("file", "/s", ("app",), 2); FLOOR = 1893491200\n',
    ],
)
def test_slots_that_can_not_be_left_out(line: str) -> None:
    made = board_file.parse(GOOD + line, "board.py")
    with pytest.raises(HostError, match="lines of its own"):
        made.without_slots()


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = refusal(tmp_path, GOOD.replace("file", "fiel").replace("1793491200", "0"))
    assert "STORE has no kind" in text and "FLOOR must be" in text


def test_nothing_of_it_is_run(tmp_path: Path) -> None:
    target = tmp_path / "written"
    board_file.read(board(tmp_path, GOOD + f"open({str(target)!r}, 'w')\n"))
    assert not target.exists()


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="the file is missing"):
        board_file.read(tmp_path / "board.py")


def test_every_driver_has_its_kind_in_the_table(repo: Path) -> None:
    """A driver of hal that the table lacks could be named by no board, and the other way round."""
    table = runpy.run_path(str(device_tree.tree().library / "board" / "check.py"))
    hal = repo / "lib" / "warden" / "hal"
    own = {"system", "wired"}  # kinds without a driver of their own
    helpers = {"store_steps"}
    for name, prefix in (
        ("STORE", "store"),
        ("ROOT_KEY", "rootkey"),
        ("ASK", "ask"),
        ("NETWORK", "network"),
        ("KEYPAD", "keypad"),
        ("DISPLAY", "display"),
        ("SLOTS", "slots"),
    ):
        kinds = {form.split()[0] for form in table["FORMS"][name]} - own
        files = {path.stem for path in hal.glob(f"{prefix}_*.py")} - helpers
        assert {f"{prefix}_{kind}" for kind in kinds} == files, name


def test_an_installation_without_the_devices_files(tmp_path, monkeypatch):
    monkeypatch.setattr(device_tree, "__file__", str(tmp_path / "a" / "b" / "device_tree.py"))
    with refused("tree-missing"):
        device_tree.tree()
    monkeypatch.setattr(device_tree, "tree", lambda: device_tree.Tree(tmp_path))
    with refused("tree-missing"):
        errors_page._text()
