"""The MQTT client over umqtt.simple 1.3.4 from PyPI, and over a model of the newer ones."""

import asyncio
import gc
import sys

import umqtt.simple
import umqtt_model
from broker_model import Link, message, obliging
from connecting import unload_connecting
from harness import check, equal
from time_model import ModelTime
from warden.errors import PeerError, UsageError
from warden.net import mqtt

# The packets of 65,535-byte fields are built, parsed and compared in one heap.
HEAP = "8m"
STALL = 60


VERSIONS = (("1.3.4", umqtt.simple), ("newer", umqtt_model))


def both(test):
    """Run the test with the client over each version of umqtt.

    An async test gets a loop of its own, on a clock that only waiting moves.
    """

    def run():
        for version, module in VERSIONS:
            unload_connecting()
            sys.modules["umqtt.simple"] = module  # for the next log-in
            try:
                with ModelTime(mqtt) as sys.modules["time"]:  # of what a log-in loads
                    result = test(mqtt.Client)
                    if result is not None:
                        asyncio.run(asyncio.wait_for_ms(result, 20000))
            except Exception:
                print("with umqtt.simple", version)
                raise
            finally:
                sys.modules["umqtt.simple"] = umqtt.simple
                del sys.modules["time"]

    return run


class Peer:
    """A client with its link, and what it was told."""

    def __init__(self, client, answer=None, user=b"u", password=b"p", **settings):
        self.got = []
        settings.setdefault("stall_ms", STALL)
        self.on_message = self.keep
        self.client = client("cid", user, password, lambda *a: self.on_message(*a), **settings)
        self.link = Link(answer)
        self.pumping = None

    def keep(self, topic, payload, retained):
        self.got.append((bytes(topic), bytes(payload), retained))

    async def connect(self):
        await self.client.connect(self.link, "host", 1, 200)
        return self

    async def again(self, answer=None):
        self.link = Link(answer)
        return await self.connect()

    def pump(self):
        self.pumping = asyncio.create_task(self.fall())
        return self.pumping

    async def fall(self):
        """The code of what ends pump()."""
        try:
            await self.client.pump()
        except PeerError as error:
            return error.code

    async def until(self, condition):
        while not condition():
            await asyncio.sleep_ms(1)


async def refused(code, work, kind=PeerError):
    try:
        await work
    except kind as error:
        equal(error.code, code)
        return
    check(False, "not refused, wanted " + code)


def bad(code, make, *args, **keywords):
    try:
        make(*args, **keywords)
    except UsageError as error:
        equal(error.code, code)
        return
    check(False, "not refused, wanted " + code)


def nothing(*_):
    pass


# -- logging in -----------------------------------------------------------------------------------


@both
async def test_connect(client):
    peer = Peer(client, keepalive_s=300)
    peer.client.set_last_will("w/t", b"gone", 1)
    await peer.connect()
    check(peer.client.connected)
    (packet,) = peer.link.sent
    equal(packet.keepalive, 300)
    equal((packet.client_id, packet.user, packet.password), (b"cid", b"u", b"p"))
    equal(packet.will, (b"w/t", b"gone", 1, False))
    # One write: it is what completes the hand-shake.
    equal(
        peer.link.written,
        [b"\x10\x20\0\4MQTT\4\xce\x01\x2c\0\3cid\0\3w/t\0\4gone\0\1u\0\1p"],
    )


@both
async def test_no_account(client):
    peer = await Peer(client, user=None, password=None).connect()
    (packet,) = peer.link.sent
    equal((packet.user, packet.password, packet.will), (None, None, None))


@both
async def test_credentials_arrive_exactly(client):
    every = bytes(range(256))
    backwards = bytes(reversed(every))
    gc.collect()
    large = (
        gc.mem_free() > 2000000
    )  # no board holds the largest packet; tests/e2e sends it to a server
    sizes = (0, 1, 127, 128, 255, 256) + ((16383, 16384, 65535) if large else ())
    pairs = [(every, backwards), (b"", b""), (b"\0", b"\0\0"), (b"a\0b", bytearray(b"\xff\xfe"))]
    pairs += [((every * 256)[:size], b"q") for size in sizes]
    pairs += [(b"q", (backwards * 256)[:size]) for size in sizes]
    if large:
        pairs.append((bytes(65535), b"\xff" * 65535))
    for user, password in pairs:
        peer = await Peer(client, user=user, password=password).connect()
        (packet,) = peer.link.sent
        # An empty user name is an account of that name, and not anonymous.
        equal(packet.user is None, False)
        check(packet.user == user and packet.password == password, "changed on its way")


@both
def test_bad_credentials(client):
    for user, password in (
        (b"u", None),
        (None, b"p"),
        (b"", None),
        (None, b""),
        (bytes(65536), b""),
        (b"", bytes(65536)),
    ):
        bad("bad-credential", client, "cid", user, password, nothing)
    for keepalive in (0, -1, 65536):
        bad("bad-argument", client, "cid", None, None, nothing, keepalive)
    one = client("cid", None, None, nothing, 65535)
    for topic, payload, qos in (
        ("", b"", 0),
        ("t", b"", 2),
        ("t" * 65536, b"", 0),
        ("t", bytes(65536), 1),
    ):
        bad("bad-argument", one.set_last_will, topic, payload, qos)


@both
async def test_refused_login(client):
    for code in range(1, 6):
        peer = Peer(client, lambda packet, code=code: b"\x20\x02\0" + bytes((code,)))
        await refused("mqtt-unavailable" if code == 3 else "mqtt-refused", peer.connect())
        check(not peer.client.connected and peer.link.closed)


@both
async def test_bad_login_answers(client):
    for answer in (
        b"\x20\x02\0\x06",
        b"\x20\x02\1\0",
        b"\x20\x03\0\0\0",
        b"\xd0\0",
        b"\x40\x02\0\1",
        b"\x90\x03\0\1\0",
        b"\x30\x03\0\1t",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ):
        peer = Peer(client, lambda packet, answer=answer: answer)
        await refused("mqtt-malformed", peer.connect())
        check(not peer.client.connected and peer.link.closed)
    peer = Peer(client, lambda packet: b"\x30\xff\xff\xff\x7f")
    await refused("mqtt-too-large", peer.connect())


@both
async def test_no_login_answer(client):
    for answer in (b"", b"\x20", b"\x20\x02", b"\x20\x02\0"):
        peer = Peer(client, lambda packet, answer=answer: answer)
        await refused("link-timeout", peer.connect())
        check(peer.link.closed)
        peer = Peer(client, lambda packet, answer=answer: answer)
        peer.link.ended = True
        await refused("link-closed", peer.connect())


@both
async def test_refused_link(client):
    peer = Peer(client)
    peer.link.refuse = "pin-mismatch"
    await refused("pin-mismatch", peer.connect())
    equal(peer.link.sent, [])
    check(not peer.client.connected and peer.link.closed)
    await refused("link-closed", peer.client.publish("t", b"", 1))
    await refused("link-closed", peer.client.publish("t", b"", 0))
    # And the same client, once the link is good again.
    await peer.again()
    await peer.client.publish("t", b"x")
    equal([one.payload for one in peer.link.of(0x30)], [b"x"])


# -- sending --------------------------------------------------------------------------------------


@both
async def test_publish(client):
    peer = await Peer(client).connect()
    for size in (0, 1, 100, 121, 122, 16000):
        await peer.client.publish("a/b", memoryview(bytes(size)), 0)
        await peer.client.publish("a/b", bytearray(size), 1)
    sent = peer.link.of(0x30)
    equal([one.qos for one in sent], [0, 1] * 6)
    equal([one.pid for one in sent if one.qos], [1, 2, 3, 4, 5, 6])
    equal([len(one.payload) for one in sent[::2]], [0, 1, 100, 121, 122, 16000])
    check(all(one.topic == b"a/b" and not one.retain for one in sent))
    equal(peer.link.written[1:3], [b"\x30\x05\0\3a/b", b"\x32\x07\0\3a/b\0\1"])
    await peer.client.publish("gr\u00fc\u00dfe", b"x")
    equal(peer.link.sent[-1].topic, "gr\u00fc\u00dfe".encode())
    await refused("bad-argument", peer.client.publish("t", b"", 2), UsageError)
    await refused("bad-argument", peer.client.publish("t", b"", -1), UsageError)


@both
async def test_packet_ids_wrap(client):
    """After 65,535 comes 1, and an id that is still outstanding is passed over."""
    held = {}

    def late(packet):
        if packet.kind == 0x30 and packet.pid in (1, 2, 65534) and packet.pid not in held:
            held[packet.pid] = obliging(packet)
            return b""
        return obliging(packet)

    peer = await Peer(client, late, stall_ms=5000).connect()
    peer.pump()
    waiting = [asyncio.create_task(peer.client.publish("t", b"1", 1)) for _ in range(2)]
    await peer.until(lambda: len(held) == 2)
    await peer.client.publish("t", b"3", 1)
    peer.client._pid = 65533
    waiting.append(asyncio.create_task(peer.client.publish("t", b"65534", 1)))
    await peer.until(lambda: len(held) == 3)
    for _ in range(3):
        await peer.client.publish("t", b"x", 1)
    equal([one.pid for one in peer.link.of(0x30)], [1, 2, 3, 65534, 65535, 3, 4])
    for answer in held.values():
        peer.link.push(answer)
    for task in waiting:
        await task
    peer.client._pid = 65533
    for _ in range(4):
        await peer.client.publish("t", b"x", 1)
    await peer.client.subscribe("s", 1)
    equal([one.pid for one in peer.link.of(0x30)][-4:], [65534, 65535, 1, 2])
    equal(peer.link.of(0x80)[0].pid, 3)
    equal(peer.client._answers, {})


@both
async def test_many_more_than_65535(client):
    """No id is used up by QoS 0, and the ids go round by themselves."""
    peer = await Peer(client).connect()
    peer.pump()
    for start in (65530, 65530):
        peer.client._pid = start
        for _ in range(10):
            await peer.client.publish("t", b"", 1)
            await peer.client.publish("t", b"", 0)
    pids = [one.pid for one in peer.link.of(0x30) if one.qos]
    equal(pids, [65531, 65532, 65533, 65534, 65535, 1, 2, 3, 4, 5] * 2)


@both
async def test_qos1_waits_for_its_own(client):
    def other(packet):
        return b"" if packet.kind == 0x30 else obliging(packet)

    for pumping in (False, True):
        peer = await Peer(client, other, stall_ms=2000).connect()
        if pumping:
            peer.pump()
        done = []

        async def send(text, peer=peer, done=done):
            await peer.client.publish("t", text, 1)
            done.append(text)

        one = asyncio.create_task(send(b"one"))
        await peer.until(lambda peer=peer: len(peer.link.of(0x30)) == 1)
        await asyncio.sleep_ms(5)
        equal(done, [])
        two = asyncio.create_task(send(b"two"))
        await peer.until(lambda peer=peer: len(peer.link.of(0x30)) == 2)
        peer.link.push(b"\x40\x02\0\2")
        await two
        equal(done, [b"two"])
        peer.link.push(b"\x40\x02\0\1")
        await one
        equal(done, [b"two", b"one"])
        check(peer.client.connected)


@both
async def test_qos1_times_out(client):
    def silent(packet):
        return b"" if packet.kind == 0x30 else obliging(packet)

    for pumping in (False, True):
        peer = await Peer(client, silent).connect()
        if pumping:
            peer.pump()
        await refused("link-timeout", peer.client.publish("t", b"", 1))
        check(not peer.client.connected and peer.link.closed)
        if pumping:
            equal(await peer.pumping, "link-closed")


@both
async def test_qos1_when_the_link_falls(client):
    def ends(packet):
        if packet.kind == 0x30:
            peer.link.end()
            return b""
        return obliging(packet)

    for pumping in (False, True):
        peer = await Peer(client, ends, stall_ms=2000).connect()
        if pumping:
            peer.pump()
        await refused("link-closed", peer.client.publish("t", b"", 1))
        if pumping:
            equal(await peer.pumping, "link-closed")


@both
async def test_nothing_outlives_its_connection(client):
    """A publish neither waits on the next connection nor gets an answer of it."""

    def silent(packet):
        return b"" if packet.kind == 0x30 else obliging(packet)

    for pumping in (False, True):
        peer = await Peer(client, silent, stall_ms=2000).connect()
        if pumping:
            peer.pump()
        old = asyncio.create_task(peer.client.publish("t", b"old", 1))
        await peer.until(lambda peer=peer: peer.link.of(0x30))
        peer.client.close()
        await peer.again(silent)  # at once: no task ran in between
        new = asyncio.create_task(peer.client.publish("t", b"new", 1))
        await refused("link-closed", old)
        await peer.until(lambda peer=peer: peer.link.of(0x30))
        peer.link.push(b"\x40\x02\0\1")
        await new
        check(peer.client.connected)


@both
async def test_publish_while_connecting(client):
    """Nothing is written before the log-in: it would go out ahead of the CONNECT."""
    for qos in (0, 1):
        peer = Peer(client, lambda packet: b"")
        connecting = asyncio.create_task(peer.client.connect(peer.link, "host", 1, 2000))
        await peer.until(lambda peer=peer: peer.link.sent)
        await refused("link-closed", peer.client.publish("t", b"", qos))
        equal([one.kind for one in peer.link.sent], [0x10])
        check(not peer.link.closed)
        peer.link.push(b"\x20\x02\0\0")
        await connecting
        check(peer.client.connected)


@both
async def test_a_peer_that_never_reads(client):
    peer = await Peer(client).connect()
    task = peer.pump()
    peer.link.stuck = True
    await refused("link-timeout", peer.client.publish("t", b"", 0))
    check(not peer.client.connected and peer.link.closed)
    equal(await task, "link-closed")


@both
async def test_concurrent_publishers(client):
    """Whole packets in the order of asking, by any task, before pump() runs and while it does."""
    peer = await Peer(client, stall_ms=2000).connect()
    done = []

    async def send(number):
        for turn in range(5):
            body = b"%d %d " % (number, turn) + bytes([number]) * 50 * number
            await peer.client.publish("t/%d" % number, body, turn % 2)
            done.append(number)

    tasks = [asyncio.create_task(send(number)) for number in range(4)]
    await asyncio.sleep_ms(0)
    peer.pump()
    tasks += [asyncio.create_task(send(number)) for number in range(4, 10)]
    for task in tasks:
        await task
    equal(len(done), 50)
    for number in range(10):
        mine = [one for one in peer.link.of(0x30) if one.topic == b"t/%d" % number]
        equal([one.payload[:4] for one in mine], [b"%d %d " % (number, turn) for turn in range(5)])
    check(peer.client.connected)
    equal(peer.client._answers, {})


@both
async def test_pump_begins_while_a_publish_waits(client):
    """Two tasks must never wait for the same socket: asyncio would forget one of them."""
    peer = await Peer(
        client, lambda p: b"" if p.kind == 0x30 else obliging(p), stall_ms=2000
    ).connect()
    link, most = peer.link, []
    waiting = [0]
    wait_readable = link.wait_readable

    async def counted(wait_ms):
        waiting[0] += 1
        most.append(waiting[0])
        try:
            return await wait_readable(wait_ms)
        finally:
            waiting[0] -= 1

    link.wait_readable = counted
    tasks = [asyncio.create_task(peer.client.publish("t", b"", 1)) for _ in range(3)]
    await peer.until(lambda: len(link.of(0x30)) == 3)
    await asyncio.sleep_ms(5)
    peer.pump()
    await asyncio.sleep_ms(5)
    for pid in (2, 3, 1):
        link.push(b"\x40\x02\0" + bytes((pid,)))
        await asyncio.sleep_ms(2)
    for task in tasks:
        await task
    equal(max(most), 1)
    link.push(message(b"t", b"after"))
    await peer.until(lambda: peer.got)
    check(peer.client.connected)


# -- receiving ------------------------------------------------------------------------------------


@both
async def test_messages(client):
    peer = await Peer(client).connect()
    peer.pump()
    sizes = (0, 1, 4, 5, 300, 2000)
    for size in sizes:
        peer.link.push(message(b"t", bytes(size)))
        peer.link.push(message(b"a/b/c/d", b"\xa5" * size, 1, 77))
    await peer.until(lambda: len(peer.got) == 12 and len(peer.link.of(0x40)) == 6)
    equal(peer.got[::2], [(b"t", bytes(size), False) for size in sizes])
    equal(peer.got[1::2], [(b"a/b/c/d", b"\xa5" * size, False) for size in sizes])
    equal([one.pid for one in peer.link.of(0x40)], [77] * 6)


@both
async def test_retained_flag(client):
    peer = await Peer(client).connect()
    peer.pump()
    for qos in (0, 1):
        peer.link.push(message(b"t", b"old", qos, 1, True) + message(b"t", b"new", qos, 1, False))
    await peer.until(lambda: len(peer.got) == 4)
    equal([retained for _, _, retained in peer.got], [True, False, True, False])


@both
async def test_acknowledged_after_it_was_handled(client):
    peer = await Peer(client).connect()
    acknowledged = []
    peer.on_message = lambda *_: acknowledged.append(len(peer.link.of(0x40)))
    peer.pump()
    peer.link.push(message(b"t", b"1", 1, 1) + message(b"t", b"2", 1, 2))
    await peer.until(lambda: len(peer.link.of(0x40)) == 2)
    equal(acknowledged, [0, 1])
    equal([one.pid for one in peer.link.of(0x40)], [1, 2])


@both
async def test_not_acknowledged_when_it_was_not_handled(client):
    peer = await Peer(client).connect()

    def refuse(*_):
        raise PeerError("certificate-dates")

    peer.on_message = refuse
    peer.link.push(message(b"t", b"1", 1, 1))
    equal(await peer.pump(), "certificate-dates")
    equal(peer.link.of(0x40), [])
    check(peer.link.closed and not peer.client.connected)


@both
async def test_byte_by_byte(client):
    peer = await Peer(client, stall_ms=5000).connect()
    peer.pump()
    for byte in message(b"topic", b"payload", 1, 9):
        peer.link.push(bytes((byte,)))
        await asyncio.sleep_ms(1)
    await peer.until(lambda: peer.got)
    equal(peer.got, [(b"topic", b"payload", False)])


@both
async def test_refused_packets(client):
    for code, data in (
        ("mqtt-malformed", b"\x20\x02\0\0"),  # a second CONNACK
        ("mqtt-malformed", b"\x40\x02\0\1"),  # PUBACKs that no task waits for
        ("mqtt-malformed", b"\x40\x02\0\0"),
        ("mqtt-malformed", b"\x90\x03\0\1\0"),
        ("mqtt-malformed", b"\x90\x03\0\0\x80"),
        ("mqtt-malformed", b"\x34\x05\0\1t\0\1"),  # QoS 2
        ("mqtt-malformed", b"\x36\x05\0\1t\0\1"),  # QoS 3
        ("mqtt-malformed", b"\x30\x03\0\2t"),
        ("mqtt-malformed", b"\xd0\1\0"),
        ("mqtt-malformed", b"\x62\x02\0\1"),
        ("mqtt-malformed", b"\xe0\0"),
        ("mqtt-malformed", b"\0\0"),
        ("mqtt-malformed", b"\xff" * 64),
        ("mqtt-too-large", b"\x30\xff\xff\xff\x7f"),
        ("mqtt-too-large", message(b"t", bytes(262144))),
    ):
        peer = await Peer(client).connect()
        peer.link.push(data)
        equal(await peer.pump(), code, repr(data[:8]))
        equal(peer.got, [])
        check(peer.link.closed and not peer.client.connected)
        # One connection at most: the next one is as good as new.
        await peer.again()
        await peer.client.publish("t", b"", 1)


@both
async def test_an_answer_of_the_other_kind(client):
    def crossed(packet):
        if packet.kind == 0x30:
            return b"\x40\x02\0\1" * 2
        return obliging(packet)

    peer = await Peer(client, crossed).connect()
    task = peer.pump()
    try:
        # Its first PUBACK is good, the second is one too many.
        await peer.client.publish("t", b"", 1)
    except PeerError:
        pass
    equal(await task, "mqtt-malformed")


@both
async def test_a_flood_leaves_other_tasks_their_turns(client):
    peer = await Peer(client).connect()
    ticks = []

    async def tick():
        while True:
            ticks.append(len(peer.got))
            await asyncio.sleep_ms(0)

    ticking = asyncio.create_task(tick())
    peer.link.push(message(b"t", b"x") * 300)
    peer.pump()
    # Without a timer: the clock of the model stands still while a task is always ready.
    while len(peer.got) < 300:
        await asyncio.sleep_ms(0)
    ticking.cancel()
    # Between any two messages others had their turn.
    equal([number for number in range(1, 300) if number not in ticks], [])


# -- staying alive --------------------------------------------------------------------------------


@both
async def test_dribbling_peer(client):
    """Single bytes buy no time: the packet is due whole within the stall."""
    peer = await Peer(client).connect()

    async def dribble():
        for byte in message(b"t", bytes(500)):
            if peer.link.closed:
                return
            peer.link.push(bytes((byte,)))
            await asyncio.sleep_ms(STALL // 4)

    task = asyncio.create_task(dribble())
    equal(await peer.pump(), "link-timeout")
    await task
    equal(peer.got, [])


@both
async def test_stalled_in_each_place(client):
    whole = message(b"t", b"payload", 1, 3)
    for end in range(1, len(whole)):
        peer = await Peer(client, stall_ms=15).connect()
        peer.link.push(whole[:end])
        equal(await peer.pump(), "link-timeout")
        equal(peer.got, [])


@both
async def test_silent_peer(client):
    """A ping after half the keepalive; then the answer is due within the stall."""

    def silent(packet):
        return b"" if packet.kind == 0xC0 else obliging(packet)

    peer = await Peer(client, silent, keepalive_s=1).connect()
    equal(await peer.pump(), "link-timeout")
    equal([one.kind for one in peer.link.sent], [0x10, 0xC0])


@both
async def test_answered_pings(client):
    peer = await Peer(client, keepalive_s=1).connect()
    peer.client.keepalive.keepalive_ms = 20
    peer.pump()
    await peer.until(lambda: len(peer.link.of(0xC0)) == 4)
    check(peer.client.connected)
    # Only sending is no sign of life: the ping comes all the same.
    for _ in range(30):
        await peer.client.publish("t", b"", 0)
        await asyncio.sleep_ms(2)
    check(len(peer.link.of(0xC0)) > 4)


@both
async def test_other_packets_answer_no_ping(client):
    """A peer that repeats old messages but answers nothing is found out."""

    def silent(packet):
        return b"" if packet.kind == 0xC0 else obliging(packet)

    peer = await Peer(client, silent, keepalive_s=1).connect()
    peer.client.keepalive.keepalive_ms = 20

    async def chatter():
        while not peer.link.closed:
            peer.link.push(message(b"t", b"x"))
            await asyncio.sleep_ms(STALL // 4)

    task = asyncio.create_task(chatter())
    equal(await peer.pump(), "link-timeout")
    await task


@both
async def test_end_of_stream(client):
    for data in (b"", b"\x30", b"\x30\x05\0\1"):
        peer = await Peer(client).connect()
        peer.link.push(data)
        peer.link.end()
        equal(await peer.pump(), "link-closed")


@both
async def test_disconnect(client):
    peer = await Peer(client).connect()
    await peer.client.disconnect()
    equal(peer.link.written[-1], b"\xe0\0")
    check(peer.link.closed and not peer.client.connected)
    await peer.client.disconnect()
    equal(len(peer.link.sent), 2)
    # Nothing left on the tape goes out over the next connection.
    await peer.again()
    equal([one.kind for one in peer.link.sent], [0x10])


@both
async def test_disconnect_publishes_the_last_will(client):
    peer = Peer(client)
    peer.client.set_last_will("w/t", b"gone", 1)
    await peer.connect()
    await peer.client.disconnect()
    equal(b"".join(peer.link.written[1:]), b"\x30\x09\0\3w/tgone\xe0\0")
    check(peer.link.closed)


# -- subscriptions --------------------------------------------------------------------------------


@both
async def test_subscriptions_come_back(client):
    peer = Peer(client)
    await peer.client.subscribe("z/first", 1)
    await peer.connect()
    peer.pump()
    await peer.client.subscribe("a/second", 0)
    await peer.client.subscribe("m/" + "x" * 118, 1)
    wanted = [(b"z/first", 1), (b"a/second", 0), (b"m/" + b"x" * 118, 1)]
    equal([one.topics[0] for one in peer.link.of(0x80)], wanted)
    for _ in range(3):
        peer.link.end()
        equal(await peer.pumping, "link-closed")
        await peer.again()
        peer.pump()
        found = [one.topics[0] for one in peer.link.of(0x80)]
        equal(sorted(found), sorted(wanted))
        equal(found, wanted, "in their order")
        equal([one.pid for one in peer.link.of(0x80)], [1, 2, 3])


@both
async def test_a_message_while_subscribing(client):
    def eager(packet):
        if packet.kind == 0x80:
            return message(b"t", b"early", 1, 5) + obliging(packet)
        return obliging(packet)

    peer = Peer(client, eager)
    await peer.client.subscribe("t")
    await peer.connect()
    equal(peer.got, [(b"t", b"early", False)])
    equal([one.pid for one in peer.link.of(0x40)], [5])


@both
async def test_refused_subscription(client):
    def no(packet):
        if packet.kind == 0x80:
            return b"\x90\x03" + packet.body[:2] + b"\x80"
        return obliging(packet)

    peer = Peer(client, no)
    await peer.client.subscribe("t")
    await refused("mqtt-refused", peer.connect())
    check(peer.link.closed and not peer.client.connected)


@both
async def test_bad_subscriptions(client):
    peer = Peer(client)
    for topic, qos in (("", 1), ("x" * 121, 1), ("t", 2)):
        await refused("bad-argument", peer.client.subscribe(topic, qos), UsageError)
    await peer.connect()
    equal(peer.link.of(0x80), [])


@both
async def test_silent_while_subscribing(client):
    peer = Peer(client, lambda p: b"" if p.kind == 0x80 else obliging(p))
    await peer.client.subscribe("t")
    await refused("link-timeout", peer.connect())
    check(peer.link.closed)
