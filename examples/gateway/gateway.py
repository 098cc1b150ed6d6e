"""A gateway: devices connect to it without TLS, and it relays what they seal over one connection.

python examples/gateway/gateway.py hall.json --listen 192.168.7.1:1883 --serial /dev/ttyUSB0:115200

hall.json is what `warden gateway add` wrote. The gateway has no key of a device: it reads topics
and sizes, and can drop, delay or spoil messages, which device and authority notice as they do of
any broker. It needs paho-mqtt, and pyserial for serial lines. See docs/gateways.md.
"""

import argparse
import asyncio
import contextlib
import json
import re
import signal
import ssl
import stat
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import serial_line
from mqtt_packets import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Fields,
    Refused,
    packet,
    read_packet,
)
from paho.mqtt.enums import CallbackAPIVersion

EVENT_TOPIC = re.compile(r"/evt/[\w.-]{1,64}/fmt/(cose|json)", re.ASCII)
MOST_UNSENT = 65536  # bytes that a device may be behind before its connection ends
MOST_UNANSWERED = 32  # messages of a device that wait for the broker, of QoS 0 as well
MOST_MESSAGES_S, MOST_AT_ONCE = 100, 400  # messages of a device: its outbox may come at once
MOST_WAITING = 32  # messages to a device on a serial line, which is given one at a time
CONNECT_S = 10.0
LEAST_KEEPALIVE_S, MOST_KEEPALIVE_S = 5, 3600
ACCEPTED, UNAVAILABLE, NOT_AUTHORIZED = 0, 3, 5


class Device:
    """One device's connection. base: of its topics. will: topic and message, or None."""

    def __init__(self, gateway: "Gateway", writer: asyncio.StreamWriter, base: str) -> None:
        self.base = base
        self.will: tuple[str, bytes] | None = None
        self.subscribed = False
        self.unanswered = 0
        self._gateway = gateway
        self._writer = writer
        self._number = 0
        self._tokens, self._filled = float(MOST_AT_ONCE), time.monotonic()
        # A serial line has no flow control: the next message goes when this one is acknowledged.
        self._one_by_one = not isinstance(writer, asyncio.StreamWriter)
        self._waiting: list[tuple[str, bytes]] = []
        self._awaited = b""

    def send(self, kind: int, body: bytes, flags: int = 0) -> None:
        if self._writer.transport.get_write_buffer_size() > MOST_UNSENT:
            self.close()
        else:
            self._writer.write(packet(kind, body, flags))

    def deliver(self, topic: str, payload: bytes) -> None:
        """Give the device a message, at least once: it answers, and finds repeats by itself."""
        if self._awaited:
            self._waiting.append((topic, payload))
            if len(self._waiting) > MOST_WAITING:
                self.close()
            return
        self._number = self._number % 0xFFFF + 1
        name = topic.encode()
        number = self._number.to_bytes(2, "big")
        if self._one_by_one:
            self._awaited = number
        self.send(PUBLISH, len(name).to_bytes(2, "big") + name + number + payload, 2)

    def close(self) -> None:
        self._writer.close()

    def handle(self, kind: int, flags: int, body: bytes) -> bool:
        """Handle a packet; return whether it ends the connection in order. Raises Refused."""
        fields = Fields(body)
        if kind == PUBLISH:
            self._publish(flags, fields)
        elif kind == SUBSCRIBE:
            number, topic, wanted = fields.take(2), fields.text(), fields.take(1)
            if not topic.startswith(f"{self.base}/cmd/".encode()) or fields.left:
                self.send(SUBACK, number + b"\x80")
                return False
            self.subscribed = True
            self._gateway.subscribe(self, number, min(wanted[0], 1))
        elif kind == UNSUBSCRIBE:
            self.subscribed = False
            self._gateway.unsubscribe(self)
            self.send(UNSUBACK, fields.take(2))
        elif kind == PINGREQ:
            self.send(PINGRESP, b"")
        elif kind == DISCONNECT:
            return True
        elif kind != PUBACK:
            raise Refused(f"a packet of kind {kind}")
        elif self._awaited and fields.rest() == self._awaited:
            self._awaited = b""
            if self._waiting:
                self.deliver(*self._waiting.pop(0))
        return False

    def _publish(self, flags: int, fields: Fields) -> None:
        quality, topic = flags >> 1 & 3, fields.text().decode(errors="replace")
        number = fields.take(2) if quality else b""
        if quality > 1 or flags & 1:
            raise Refused("a message that is retained or of QoS 2")
        if not topic.startswith(self.base) or not EVENT_TOPIC.fullmatch(topic[len(self.base) :]):
            raise Refused("a topic that is none of the device's")
        # Else the fleet would hold this gateway for the flooder, or the device.
        now = time.monotonic()
        self._tokens = min(MOST_AT_ONCE, self._tokens + (now - self._filled) * MOST_MESSAGES_S)
        self._filled = now
        self._tokens -= 1
        if self._tokens < 0:
            raise Refused("too many messages")
        self._gateway.publish(self, topic, fields.rest(), quality, number)


class Gateway:
    """Relays for the devices of a document of `warden gateway`, while start() … stop()."""

    def __init__(self, document: dict[str, Any], host: str, port: int) -> None:
        self._known = {
            f"d:{type_}:{device}": f"iot-2/type/{type_}/id/{device}"
            for type_, device in document["devices"]
        }
        self._host, self._port = host, port
        self._devices: dict[str, Device] = {}  # by the base of their topics
        self._waiting: dict[int, tuple[Device, bytes, int]] = {}
        self._up = False
        self._loop: asyncio.AbstractEventLoop
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._lines: list[serial_line.SerialLine] = []
        self.connected = asyncio.Event()
        broker = document["broker"]
        self._address = (broker["host"], broker["port"])
        self._most_bytes: int = broker["max_packet"]
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=broker["user"])
        client.username_pw_set(broker["user"], broker["password"])
        context = ssl.create_default_context(cadata=broker["ca"])
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        client.tls_set_context(context)
        client.reconnect_delay_set(1, 60)
        client.max_queued_messages_set(1000)
        client.on_connect = lambda _c, _d, _f, reason, _p: self._soon(
            self._on_broker, not reason.is_failure
        )
        client.on_disconnect = lambda *_: self._soon(self._on_broker, False)
        client.on_message = lambda _c, _d, message: self._soon(
            self._on_message, message.topic, message.payload, message.retain
        )
        client.on_publish = lambda _c, _d, number, *_: self._soon(self._on_answer, number, False)
        client.on_subscribe = lambda _c, _d, number, reasons, _p: self._soon(
            self._on_answer, number, reasons[0].is_failure
        )
        self._client = client

    # What a gateway that lies would do otherwise: tests put something else here.

    def relay_up(self, topic: str, payload: bytes) -> list[bytes]:
        """Return what goes to the broker for a message of a device."""
        return [payload]

    def relay_down(self, topic: str, payload: bytes) -> list[bytes]:
        """Return what goes to a device for a message of the broker."""
        return [payload]

    async def start(self) -> None:
        """Listen for devices, and connect to the broker for as long as it takes."""
        self._loop = asyncio.get_running_loop()
        self._client.connect_async(*self._address, keepalive=30)
        self._client.loop_start()
        self._server = await asyncio.start_server(self._serve, self._host, self._port)

    def add_line(self, descriptor: int) -> None:
        """Serve the device at a serial port, after start(). descriptor: of the open port."""
        line = serial_line.SerialLine(descriptor, self._serve)
        line.start()
        self._lines.append(line)

    async def stop(self) -> None:
        """End all connections."""
        for line in self._lines:
            line.stop()
        if self._server is not None:
            self._server.close()
        self._on_broker(False)
        for writer in self._writers:
            writer.close()
        await asyncio.to_thread(self._end_client)

    def _end_client(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(
        self, device: Device, topic: str, payload: bytes, quality: int, number: bytes
    ) -> None:
        """Pass a message on; the device's PUBACK follows the broker's."""
        device.unanswered += 1
        if device.unanswered > MOST_UNANSWERED:
            raise Refused("too many messages without an answer")
        for data in self.relay_up(topic, payload):
            sent = self._client.publish(topic, data, quality)
            self._waiting[sent.mid] = device, number, PUBACK

    def subscribe(self, device: Device, number: bytes, quality: int) -> None:
        """Subscribe for a device; its SUBACK follows the broker's."""
        _, sent = self._client.subscribe(f"{device.base}/cmd/#", quality)
        if sent is not None:
            self._waiting[sent] = device, number + bytes([quality]), SUBACK

    def unsubscribe(self, device: Device) -> None:
        """End a device's subscription."""
        self._client.unsubscribe(f"{device.base}/cmd/#")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        device, orderly = None, False
        self._writers.add(writer)
        try:
            if len(self._writers) > 2 * len(self._known) + 16:
                raise Refused("too many connections")
            device, keepalive = await asyncio.wait_for(self._accept(reader, writer), CONNECT_S)
            while not orderly:
                kind, flags, body = await asyncio.wait_for(
                    read_packet(reader, self._most_bytes), 1.5 * keepalive
                )
                orderly = device.handle(kind, flags, body)
        except (Refused, TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            if device is not None:
                self._leave(device, orderly)
            writer.close()

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Device, int]:
        """Return the device that logs in, and its keepalive, seconds. Raises Refused."""
        kind, _, body = await read_packet(reader, self._most_bytes)
        fields = Fields(body)
        if kind != CONNECT or fields.text() != b"MQTT" or fields.take(1) != b"\x04":
            raise Refused("no CONNECT of MQTT 3.1.1")
        flags, keepalive = fields.take(1)[0], fields.number()
        client = fields.text().decode(errors="replace")
        will = (fields.text(), fields.text()) if flags & 4 else None
        user = fields.text().decode(errors="replace") if flags & 0x80 else ""
        base = self._known.get(user)
        if base is None or client != user or not self._up:
            code = UNAVAILABLE if base is not None and client == user else NOT_AUTHORIZED
            writer.write(packet(CONNACK, bytes([0, code])))
            raise Refused("a client that is not listed, or a broker that is away")
        device = Device(self, writer, base)
        if will is not None and will[0] == f"{base}/evt/offline/fmt/json".encode():
            device.will = will[0].decode(), will[1]
        older = self._devices.get(base)
        self._devices[base] = device
        if older is not None:
            older.close()
        device.send(CONNACK, bytes([0, ACCEPTED]))
        return device, min(max(keepalive, LEAST_KEEPALIVE_S), MOST_KEEPALIVE_S)

    def _leave(self, device: Device, orderly: bool) -> None:
        """Forget a device's connection, and send its will unless it said that it leaves."""
        if self._devices.get(device.base) is not device:
            return  # it is back already
        del self._devices[device.base]
        if self._up:
            if device.subscribed:
                self.unsubscribe(device)
            if device.will is not None and not orderly:
                self._client.publish(*device.will)

    # From paho's thread

    def _soon(self, call: Any, *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *arguments)

    def _on_broker(self, up: bool) -> None:
        """Note that the broker is there, or end the devices' connections: they try elsewhere."""
        self._up = up
        if up:
            self.connected.set()
            return
        self.connected.clear()
        self._waiting.clear()
        for device in self._devices.values():
            device.close()

    def _on_message(self, topic: str, payload: bytes, retain: bool) -> None:
        device = self._devices.get(topic.partition("/cmd/")[0])
        if device is not None and device.subscribed and not retain:
            for data in self.relay_down(topic, payload):
                device.deliver(topic, data)

    def _on_answer(self, number: int, failed: bool) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return
        device, body, kind = waiting
        if kind == PUBACK:
            device.unanswered -= 1
        if body:  # one of QoS 0 has no answer: it has left for the broker
            device.send(kind, body[:2] + b"\x80" if failed else body)


def read_document(path: Path) -> dict[str, Any]:
    """Return what `warden gateway` wrote. Raises SystemExit."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SystemExit(f"{path} can be read by others: chmod 600 {path}")
    document: dict[str, Any] = json.loads(path.read_text())
    if document.get("kind") != "warden gateway" or document.get("format") != 1:
        raise SystemExit(f"{path} is no file of `warden gateway`")
    return document


async def run(document: dict[str, Any], host: str, port: int, lines: list[str]) -> None:
    """Relay until SIGINT or SIGTERM. lines: PATH:BAUD of serial ports. Raises OSError."""
    ports = []
    for one in lines:
        path, _, baud = one.rpartition(":")
        ports.append(serial_line.open_port(path, int(baud)))
    gateway, stop = Gateway(document, host, port), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await gateway.start()
    for each in ports:
        gateway.add_line(each.fileno())
    where = ", ".join((f"{host}:{port}", *lines))
    count = len(document["devices"])
    print(f"relaying for {count} device{'s' * (count != 1)} on {where}", flush=True)
    await stop.wait()
    await gateway.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Relay for devices without TLS.")
    parser.add_argument("file", type=Path, help="what `warden gateway add` wrote")
    parser.add_argument("--listen", default="127.0.0.1:1883", metavar="HOST:PORT")
    parser.add_argument(
        "--serial", action="append", default=[], metavar="PATH:BAUD", help="again for each line"
    )
    arguments = parser.parse_args()
    host, _, port = arguments.listen.rpartition(":")
    asyncio.run(run(read_document(arguments.file), host, int(port), arguments.serial))


if __name__ == "__main__":
    main()
