"""Make rows of the benchmarks' table, and run the processes that several of them measure."""

import contextlib
import datetime
import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from warden_host import names
from warden_host.fleet import device_tree, pki
from warden_host.fleet.fleet import Fleet

REPO = Path(__file__).resolve().parents[2]
_WAIT_S = 30.0

# An application that only keeps its agent running.
IDLE_APP = """\
import asyncio
from warden import Device

device = Device.from_board(lambda code, text: print(code, text))

async def main():
    await device.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


class LeftOut(Exception):
    """A benchmark that lacks what it measures with; its text is one sentence."""


def figure(value: object) -> str:
    """Return a number with three figures that count."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def row(
    name: str,
    value: object,
    unit: str,
    *,
    most: float | None = None,
    least: float | None = None,
    target: str = "",
    ok: bool | None = None,
    peer: str = "",
) -> dict[str, object]:
    """Return a row of the table; see run.py.

    most, least: the target, where it is a bound; else target in words, and whether it is met.
    peer: who is measured beside, and its figure.
    """
    if most is not None:
        target, ok = f"≤ {most:,g}", bool(value <= most)  # type: ignore[operator]
    elif least is not None:
        target, ok = f"≥ {least:,g}", bool(value >= least)  # type: ignore[operator]
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "target": target,
        "peer": peer,
        "ok": ok,
    }


def state() -> str:
    """Return when this was measured, and of which commit."""
    command = ["git", "-C", str(REPO), "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    day = datetime.datetime.now(tz=datetime.UTC).date()
    return f"{day}, commit {done.stdout.strip() or 'unknown'}"


class Process:
    """A MicroPython process that is told things by lines and says things by lines."""

    def __init__(self, argv: list[str]) -> None:
        self.child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.said: queue.Queue[str] = queue.Queue()
        self._tail: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.child.stdout or ():
            self.said.put(line.decode(errors="replace").strip())
        self.said.put("")  # it ended

    def write_line(self, line: str) -> None:
        if self.child.stdin is not None:
            self.child.stdin.write(line.encode() + b"\n")
            self.child.stdin.flush()

    def wait_line(self, word: str) -> str:
        """What follows the word, once the process said it.

        RuntimeError with its last lines when it does not.
        """
        end = time.monotonic() + _WAIT_S
        while (left := end - time.monotonic()) > 0:
            try:
                line = self.said.get(timeout=left)
            except queue.Empty:
                break
            self._tail = [*self._tail[-9:], line]
            first, _, rest = line.partition(" ")
            if first == word:
                return rest
            if not line and self.child.poll() is not None:
                break
        raise RuntimeError(f"no {word!r} from the device, only: " + " | ".join(self._tail))

    def cpu_ns(self) -> int:
        """What all its threads ran so far, from the scheduler's own books: /proc/PID/stat counts
        in hundredths of a second."""
        tasks = Path(f"/proc/{self.child.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks)

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self._reader.join(_WAIT_S)
        for stream in (self.child.stdin, self.child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


# The head of a program on umqtt.simple as it is. Its `ussl` is gone from MicroPython: the one
# given here hands it a socket of the TLS that a device of ours gets.
_BARE_HEAD = """\
import json, sys, time, tls
setting = json.loads(sys.stdin.readline())
sys.path.insert(0, setting["umqtt"])

class Tls:
    def wrap_socket(self, raw):
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = tls.CERT_REQUIRED
        context.set_ciphers(("TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",))
        context.load_verify_locations(bytes.fromhex(setting["ca"]))
        return context.wrap_socket(raw, server_hostname="127.0.0.1")

sys.modules["ussl"] = Tls()
from umqtt.simple import MQTTClient

user = setting["user"]
client = MQTTClient(user, "127.0.0.1", setting["port"], user, setting["password"].encode(), 600,
                    ssl=True)
TOPIC = setting["topic"].encode()
"""


def settings_of(
    fleet: Fleet, type_: str, device: str, password: str, port: int, topic: str
) -> dict[str, object]:
    """Return what a plain client is told on its standard input: account, CA, topics."""
    return {
        "umqtt": str(device_tree.umqtt().parent),
        "ca": pki.load_ca(fleet.keys).der().hex(),
        "user": names.device_client(type_, device),
        "password": password,
        "port": port,
        "topic": topic,
        "commands": f"iot-2/type/{type_}/id/{device}/cmd/#",
    }


@contextlib.contextmanager
def plain_process(program: str, settings: dict[str, object]) -> Iterator[Process]:
    """Run a program on umqtt.simple's client; it finds `client`, TOPIC and `setting`."""
    with Process([device_tree.micropython(), "-c", _BARE_HEAD + program]) as process:
        process.write_line(json.dumps(settings))
        yield process
