"""Ctrl-C on the console must not lead to a REPL that has the vault open."""

import ast
import signal
import subprocess
from pathlib import Path

import pytest
from fleet_kit import PATIENCE_S, wait_until
from terminal_kit import Terminal


def board(repo: Path, folder: Path, app: str) -> list[str]:
    """The firmware with this application on a board of its own: what starts it."""
    root, fuses = folder / "root", folder / "fuses"
    for each in (root / "lib", root / "app", fuses):
        each.mkdir(parents=True)
    (root / "lib" / "warden").symlink_to(repo / "lib" / "warden")
    for name in ("boot.py", "main.py"):
        (root / name).write_bytes((repo / "firmware" / name).read_bytes())
    (root / "app" / "app.py").write_text(app)
    return [str(repo / "boards" / "UNIX" / "_boot.py"), str(root), str(fuses)]


def test_interrupts_are_off_before_anything_else(repo: Path) -> None:
    """The firmware turns Ctrl-C on for each file that it runs, so each begins by turning it
    off."""
    for name in ("boot.py", "main.py"):
        body = ast.parse((repo / "firmware" / name).read_bytes()).body
        first = [ast.unparse(node) for node in body if not isinstance(node, ast.Import)][1]
        assert first == "micropython.kbd_intr(-1)", (name, first)
        imported = [
            alias.name
            for node in body[: [ast.unparse(n) for n in body].index(first)]
            if isinstance(node, ast.Import)
            for alias in node.names
        ]
        # Built into the firmware: nothing on the flash runs while Ctrl-C is on.
        assert set(imported) <= {"gc", "micropython", "sys"}, imported


@pytest.mark.parametrize("end", ["1 // 0", "pass", "import sys\nsys.exit()"])
def test_an_application_that_ends_starts_over(
    end: str, repo: Path, micropython: str, tmp_path: Path
) -> None:
    """main.py, run with an application that fails or ends: it says so, waits after a failure, and
    ends in a reset."""
    app = f"import warden.hal.system\nwarden.hal.system.PAUSE_S = 0.1\n{end}\n"
    start = [micropython, *board(repo, tmp_path, app)]
    done = subprocess.run(start, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 3
    said = done.stdout + done.stderr
    assert ("ZeroDivisionError" in said) == (end == "1 // 0")
    assert "warden: the application ended, the board starts anew" in said


def test_ctrl_c_neither_interrupts_nor_prompts(
    repo: Path, micropython: str, tmp_path: Path
) -> None:
    """Ctrl-C on the terminal of a running board, again and again: no exception in the application,
    and no prompt.

    On the unix port kbd_intr(-1) gives Ctrl-C back to the system, whose answer is to end the
    process by its signal. -i is what makes a prompt come where the firmware ends by an exception,
    as on a board.
    """
    app = "import time\nprint('running')\ntime.sleep(1000)\nprint('went on')\n"
    with Terminal([micropython, "-i", *board(repo, tmp_path, app)]) as console:
        console.sees("running")
        console.type("\x03" * 5)
        wait_until(lambda: console.ended() or ">>>" in console.said(), "end and no prompt")
        assert ">>>" not in console.said()
        assert console.wait() == -signal.SIGINT


@pytest.mark.parametrize("slots", [False, True])
def test_a_board_that_is_not_provisioned_ends_at_the_console(
    slots: bool, repo: Path, micropython: str, tmp_path: Path
) -> None:
    """As after an install by mip: there is no secret yet, and the board is to be provisioned."""
    start = [micropython, *board(repo, tmp_path, "print('the application runs')")]
    lines = (repo / "boards" / "UNIX" / "board.py").read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if slots or not line.startswith("SLOTS"))
    (tmp_path / "root" / "lib" / "board.py").write_text(text)

    def printed() -> tuple[int, str]:
        done = subprocess.run(
            start, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        return done.returncode, done.stdout + done.stderr

    status, said = printed()
    assert status == 0
    assert said == "warden: this board is not provisioned\nwarden: here is the console\n"


@pytest.mark.parametrize(
    ("record", "data"),
    [("commit", b"damaged"), ("commit", bytes(5000)), ("key", b"warden: wiped")],
)
def test_a_vault_that_does_not_open_opens_no_console(
    record: str, data: bytes, repo: Path, micropython: str, tmp_path: Path
) -> None:
    start = board(repo, tmp_path, "import warden.hal.system\nwarden.hal.system.PAUSE_S = 0")
    root = tmp_path / "root"
    text = (repo / "boards" / "UNIX" / "board.py").read_text().replace("SLOTS", "slots")
    # A wipe that can't be finished: a folder stands in a record's place.
    (root / "lib" / "board.py").write_text(text)
    (root / "data").mkdir()
    (root / "data" / record).write_bytes(data)
    if record == "key":
        (root / "data" / "app_x" / "inside").mkdir(parents=True)
    done = subprocess.run(
        [micropython, *start], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "here is the console" not in done.stdout
