"""An asynchronous MQTT client, which sends and receives what wire/mqtt.py builds and checks.

umqtt.simple logs in and subscribes, on a tape (net/umqtt_adapter.py) and not on the connection.
"""

import asyncio
import time

from micropython import const

from .. import unload
from ..errors import LinkError, PeerError, ensure
from ..wire import mqtt as wire
from .keepalive import Keepalive, SkipAllowance

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Callable

    from .link import Link

_MAX_FIELD = const(65535)
_KEPT = const(640)  # bytes of the largest packet that is kept
_UNAWAITED = const(-1)  # the answer is outstanding, and the task that waited was cancelled
_MOST_UNAWAITED = const(16)


class Client:
    """An MQTT client for one connection after the other.

    client_id: text. user, password: any bytes, 0 to 65,535 long, or both None.
    on_message(topic, payload, retained): called for each message; its views are valid until it
    returns. keepalive_s: seconds. limit: bytes of the largest packet received. stall_ms: how long
    a peer may owe bytes or an answer. on_skipped(topic, head): called for each message above the
    limit, which is dropped; head: of its payload. Both are empty where the topic was too long.

    client_id, user, password, will: what the next connection logs in with. keepalive, framer:
    of the connection. topics: (topic, QoS) of its subscriptions.
    owes: part of a packet waits for the connection: flush() must be awaited. connected: logged in.
    accepted: the broker accepted the log-in of the last connection. greet(): called once the
    server's pin matched; returns what follows the log-in, as (topic, payload).
    Raises UsageError bad-argument, bad-credential.
    """

    def __init__(
        self,
        client_id: str,
        user: "bytes | None",
        password: "bytes | None",
        on_message: "Callable[[memoryview, memoryview, bool], None]",
        keepalive_s: int = 60,
        limit: int = 2048,
        stall_ms: int = 5000,
        on_skipped: "Callable[[bytes, bytes], None] | None" = None,
    ) -> None:
        self.client_id = name = client_id.encode()  # umqtt counts characters, MQTT bytes
        ensure(len(name) <= _MAX_FIELD, "bad-argument", "a client ID has at most 65,535 bytes")
        ensure((user is None) == (password is None), "bad-credential", "a user needs a password")
        for field in (user, password):
            fits = field is None or len(field) <= _MAX_FIELD
            ensure(fits, "bad-credential", "a user name or password has at most 65,535 bytes")
        ensure(0 < keepalive_s <= _MAX_FIELD, "bad-argument", "keepalive is 1 to 65,535 seconds")
        self.user = user
        self.password: "bytes | bytearray | None" = password
        self.will: "tuple[bytes, bytes, int] | None" = None
        self._pid = 0  # the last packet ID
        self._out = bytearray()  # packets that wait for the connection
        self._topic, self._length, self._packet = b"", -1, bytearray()
        self.framer = wire.Framer(limit, SkipAllowance().spend)
        self._on_skipped = on_skipped
        self._on_message = on_message
        self.keepalive = Keepalive(keepalive_s * 1000, stall_ms)
        self.owes = self._sending = False
        self._sent = asyncio.Event()
        self._rest = memoryview(b"")
        self._link: "Link | None" = None
        self.topics: "list[tuple[str, int]]" = []
        # Packet ID -> None until its PUBACK or SUBACK comes, then the broker's answer; _UNAWAITED.
        self._answers: "dict[int, int | None]" = {}
        self._answered = asyncio.Event()
        self._reading = False  # one task waits for the socket: asyncio would forget the other
        self.connected = self.accepted = False
        self.pause_ms = 0  # behind this message
        self.greet: "Callable[[], list[tuple[bytes, bytes]]]" = list

    def set_last_will(self, topic: str, payload: bytes, qos: int = 0) -> None:
        """Set the message that the broker publishes when this client is lost; never retained.

        topic: 1 to 65,535 bytes. payload: at most 65,535. qos: 0 or 1. UsageError bad-argument.
        """
        ensure(qos in (0, 1), "bad-argument", "QoS is 0 or 1")
        name = topic.encode()
        fits = 0 < len(name) <= _MAX_FIELD and len(payload) <= _MAX_FIELD
        ensure(fits, "bad-argument", "a last will this size does not fit")
        self.will = name, payload, qos

    async def connect(self, link: "Link", host: str, port: int, deadline_ms: int) -> None:
        """Open the link, log in, restore the subscriptions and send the first messages.

        link: not connected yet. deadline_ms: until the broker accepted the log-in. Raises as
        Link.connect(), LinkError mqtt-unavailable, PeerError mqtt-refused, mqtt-malformed.
        """
        from . import login

        try:
            await login.connect(self, link, host, port, deadline_ms)
        except BaseException:  # the link must not outlive a connection that failed
            self.close()
            raise
        finally:
            unload("warden.net.login")

    def attach(self, link: "Link") -> None:
        """Use a link that is about to be opened (net/login.py), and drop all of the last one."""
        self.framer.clear()
        self.accepted = False
        self._answers = {}
        self._pid = 0
        self._out = bytearray()
        self._rest = memoryview(b"")
        self.owes = self._sending
        self._link = link

    def close(self) -> None:
        """Drop the connection without a DISCONNECT: the broker publishes the last will."""
        self.connected = False
        if self._link is not None:
            self._link.close()
        self._link = None
        self._answered.set()

    async def disconnect(self, will: bool = True) -> None:
        """Publish the last will, as no broker does after a DISCONNECT, if it is to be; close."""
        if self.connected:
            try:
                if will and self.will is not None:
                    self._out.extend(wire.publish(*self.will[:2]))
                self._out.extend(b"\xe0\x00")
                await self.flush()
            except PeerError:
                pass  # it is closed below in any case
        self.close()

    async def pump(self, once_ms: int = 0) -> None:
        """Receive messages and send pings until the connection breaks; raise what broke it.

        once_ms: only handle one packet, or wait for bytes until a ping is due, at most so long;
        while another task reads, wait for an answer or that task's end. All in one coroutine: each
        that awaits another one takes 200 bytes of a C stack of 8 KB.
        """
        framer, times, again = self.framer, self.keepalive, True
        most_ms = once_ms or times.keepalive_ms
        while again:
            again, reads = not once_ms, not self._reading
            try:
                if not reads:
                    await self._wait_answered(most_ms)
                    continue
                self._reading = True
                if not await self.receive():
                    await self._wait_bytes(most_ms)
                    continue
                times.received_at = time.ticks_ms()
                times.began_at = None  # the next packet has its own time, also where it began
                if framer.skipped or framer.kind & 0xF0 != wire.PUBLISH:
                    self._handle()
                else:
                    topic, payload, pid = framer.message()
                    if pid:
                        self._out.extend(wire.puback(pid))
                    self._on_message(topic, payload, framer.retained)
                framer.clear()
                # A flood of messages must not starve the application. What the agent answers goes
                # out in one record with the PUBACK: behind it, it could wait for a delayed ACK.
                await asyncio.sleep_ms(0)
                pause, self.pause_ms = self.pause_ms, 0
                await asyncio.sleep_ms(pause)
                if self._out:
                    await self.flush()
            except BaseException:  # also when the task is cancelled
                if not once_ms:
                    self.close()
                raise
            finally:
                if reads:
                    self._reading = False
                    self._answered.set()

    async def _wait_answered(self, most_ms: int) -> None:
        self._answered.clear()
        try:
            await asyncio.wait_for_ms(self._answered.wait(), most_ms)
        except asyncio.TimeoutError:
            pass  # the caller's deadline decides

    async def _wait_bytes(self, most_ms: int) -> None:
        """Wait for bytes, at most most_ms, or send a ping where one is due."""
        times, now = self.keepalive, time.ticks_ms()
        wait = min(most_ms, times.left_ms(self.framer.started, now))
        if wait > 0:
            await self._open_link().wait_readable(wait)
        elif times.ping_at is None:
            self._out.extend(b"\xc0\x00")
            times.ping_at = now
            await self.flush()

    async def receive(self) -> bool:
        """Read what is there; return whether the framer holds a whole packet."""
        link = self._open_link()
        while True:
            count = link.receive_into(self.framer.space())
            if count is None:
                return False
            if self.framer.fed(count):
                return True
            if self.framer.skipped:  # a long packet, which may come byte by byte
                await asyncio.sleep_ms(0)

    def _handle(self) -> None:
        framer, kind = self.framer, self.framer.kind
        if framer.skipped:
            if framer.pid:  # without its PUBACK the broker would send no more in the end
                self._out.extend(wire.puback(framer.pid))
            if self._on_skipped is not None:
                self._on_skipped(framer.topic, framer.head)
        elif kind == wire.PINGRESP:
            self.keepalive.ping_at = None
        elif kind in (wire.PUBACK, wire.SUBACK):
            body = framer.body()
            pid = body[0] << 8 | body[1]
            answer = self._answers.get(pid, 0)
            if answer == _UNAWAITED:
                del self._answers[pid]
            elif answer is not None:  # answered before, or never sent
                raise PeerError("mqtt-malformed")
            else:
                self._answers[pid] = body[2] if kind == wire.SUBACK else 0
                self._answered.set()
        else:
            raise PeerError("mqtt-malformed")

    async def publish(
        self, topic: "str | bytes", payload: "bytes | bytearray | memoryview", qos: int = 0
    ) -> None:
        """Send one message, never retained. With QoS 1, wait for its PUBACK, at most stall_ms.

        topic: 1 to 65,535 bytes. payload: bytes. qos: 0 or 1. Raises LinkError link-closed,
        link-timeout; UsageError bad-argument.
        """
        ensure(qos in (0, 1), "bad-argument", "QoS is 0 or 1")
        name = topic.encode() if isinstance(topic, str) else topic
        ensure(0 < len(name) <= _MAX_FIELD, "bad-argument", "a topic has 1 to 65,535 bytes")
        if not qos:
            self.post(name, payload)
            if self.owes:
                await self.flush()
            return
        if not self.connected:  # as in post()
            raise LinkError("link-closed")
        pid = self._claim()
        self._out.extend(wire.publish(name, payload, 1, pid))
        await self._wait_answer(pid)

    def post(self, topic: bytes, payload: "bytes | bytearray | memoryview") -> None:
        """Send one message with QoS 0 at once: a coroutine would cost as much as an AES block.

        topic, payload: bytes. Where the connection did not accept all of it, `owes` is True, and
        flush() must be awaited. Raises LinkError link-closed.
        """
        if not self.connected:  # nothing may overtake the log-in
            raise LinkError("link-closed")
        if self.owes or self._out:
            self._out.extend(wire.publish(topic, payload))
            if self.owes:
                return  # it waits behind what is being sent
            data = self.pop_packets()
        else:
            data = self._event(topic, payload)
        count = self._write(data)
        self.keepalive.sent_at = time.ticks_ms()
        if count < len(data):
            self._rest = memoryview(data)[count:]
            self.owes = True

    def _write(self, data: bytearray) -> int:  # apart: post() would have its frame on the heap
        try:
            return self._open_link().write(data)
        except PeerError:
            self.close()
            raise

    def _event(self, topic: bytes, payload: "bytes | bytearray | memoryview") -> bytearray:
        """Return a PUBLISH with QoS 0; kept for the next payload of this topic and length."""
        n = len(payload)
        if n == self._length and topic == self._topic:
            packet = self._packet
            packet[len(packet) - n :] = payload
            return packet
        packet = wire.publish(topic, payload)
        if len(packet) <= _KEPT:
            self._topic, self._length, self._packet = topic, n, packet
        return packet

    def pop_packets(self) -> bytearray:
        """Remove and return the packets that wait for the connection."""
        out, self._out = self._out, bytearray()
        return out

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribe now if connected, and again after each reconnect.

        topic: 1 to 120 bytes. qos: 0 or 1. PeerError mqtt-refused; LinkError; UsageError.
        """
        ensure(qos in (0, 1), "bad-argument", "QoS is 0 or 1")
        fits = 0 < len(topic.encode()) <= 120  # umqtt 1.3.4 has one byte for a packet's length
        ensure(fits, "bad-argument", "a topic to subscribe to has 1 to 120 bytes")
        self.topics = [one for one in self.topics if one[0] != topic] + [(topic, qos)]
        if self.connected:
            await self.subscribed(self.request(topic, qos))

    def request(self, topic: str, qos: int) -> int:
        """Queue a SUBSCRIBE, and return its packet ID."""
        from .umqtt_adapter import Packets

        pid, packets = self._claim(), Packets()
        self._out.extend(packets.subscription(topic.encode(), qos, pid))
        packets.close()
        return pid

    async def subscribed(self, pid: int) -> None:
        """Wait for the answer to a SUBSCRIBE. PeerError mqtt-refused, LinkError."""
        if await self._wait_answer(pid) == 0x80:
            raise PeerError("mqtt-refused", "the broker does not grant this device its topics")

    def _claim(self) -> int:
        """Return the next packet ID, from 1 to 65,535 and again; none that is outstanding."""
        pid = self._pid % 65535 + 1
        while pid in self._answers:
            pid = pid % 65535 + 1
        self._pid = pid
        self._answers[pid] = None
        return pid

    async def _wait_answer(self, pid: int) -> int:
        """Send what waits, and return the broker's answer to this packet ID.

        Raises LinkError link-closed, link-timeout.
        """
        answers = self._answers  # of this connection: the next one has its own
        try:
            await self.flush()
            start = time.ticks_ms()
            while answers.get(pid) is None:
                if answers is not self._answers or self._link is None:
                    raise LinkError("link-closed")
                left = self.keepalive.stall_ms - time.ticks_diff(time.ticks_ms(), start)
                if left <= 0:
                    self.close()
                    raise LinkError("link-timeout")
                await self.pump(left)
            return answers[pid] or 0
        finally:
            if answers.pop(pid, None) is None:
                # The caller was cancelled, and the answer is still to come.
                answers[pid] = _UNAWAITED
                waiting = list(answers.values()).count(_UNAWAITED)
                if answers is self._answers and waiting > _MOST_UNAWAITED:
                    self.close()

    async def flush(self) -> None:
        """Send what is left of a packet, then all that waits.

        Raises LinkError link-closed, link-timeout.
        """
        while self._sending:
            self._sent.clear()
            await self._sent.wait()
        link = self._open_link()
        self._sending = self.owes = True
        try:
            while True:
                data = self._rest or self.pop_packets()
                if not data:
                    break
                await link.send(data)
                self._rest = memoryview(b"")
                self.keepalive.sent_at = time.ticks_ms()
        except BaseException:  # also when the task is cancelled
            # The packet is incomplete, and the next bytes would be taken for the rest of it.
            if link is self._link:
                self.close()
            raise
        finally:
            self._sending = self.owes = False
            self._sent.set()

    def _open_link(self) -> "Link":
        if self._link is None:
            raise LinkError("link-closed")
        return self._link
