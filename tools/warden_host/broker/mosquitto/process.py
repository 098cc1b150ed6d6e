"""A child process of ours: it ends with us, by its own pid, politely first, and never anybody else's."""

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

_TERMINATE_S = 5.0


def tie_to_us(argv: list[str]) -> list[str]:
    """The same command, which the kernel ends with us: even a kill -9 leaves no orphan behind.

    Only where Linux and util-linux' setpriv are (busybox' can't do it), and from the main thread:
    the kernel counts the end of the thread that started the child, not of the process.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None or Path(setpriv).resolve().name != "setpriv":
        return argv
    if threading.current_thread() is not threading.main_thread():
        return argv
    return [setpriv, "--pdeathsig", "TERM", *argv]


def terminate(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, then SIGKILL for one that does not listen; returns when it is gone."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_TERMINATE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
