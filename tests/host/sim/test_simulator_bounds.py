"""Bounds of the simulator that need no running board: addresses, sessions, the flash's files."""

import os
import socket
from pathlib import Path

import pytest
from cli_kit import fails
from warden_host.cli import main
from warden_host.cli import run as cli_run
from warden_host.errors import HostError
from warden_host.sim import flash_files
from warden_host.sim.web import run, sessions
from warden_host.sim.web.sessions import Sessions
from warden_host.stopping import Stop

CHOICE = run.Choice(Path("missing"), b"", False)
SHOWN = run.Shown(lambda *_: None, lambda *_: None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.net", "127.0.0.2"])
def test_only_this_machine(host: str, stop: Stop) -> None:
    with pytest.raises(HostError) as raised:
        run.run([CHOICE], host, 0, "", SHOWN, stop)
    assert raised.value.code == "bad-argument" and host in raised.value.text


@pytest.mark.parametrize("count", [0, run.MOST + 1])
def test_number_of_devices(count: int, stop: Stop) -> None:
    with pytest.raises(HostError) as raised:
        run.run([CHOICE] * count, "127.0.0.1", 0, "", SHOWN, stop)
    assert raised.value.code == "bad-argument" and "devices" in raised.value.text


def test_a_port_that_another_program_has(stop: Stop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(HostError) as raised:
            run.run([CHOICE], "127.0.0.1", taken.getsockname()[1], "", SHOWN, stop)
    assert raised.value.code == "web-failed"


def test_the_command_line(folder, capsys, monkeypatch) -> None:
    fails(capsys, "bad-argument", "run", "D1", "D2")
    fails(capsys, "bad-argument", "run", "D1", "--once", "--web")
    fails(capsys, "bad-argument", "run", "D1", "--web", "D2")
    fails(capsys, "device-unknown", "run", "D1", "--web")
    assert main.run(["run", "D1", "--pico", "x.uf2", "--web"]) == 2
    assert main.run(["run", "D1", "D2", "--pico", "x.uf2"]) == 2
    monkeypatch.setattr(cli_run, "find_spec", lambda name: None)
    fails(capsys, "web-missing", "run", "D1", "--web")


def test_the_oldest_session_ends() -> None:
    keys: list[str] = []
    made = Sessions(keys.append)
    tokens = [made.enter(keys[-1]) for _ in range(sessions.MOST + 1)]
    assert len({*keys, *tokens}) == 2 * len(tokens) + 1
    assert [made.knows(token) for token in tokens] == [False] + [True] * sessions.MOST
    assert not made.enter(keys[-2]) and not made.enter("")


def test_many_files_and_deep_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash_files, "MAX_FILES", 3)
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    assert [one.path for one in flash_files.files(tmp_path)[0]] == ["/0", "/1", "/2"]
    assert not flash_files.files(tmp_path)[1]
    deep = tmp_path / "3" / "a/b/c/d/e/f/g/h"
    deep.mkdir(parents=True)
    (deep / "far").write_bytes(b"x")
    assert not flash_files.files(tmp_path)[1]  # too deep to be listed
    with pytest.raises(HostError):
        flash_files.read(tmp_path, "/3/a/b/c/d/e/f/g/h/far", 0)
    with pytest.raises(HostError):
        flash_files.read(tmp_path, "/pipe", 0)
    (tmp_path / "4").write_bytes(b"x" * (flash_files.MAX_READ + 1))
    assert flash_files.files(tmp_path)[1]
    assert len(flash_files.read(tmp_path, "/4", 0)[0]) == flash_files.MAX_READ
    assert flash_files.read(tmp_path, "/4", flash_files.MAX_READ) == (b"x", 4097)


def test_every_file_is_on_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the walk, whatever the names: also files that come and go between pages."""
    odd = os.fsdecode(b"\xff")
    names = [
        "b",
        "z",
        "a/b",
        "a/b-",
        "a-/x",
        "a/c/1",
        "a/c/2",
        "a/c-",
        odd,
        f"a/{odd}",
        f"{odd}d/a",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    whole, following = flash_files.files(tmp_path)
    assert len(whole) == len(names) and not following
    monkeypatch.setattr(flash_files, "MAX_FILES", 3)
    shown, after = [], b""
    while page := flash_files.files(tmp_path, after):
        shown += page[0]
        assert len(page[0]) <= 3
        if not page[1]:
            break
        after = page[1]
    assert shown == whole
    after = flash_files.files(tmp_path)[1]
    (tmp_path / os.fsdecode(after)).unlink()
    assert flash_files.files(tmp_path, after)[0] == whole[3:6]
    # A name that sorts behind all files of the root: what its folders hold is left.
    left = [one for one in whole if one.path.count("/") > 1]
    assert flash_files.files(tmp_path, b"\xff" * 9)[0] == left[:3]


def test_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"x")
    found = flash_files.files(tmp_path)[0]
    assert [one.path for one in found] == ["/\ufffd"]
    found[0].path.encode()  # as an answer does
