"""A link in memory with a broker behind it, and a parser of what a client sends that takes nothing
on trust."""

import asyncio

from harness import check, equal
from warden.errors import LinkError, PeerError


def two(data, at):
    return data[at] << 8 | data[at + 1]


class Packet:
    """One packet of a client, taken apart by MQTT 3.1.1; whatever breaks a rule fails the test."""

    def __init__(self, first, body):
        self.first = first
        self.kind = first & 0xF0
        self.body = body
        self.at = 0
        parse = {
            0x10: self.connect,
            0x30: self.publish,
            0x40: self.puback,
            0x80: self.subscribe,
            0xC0: self.nothing,
            0xE0: self.nothing,
        }
        check(self.kind in parse, "a client never sends type %02x" % first)
        parse[self.kind]()
        equal(self.at, len(body), "bytes left over in type %02x" % first)

    def read(self, count):
        check(self.at + count <= len(self.body), "a packet that ends early")
        self.at += count
        return self.body[self.at - count : self.at]

    def number(self):
        return two(self.read(2), 0)

    def field(self):
        return self.read(self.number())

    def connect(self):
        equal(self.first, 0x10)
        equal(self.read(7), b"\0\4MQTT\4")
        flags = self.read(1)[0]
        self.keepalive = self.number()
        self.client_id = self.field()
        check(not flags & 1, "the reserved flag")
        check(flags & 2, "a session that the broker would keep")
        self.will = None
        if flags & 4:
            self.will = (self.field(), self.field(), flags >> 3 & 3, bool(flags & 0x20))
        else:
            equal(flags & 0x38, 0)
        # A password without a user name breaks the standard.
        check(flags & 0xC0 in (0, 0xC0))
        self.user = self.field() if flags & 0x80 else None
        self.password = self.field() if flags & 0x40 else None

    def publish(self):
        self.qos = self.first >> 1 & 3
        self.retain = bool(self.first & 1)
        check(not self.first & 8, "DUP on a first delivery")
        self.topic = self.field()
        self.pid = self.number() if self.qos else None
        check(self.pid != 0)
        self.payload = self.read(len(self.body) - self.at)

    def puback(self):
        equal(self.first, 0x40)
        self.pid = self.number()

    def subscribe(self):
        equal(self.first, 0x82)
        self.pid = self.number()
        check(self.pid != 0)
        self.topics = []
        while self.at < len(self.body):
            self.topics.append((self.field(), self.read(1)[0]))
        check(self.topics)

    def nothing(self):
        check(self.first in (0xC0, 0xE0))


def packets(data):
    """All packets of a byte string that must end where a packet ends."""
    data = bytes(data)
    found = []
    at = 0
    while at < len(data):
        first = data[at]
        length = shift = 0
        while True:
            at += 1
            check(at < len(data) and shift < 28, "no end of a length")
            length |= (data[at] & 127) << shift
            shift += 7
            if data[at] < 128:
                check(data[at] or shift == 7, "a length that is not the shortest")
                break
        at += 1
        check(at + length <= len(data), "a packet that ends early")
        found.append(Packet(first, data[at : at + length]))
        at += length
    return found


def message(topic, payload, qos=0, pid=1, retain=False):
    body = bytes((len(topic) >> 8, len(topic) & 255)) + topic
    if qos:
        body += bytes((pid >> 8, pid & 255))
    body += payload
    length = bytearray()
    size = len(body)
    while True:
        length.append(size & 127 | (128 if size > 127 else 0))
        size >>= 7
        if not size:
            return bytes((0x30 | qos << 1 | int(retain),)) + bytes(length) + body


class Link:
    """Stands for warden.net.link.Link.

    `answer(packet)` gives the broker's bytes; `sent` keeps every packet.
    """

    def __init__(self, answer=None):
        self.answer = answer or obliging
        self.sent = []
        self.written = []
        self.closed = 0
        self.coming = bytearray()
        self.ended = False
        self.refuse = None
        self.rest = bytes  # set by the client
        self.stuck = False
        self.room = None  # how many bytes write() takes at once, None for all
        self.half = b""
        self.busy = False
        self.asked = None  # what write() left: the very bytes that must come next
        self.news = asyncio.Event()

    async def connect(self, host, port, first, deadline_ms):
        check(len(first) > 0)
        if self.refuse is not None:
            raise PeerError(self.refuse)
        self.receive(first + self.rest())

    def receive(self, data):
        check(not self.closed, "a write after close")
        self.written.append(bytes(data))
        for packet in packets(data):
            self.sent.append(packet)
            self.push(self.answer(packet))

    def push(self, data):
        if data:
            self.coming.extend(data)
            self.news.set()

    def end(self):
        self.ended = True
        self.news.set()

    def write(self, data):
        if self.closed:
            raise LinkError("link-closed")
        check(self.asked is None, "a write while another one is not through")
        count = 0 if self.stuck else len(data) if self.room is None else min(self.room, len(data))
        if count == len(data):
            self.receive(data)
        else:
            self.half, self.asked = bytes(data[:count]), bytes(data[count:])
        return count

    async def send(self, data):
        if self.closed:
            raise LinkError("link-closed")
        if self.asked is not None:
            equal(bytes(data), self.asked, "TLS wants the same bytes again")
        elif self.busy:
            check(False, "two at once")
        self.busy = True
        if self.stuck:
            await asyncio.sleep_ms(20)
            raise LinkError("link-timeout")
        await asyncio.sleep_ms(0)
        half, self.half, self.asked, self.busy = self.half, b"", None, False
        self.receive(half + bytes(data))

    async def wait_readable(self, wait_ms):
        if not (self.coming or self.ended or self.closed):
            self.news.clear()
            try:
                await asyncio.wait_for_ms(self.news.wait(), wait_ms)
            except asyncio.TimeoutError:
                return False
        return True

    def receive_into(self, view):
        if self.closed or (self.ended and not self.coming):
            raise LinkError("link-closed")
        count = min(len(view), len(self.coming))
        if not count:
            return None
        view[:count] = self.coming[:count]
        self.coming = self.coming[count:]
        return count

    def close(self):
        self.closed += 1
        self.news.set()

    def of(self, kind):
        return [packet for packet in self.sent if packet.kind == kind]


def obliging(packet):
    """What a good broker answers."""
    if packet.kind == 0x10:
        return b"\x20\x02\0\0"
    if packet.kind == 0x30 and packet.qos:
        return b"\x40\x02" + packet.body[2 + len(packet.topic) : 4 + len(packet.topic)]
    if packet.kind == 0x80:
        return b"\x90\x03" + packet.body[:2] + bytes((packet.topics[0][1],))
    if packet.kind == 0xC0:
        return b"\xd0\0"
    return b""
