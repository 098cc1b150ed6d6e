"""Give a simulated device its bundle: its own provisioning runs as a process of this machine."""

import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from warden_host import jsontext
from warden_host.devices import bundle
from warden_host.errors import HostError
from warden_host.fleet import device_tree

TIMEOUT_S = 60
# A frame in the bundle's place: make the key of the certificate that the bundle will hold.
KEY_WANTED = b"certificate key"
_MAX_ANSWER = 128  # bytes, as the device reads it
_MAX_KEY = 256

Bundle = Callable[[bytes | None], bytes]


def device_argv(tree: device_tree.Tree, home: Path, *rest: str, heapsize: str = "") -> list[str]:
    """Return the argv that starts a simulated device."""
    heap = ["-X", f"heapsize={heapsize}"] if heapsize else []
    binary = device_tree.micropython()
    return [binary, *heap, str(tree.start), str(home / "root"), str(home / "fuses"), *rest]


def provision(
    tree: device_tree.Tree, home: Path, make: Bundle, pin: bytes, device_makes_key: bool
) -> None:
    """Run the device's own provisioning; secrets are sent to its standard input only.

    make(point): the bundle, for the public key that the device made, or None. Raises
    provision-failed, and what `make` raises.
    """
    try:
        with subprocess.Popen(
            device_argv(tree, home, "provision"),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            try:
                point = _ask_key(child) if device_makes_key else None
                frames = bundle.framed(make(point)) + (bundle.framed(pin) if pin else b"")
                out, err = child.communicate(frames, TIMEOUT_S)
            except BaseException:
                child.kill()
                raise
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(
            "provision-failed", f"the device did not answer ({type(error).__name__})"
        ) from None
    _check(child.returncode, out, err, home)


def _ask_key(child: "subprocess.Popen[bytes]") -> bytes:
    """Let the device make its key; return the public one. Raises provision-failed, bad-body."""
    if child.stdin is None or child.stdout is None:
        raise HostError("provision-failed", "the device has no console")
    child.stdin.write(bundle.framed(KEY_WANTED))
    line, end = b"", time.monotonic() + TIMEOUT_S
    while not line.endswith(b"\n") and len(line) < _MAX_KEY:
        if not select.select([child.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            raise HostError("provision-failed", "the device made no key in time")
        more = os.read(child.stdout.fileno(), _MAX_KEY)
        if not more:
            break
        line += more
    return read_key(jsontext.parse_object(line, _MAX_KEY, "bad-body"))


def read_key(answer: dict[str, object]) -> bytes:
    """Return the public key that a device made, x ‖ y. Raises bad-body."""
    try:
        return bytes.fromhex(str(answer["key"]))
    except (KeyError, ValueError):
        raise HostError("bad-body", "the device answered in another form") from None


def _check(status: int, out: bytes, err: bytes, home: Path) -> None:
    """Raise provision-failed unless the device says that it installed its bundle."""
    try:
        answer = jsontext.parse_object(out.splitlines()[-1], _MAX_ANSWER)
        good = answer["ok"] is True
        reason = ": ".join(str(answer[key]) for key in ("error", "text") if answer.get(key))[:300]
    except (HostError, IndexError, KeyError):
        good, reason = False, ""
    if not good or status != 0:
        text = reason or err.decode(errors="replace").strip().split("\n")[-1][:200]
        raise HostError(
            "provision-failed",
            f"the device refused its bundle: {jsontext.printable(text) or 'it wrote nothing'}",
            f"its files are in {home}; give the same command again once the cause is gone",
        )
