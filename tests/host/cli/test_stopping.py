"""A stop by a signal is never lost, and leaves no lock behind: wherever the signal comes."""

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from process_kit import PATIENCE_S, child
from warden_host import stopping
from warden_host.service import control
from warden_host.service.control import ControlServer
from warden_host.sim import simulated
from warden_host.stopping import LineReader, on_signals, run_async

TOOLS = Path(__file__).resolve().parents[3] / "tools"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(TOOLS)}
NUMBERS = [signal.SIGINT, signal.SIGTERM]


@contextlib.contextmanager
def signal_at(function, number):
    """Send this process the signal when the main thread enters the function for the first time."""
    before = sys.gettrace()

    def trace(frame, event, _):
        if frame.f_code is function.__code__:
            sys.settrace(before)
            os.kill(os.getpid(), number)

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("function", [threading.Condition.__enter__, threading.Condition.__exit__])
def test_a_signal_within_a_lock_leaves_it_usable(function, number):
    event = threading.Event()
    with on_signals() as stop:
        with signal_at(function, number):
            event.set()
        assert stop.wait(PATIENCE_S)
    # On a thread: where the lock was left, it waits for ever.
    again = threading.Thread(target=event.set, daemon=True)
    again.start()
    again.join(PATIENCE_S)
    assert not again.is_alive() and event.is_set()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_within_the_wait_ends_it(number):
    with on_signals() as stop, signal_at(stopping.readable, number):
        assert stop.wait(PATIENCE_S)
        assert stop.signals == 1


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_to_another_thread_ends_the_wait(number):
    """No handler runs there, and none interrupts what the main thread waits for."""
    with on_signals() as stop, pipe_of(b"") as (reader, _):
        signalled = threading.Event()
        thread = threading.Thread(target=lambda: signalled.wait(PATIENCE_S))
        thread.start()
        signal_later = threading.Timer(0.1, lambda: signal.pthread_kill(thread.ident, number))
        signal_later.start()
        assert LineReader(reader, stop, PATIENCE_S).readline(99) == b""
        signalled.set()
        thread.join()
        assert stop.requested


def test_handlers_are_given_back():
    before = [signal.getsignal(number) for number in NUMBERS]
    with on_signals():
        assert not set(before) & {signal.getsignal(number) for number in NUMBERS}
    assert [signal.getsignal(number) for number in NUMBERS] == before
    assert signal.set_wakeup_fd(-1) == -1


PATIENT = """
import time
from warden_host.stopping import on_signals
with on_signals() as stop:
    print("on", flush=True)
    seen = 0
    while True:
        if stop.signals > seen:
            seen = stop.signals
            print(seen, flush=True)
        time.sleep(0.01)
"""


@pytest.mark.parametrize("first", NUMBERS)
def test_a_second_ctrl_c_ends_at_once(first):
    argv = [sys.executable, "-c", PATIENT]
    with child(argv, env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "on\n"
        process.send_signal(first)
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGTERM)  # a supervisor may repeat it: it is no hurry
        assert process.stdout.readline() == "2\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == -signal.SIGINT


def test_no_other_module_handles_signals():
    """A handler of its own would raise, wait for a lock, or be called too late."""
    calls, users = {}, []
    for path in (TOOLS / "warden_host").rglob("*.py"):
        text = path.read_text()
        name = path.relative_to(TOOLS / "warden_host").as_posix()
        if count := text.count("signal.signal(") + text.count("add_signal_handler"):
            calls[name] = count
        if "raising_on_sigterm" in text:
            users.append(name)
    assert calls == {"stopping.py": 3, "cli/common.py": 2, "cli/entry.py": 1}
    assert sorted(users) == ["cli/common.py", "cli/many.py"]


class Serve:
    """A control socket that answers one line and then waits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = ControlServer(path, self.handle)

    def handle(self, line, caller) -> None:
        if line["op"] == "devices":
            caller.send({"devices": [["D1", "lock", "online", False]]})
            caller.finish({"ok": True})
            return
        answers = {
            "watch": {"kind": "notice", "text": "watching", "time": 1.0},
            "codes": {"purpose": "alarm", "device": "D1", "text": "x", "time": 1.0},
            "rollout-watch": {"rollout": 1, "state": "active", "counts": {}},
        }
        caller.send(answers[line["op"]])


# The command line, with a signal when the main thread enters a function.
PROVOKED = """
import sys, os, signal, threading
sys.path[:0] = {path!r}
from test_stopping import signal_at, SlowClient
from warden_host.bridge import mqtt
from warden_host.cli.entry import main
mqtt.mqtt.Client = SlowClient
sys.argv[1:] = {arguments!r}
with signal_at({function}, {number}):
    main()
"""


class SlowClient:
    """In the place of paho's client: it takes all."""

    def __init__(self, *_: object, **__: object) -> None:
        self.rc = 0

    def __getattr__(self, name: str):
        return lambda *_, **__: self


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "function",
    ["mqtt.MqttOutlet.on_change", "threading.Condition.__exit__", "threading.Condition.notify"],
)
def test_the_bridge_ends_wherever_the_signal_comes(tmp_path, function, number):
    folders = [str(Path(__file__).parent), *map(str, Path(__file__).parents[1:3])]
    serve = Serve(tmp_path / "s" / "control.sock")
    arguments = ["--socket", str(serve.path), "bridge", "--mqtt", "mqtt://127.0.0.1:1"]
    program = PROVOKED.format(
        path=folders, arguments=arguments, function=function, number=int(number)
    )
    serve.path.parent.mkdir()
    with serve.server:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=ENVIRONMENT,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("✓ stopped\n")


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    ("arguments", "shown", "code"),
    [
        (["watch", "--json"], "text", 0),
        (["otp", "watch", "--json"], "purpose", 130),
        (["rollouts", "1", "--follow", "--json"], "counts", 130),
    ],
)
def test_what_follows_serve_ends(tmp_path, arguments, shown, code, number):
    serve = Serve(tmp_path / "control.sock")
    argv = [sys.executable, "-m", "warden_host.cli", "--socket", str(serve.path), *arguments]
    with serve.server, child(argv, env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        assert shown in json.loads(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == code
        assert process.stdout.read() == ""


def test_a_stop_ends_a_device_that_closed_its_output(tmp_path, monkeypatch, stop):
    """It runs on without a line: nothing is read that could end."""
    home = tmp_path / "D1"
    (home / "root").mkdir(parents=True)
    (home / "root" / "main.py").touch()
    (home / "fuses").mkdir()
    program = "import os, time; print('on', flush=True); os.close(1); os.close(2); time.sleep(999)"
    monkeypatch.setattr(
        simulated.provision, "device_argv", lambda *_, **__: [sys.executable, "-c", program]
    )

    def show(line: str) -> None:
        assert line == "on"
        threading.Timer(0.1, stop.request).start()

    assert simulated.run(home, "", False, show, stop) == 0


def test_a_stop_ends_the_pause_before_the_next_start(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(simulated, "_BACKOFF_S", (PATIENCE_S * 10,))
    home = tmp_path / "D1"
    (home / "root").mkdir(parents=True)
    (home / "root" / "main.py").touch()
    (home / "fuses").mkdir()
    monkeypatch.setattr(simulated.provision, "device_argv", lambda *_, **__: ["true"])
    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        stop.request()

    assert simulated.run(home, "", False, show, stop) == 0
    assert len(lines) == 1 and "starts again" in lines[0]


@contextlib.contextmanager
def pipe_of(data: bytes):
    reader, writer = os.pipe()
    os.write(writer, data)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        with contextlib.suppress(OSError):
            os.close(writer)


def test_lines_as_a_file_reads_them(stop):
    with pipe_of(b"a\n\nlonger than ten\nend") as (reader, writer):
        os.close(writer)
        lines = LineReader(reader, stop)
        found = [lines.readline(10) for _ in range(7)]
        assert found == [b"a\n", b"\n", b"longer tha", b"n ten\n", b"end", b"", b""]


def test_a_line_that_does_not_end_is_given_up(stop):
    with pipe_of(b"half a li") as (reader, _):
        with pytest.raises(TimeoutError):
            LineReader(reader, stop, 0.01).readline(99)


def test_no_line_is_read_after_a_stop(stop):
    with pipe_of(b"one\ntwo\n") as (reader, _):
        lines = LineReader(reader, stop)
        assert lines.readline(99) == b"one\n"
        stop.request()
        assert lines.readline(99) == b""


def test_a_stop_ends_a_read_that_waits(stop):
    with pipe_of(b"") as (reader, _):
        later = threading.Timer(0.05, stop.request)
        later.start()
        assert LineReader(reader, stop).readline(99) == b""
        later.join()


def test_a_call_that_ends(stop):
    seen = []
    assert stopping.call(lambda: seen.append("called"), stop)
    assert seen == ["called"]
    with pytest.raises(ZeroDivisionError):
        stopping.call(lambda: 1 / 0, stop)
    assert not stop.requested


def test_a_stop_leaves_a_call_behind(stop):
    never = threading.Event()
    later = threading.Timer(0.05, stop.request)
    later.start()
    assert not stopping.call(lambda: never.wait(PATIENCE_S), stop)
    assert not never.is_set() and stop.requested
    later.join()
    never.set()


def test_a_stop_cancels_a_coroutine_once(stop):
    seen = []

    async def main() -> None:
        try:
            stop.request()
            await asyncio.sleep(PATIENCE_S)
            seen.append("not cancelled")
        finally:
            for _ in range(5):  # the pipe stays readable
                await asyncio.sleep(0)
            seen.append("ended in order")

    run_async(main(), stop)
    assert seen == ["ended in order"]


def test_another_cancellation_is_an_error(stop):
    async def main() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_async(main(), stop)


def test_descriptors_above_1023_are_watched():
    """The unit of systemd allows more than select() takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    ours, theirs = socket.socketpair()
    with theirs, socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 1024)) as high:
        ours.close()
        assert not control._hung_up(high)
        theirs.close()
        assert control._hung_up(high)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
