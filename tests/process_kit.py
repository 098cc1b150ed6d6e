"""Programs that a test starts: none of them outlives it, however the test ends."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

# Only bounds for what never comes, an end and one that was asked for: no machine is that slow.
PATIENCE_S = 240.0
TERM_S = 300.0


@contextlib.contextmanager
def child(
    argv: Sequence[str], number: int = signal.SIGTERM, **more: Any
) -> Iterator["subprocess.Popen[str]"]:
    """Started in a group of its own, its output as text; told to end by the signal `number` at the
    end of the block. more: as Popen takes it."""
    with subprocess.Popen(argv, text=True, process_group=0, **more) as process:
        try:
            yield process
        finally:
            end(process, number)


def end(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> None:
    """Ask it to; TimeoutExpired, and it is killed with all that it started, if it does not."""
    if process.poll() is not None:
        return
    process.send_signal(number)
    try:
        process.wait(TERM_S)
    except subprocess.TimeoutExpired:
        kill(process)
        raise


def kill(process: "subprocess.Popen[Any]") -> None:
    """With its group, unless it ended before: its number may be another's then."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)
