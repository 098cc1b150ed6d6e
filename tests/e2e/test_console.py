"""Ctrl-C on the console must not lead to a REPL that has the vault open."""

import ast
import os
import pty
import signal
import subprocess
import time
from pathlib import Path


def test_interrupts_are_off_before_anything_else(repo: Path) -> None:
    """The firmware turns Ctrl-C on for each file that it runs, so each begins by turning it off."""
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


def test_a_failing_application_starts_over(repo: Path, micropython: str, tmp_path: Path) -> None:
    """main.py, run with an application that fails: it says why, waits, and ends in a reset."""
    root, fuses = tmp_path / "root", tmp_path / "fuses"
    for folder in (root / "lib", root / "app", fuses):
        folder.mkdir(parents=True)
    (root / "lib" / "warden").symlink_to(repo / "lib" / "warden")
    for name in ("boot.py", "main.py"):
        (root / name).write_bytes((repo / "firmware" / name).read_bytes())
    (root / "app" / "app.py").write_text(
        "import warden.hal.system\nwarden.hal.system.PAUSE_S = 0.1\n1 // 0\n"
    )
    start = [micropython, str(repo / "boards" / "UNIX" / "_boot.py"), str(root), str(fuses)]
    done = subprocess.run(start, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "ZeroDivisionError" in done.stdout + done.stderr


def test_ctrl_c_reaches_nobody(repo: Path, micropython: str, tmp_path: Path) -> None:
    """A stream of Ctrl-C on the terminal of a running board: the application goes on, and no prompt comes.

    On the unix port kbd_intr(-1) gives Ctrl-C back to the system, whose answer is to end the process: no REPL either way.
    """
    root, fuses = tmp_path / "root", tmp_path / "fuses"
    for folder in (root / "lib", root / "app", fuses):
        folder.mkdir(parents=True)
    (root / "lib" / "warden").symlink_to(repo / "lib" / "warden")
    for name in ("boot.py", "main.py"):
        (root / name).write_bytes((repo / "firmware" / name).read_bytes())
    (root / "app" / "app.py").write_text("import time\nprint('running')\ntime.sleep(20)\n")
    near, far = pty.openpty()
    start = [micropython, "-i", str(repo / "boards" / "UNIX" / "_boot.py"), str(root), str(fuses)]
    child = subprocess.Popen(start, stdin=far, stdout=far, stderr=far, start_new_session=True)
    os.close(far)
    said = b""
    while b"running" not in said:
        said += os.read(near, 4096)
    for _ in range(5):
        os.killpg(child.pid, signal.SIGINT)
        time.sleep(0.05)
    try:
        while part := os.read(near, 4096):
            said += part
    except OSError:
        pass  # the terminal's end: the process is gone
    child.wait(30)
    os.close(near)
    assert b">>>" not in said
    assert child.returncode not in (0, None)
