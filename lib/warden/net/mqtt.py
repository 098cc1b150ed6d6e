"""umqtt.simple, hardened: it makes and parses packets on a tape (net/umqtt_adapter.py), and this module owns the wire, asynchronously."""

import asyncio
import time

from micropython import const

from ..errors import LinkError, PeerError, ensure
from ..wire import mqtt as wire
from .umqtt_adapter import Codec, Field, Tape

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Callable

    from .link import Link

_MAX_FIELD = const(65535)
_UNAWAITED = const(-1)  # an answer is outstanding, and the task that waited was cancelled
_MOST_UNAWAITED = const(16)
# Bytes of messages above the limit that are received to be dropped: at once, and for each millisecond. Beyond that the link falls.
_MOST_SKIPPED = const(65536)
_SKIPPED_EACH_MS = const(16)


class Client:
    """One MQTT connection that comes back by itself.

    client_id: text. user, password: bytes of any value, 0 to 65,535 long, or both None. on_message(topic: memoryview, payload: memoryview, retained:
    bool) is called for each message; both views die when it returns. limit bounds what is taken, in bytes. on_skipped(topic) is called for each
    message that was above it and was dropped; the topic is empty where it was too long to be kept.
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
        name = client_id.encode()  # umqtt counts characters, MQTT bytes
        ensure(len(name) <= _MAX_FIELD, "bad-argument", "a client ID has at most 65,535 bytes")
        both = (user is None) == (password is None)
        ensure(both, "bad-credential", "a user name goes with a password")
        for field in (user, password):
            fits = field is None or len(field) <= _MAX_FIELD
            ensure(fits, "bad-credential", "a user name or password has at most 65,535 bytes")
        ensure(0 < keepalive_s <= _MAX_FIELD, "bad-argument", "keepalive is 1 to 65,535 seconds")
        self._codec = Codec(
            name,
            "127.0.0.1",  # never resolved over the network: the link made the connection already
            1883,
            None if user is None else Field(user),
            None if password is None else Field(password),
            keepalive_s,
        )
        self._codec.tape = Tape()
        self._codec.set_callback(self._message)
        self._framer = wire.Framer(limit, self._may_skip)
        self._on_skipped = on_skipped
        self._spare, self._spare_at = _MOST_SKIPPED, time.ticks_ms()
        self._on_message = on_message
        self._keepalive_ms = keepalive_s * 1000
        self._stall_ms = stall_ms
        # Something is left of a packet, or somebody waits in the middle of one: nobody else may write until it is through.
        self.owes = False
        self._sending = False
        self._sent = asyncio.Event()
        self._rest = memoryview(b"")
        self._link: "Link | None" = None
        self._topics: "list[tuple[str, int]]" = []
        self._answers: "dict[int, int | None]" = {}  # packet id -> result, None while it is outstanding
        self._answered = asyncio.Event()
        self._sent_at = self._heard_at = 0
        self._ping_at: "int | None" = None
        self._began_at: "int | None" = None
        self._reading = False  # one task waits for the socket: asyncio would forget the other
        self.connected = False
        self.accepted = False  # the broker took the log-in of the last connection

    def set_password(self, password: "bytes | bytearray") -> None:
        """From the next connection on."""
        self._codec.pswd = Field(password)

    def set_last_will(self, topic: str, payload: bytes, qos: int = 0) -> None:
        """What the broker is to say when this device vanishes. Never retained."""
        ensure(qos in (0, 1), "bad-argument", "QoS is 0 or 1")
        name = topic.encode()
        fits = 0 < len(name) <= _MAX_FIELD and len(payload) <= _MAX_FIELD
        ensure(fits, "bad-argument", "a last will this size does not fit")
        self._codec.set_last_will(name, payload, False, qos)

    # -- one connection -----------------------------------------------------------------------

    async def connect(self, link: "Link", host: str, port: int, deadline_ms: int) -> None:
        """Open the link, log in, restore the subscriptions. PeerError: whatever the link refused, mqtt-refused, mqtt-malformed, link-timeout."""
        start = time.ticks_ms()
        self._framer.clear()
        self.accepted = False
        self._answers = {}
        self._ping_at = self._began_at = None
        codec = self._codec
        codec.pid = 0
        tape = codec.tape
        tape.take()
        self._rest = memoryview(b"")
        self.owes = self._sending
        # umqtt reads its CONNACK from the tape; the broker's own is read and judged below.
        tape.load(b"\x20\x02\x00\x00")
        codec.connect(True)
        self._link = link
        try:
            await link.connect(host, port, tape.take(), deadline_ms)
            self._sent_at = self._heard_at = time.ticks_ms()
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
        """Drop the connection, without a word: what the broker takes for a failure it reports by the last will."""
        self.connected = False
        if self._link is not None:
            self._link.close()
        self._link = None
        self._answered.set()

    async def disconnect(self) -> None:
        """Publish the last will, which no broker does after a DISCONNECT, say goodbye and close."""
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
        """Take messages and keep the connection alive until it breaks, then raise the PeerError that broke it."""
        try:
            while True:
                await self._read_or_wait(self._keepalive_ms)
        finally:
            self.close()

    async def _read_or_wait(self, most_ms: int) -> None:
        """One turn of reading; or, while another task reads, a wait until an answer came or that task stopped."""
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
        """Handle one packet, or wait for bytes until the keepalive wants something, but no longer than most_ms."""
        if await self._receive():
            self._heard_at = time.ticks_ms()
            self._began_at = None  # the next packet has its own time, also where it began already
            self._handle()
            # A flood of messages must not starve the application. What the agent answers meanwhile
            # goes out in one record with the PUBACK: behind it, it could wait for a delayed ACK.
            await asyncio.sleep_ms(0)
            await asyncio.sleep_ms(0)
            if self._codec.tape.out:
                await self.flush()
            return
        wait = min(most_ms, self._patience())
        if wait > 0:
            await self._open_link().wait_readable(wait)
        elif self._ping_at is None:
            self._codec.ping()
            self._ping_at = time.ticks_ms()
            await self.flush()

    def _patience(self) -> int:
        """Milliseconds until a ping is due. PeerError link-timeout when the peer has owed us bytes for too long."""
        now = time.ticks_ms()
        if self._framer.started:
            # Counted from the packet's first byte: single bytes now and then buy no time.
            if self._began_at is None:
                self._began_at = now
            if time.ticks_diff(now, self._began_at) >= self._stall_ms:
                raise LinkError("link-timeout")
        else:
            self._began_at = None
        if self._ping_at is not None:
            left = self._stall_ms - time.ticks_diff(now, self._ping_at)
            if left <= 0:
                raise LinkError("link-timeout")
        else:
            # Both directions count: a device that only sends would not notice that its peer is gone.
            unheard = time.ticks_diff(now, self._heard_at)
            silent = max(time.ticks_diff(now, self._sent_at), unheard)
            left = max(0, self._keepalive_ms // 2 - silent)
            # What is sent while nothing is heard is followed by a ping, so that a half-open line is
            # noticed within one and a half of stall_ms. No one wakes this task when they send.
            soon = self._stall_ms // 2
            if time.ticks_diff(self._sent_at, self._heard_at) > 0:
                left = min(left, max(0, soon - unheard))
            left = min(left, soon)
        return min(left, self._stall_ms) if self._framer.started else left

    async def _receive(self) -> bool:
        """Read what is there. True when a whole packet stands in the framer."""
        link = self._open_link()
        while True:
            count = link.receive_into(self._framer.space())
            if count is None:
                return False
            if self._framer.fed(count):
                return True
            if self._framer.skipped:  # a long one, which may come in the smallest of pieces
                await asyncio.sleep_ms(0)

    def _handle(self) -> None:
        framer = self._framer
        kind = framer.kind
        if framer.skipped:
            if framer.pid:  # or the broker would wait for it, and send no more in the end
                self._codec.tape.write(bytes((wire.PUBACK, 2, framer.pid >> 8, framer.pid & 255)))
            if self._on_skipped is not None:
                self._on_skipped(framer.topic)
        elif kind & 0xF0 == wire.PUBLISH:
            self._codec.tape.load(framer.packet())
            self._codec.wait_msg()
        elif kind == wire.PINGRESP:
            self._ping_at = None
        elif kind in (wire.PUBACK, wire.SUBACK):
            body = framer.body()
            pid = body[0] << 8 | body[1]
            outstanding = self._answers.get(pid, 0)
            if outstanding == _UNAWAITED:
                del self._answers[pid]
            elif outstanding is not None:
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
        """Send one message, never retained. QoS 1 returns when the broker took it. PeerError link-closed, link-timeout."""
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
        """Send one message with QoS 0 at once, without a coroutine: each one costs as much as an AES block. When the connection did not take
        all of it, the client `owes`, and flush() must be awaited. PeerError link-closed."""
        if not self.connected:  # the log-in may not be through: nothing may overtake that
            raise LinkError("link-closed")
        codec = self._codec
        if self.owes or codec.tape.out:
            codec.publish(topic, payload, False, 0)
            if self.owes:
                return  # it stays on the tape, behind what is being sent
            data: "bytes | bytearray" = codec.tape.take()
        else:
            data = codec.packet(topic, payload)
        try:
            count = self._open_link().write(data)
        except PeerError:
            self.close()
            raise
        self._sent_at = time.ticks_ms()
        if count < len(data):
            self._rest = memoryview(data)[count:]
            self.owes = True

    async def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribe now if connected, and again after each reconnect. PeerError mqtt-refused when the broker says no."""
        ensure(qos in (0, 1), "bad-argument", "QoS is 0 or 1")
        # umqtt 1.3.4 writes the length of a SUBSCRIBE into a single byte.
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
        """The next packet id: 1 to 65,535 and round again, past those that are outstanding."""
        while True:
            pid = self._codec.pid % 65535 + 1
            if pid not in self._answers:
                break
            self._codec.pid = pid
        self._codec.pid = pid - 1  # umqtt adds the one
        self._answers[pid] = None
        return pid

    async def _wait_answer(self, pid: int) -> int:
        """Send what is on the tape, and return the broker's answer to this packet ID. PeerError link-closed, link-timeout."""
        answers = self._answers  # of this connection: the next one has its own
        try:
            await self.flush()
            start = time.ticks_ms()
            while answers.get(pid) is None:
                if answers is not self._answers or self._link is None:
                    raise LinkError("link-closed")
                left = self._stall_ms - time.ticks_diff(time.ticks_ms(), start)
                if left <= 0:
                    self.close()
                    raise LinkError("link-timeout")
                await self._read_or_wait(left)
            return answers[pid] or 0
        finally:
            if answers.pop(pid, None) is None:
                # The caller was cancelled; the answer comes all the same, unless the broker answers nothing.
                answers[pid] = _UNAWAITED
                waiting = list(answers.values()).count(_UNAWAITED)
                if answers is self._answers and waiting > _MOST_UNAWAITED:
                    self.close()

    async def flush(self) -> None:
        """Send what is left of a packet, then all that is on the tape. PeerError link-closed, link-timeout."""
        while self._sending:
            self._sent.clear()
            await self._sent.wait()
        link = self._open_link()
        self._sending = self.owes = True
        try:
            while True:
                data = self._rest or self._codec.tape.take()
                if not data:
                    break
                await link.send(data)
                self._rest = memoryview(b"")
                self._sent_at = time.ticks_ms()
        except BaseException:  # whatever ended it, the packet is cut in two
            # Also when the task is cancelled: whatever came next would stand in the middle of the packet.
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
