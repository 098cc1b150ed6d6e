"""What a test starts ends with it, even if the test fails and the program does not want to."""

import os
import select
import subprocess
import sys

import process_kit
import pytest

# Deaf to SIGTERM, and so is what it started.
DEAF = """
import signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "100"])
print("ready", flush=True)
signal.pause()
"""


class Failed(Exception):
    pass


def test_a_child_ends_with_a_test_that_failed() -> None:
    argv = [sys.executable, "-c", "import signal; signal.pause()"]
    with pytest.raises(Failed), process_kit.child(argv) as process:
        raise Failed
    assert process.returncode == -15


def test_a_deaf_child_is_killed_and_what_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = os.pipe()
    with open(near) as said:
        with (
            pytest.raises(subprocess.TimeoutExpired),
            process_kit.child([sys.executable, "-c", DEAF], stdout=far) as process,
        ):
            os.close(far)
            assert said.readline() == "ready\n"
            monkeypatch.setattr(process_kit, "TERM_S", 0.1)
        assert process.returncode == -9
        # The pipe ends when all its other ends are closed, that of the program's child too.
        assert select.select([said], [], [], process_kit.PATIENCE_S)[0]
        assert said.read() == ""


def test_one_that_ended_is_left_alone() -> None:
    with process_kit.child([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        assert process.wait(process_kit.PATIENCE_S) == 3
    process_kit.kill(process)
    assert process.returncode == 3
