"""Ending a child process of ours: by its own pid, politely first, and never anybody else's."""

import signal
import subprocess

_PATIENCE_S = 5.0


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, then SIGKILL for one that does not listen; returns when it is gone."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
