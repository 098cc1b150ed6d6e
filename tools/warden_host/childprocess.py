"""Child processes: they end with their parent, by their own pid, SIGTERM first."""

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

_TERMINATE_S = 5.0


def tie_to_us(argv: list[str]) -> list[str]:
    """Return the command wrapped so that the kernel ends it with us, even after a kill -9.

    Only on Linux with util-linux' setpriv (busybox' can't do it), and from the main thread: the
    kernel counts the end of the thread that started the child, not of the process.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None or Path(setpriv).resolve().name != "setpriv":
        return argv
    if threading.current_thread() is not threading.main_thread():
        return argv
    return [setpriv, "--pdeathsig", "TERM", *argv]


def terminate(process: "subprocess.Popen[bytes]") -> None:
    """Send SIGTERM, after a time SIGKILL, and wait until the process has ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_TERMINATE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
