"""What a device behind a gateway may send and be behind with, and what ends when it does more."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[3] / "examples" / "gateway"))
pytest.importorskip("paho.mqtt.client")
import gateway as module  # noqa: E402
from mqtt_packets import (  # noqa: E402
    CONNACK,
    CONNECT,
    PINGREQ,
    PUBACK,
    PUBLISH,
    SUBSCRIBE,
    Refused,
    packet,
    read_packet,
)

BASE = "iot-2/type/lock/id/D1"
TOPIC = f"{BASE}/evt/temperature/fmt/cose"


class Transport:
    waiting = 0

    def get_write_buffer_size(self) -> int:
        return self.waiting


class Writer:
    """Of a serial line, which gets one message at a time."""

    def __init__(self) -> None:
        self.transport, self.sent, self.closed = Transport(), bytearray(), False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True


class Relay:
    """What a Device asks of its gateway."""

    def __init__(self) -> None:
        self.passed: list[tuple[str, bytes]] = []

    def publish(self, device: Any, topic: str, payload: bytes, *_: object) -> None:
        self.passed.append((topic, payload))

    def subscribe(self, *_: object) -> None: ...


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def device(clock):
    made = module.Device(Relay(), Writer(), BASE)  # type: ignore[arg-type]
    return made


def text(value: str) -> bytes:
    return len(value.encode()).to_bytes(2, "big") + value.encode()


def publish(device: Any, topic: str = TOPIC, flags: int = 0, number: bytes = b"") -> None:
    device.handle(PUBLISH, flags, text(topic) + number + b"x")


def test_a_flood_of_messages_ends_the_connection(device, clock):
    for _ in range(module.MOST_AT_ONCE):
        publish(device)
    with pytest.raises(Refused, match="too many messages"):
        publish(device)
    clock[0] += 1
    for _ in range(module.MOST_MESSAGES_S - 1):  # one was spent
        publish(device)
    with pytest.raises(Refused):
        publish(device)
    clock[0] += 1000  # and no more at once than ever
    for _ in range(module.MOST_AT_ONCE):
        publish(device)
    with pytest.raises(Refused):
        publish(device)


@pytest.mark.parametrize(
    "topic",
    [
        "iot-2/type/lock/id/D2/evt/x/fmt/cose",
        f"{BASE}2/evt/x/fmt/cose",
        f"{BASE}/cmd/x/fmt/cose",
        f"{BASE}/evt/x/fmt/xml",
        f"{BASE}/evt/{'x' * 65}/fmt/cose",
        f"{BASE}/evt/x/y/fmt/cose",
        f"{BASE}/evt/x/fmt/cose\n",
        "$SYS/x",
        "",
    ],
)
def test_a_topic_that_is_none_of_the_devices_ends_it(device, topic):
    with pytest.raises(Refused):
        publish(device, topic)
    assert device._gateway.passed == []


@pytest.mark.parametrize("flags", [1, 4, 5, 6])
def test_retained_messages_and_qos_2_end_it(device, flags):
    with pytest.raises(Refused):
        publish(device, flags=flags, number=b"\0\1")
    assert device._gateway.passed == []


def test_a_subscription_is_for_its_own_commands_alone(device):
    for topic in (f"{BASE}/evt/#", "iot-2/type/lock/id/D2/cmd/#", "#", f"{BASE}2/cmd/#"):
        device.handle(SUBSCRIBE, 2, b"\0\1" + text(topic) + b"\1")
        assert device._writer.sent[-1:] == b"\x80"
        assert not device.subscribed
    device.handle(SUBSCRIBE, 2, b"\0\1" + text(f"{BASE}/cmd/#") + b"\1")
    assert device.subscribed


def test_a_device_that_reads_nothing_loses_its_connection(device):
    device._writer.transport.waiting = module.MOST_UNSENT
    device.handle(PINGREQ, 0, b"")
    assert not device._writer.closed and device._writer.sent
    device._writer.transport.waiting += 1
    device._writer.sent.clear()
    device.handle(PINGREQ, 0, b"")
    assert device._writer.closed and not device._writer.sent


def test_a_line_gets_one_message_at_a_time_and_few_wait(device):
    for number in range(module.MOST_WAITING + 1):
        device.deliver(f"{BASE}/cmd/x/fmt/cose", b"%d" % number)
    assert device._writer.sent.count(b"/cmd/x/") == 1 and not device._writer.closed
    device.handle(PUBACK, 0, b"\0\2")  # of another message
    assert device._writer.sent.count(b"/cmd/x/") == 1
    device.handle(PUBACK, 0, b"\0\1")
    assert device._writer.sent.count(b"/cmd/x/") == 2
    device.deliver(f"{BASE}/cmd/x/fmt/cose", b"more")
    assert not device._writer.closed
    device.deliver(f"{BASE}/cmd/x/fmt/cose", b"too many")
    assert device._writer.closed


class Broker:
    """paho's client, whose broker answers nothing."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def publish(self, topic: str, *_: object) -> Any:
        self.sent.append(topic)

        class Sent:
            mid = len(self.sent)

        return Sent


@pytest.fixture
def relay(monkeypatch):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: context)
    broker = {"host": "h", "port": 1, "user": "g:hall", "password": "", "ca": ""}
    document = {"devices": [["lock", "D1"]], "broker": broker | {"max_packet": 2048}}
    made = module.Gateway(document, "127.0.0.1", 0)
    made._client = Broker()  # type: ignore[assignment]
    made._up = True
    return made


def test_messages_without_an_answer_are_bounded(relay, clock):
    device = module.Device(relay, Writer(), BASE)  # type: ignore[arg-type]
    for _ in range(module.MOST_UNANSWERED):
        publish(device, flags=2, number=b"\0\1")
    with pytest.raises(Refused, match="without an answer"):
        publish(device, flags=2, number=b"\0\1")
    assert len(relay._client.sent) == module.MOST_UNANSWERED
    relay._on_answer(1, False)
    device.unanswered -= 1  # the refused one
    publish(device, flags=2, number=b"\0\1")
    # Of QoS 0, too: paho would keep them.
    with pytest.raises(Refused, match="without an answer"):
        publish(device)


async def serve(relay: Any, data: bytes) -> Writer:
    reader, writer = asyncio.StreamReader(), Writer()
    reader.feed_data(data)
    reader.feed_eof()
    await relay._serve(reader, writer)
    return writer


def connect(client: str = "d:lock:D1", user: str = "d:lock:D1", level: bytes = b"\x04") -> bytes:
    body = text("MQTT") + level + b"\x80" + b"\0\x1e" + text(client) + text(user)
    return packet(CONNECT, body)


def test_connections_are_bounded(relay):
    """Those that wait for a log-in count, too: one that opens many takes nobody's memory."""
    accepted = bytes((CONNACK << 4, 2, 0, 0))
    most = 2 * 1 + 16
    relay._writers = {Writer() for _ in range(most - 1)}
    assert asyncio.run(serve(relay, connect())).sent == accepted
    relay._writers.add(Writer())
    refused = asyncio.run(serve(relay, connect()))
    assert (bytes(refused.sent), refused.closed) == (b"", True)
    assert len(relay._writers) == most


@pytest.mark.parametrize(
    "first",
    [
        connect(client="d:lock:D2"),
        connect("d:lock:D2", "d:lock:D2"),
        connect(user="d:lock:D2"),
        connect(level=b"\x05"),
        packet(PINGREQ, b""),
        packet(PUBLISH, text(TOPIC) + b"x"),
        bytes((CONNECT << 4, 0xFF, 0xFF, 0xFF, 0x7F)),
    ],
)
def test_who_does_not_log_in_as_a_listed_device_is_refused(relay, first):
    writer = asyncio.run(serve(relay, first))
    assert writer.closed and relay._devices == {} and relay._writers == set()
    assert bytes(writer.sent) != bytes((CONNACK << 4, 2, 0, 0))


def test_a_connection_without_a_log_in_ends(relay, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_S", 0.01)

    async def silent() -> Writer:
        writer = Writer()
        await relay._serve(asyncio.StreamReader(), writer)
        return writer

    assert asyncio.run(silent()).closed


def test_a_packet_above_the_limit_is_not_read():
    async def read(size: int) -> bytes:
        reader = asyncio.StreamReader()
        reader.feed_data(packet(PUBLISH, bytes(size)))
        reader.feed_eof()
        return (await read_packet(reader, 1000))[2]

    assert len(asyncio.run(read(900))) == 900
    with pytest.raises(Refused):
        asyncio.run(read(1001))


def test_a_silent_device_ends_by_its_keepalive(relay, monkeypatch):
    for name in ("LEAST_KEEPALIVE_S", "MOST_KEEPALIVE_S"):
        monkeypatch.setattr(module, name, 0.01)

    async def silent() -> Writer:
        reader, writer = asyncio.StreamReader(), Writer()
        reader.feed_data(connect())
        await relay._serve(reader, writer)
        return writer

    assert asyncio.run(silent()).closed and relay._devices == {}
