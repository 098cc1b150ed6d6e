"""Network namespaces for tests: a world of its own, with a second one behind a cable.

A test starts a program of its own in the first one, `run_apart(FILE, …)`; that program makes the
second one, `Peer()`. Both need root, or rights that a container may lack: then missing() says so.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
HERE, FIRST = "10.77.0.1", "10.77.0.2"
_PATIENCE_S = 300


def missing(*programs: str) -> str:
    """Why no namespace can be made here, or which program is not there; "" where all is well."""
    for program in ("ip", "unshare", "nsenter", *programs):
        if shutil.which(program, path=PATH) is None:
            return f"{program} is not installed"
    cable = "ip link set lo up && ip link add near type veth peer name far"
    if "nft" in programs:
        cable += " && nft add table inet t"
    done = _run(["unshare", "--net", "sh", "-c", cable], check=False)
    return "" if done.returncode == 0 else "network namespaces are not permitted here"


def run_apart(file: Path, *arguments: str) -> dict[str, Any]:
    """What a program printed as JSON in its last line, run in a namespace of its own."""
    folders = ("tools", "tests", "tests/host", "tests/e2e")
    path = os.pathsep.join(str(REPO / folder) for folder in folders)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, str(file), *arguments],
        env=os.environ | {"PYTHONPATH": path, "PATH": PATH},
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


class Peer:
    """A second namespace, joined by a cable: HERE is this side's address, FIRST the peer's."""

    def __init__(self, addresses: list[str]) -> None:
        """addresses: of the peer, besides FIRST."""
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo up; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "near", "type", "veth", "peer", "name", "far")
        _ip("link", "set", "far", "netns", str(self._holder.pid))
        _ip("addr", "add", f"{HERE}/16", "dev", "near")
        _ip("link", "set", "near", "up")
        lines = ["link set lo up", "link set far up"]
        lines += [f"addr add {one}/16 dev far" for one in (FIRST, *addresses)]
        batch = "\n".join(lines)
        self.run(["ip", "-batch", "-"], input=batch)

    def run(self, command: list[str], **options: Any) -> str:
        """What a command printed that ran on the peer's side."""
        return _run(self.inside(command), **options).stdout

    def inside(self, command: list[str]) -> list[str]:
        """A command that runs another one on the peer's side."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *command]

    def close(self) -> None:
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait()


def _ip(*words: str) -> None:
    _run(["ip", *words])


def _run(command: list[str], check: bool = True, **options: Any) -> subprocess.CompletedProcess:
    done = subprocess.run(
        command,
        env=os.environ | {"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        **options,
    )
    if check and done.returncode:
        raise RuntimeError(f"{command[:4]}: {done.stderr[-500:]}")
    return done
