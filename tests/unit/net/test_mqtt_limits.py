"""The MQTT client: messages above the limit, cancelled publishes, names beyond ASCII."""

import asyncio

from broker_model import message, obliging, packets
from harness import check, equal
from test_mqtt import Peer, bad, both, nothing, refused
from warden.errors import PeerError, UsageError
from warden.net.keepalive import SkipAllowance

# As test_mqtt's.
HEAP = "8m"


@both
async def test_messages_above_the_limit(client):
    """They are dropped and told, the connection stays, and the broker gets its acknowledgement."""
    skipped = []
    peer = await Peer(client, on_skipped=lambda *one: skipped.append(one)).connect()
    task = peer.pump()
    for qos in (0, 1):
        peer.link.push(message(b"t", b"before"))
        peer.link.push(message(b"big/%d" % qos, b"0123456789abcdef" * 140, qos, 0x1234))
        peer.link.push(message(b"l" * 3000, bytes(20), qos, 0x0506))
        peer.link.push(message(b"t", b"after", qos, 7))
    await peer.until(lambda: len(peer.got) == 4 and len(peer.link.of(0x40)) == 3)
    equal([payload for _, payload, _ in peer.got], [b"before", b"after"] * 2)
    head = b"0123456789abcdef0"  # with both: behind the packet's ID, where it has one
    equal(skipped, [(b"big/0", head), (b"", b""), (b"big/1", head), (b"", b"")])
    equal([one.pid for one in peer.link.of(0x40)], [0x1234, 0x0506, 7])
    check(peer.client.connected)
    # Without a callback it is the same.
    peer.client._on_skipped = None
    peer.link.push(message(b"t", bytes(2100)) + message(b"t", b"last"))
    await peer.until(lambda: len(peer.got) == 5)
    peer.client.close()
    equal(await task, "link-closed")


@both
async def test_a_message_above_the_limit_that_stalls(client):
    """The time for a packet is the same, whatever its size."""
    peer = await Peer(client).connect()
    peer.link.push(message(b"t", bytes(5000))[:-1])
    equal(await peer.pump(), "link-timeout")


@both
async def test_a_skipped_message_in_small_pieces_leaves_other_tasks_their_turns(client):
    skipped = []
    heard = lambda topic, head: skipped.append(topic)  # noqa: E731
    peer = await Peer(client, on_skipped=heard, stall_ms=5000).connect()
    peer.link.push(message(b"t", bytes(3000)))
    whole = peer.link.receive_into
    peer.link.receive_into = lambda view: whole(view[:1])
    task = asyncio.create_task(peer.client.pump(1))
    for _ in range(900):  # others have their turns meanwhile
        await asyncio.sleep_ms(0)
        check(not skipped)
    await task
    equal(skipped, [b"t"])
    peer.client.close()


@both
async def test_each_packet_has_its_own_time(client):
    """A connection that is never idle between two packets."""
    peer = await Peer(client, stall_ms=5000).connect()
    one, data = peer.client, message(b"t", bytes(100))
    ticks = Ticks(client.post)
    try:
        one.keepalive.start(0)
        peer.link.push(data[:50])
        await one.pump(1)
        for _ in range(10):
            ticks.now += 1000
            peer.link.push(data[50:] + data[:50])
            await one.pump(1)
            await one.pump(1)
        equal(len(peer.got), 10)
        ticks.now += 5000
        try:
            await one.pump(1)
            check(False)
        except PeerError as error:
            equal(error.code, "link-timeout")
    finally:
        ticks.restore()
        one.close()


def test_skipped_messages_have_a_budget():
    ticks = Ticks(SkipAllowance.spend)
    try:
        spend = SkipAllowance().spend
        check(spend(260000) and not spend(2145) and spend(2144))
        for passed, most in ((0, 0), (100, 6400), (1000000, 262144), (-5, 0)):
            ticks.now += passed
            check(not spend(most + 1))
            check(spend(most))
    finally:
        ticks.restore()


class Ticks:
    """Stands for `time` in the module of this function."""

    def __init__(self, function):
        self.scope = function.__globals__
        self.saved = self.scope["time"]
        self.scope["time"] = self
        self.now = 0

    def ticks_ms(self):
        return self.now

    def ticks_diff(self, one, other):
        return one - other

    def restore(self):
        self.scope["time"] = self.saved


@both
async def test_a_cancelled_publish(client):
    """The acknowledgement of a message that no task waits for is no error."""
    held = []

    def late(packet):
        if packet.kind == 0x30 and packet.payload == b"late":
            held.append(obliging(packet))
            return b""
        return obliging(packet)

    peer = await Peer(client, late, stall_ms=5000).connect()
    peer.pump()
    for turn in range(1, 20):
        task = asyncio.create_task(peer.client.publish("t", b"late", 1))
        await peer.until(lambda turn=turn: len(held) == turn)
        task.cancel()
        await asyncio.sleep_ms(0)
        # No other message has its ID until then.
        await peer.client.publish("t", b"x", 1)
        check(len({one.pid for one in peer.link.of(0x30)[-2:]}) == 2)
        peer.link.push(held[-1])
        await peer.client.publish("t", b"y", 1)
    check(peer.client.connected)
    equal(peer.client._answers, {})
    # One acknowledgement, not two.
    peer.link.push(held[-1])
    equal(await peer.pumping, "mqtt-malformed")


@both
async def test_cancelled_while_another_task_sends(client):
    """A publish whose packet waits behind another task's."""
    peer = await Peer(client, stall_ms=5000).connect()
    peer.client._sending = peer.client.owes = True
    task = asyncio.create_task(peer.client.publish("t", b"behind", 1))
    await asyncio.sleep_ms(0)
    await asyncio.sleep_ms(0)
    task.cancel()
    await asyncio.sleep_ms(0)
    peer.client._sending = peer.client.owes = False
    peer.pump()
    await peer.client.publish("t", b"x", 1)
    equal([one.payload for one in peer.link.of(0x30)], [b"behind", b"x"])
    await peer.until(lambda: not peer.client._answers)
    check(peer.client.connected)


@both
async def test_a_broker_that_acknowledges_nothing(client):
    """Cancelled publishes cost no memory without end."""

    def deaf(packet):
        return b"" if packet.kind == 0x30 else obliging(packet)

    peer = await Peer(client, deaf, stall_ms=5000).connect()
    task = peer.pump()
    for turn in range(17):
        check(peer.client.connected, turn)
        one = asyncio.create_task(peer.client.publish("t", b"", 1))
        await peer.until(lambda turn=turn: len(peer.link.of(0x30)) == turn + 1)
        one.cancel()
        await asyncio.sleep_ms(0)
    check(not peer.client.connected)
    equal(await task, "link-closed")


@both
async def test_names_beyond_ascii(client):
    """umqtt counts characters, MQTT bytes: of client ID, last will and topics."""
    peer = Peer(client)
    peer.client = client("t\u00fcr-\u6f22", b"u", b"p", nothing)
    peer.client.set_last_will("w/\u00fc", b"x")
    await peer.connect()
    (packet,) = peer.link.sent
    equal(packet.client_id, "t\u00fcr-\u6f22".encode())
    equal(packet.will[0], "w/\u00fc".encode())
    await peer.client.subscribe("\u00fc" * 60)
    equal(peer.link.of(0x80)[0].topics, [(("\u00fc" * 60).encode(), 1)])
    await refused("bad-argument", peer.client.subscribe("\u00fc" * 61), UsageError)
    bad("bad-argument", client, "\u00fc" * 32768, None, None, nothing)
    bad("bad-argument", peer.client.set_last_will, "\u00fc" * 32768, b"")
    for topic in ("", "\u00fc" * 32768):
        for qos in (0, 1):
            await refused("bad-argument", peer.client.publish(topic, b"", qos), UsageError)
    check(peer.client.connected)


def test_the_parser_is_strict():
    """What these tests lean on refuses what a broker would."""
    for data in (
        b"\x10\x80\0",
        b"\x30\x05\0\1t",
        b"\x30\x03\0\2t",
        b"\x32\x05\0\1t\0\0",
        b"\xc0\x01\0",
        b"\xd0\0",
        b"\x80\x06\0\1\0\1t\0",
        b"\x10\x0f\0\4MQTT\4\x82\0\1\0\3cid",
        b"\x10\x0f\0\4MQTT\4\0\0\1\0\3cid",
    ):
        try:
            packets(data)
        except Exception as error:
            check(type(error).__name__ == "Failed", repr(error))
        else:
            check(False, repr(data))
