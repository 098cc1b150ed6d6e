"""The control socket: permissions, deep folders, garbage, slow callers."""

import contextlib
import itertools
import json
import queue
import select
import socket
import stat
import threading
import time
from types import SimpleNamespace

import pytest
from host_kit import refused
from process_kit import PATIENCE_S
from warden_host import control_client
from warden_host.control_client import short_path
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.service import control
from warden_host.service.control import Caller, ControlServer


@pytest.fixture
def path(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)  # a unix socket's address holds 108 bytes
    deep.mkdir(parents=True)
    return deep / "control.sock"


def echo(request, caller):
    if request.get("op") == "fail":
        raise HostError("device-unknown", "no device", "make one")
    if request.get("op") == "late":
        threading.Timer(0.05, caller.finish, [HostError("no-session", "gone")]).start()
    elif request.get("op") != "hang":
        caller.finish({"echo": request})


def test_a_call_and_its_answers(path):
    with ControlServer(path, echo):
        assert len(str(path)) > 108
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert control_client.call(path, {"op": "x", "n": 1}) == {"echo": {"op": "x", "n": 1}}
        for operation, code in (("fail", "device-unknown"), ("late", "no-session")):
            with pytest.raises(HostError) as caught:
                control_client.call(path, {"op": operation})
            assert caught.value.code == code
        with refused("timed-out"):
            control_client.call(path, {"op": "hang"}, 0.2)
    assert not path.exists()
    with refused("not-serving"):
        control_client.call(path, {"op": "x"})


def test_a_socket_left_by_a_killed_server_is_replaced(path):
    left = socket.socket(socket.AF_UNIX)
    with short_path(path) as short:
        left.bind(short)
    left.close()
    with refused("not-serving"):
        control_client.call(path, {"op": "x"})
    with ControlServer(path, echo):
        assert control_client.call(path, {"op": "x"})


@pytest.mark.parametrize("data", [b"\n", b"[]\n", b"{\n", b"\xff\n", b'{"a":' * 30000, b""])
def test_garbage_is_refused_with_a_code(path, data):
    with ControlServer(path, echo):
        with socket.socket(socket.AF_UNIX) as raw, short_path(path) as short:
            raw.settimeout(PATIENCE_S)
            raw.connect(short)
            with contextlib.suppress(BrokenPipeError):  # it need not read all of what is too long
                raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            answer = json.loads(raw.makefile().readline())
            assert answer["error"]["code"] == "control-malformed"
        assert control_client.call(path, {"op": "x"})


def test_a_request_that_trickles_in_ends_at_its_time(path, monkeypatch):
    seconds = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)), sleep=time.sleep)
    monkeypatch.setattr(control, "time", clock)
    with ControlServer(path, echo):
        with socket.socket(socket.AF_UNIX) as raw, short_path(path) as short:
            raw.settimeout(PATIENCE_S)
            raw.connect(short)
            with pytest.raises(OSError):
                for _ in range(control.MAX_LINE // 2):  # a byte within each wait
                    raw.sendall(b" ")
                    select.select([raw], [], [], 0.01)
            assert next(seconds) < 20


def test_a_bug_is_answered_and_an_accept_that_fails_ends_nothing(path):
    def broken(request, caller):
        raise {"key": KeyError("secret"), "disk": OSError(28, "full")}[request["op"]]

    server = ControlServer(path, broken)
    real, failing = server._socket, [OSError(24, "too many files")]

    class Socket:
        def __getattr__(self, name):
            return getattr(real, name)

        def accept(self):
            if failing:
                raise failing.pop()
            return real.accept()

    server._socket = Socket()
    with server:
        for operation, code in (("key", "internal-error"), ("disk", "filesystem")):
            with refused(code) as caught:
                control_client.call(path, {"op": operation})
            assert "secret" not in str(caught)
    assert not server._thread.is_alive()


def test_watchers_receive_events(path):
    heard: queue.Queue = queue.Queue()
    ready = threading.Event()

    def handle(request, caller):
        server.watchers.add(caller)
        ready.set()

    server = ControlServer(path, handle)

    def watch():
        for line in control_client.stream(path, {"op": "watch"}):
            heard.put(line)

    with server:
        thread = threading.Thread(target=watch)
        thread.start()
        assert ready.wait(PATIENCE_S)
        server.watchers.announce(FleetEvent("event", "D1", name="x", body={"b": b"\x01"}))
        server.watchers.announce(FleetEvent("incident", "D1", code="tampered"))
        lines = [heard.get(timeout=PATIENCE_S) for _ in range(2)]
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert heard.empty()
    assert [line["kind"] for line in lines] == ["event", "incident"]
    assert lines[0]["body"] == {"b": "01"}


def test_a_watcher_that_does_not_read_loses_its_connection_only(path, monkeypatch):
    monkeypatch.setattr(control, "_SEND_S", 0.2)
    callers: queue.Queue = queue.Queue()

    def handle(request, caller):
        server.watchers.add(caller)
        callers.put(caller)

    server = ControlServer(path, handle)
    with server:
        with socket.socket(socket.AF_UNIX) as raw, short_path(path) as short:
            raw.connect(short)
            raw.sendall(b'{"op": "watch"}\n')
            caller = callers.get(timeout=PATIENCE_S)
            for _ in range(5000):
                server.watchers.announce(FleetEvent("notice", text="x" * 1000))
            assert caller.gone.wait(PATIENCE_S)


def test_the_last_line_gets_through_to_a_caller_that_is_behind():
    caller = Caller()
    for number in range(3000):
        caller.send({"number": number})
    caller.finish({"ok": True})
    lines = []
    while (line := caller.next_line(0)) is not None:
        lines.append(line)
    assert lines[-1] == {"ok": True}
    assert lines[0]["number"] > 0
