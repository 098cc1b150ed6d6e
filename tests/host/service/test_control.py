"""The control socket: permissions, deep folders, garbage, slow callers."""

import json
import queue
import socket
import stat
import threading

import pytest
from host_kit import refused
from process_kit import PATIENCE_S
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
        assert control.call(path, {"op": "x", "n": 1}) == {"echo": {"op": "x", "n": 1}}
        for operation, code in (("fail", "device-unknown"), ("late", "no-session")):
            with pytest.raises(HostError) as caught:
                control.call(path, {"op": operation})
            assert caught.value.code == code
        with refused("timed-out"):
            control.call(path, {"op": "hang"}, 0.2)
    assert not path.exists()
    with refused("not-serving"):
        control.call(path, {"op": "x"})


def test_a_socket_left_by_a_killed_server_is_replaced(path):
    left = socket.socket(socket.AF_UNIX)
    with control.short_path(path) as short:
        left.bind(short)
    left.close()
    with refused("not-serving"):
        control.call(path, {"op": "x"})
    with ControlServer(path, echo):
        assert control.call(path, {"op": "x"})


@pytest.mark.parametrize("data", [b"\n", b"[]\n", b"{\n", b"\xff\n", b'{"a":' * 30000, b""])
def test_garbage_is_refused_with_a_code(path, data):
    with ControlServer(path, echo):
        with socket.socket(socket.AF_UNIX) as raw, control.short_path(path) as short:
            raw.settimeout(PATIENCE_S)
            raw.connect(short)
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            answer = json.loads(raw.makefile().readline())
            assert answer["error"]["code"] == "control-malformed"
        assert control.call(path, {"op": "x"})


def test_watchers_receive_events(path):
    heard: queue.Queue = queue.Queue()
    ready = threading.Event()

    def handle(request, caller):
        server.watch(caller)
        ready.set()

    server = ControlServer(path, handle)

    def watch():
        for line in control.stream(path, {"op": "watch"}):
            heard.put(line)

    with server:
        thread = threading.Thread(target=watch)
        thread.start()
        assert ready.wait(PATIENCE_S)
        server.announce(FleetEvent("event", "D1", name="x", body={"b": b"\x01"}))
        server.announce(FleetEvent("incident", "D1", code="tampered"))
        lines = [heard.get(timeout=PATIENCE_S) for _ in range(2)]
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert heard.empty()
    assert [line["kind"] for line in lines] == ["event", "incident"]
    assert lines[0]["body"] == {"b": "01"}


def test_a_watcher_that_does_not_read_loses_its_connection_only(path):
    callers: queue.Queue = queue.Queue()

    def handle(request, caller):
        server.watch(caller)
        callers.put(caller)

    server = ControlServer(path, handle)
    with server:
        with socket.socket(socket.AF_UNIX) as raw, control.short_path(path) as short:
            raw.connect(short)
            raw.sendall(b'{"op": "watch"}\n')
            caller = callers.get(timeout=PATIENCE_S)
            for _ in range(5000):
                server.announce(FleetEvent("notice", text="x" * 1000))
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
