"""Child processes: they end with their parent, by their own pid, SIGTERM first."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

_TERMINATE_S = 5.0
_CAP_NET_ADMIN = 12


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
    return [setpriv, "--pdeathsig", "TERM", *_without_firewall(), *argv]


def has_firewall_right() -> bool:
    """Return whether this process may change nftables: CAP_NET_ADMIN of capabilities(7)."""
    return _has_capability("CapEff")


def _without_firewall() -> list[str]:
    """Return what keeps a child from a right that the service was given for nft alone."""
    is_given = os.geteuid() != 0 and _has_capability("CapAmb")
    return ["--ambient-caps", "-net_admin"] if is_given else []


def _has_capability(line: str) -> bool:
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:  # no Linux: there is no nftables either
        return False
    found = re.search(rf"^{line}:\s*([0-9a-f]+)$", text, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> _CAP_NET_ADMIN & 1)


def terminate(process: "subprocess.Popen[bytes]") -> None:
    """Send SIGTERM, after a time SIGKILL, and wait until the process has ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_TERMINATE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
