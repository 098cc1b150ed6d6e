"""An asynchronous MQTT client: umqtt.simple makes and parses packets, this module sends them.

umqtt.simple works on a tape (net/umqtt_adapter.py) and never on the connection.
"""

import asyncio
import time

from micropython import const

from ..errors import LinkError, PeerError, ensure
from ..wire import mqtt as wire
from .keepalive import Keepalive
from .umqtt_adapter import Field, make_codec

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Callable

    from .link import Link

_MAX_FIELD = const(65535)
_UNAWAITED = const(-1)  # the answer is outstanding, and the task that waited was cancelled
_MOST_UNAWAITED = const(16)
# Bytes of messages above the limit that are received and dropped: at once, and for each
# millisecond. Above that the link is closed.
_MOST_SKIPPED = const(65536)
_SKIPPED_EACH_MS = const(16)


class Client:
    """An MQTT client for one connection after the other.

    client_id: text. user, password: any bytes, 0 to 65,535 long, or both None.
    on_message(topic, payload, retained): called for each message; its views are valid until it
    returns. keepalive_s: seconds. limit: bytes of the largest packet received. stall_ms: how long
    a peer may owe bytes or an answer. on_skipped(topic): called for each message above the limit,
    which is dropped; topic: empty where it was too long to be kept.

    owes: part of a packet waits for the connection: flush() must be awaited. connected: logged in.
    accepted: the broker accepted the log-in of the last connection.
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
        on_skipped: "Callable[[bytes], None] | None" = None,
    ) -> None:
        self._codec = make_codec(client_id, user, password, keepalive_s)
        self._codec.set_callback(self._message)
        self._framer = wire.Framer(limit, self._may_skip)
        self._on_skipped = on_skipped
        self._spare, self._spare_at = _MOST_SKIPPED, time.ticks_ms()
        self._on_message = on_message
        self._keepalive = Keepalive(keepalive_s * 1000, stall_ms)
        self.owes = False
        self._sending = False
        self._sent = asyncio.Event()
        self._rest = memoryview(b"")
        self._link: "Link | None" = None
        self._topics: "list[tuple[str, int]]" = []
        # Packet ID -> None while its PUBACK or SUBACK is outstanding, then the broker's answer; or
        # _UNAWAITED.
        self._answers: "dict[int, int | None]" = {}
        self._answered = asyncio.Event()
        self._reading = False  # one task waits for the socket: asyncio would forget the other
        self.connected = False
        self.accepted = False

    def set_password(self, password: "bytes | bytearray") -> None:
        """Set the password for the next connections."""
        self._codec.pswd = Field(password)

    def set_last_will(self, topic: str, payload: bytes, qos: int = 0) -> None:
        """Set the message that the broker publishes when this client is lost; never retained.

        topic: 1 to 65,535 bytes. payload: at most 65,535. qos: 0 or 1. Raises UsageError
        bad-argument.
        """
        ensure(qos in (0, 1), "bad-argument", "QoS is 0 or 1")
        name = topic.encode()
        fits = 0 < len(name) <= _MAX_FIELD and len(payload) <= _MAX_FIELD
        ensure(fits, "bad-argument", "a last will this size does not fit")
        self._codec.set_last_will(name, payload, False, qos)

    # -- one connection -----------------------------------------------------------------------

    async def connect(self, link: "Link", host: str, port: int, deadline_ms: int) -> None:
        """Open the link, log in and restore the subscriptions.

        link: not connected yet. deadline_ms: until the broker accepted the log-in. Raises what
        Link.connect() does, LinkError link-timeout, PeerError mqtt-refused, mqtt-malformed.
        """
        start = time.ticks_ms()
        self._framer.clear()
        self.accepted = False
        self._answers = {}
        codec = self._codec
        codec.pid = 0
        tape = codec.tape
        tape.pop()
        self._rest = memoryview(b"")
        self.owes = self._sending
        # umqtt reads its CONNACK from the tape; the broker's own is checked below.
        tape.load(b"\x20\x02\x00\x00")
        codec.connect(True)
        self._link = link
        try:
            await link.connect(host, port, tape.pop(), deadline_ms)
            self._keepalive.start(time.ticks_ms())
            while not await self._receive():
                left = deadline_ms - time.ticks_diff(time.ticks_ms(), start)
                if left <= 0 or not await link.wait_readable(left):
                    raise LinkError("link-timeout")
            if self._framer.kind != wire.CONNACK:
                raise PeerError("mqtt-malformed")
            code = self._framer.body()[1]
            self._framer.clear()
            if code:
                raise PeerError("mqtt-refused", "the broker refused the log-in (code %d)" % code)
            self.connected = self.accepted = True
            for topic, qos in self._topics:
                await self._send_subscription(topic, qos)
        except BaseException:  # the link must not outlive a connection that failed
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection without a DISCONNECT: the broker publishes the last will."""
        self.connected = False
        if self._link is not None:
            self._link.close()
        self._link = None
        self._answered.set()

    async def disconnect(self) -> None:
        """Publish the last will, which no broker does after a DISCONNECT, disconnect and close."""
        if self.connected:
            codec = self._codec
            try:
                if codec.lw_topic:
                    codec.publish(codec.lw_topic, codec.lw_msg)
                codec.disconnect()
                await self.flush()
            except PeerError:
                pass  # it is closed below in any case
        self.close()

    async def pump(self) -> None:
        """Receive messages and send pings until the connection breaks; raise what broke it."""
        try:
            while True:
                await self._read_or_wait(self._keepalive.keepalive_ms)
        finally:
            self.close()

    async def _read_or_wait(self, most_ms: int) -> None:
        """Read once; or, while another task reads, wait for an answer or that task's end."""
        if not self._reading:
            self._reading = True
            try:
                await self._turn(most_ms)
            finally:
                self._reading = False
                self._answered.set()
            return
        self._answered.clear()
        try:
            await asyncio.wait_for_ms(self._answered.wait(), most_ms)
        except asyncio.TimeoutError:
            pass  # the caller's deadline decides

    async def _turn(self, most_ms: int) -> None:
        """Handle one packet, or wait for bytes until a ping is due, at most most_ms."""
        times = self._keepalive
        if await self._receive():
            times.received_at = time.ticks_ms()
            times.began_at = None  # the next packet has its own time, also where it began already
            self._handle()
            # A flood of messages must not starve the application. What the agent answers meanwhile
            # goes out in one record with the PUBACK: behind it, it could wait for a delayed ACK.
            await asyncio.sleep_ms(0)
            await asyncio.sleep_ms(0)
            if self._codec.tape.out:
                await self.flush()
            return
        wait = min(most_ms, times.left_ms(self._framer.started, time.ticks_ms()))
        if wait > 0:
            await self._open_link().wait_readable(wait)
        elif times.ping_at is None:
            self._codec.ping()
            times.ping_at = time.ticks_ms()
            await self.flush()

    async def _receive(self) -> bool:
        """Read what is there; return whether the framer holds a whole packet."""
        link = self._open_link()
        while True:
            count = link.receive_into(self._framer.space())
            if count is None:
                return False
            if self._framer.fed(count):
                return True
            if self._framer.skipped:  # a long packet, which may come byte by byte
                await asyncio.sleep_ms(0)

    def _handle(self) -> None:
        framer = self._framer
        kind = framer.kind
        if framer.skipped:
            if framer.pid:  # without its PUBACK the broker would send no more in the end
                self._codec.tape.write(bytes((wire.PUBACK, 2, framer.pid >> 8, framer.pid & 255)))
            if self._on_skipped is not None:
                self._on_skipped(framer.topic)
        elif kind & 0xF0 == wire.PUBLISH:
            self._codec.tape.load(framer.packet())
            self._codec.wait_msg()
        elif kind == wire.PINGRESP:
            self._keepalive.ping_at = None
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
        framer.clear()

    def _may_skip(self, size: int) -> bool:
        now = time.ticks_ms()
        passed = max(0, time.ticks_diff(now, self._spare_at))
        self._spare_at = now
        self._spare = min(_MOST_SKIPPED, self._spare + passed * _SKIPPED_EACH_MS)
        if size > self._spare:
            return False
        self._spare -= size
        return True

    def _message(self, topic: memoryview, payload: memoryview) -> None:
        self._on_message(topic, payload, self._framer.retained)

    # -- sending ------------------------------------------------------------------------------

    async def publish(
        self, topic: "str | bytes", payload: "bytes | bytearray | memoryview", qos: int = 0
    ) -> None:
        """Send one message, never retained. With QoS 1, wait for the broker's acknowledgement
        (_wait_answer()), at most stall_ms.

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
        # umqtt waits for its PUBACK on the tape; the broker's own is awaited below.
        self._codec.tape.load(bytes((wire.PUBACK, 2, pid >> 8, pid & 255)))
        self._codec.publish(name, payload, False, qos)
        await self._wait_answer(pid)

    def post(self, topic: bytes, payload: "bytes | bytearray | memoryview") -> None:
        """Send one message with QoS 0 at once: a coroutine would cost as much as an AES block.

        topic, payload: bytes. Where the connection did not accept all of it, `owes` is True, and
        flush() must be awaited. Raises LinkError link-closed.
        """
        if not self.connected:  # nothing may overtake the log-in
            raise LinkError("link-closed")
        codec = self._codec
        if self.owes or codec.tape.out:
            codec.publish(topic, payload, False, 0)
            if self.owes:
                return  # it waits on the tape, behind what is being sent
            data: "bytes | bytearray" = codec.tape.pop()
        else:
            data = codec.packet(topic, payload)
        try:
            count = self._open_link().write(data)
        except PeerError:
            self.close()
            raise
        self._keepalive.sent_at = time.ticks_ms()
        if count < len(data):
            self._rest = memoryview(data)[count:]
            self.owes = True

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribe now if connected, and again after each reconnect.

        topic: 1 to 120 bytes. qos: 0 or 1. Raises PeerError mqtt-refused, LinkError, UsageError
        bad-argument.
        """
        ensure(qos in (0, 1), "bad-argument", "QoS is 0 or 1")
        # umqtt 1.3.4 writes the length of a SUBSCRIBE as one byte.
        ensure(
            0 < len(topic.encode()) <= 120,
            "bad-argument",
            "a topic to subscribe to has 1 to 120 bytes",
        )
        self._topics = [one for one in self._topics if one[0] != topic] + [(topic, qos)]
        if self.connected:
            await self._send_subscription(topic, qos)

    async def _send_subscription(self, topic: str, qos: int) -> None:
        pid = self._claim()
        self._codec.tape.load(bytes((wire.SUBACK, 3, pid >> 8, pid & 255, qos)))
        self._codec.subscribe(topic.encode(), qos)
        if await self._wait_answer(pid) == 0x80:
            raise PeerError("mqtt-refused", "the broker does not grant this device its topics")

    def _claim(self) -> int:
        """Return the next packet ID, from 1 to 65,535 and again; none that is outstanding."""
        while True:
            pid = self._codec.pid % 65535 + 1
            if pid not in self._answers:
                break
            self._codec.pid = pid
        self._codec.pid = pid - 1  # umqtt adds the one
        self._answers[pid] = None
        return pid

    async def _wait_answer(self, pid: int) -> int:
        """Send what is on the tape, and return the broker's answer to this packet ID.

        Raises LinkError link-closed, link-timeout.
        """
        answers = self._answers  # of this connection: the next one has its own
        try:
            await self.flush()
            start = time.ticks_ms()
            while answers.get(pid) is None:
                if answers is not self._answers or self._link is None:
                    raise LinkError("link-closed")
                left = self._keepalive.stall_ms - time.ticks_diff(time.ticks_ms(), start)
                if left <= 0:
                    self.close()
                    raise LinkError("link-timeout")
                await self._read_or_wait(left)
            return answers[pid] or 0
        finally:
            if answers.pop(pid, None) is None:
                # The caller was cancelled, and the answer is still to come.
                answers[pid] = _UNAWAITED
                waiting = list(answers.values()).count(_UNAWAITED)
                if answers is self._answers and waiting > _MOST_UNAWAITED:
                    self.close()

    async def flush(self) -> None:
        """Send what is left of a packet, then all that is on the tape.

        Raises LinkError link-closed, link-timeout.
        """
        while self._sending:
            self._sent.clear()
            await self._sent.wait()
        link = self._open_link()
        self._sending = self.owes = True
        try:
            while True:
                data = self._rest or self._codec.tape.pop()
                if not data:
                    break
                await link.send(data)
                self._rest = memoryview(b"")
                self._keepalive.sent_at = time.ticks_ms()
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
