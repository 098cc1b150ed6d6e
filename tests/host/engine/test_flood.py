"""A device that floods, a screen that is gone, a watcher that hangs: the engine goes on."""

import errno
import queue
import socket
import threading

import pytest
from engine_kit import PLAIN, Stage, run
from host_kit import DEVICE
from process_kit import PATIENCE_S
from warden_host import control_client
from warden_host.control_client import short_path
from warden_host.engine.events import FleetEvent
from warden_host.engine.request import Request
from warden_host.engine.throttle import BURST, Throttle
from warden_host.service import control, display_queue
from warden_host.service.control import ControlServer

EVENT = b'{"event":"x","deviceId":"D1","body":{}}'


@pytest.fixture
def plain_stage(tmp_path):
    made = Stage(tmp_path, PLAIN)
    yield made
    made.store.close()


def test_a_bucket_fills_again_and_counts_what_it_refused():
    throttle = Throttle()
    assert sum(throttle.admit("D1", 5.0) for _ in range(300)) == BURST
    assert throttle.admit("D2", 5.0)
    assert throttle.due(5.0) == [("D1", 200)]
    assert sum(throttle.admit("D1", 5.5) for _ in range(300)) == 10
    assert throttle.due(5.9) == []
    assert throttle.due(6.0) == [("D1", 290)]
    assert throttle.due(7.0) == []


def test_buckets_that_are_full_again_are_removed_and_the_others_are_kept():
    throttle = Throttle()
    for number in range(10_000):
        throttle.admit(f"token {number}", number * 1.0)
    assert len(throttle._buckets) <= 1024
    while throttle.admit("busy", 20_000.0):
        pass
    for number in range(10_000):
        throttle.admit(f"other {number}", 20_000.0)
    assert not throttle.admit("busy", 20_000.0)


def test_a_flood_is_summarised_once_a_second(plain_stage):
    for _ in range(1000):
        plain_stage.receive("x", EVENT, fmt="json")
        plain_stage.engine.on_message("authority", "elsewhere", b"", False)
    events = [news for news in plain_stage.news if news.kind == "event"]
    refused = [news for news in plain_stage.news if news.kind == "refused"]
    assert len(events) == BURST - 1  # the first of its tokens went to "came"
    assert len(refused) == BURST
    plain_stage.news.clear()
    for _ in range(5):
        plain_stage.pass_time(0.1)
    texts = {news.device: news.text for news in plain_stage.news if news.kind == "notice"}
    assert set(texts) == {DEVICE, ""}
    assert "901" in texts[DEVICE]
    assert "900" in texts[""]
    assert len(plain_stage.news) == 2


def test_reply_during_a_flood_is_handled(plain_stage):
    results = run(plain_stage, Request(DEVICE, "set_relay", {}))
    for _ in range(1000):
        plain_stage.receive("x", EVENT, fmt="json")
    number = plain_stage.news[0].id
    reply = b'{"event":"reply","deviceId":"D1","id":%d,"ok":true,"result":1}' % number
    plain_stage.receive("reply", reply, fmt="json")
    assert results[0]["ok"] is True


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(errno.EPIPE, "gone"),
        UnicodeEncodeError("ascii", "\u25cf", 0, 1, "no"),
        ValueError("I/O operation on closed file"),
        SystemExit(1),  # what rich makes of a broken pipe
        KeyError("x"),
    ],
)
def test_closed_screen_stops_nothing(error):
    told: list[FleetEvent] = []

    def broken(fleet_event: FleetEvent) -> None:
        told.append(fleet_event)
        raise error

    display_queue.quietly(broken)(FleetEvent("notice", text="x"))
    assert len(told) == 1


def test_a_screen_that_hangs_does_not_hold_the_engine(monkeypatch):
    monkeypatch.setattr(display_queue, "_LAST_S", PATIENCE_S)  # it goes on at the end
    release = threading.Event()
    shown: list[FleetEvent] = []

    def slow(fleet_event: FleetEvent) -> None:
        release.wait()
        shown.append(fleet_event)

    with display_queue.screen_thread(slow) as show:
        for _ in range(5000):
            show(FleetEvent("notice", text="x"))
        assert not shown  # no thread waited for the screen
        release.set()
    assert shown
    assert any("missed" in each.text for each in shown)


def test_a_screen_shows_what_a_person_can_follow_and_counts_the_rest(monkeypatch):
    monkeypatch.setattr(display_queue, "_LAST_S", PATIENCE_S)
    now = 5.0
    shown: list[FleetEvent] = []
    with display_queue.screen_thread(shown.append, lambda: now) as show:
        for number in range(3000):
            show(FleetEvent("event", f"D{number}"))
        show(FleetEvent("incident", DEVICE))
    assert sum(each.kind == "event" for each in shown) == display_queue.BURST
    assert sum(each.kind == "incident" for each in shown) == 1
    counts = [int(each.text.split()[0]) for each in shown if "not shown" in each.text]
    assert sum(counts) == 3000 - display_queue.BURST


# Watchers


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.sock"


def test_slow_watcher_gets_a_count_of_missed_lines(path, monkeypatch):
    monkeypatch.setattr(control, "_SEND_S", PATIENCE_S)  # for all lines to be announced
    watching = threading.Event()

    def handle(_request, caller):
        server.watchers.add(caller)
        watching.set()

    server = ControlServer(path, handle)
    with server:
        lines = control_client.stream(path, {"op": "watch"}, PATIENCE_S)
        got: queue.Queue = queue.Queue()
        go = threading.Event()

        def read() -> None:
            first = True
            for line in lines:
                got.put(line)
                if first:
                    first = False
                    go.wait(PATIENCE_S)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        assert watching.wait(PATIENCE_S)
        count = 5000
        for number in range(count):
            server.watchers.announce(FleetEvent("event", DEVICE, id=number + 1, text="x" * 1000))
        go.set()
        heard, missed = 0, 0
        while heard + missed < count:
            line = got.get(timeout=PATIENCE_S)
            if line["kind"] == "notice":
                missed += int(line["text"].split()[0])
            else:
                heard += 1
        assert missed
        server.watchers.announce(FleetEvent("event", DEVICE, id=9999))
        assert got.get(timeout=PATIENCE_S)["id"] == 9999
    thread.join(PATIENCE_S)


def test_hanging_callers_delay_no_other(path):
    """They open a call and neither send nor read: other callers and events are not delayed."""

    def handle(request, caller):
        if request["op"] == "watch":
            server.watchers.add(caller)
        else:
            caller.finish({"ok": True})

    server = ControlServer(path, handle)
    hanging = []
    with server:
        for line in (b"", b'{"op": "wat', b'{"op": "watch"}\n', b'{"op": "send"}\n'):
            raw = socket.socket(socket.AF_UNIX)
            with short_path(path) as short:
                raw.connect(short)
            raw.sendall(line)
            hanging.append(raw)
        for _ in range(3000):
            server.watchers.announce(FleetEvent("notice", text="x" * 100))
        assert control_client.call(path, {"op": "x"}) == {"ok": True}
    for raw in hanging:
        raw.close()
