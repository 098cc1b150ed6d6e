"""A stop ends a command that waits for the reader of its output, and any other wait of it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from host_kit import refused
from process_kit import PATIENCE_S, child
from warden_host import control_client, stoppable_output
from warden_host.cli import main, secrets_input
from warden_host.errors import HostError
from warden_host.stoppable_output import Output

TOOLS = Path(__file__).resolve().parents[3] / "tools"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(TOOLS)}

WRITES = """
import sys, threading
from warden_host.cli import screen
from warden_host.cli.common import stoppable
def write():
    screen.{stream}.print("x")
with stoppable(False) as stop:
    print("on", file=sys.{other}, flush=True)
    if {apart}:
        threading.Thread(target=write, daemon=True).start()
    else:
        write()
    stop.wait({patience})
"""


@pytest.fixture
def full():
    """Return both ends of a pipe that takes no byte more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, bytes(4096)):
            pass
    os.set_blocking(writer, True)
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("apart", [False, True], ids=["here", "on a thread"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("stream", "other"), [("out", "stderr"), ("err", "stdout")])
def test_a_stop_ends_a_write_to_a_full_pipe(full, stream, other, number, apart):
    program = WRITES.format(stream=stream, other=other, apart=apart, patience=PATIENCE_S)
    pipes = {other: subprocess.PIPE, "stderr" if other == "stdout" else "stdout": full[1]}
    with child([sys.executable, "-c", program], env=ENVIRONMENT, **pipes) as process:
        assert getattr(process, other).readline() == "on\n"
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("stopped", [False, True])
def test_a_slow_reader_gets_all_of_the_output(stop, monkeypatch, stopped):
    monkeypatch.setattr(stoppable_output, "_LAST_S", PATIENCE_S)
    if stopped:
        stop.request()
    reader, writer = os.pipe()
    data = os.urandom(1 << 18)
    found = bytearray()

    def write() -> None:
        try:
            assert Output(writer, stop).write(data) == len(data)
        finally:
            os.close(writer)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    while part := os.read(reader, 1000):
        found += part
    thread.join(PATIENCE_S)
    os.close(reader)
    assert bytes(found) == data


def test_the_last_lines_after_a_stop(stop, full, monkeypatch):
    monkeypatch.setattr(stoppable_output, "_LAST_S", 0.0)
    reader, writer = full
    output = Output(writer, stop)
    stop.request()
    os.set_blocking(reader, False)
    os.read(reader, 65536)
    assert output.write(b"stopped\n") == 8
    assert os.read(reader, 1 << 20).endswith(b"stopped\n")
    assert output.write(bytes(1 << 20)) == 1 << 20  # a pipe has room for less


def test_streams_are_given_back_unless_stopped(stop):
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as out:
        sys.stdout = out
        try:
            with stoppable_output.until(stop):
                assert sys.stdout is not out
                assert sys.stdout.encoding == out.encoding and sys.stdout.fileno() == out.fileno()
            assert sys.stdout is out
            stop.request()
            with stoppable_output.until(stop):
                pass
            assert sys.stdout is not out
        finally:
            sys.stdout, sys.stderr = before


def test_a_serve_that_accepts_no_call_is_not_waited_for(tmp_path):
    path = tmp_path / "control.sock"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(path))
        server.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        seen: list[bool] = []

        def call() -> None:
            with refused("not-serving"):
                next(control_client.stream(path, {"op": "watch"}))
            seen.append(True)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(PATIENCE_S / 4)
        assert seen


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--passphrase-file", "-"],
        ["bridge", "--mqtt", "mqtt://127.0.0.1:1", "--mqtt-password-file", "-"],
        ["bridge", "--mqtt", "mqtt://127.0.0.1:1", "--commands-token-file", "-"],
    ],
    ids=lambda arguments: arguments[-2],
)
def test_a_signal_ends_a_wait_for_standard_input(folder, monkeypatch, capsys, arguments):
    """Only by itself: one that is handled lets the read go on."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    seen = []

    def secret(*_: object, **__: object) -> bytes:
        seen.append((signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)))
        raise HostError("interrupted", "enough")

    monkeypatch.setattr(secrets_input, "secret", secret)
    assert main.run(arguments) == 130
    assert seen == [before]
