"""The bridge between a control socket and its outlets: HTTP, SSE, commands from elsewhere."""

import http.client
import json
import queue
import socket
import socketserver
import threading
from types import SimpleNamespace

import paho.mqtt.client as mqtt
import pytest
from host_kit import refused
from port_kit import free_ports
from process_kit import PATIENCE_S
from warden_host.bridge import bridge as bridge_module
from warden_host.bridge import mqtt as bridge_mqtt
from warden_host.bridge.bridge import Bridge
from warden_host.bridge.mqtt import CommandTaker, MqttOutlet, MqttSettings, parse_url
from warden_host.bridge.web import WebOutlet
from warden_host.engine.events import FleetEvent
from warden_host.errors import HostError
from warden_host.metrics import web
from warden_host.service.control import ControlServer


class Serve:
    """A control socket that knows two devices."""

    def __init__(self, path) -> None:
        self.path = path
        self.requests: list[dict] = []
        self.pages = [[["D1", "lock", "online", False]], [["D2", "lock", "away", True]]]
        self.server = ControlServer(path, self.handle)

    def handle(self, line, caller) -> None:
        self.requests.append(line)
        if line["op"] == "watch":
            self.server.watchers.add(caller)
            caller.send(FleetEvent("notice", text="watching").record())
        elif line["op"] == "devices":
            for page in self.pages:
                caller.send({"devices": page})
            caller.finish({"ok": True})
        elif line["command"] == "open":
            raise HostError("token-scope", "not this one")
        else:
            caller.finish({"ok": True, "reply": {"ok": True, "result": line["args"]}})


class Changes:
    """An outlet that keeps what it is told."""

    def __init__(self) -> None:
        self.names: queue.Queue[str] = queue.Queue()

    def on_change(self, name: str) -> None:
        self.names.put(name)

    def on_event(self, event: dict) -> None:
        pass

    def wait(self, *names: str) -> None:
        for name in names:
            assert self.names.get(timeout=PATIENCE_S) == name


@pytest.fixture
def world(tmp_path, stop):
    serve = Serve(tmp_path / "control.sock")
    lines: queue.Queue[str] = queue.Queue()
    bridge = Bridge(serve.path, lines.put, stop)
    outlet, changes = WebOutlet(bridge, "127.0.0.1", 0), Changes()
    bridge.outlets += [outlet, changes]
    thread = threading.Thread(target=bridge.run, daemon=True)
    with serve.server:
        thread.start()
        changes.wait("D1", "D2")
        yield serve, bridge, outlet, changes, lines
    stop.request()
    outlet.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def get(outlet, path="/metrics", **headers) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", outlet.port, timeout=PATIENCE_S)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_metrics(world):
    serve, _, outlet, changes, lines = world
    body = {"c": 21.5, "open": True, "why": "no number"}
    serve.server.watchers.announce(FleetEvent("event", "D1", name="t", body=body, time=7.0))
    changes.wait("D1")
    status, text = get(outlet)
    assert status == 200
    for line in (
        "warden_serve_up 1.0",
        'warden_device_online{device="D1",type="lock"} 1.0',
        'warden_device_online{device="D2",type="lock"} 0.0',
        'warden_device_quarantined{device="D2",type="lock"} 1.0',
        'warden_device_events_total{device="D1",type="lock"} 1.0',
        'warden_device_last_event_seconds{device="D1",type="lock"} 7.0',
        'warden_telemetry{device="D1",name="t_c",type="lock"} 21.5',
        'warden_telemetry{device="D1",name="t_open",type="lock"} 1.0',
    ):
        assert line in text.splitlines()
    assert "no number" not in text
    assert lines.get(timeout=PATIENCE_S) == "connected"
    # `serve` ends: nothing is claimed any more.
    serve.server.__exit__()
    changes.wait("D1", "D2")
    assert "ended; trying again" in lines.get(timeout=PATIENCE_S)
    text = get(outlet)[1]
    assert "warden_serve_up 0.0" in text
    assert 'warden_device_online{device="D1",type="lock"} 0.0' in text


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/metrics", "localhost:1", 200),
        ("/metrics", "evil.example", 421),
        ("/metrics", "evil.example:80", 421),
        ("/", "localhost", 404),
        ("/metrics/../events", "localhost", 404),
    ],
)
def test_a_page_of_another_origin_reads_nothing(world, path, host, status):
    assert get(world[2], path, Host=host)[0] == status


def test_more_connections_than_the_limit_are_closed(world, monkeypatch):
    outlet = world[2]
    held = []
    for _ in range(web.MAX_CONNECTIONS):
        held.append(socket.create_connection(("127.0.0.1", outlet.port), PATIENCE_S))
        held[-1].sendall(b"GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert held[-1].recv(15) == b"HTTP/1.0 200 OK"
    with pytest.raises((http.client.HTTPException, OSError)):
        get(outlet)
    for each in held:
        each.close()


def test_a_request_in_drops_holds_no_connection(world, monkeypatch):
    monkeypatch.setattr(web, "_HEADERS_S", 0.1)
    with socket.create_connection(("127.0.0.1", world[2].port), PATIENCE_S) as slow:
        slow.sendall(b"GET /metrics HTTP/1.0\r\n")
        assert slow.recv(1) == b""


def test_a_device_that_left_is_not_shown(world):
    serve, bridge, outlet, changes, _ = world
    assert 'device="D1"' in get(outlet)[1]
    serve.pages = [[["D2", "lock", "away", True]]]
    bridge._load()
    changes.wait("D1")
    text = get(outlet)[1]
    assert 'device="D1"' not in text
    assert 'device="D2"' in text
    # One that an event names while the list is read is not taken for one that left.
    serve.pages = []
    serve.server.watchers.announce(FleetEvent("event", "D3", name="t", body={"c": 1}))
    changes.wait("D3")
    serve.pages = [[["D3", "lock", "online", False]]]
    bridge._load()
    changes.wait("D3", "D2")
    assert list(bridge.view.devices) == ["D3"]


def test_events_as_they_come(world):
    serve, _, outlet, _, _ = world
    connection = http.client.HTTPConnection("127.0.0.1", outlet.port, timeout=PATIENCE_S)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    assert answer.readline() == b": open\n"
    serve.server.watchers.announce(FleetEvent("event", "D1", name="t", body={"x": "a\n\ndata: b"}))
    found: dict = {
        "kind": "notice"
    }  # the one that began the watch may come after the page is open
    while found["kind"] == "notice":
        assert answer.readline() == b"\n"
        found = json.loads(answer.readline().removeprefix(b"data: "))
    assert found["body"] == {"x": "a\n\ndata: b"}
    connection.close()


def taken(serve, body: bytes, command="set_relay", device="D1") -> dict:
    answers: queue.Queue[tuple] = queue.Queue()
    taker = CommandTaker(serve.path, "a token", lambda *answer: answers.put(answer), print)
    taker.put(device, command, body)
    found = answers.get(timeout=PATIENCE_S)
    assert found[:2] == (device, command)
    return found[2]


def test_a_command_goes_with_the_token_and_no_other_right(world):
    serve = world[0]
    assert taken(serve, b'{"on": 1}') == {"ok": True, "result": {"on": 1}}
    request = serve.requests[-1]
    assert (request["token"], request["args"], request.get("app")) == ("a token", {"on": 1}, None)
    assert taken(serve, b"{}", "open") == {"ok": False, "error": "token-scope"}


@pytest.mark.parametrize(
    ("body", "command", "device", "code"),
    [
        (b"[1]", "set_relay", "D1", "bad-json"),
        (b'{"a": ' * 100, "set_relay", "D1", "bad-json"),
        (b'{"a": "' + b"x" * 20000 + b'"}', "set_relay", "D1", "bad-json"),
        (b"{}", "Set Relay", "D1", "bad-name"),
        (b"{}", "set_relay", "a b", "bad-name"),
    ],
)
def test_bad_commands_never_reach_serve(world, body, command, device, code):
    serve = world[0]
    before = len(serve.requests)
    assert taken(serve, body, command, device) == {"ok": False, "error": code}
    assert len(serve.requests) == before


def test_a_command_that_waited_too_long_is_not_given(world, monkeypatch):
    monkeypatch.setattr(bridge_mqtt, "_LATEST_S", -1.0)
    before = len(world[0].requests)
    assert taken(world[0], b"{}") == {"ok": False, "error": "expired"}
    assert len(world[0].requests) == before


class SlowBroker:
    """In the place of paho's client: it takes three messages, until the test takes them."""

    def __init__(self, *_: object, **__: object) -> None:
        self.taken: queue.Queue[tuple[str, str]] = queue.Queue(3)

    def __getattr__(self, name: str):
        return lambda *_, **__: True

    def publish(self, topic: str, text: str, qos: int, retain: bool):
        try:
            self.taken.put_nowait((topic, text))
        except queue.Full:
            return SimpleNamespace(rc=mqtt.MQTT_ERR_QUEUE_SIZE)
        return SimpleNamespace(rc=mqtt.MQTT_ERR_SUCCESS)


def test_a_slow_broker_gets_the_latest_state_of_every_device(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(bridge_mqtt.mqtt, "Client", SlowBroker)
    bridge = Bridge(tmp_path / "x", print, stop)
    settings = MqttSettings("mqtt://127.0.0.1:1", home_assistant="ha")
    outlet = MqttOutlet(bridge, settings, None)
    names = [f"D{number}" for number in range(20)]
    for presence in ("online", "away", "asleep"):
        with bridge.guard:
            for name in bridge.view.update_list(
                [[name, "lock", presence, False] for name in names]
            ):
                outlet.on_change(name)
    with bridge.guard:
        bridge.view.apply({"kind": "event", "device": "D7", "name": "t", "body": {"c": 1}})
        outlet.on_change("D7")
    found = {}
    states = [f"warden/{name}/state" for name in names]
    while len(found) < 61 or not all('"asleep"' in found[state] for state in states):
        topic, text = outlet._client.taken.get(timeout=PATIENCE_S)
        found[topic] = text
        outlet._on_publish()
    config = json.loads(found["ha/sensor/warden_D7/t_c/config"])
    assert config["value_template"] == "{{ value_json['values'].get('t_c') }}"
    # A device that left the fleet: what is retained of it goes.
    mine = {topic for topic in found if "D7" in topic}
    assert len(mine) == 4
    with bridge.guard:
        outlet.on_change(*bridge.view.remove({"D7"}))
    gone = set()
    while gone != mine:
        topic, text = outlet._client.taken.get(timeout=PATIENCE_S)
        if text == "":
            gone.add(topic)
        outlet._on_publish()
    assert "D7" not in outlet._announced.values()
    outlet.close()


def test_a_broker_that_answers_no_goodbye_holds_nothing_up(tmp_path, monkeypatch, stop):
    class Silent(SlowBroker):
        def loop_stop(self) -> None:
            answer.wait(PATIENCE_S)  # paho waits for its thread, which may be in a handshake

    answer = threading.Event()
    monkeypatch.setattr(bridge_mqtt.mqtt, "Client", Silent)
    monkeypatch.setattr(bridge_mqtt, "_GOODBYE_S", 0.01)
    outlet = MqttOutlet(Bridge(tmp_path / "x", print, stop), MqttSettings("mqtt://h"), None)
    closing = threading.Thread(target=outlet.close, daemon=True)
    closing.start()
    closing.join(PATIENCE_S / 2)
    assert not closing.is_alive()
    answer.set()


def test_a_stop_ends_the_wait_for_a_broker_that_does_not_answer(tmp_path, stop):
    """Its port takes the connection, and its TLS handshake never comes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mqtts://127.0.0.1:{silent.getsockname()[1]}"
        later = threading.Timer(0.05, stop.request)
        later.start()
        outlet = MqttOutlet(Bridge(tmp_path / "x", print, stop), MqttSettings(url), None)
        later.join()
        outlet.close()
    assert outlet._client.loop_stop() == mqtt.MQTT_ERR_INVAL  # paho runs no thread


def test_a_broker_that_can_not_be_reached(tmp_path, stop):
    url = f"mqtt://127.0.0.1:{free_ports(1)[0]}"
    with refused("unreachable"):
        MqttOutlet(Bridge(tmp_path / "x", print, stop), MqttSettings(url), None)


@pytest.mark.parametrize(
    "url",
    ["http://h", "mqtt://", "mqtt://h:port", "mqtt://h/x", "mqtt://user:secret@h", "h:1883", ""],
)
def test_urls_that_name_no_broker(url):
    with refused("bad-argument") as caught:
        parse_url(url)
    assert "secret" not in str(caught)


def test_urls():
    assert parse_url("mqtt://h") == ("h", 1883, False)
    assert parse_url("mqtts://[::1]:9000") == ("::1", 9000, True)


@pytest.mark.parametrize("prefix", ["", "a/", "/a", "a//b", "+", "a/#", "a b"])
def test_prefixes_that_can_not_begin_a_topic(tmp_path, prefix, stop):
    bridge = Bridge(tmp_path / "x", print, stop)
    with refused("bad-argument"):
        MqttOutlet(bridge, MqttSettings("mqtt://127.0.0.1:1", prefix=prefix), None)


# What nobody foresaw costs one round, and is told


BUG = "KeyError at warden_host."


def failing_once(then):
    """Raise at the first call, and do something else at later ones."""
    failures = [KeyError("a secret")]

    def work(*given, **more):
        if failures:
            raise failures.pop()
        return then(*given, **more)

    return work


def test_the_list_of_devices_is_read_again(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(bridge_module, "_REFRESH_S", 0.001)
    lines: queue.Queue[str] = queue.Queue()
    made, done = Bridge(tmp_path / "x", lines.put, stop), threading.Event()
    made.view.connected = True
    monkeypatch.setattr(made, "_load", failing_once(done.set))
    made._refresher.start()
    assert done.wait(PATIENCE_S)
    stop.request()
    made._refresher.join(PATIENCE_S)
    text = lines.get_nowait()
    assert BUG in text and "secret" not in text and lines.empty()


@pytest.mark.parametrize("part", ["call", "reply"])
def test_later_commands_are_given(world, monkeypatch, part):
    serve, told, answers = world[0], queue.Queue(), queue.Queue()

    def reply(*given) -> None:
        answers.put(given[2])

    if part == "call":
        call = failing_once(bridge_mqtt.control_client.call)
        monkeypatch.setattr(bridge_mqtt.control_client, "call", call)
    else:
        reply = failing_once(reply)
    taker = CommandTaker(serve.path, "a token", reply, lambda _, text: told.put(text))
    for _ in range(2):
        taker.put("D1", "set_relay", b"{}")
    if part == "call":
        assert answers.get(timeout=PATIENCE_S) == {"ok": False, "error": "internal-error"}
    assert answers.get(timeout=PATIENCE_S)["ok"]
    text = told.get(timeout=PATIENCE_S)
    assert BUG in text and "secret" not in text


def test_other_devices_are_published(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(bridge_mqtt.mqtt, "Client", SlowBroker)
    lines: queue.Queue[str] = queue.Queue()
    bridge = Bridge(tmp_path / "x", lines.put, stop)
    outlet = MqttOutlet(bridge, MqttSettings("mqtt://127.0.0.1:1"), None)
    monkeypatch.setattr(outlet, "_publish_state", failing_once(outlet._publish_state))
    with bridge.guard:
        for name in bridge.view.update_list(
            [[name, "lock", "online", False] for name in ("D1", "D2")]
        ):
            outlet.on_change(name)
    assert outlet._client.taken.get(timeout=PATIENCE_S)[0] == "warden/D2/state"
    assert BUG in lines.get(timeout=PATIENCE_S)
    outlet.close()


def test_a_connection_that_gets_no_thread_leaves_its_place(world, monkeypatch):
    outlet = world[2]
    server = outlet._server._server

    def full(*_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(socketserver.ThreadingMixIn, "process_request", full)
        for _ in range(web.MAX_CONNECTIONS + 1):
            with pytest.raises((http.client.HTTPException, OSError)):
                get(outlet)
    assert server._free._value == web.MAX_CONNECTIONS
    assert get(outlet)[0] == 200
