"""Events that go at once, and what becomes of one for which the connection has no room."""

import asyncio
import sys

from broker_model import message, obliging
from harness import check, equal
from test_mqtt import STALL, Peer, both
from warden.errors import PeerError


@both
async def test_a_message_goes_at_once(client):
    """Without a turn of the loop, where no packet is under way and the connection has room."""
    peer = await Peer(client).connect()
    peer.client.post(b"t/1", b"one")
    peer.client.post(b"t/2", b"two")
    check(not peer.client.owes)
    equal([one.payload for one in peer.link.of(0x30)], [b"one", b"two"])
    peer.client.close()
    for work in (peer.client.post, peer.client.publish):
        try:
            result = work(b"t", b"") if work == peer.client.post else await work("t", b"")
            check(False, "posted to no broker: %r" % result)
        except PeerError as error:
            equal(error.code, "link-closed")


class Recorder:
    """Stands for umqtt's socket."""

    def __init__(self):
        self.out = b""

    def write(self, data, count=None):
        self.out += bytes(data) if count is None else bytes(data)[:count]


@both
async def test_the_kept_packet_of_an_event(client):
    """Each packet is what umqtt writes, whichever topic and length was kept before."""
    peer = await Peer(client).connect()
    other = sys.modules["umqtt.simple"].MQTTClient(b"", "")
    for topic in (b"t/1", b"t/2", b"t/33"):
        for payload in (
            b"",
            b"a",
            b"b",
            bytearray(b"c"),
            bytes(121),
            bytes(200),
            memoryview(b"d" * 200),
            bytes(16400),
        ):
            other.sock = Recorder()
            other.publish(topic, payload, False, 0)
            for _ in range(2):
                peer.client.post(topic, payload)
                equal(peer.link.written[-1], other.sock.out)
    for topic, payload in ((b"x", b"12"), (b"y", b"34"), (b"y", b"56"), (b"y", b"789")):
        peer.client.post(topic, payload)
        message = peer.link.of(0x30)[-1]
        equal((message.topic, message.payload), (topic, payload))


@both
async def test_a_connection_without_room(client):
    """What is left of a packet comes before all that is posted meanwhile, byte for byte."""
    for room in (0, 1, 2, 5, 11, 12):
        peer = await Peer(client, stall_ms=2000).connect()
        peer.link.room = room
        peer.client.post(b"t/1", b"0123456")
        check(peer.client.owes)
        for number in range(3):
            peer.client.post(b"t/2", b"%d" % number)
        equal(peer.link.of(0x30), [])
        await peer.client.flush()
        check(not peer.client.owes)
        equal([one.payload for one in peer.link.of(0x30)], [b"0123456", b"0", b"1", b"2"])
        peer.link.room = None
        peer.client.post(b"t/1", b"more")
        equal(peer.link.of(0x30)[-1].payload, b"more")


@both
async def test_a_kept_packet_waits_unchanged(client):
    """One that the connection took in part stays as it is while others of its form follow."""
    for room in (0, 1, 5, 9):
        peer = await Peer(client, stall_ms=2000).connect()
        peer.client.post(b"t", b"first")
        peer.link.room = room
        peer.client.post(b"t", b"again")
        check(peer.client.owes)
        peer.client.post(b"t", b"third")
        await peer.client.flush()
        peer.link.room = None
        peer.client.post(b"t", b"x" * 700)
        peer.client.post(b"t", b"y" * 700)
        payloads = [one.payload for one in peer.link.of(0x30)]
        equal(payloads, [b"first", b"again", b"third", b"x" * 700, b"y" * 700])


@both
async def test_concurrent_publishers_without_room(client):
    """Packets are whole and in the order of the calls, however little fits at once.

    The link refuses a byte between two halves.
    """
    peer = await Peer(client, stall_ms=2000).connect()
    peer.pump()

    async def send(number):
        for turn in range(6):
            peer.link.room = (None, 0, 3, 9, None, 20)[(turn + number) % 6]
            body = b"%d %d " % (number, turn) + bytes(7 * number)
            await peer.client.publish("t/%d" % number, body, 1 if turn == 3 else 0)

    tasks = [asyncio.create_task(send(number)) for number in range(6)]
    for task in tasks:
        await task
    for number in range(6):
        mine = [one for one in peer.link.of(0x30) if one.topic == b"t/%d" % number]
        equal([one.payload[:4] for one in mine], [b"%d %d " % (number, turn) for turn in range(6)])
    check(peer.client.connected and not peer.client.owes)


@both
async def test_a_sender_that_is_cancelled(client):
    """A packet that was cut ends the connection; the next connection begins with a whole one."""
    peer = await Peer(client).connect()
    peer.link.room, peer.link.stuck = 4, False
    task = asyncio.create_task(peer.client.publish("t", b"half"))
    await asyncio.sleep_ms(0)
    task.cancel()
    try:
        await task
        check(False, "not cancelled")
    except asyncio.CancelledError:
        pass
    check(not peer.client.connected and peer.link.closed)
    await peer.again()
    check(not peer.client.owes)
    await peer.client.publish("t", b"whole")
    equal([one.payload for one in peer.link.of(0x30)], [b"whole"])


@both
async def test_an_acknowledgement_goes_in_one_record_with_the_reply(client):
    """A record of its own would hold the reply back where a port has no TCP_NODELAY."""
    peer = await Peer(client).connect()
    asked = asyncio.Event()
    peer.on_message = lambda *_: asked.set()

    async def work():
        await asked.wait()
        peer.client.post(b"reply", b"done")

    task = asyncio.create_task(work())
    peer.pump()
    before = len(peer.link.written)
    peer.link.push(message(b"ask", b"x", 1, 7))
    await task
    await peer.until(lambda: len(peer.link.written) > before)
    equal(peer.link.written[before:], [b"\x40\x02\x00\x07" + message(b"reply", b"done")])
    # Without an answer it goes alone.
    peer.on_message = lambda *_: None
    peer.link.push(message(b"ask", b"x", 1, 8))
    await peer.until(lambda: len(peer.link.written) > before + 1)
    equal(peer.link.written[before + 1 :], [b"\x40\x02\x00\x08"])


@both
async def test_a_half_open_line_is_noticed_soon_after_something_was_sent(client):
    """A ping follows within half of stall_ms, and its answer is due within stall_ms."""

    def silent(packet):
        return b"" if packet.kind == 0xC0 else obliging(packet)

    peer = await Peer(client, silent, keepalive_s=300).connect()
    pumping = peer.pump()
    await asyncio.sleep_ms(3 * STALL)
    equal(peer.link.of(0xC0), [], "nothing was sent, and the keepalive is far off")
    peer.client.post(b"t", b"x")
    # With every message that follows: sending is no sign of the peer's life.
    while not peer.link.closed:
        await asyncio.sleep_ms(STALL // 8)
        if peer.client.connected:
            peer.client.post(b"t", b"x")
        check(len(peer.link.of(0x30)) < 200, "not noticed")
    equal(await pumping, "link-timeout")
    equal(len(peer.link.of(0xC0)), 1)


@both
async def test_an_answer_to_the_last_packet_replaces_a_ping(client):
    peer = await Peer(client, keepalive_s=300).connect()
    peer.pump()
    for _ in range(8):
        peer.client.post(b"t", b"x")
        peer.link.push(message(b"m", b"y"))
        await asyncio.sleep_ms(STALL // 4)
    equal(peer.link.of(0xC0), [])
    check(peer.client.connected)
