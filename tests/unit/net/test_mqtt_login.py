"""The record of the MQTT client's log-in, and what its connection inherits of the one before."""

import asyncio
import sys

import harness
from broker_model import Link, message, obliging
from harness import check, equal
from test_mqtt import Peer, both, refused
from warden.errors import PeerError

# As test_mqtt's.
HEAP = "8m"


@both
async def test_subscriptions_and_first_messages_follow_the_login_in_one_record(client):
    """The order counts: an answer to a first message must find the subscription."""
    peer = Peer(client)
    greeted = []

    def greet():
        greeted.append(len(peer.link.written))
        return [(b"t/1", b"hello"), (b"t/2", b"you")]

    peer.client.greet = greet
    await peer.client.subscribe("s/1")
    for _ in range(2):
        await peer.again()
        equal([one.kind for one in peer.link.sent], [0x10, 0x80, 0x30, 0x30])
        equal([one.payload for one in peer.link.of(0x30)], [b"hello", b"you"])
        equal([one.pid for one in peer.link.of(0x80)], [1])
        equal(len(peer.link.written), 1)
    equal(greeted, [0, 0])
    equal(peer.client._answers, {})
    # A link that is refused before its pin was found asks for nothing.
    peer.link = Link()
    peer.link.refuse = "pin-mismatch"
    await refused("pin-mismatch", peer.connect())
    equal(len(greeted), 2)


@both
async def test_a_second_hand_shake_greets_again(client):
    """What the first one asked for was never sent, and no answer to it is awaited."""
    peer = Peer(client)
    peer.client.greet = lambda: [(b"t", b"hello")]
    await peer.client.subscribe("s/1")
    connect = peer.link.connect

    async def twice(*args):
        peer.link.rest()
        await connect(*args)

    peer.link.connect = twice
    await peer.connect()
    equal([one.pid for one in peer.link.of(0x80)], [1])
    equal([one.payload for one in peer.link.of(0x30)], [b"hello"])
    equal(peer.client._answers, {})


@both
async def test_a_subscription_while_logging_in(client):
    """One that comes too late for the first record is asked for by itself."""
    held = []

    def late(packet):
        if len(held) == 2:
            return obliging(packet)
        held.append(obliging(packet))
        return b""

    peer = Peer(client, late)
    await peer.client.subscribe("s/1")
    connecting = asyncio.create_task(peer.connect())
    await peer.until(lambda: len(held) == 2)
    await peer.client.subscribe("s/2")
    peer.link.push(b"".join(held))
    await connecting
    equal([one.topics[0][0] for one in peer.link.of(0x80)], [b"s/1", b"s/2"])
    equal(len(peer.link.written), 2)


@both
async def test_a_message_that_ended_its_connection_is_not_given_to_the_next_one(client):
    """Its views show another packet's bytes by then."""
    peer = await Peer(client).connect()
    given = []

    def fails(topic, payload, retained):
        given.append(bytes(topic))
        raise PeerError("certificate-dates")

    peer.on_message = fails
    peer.link.push(message(b"c/t", b"body" * 40))
    equal(await peer.fall(), "certificate-dates")
    await peer.client.subscribe("s/1")
    peer.on_message = peer.keep
    await peer.again()
    peer.pump()
    peer.link.push(message(b"c/u", b"next"))
    await peer.until(lambda: peer.got)
    equal((given, peer.got), ([b"c/t"], [(b"c/u", b"next", False)]))


@both
async def test_what_logs_in_is_unloaded(client):
    """But for umqtt, where something else had loaded it.

    In the build for boards it shares a file with what opens the link, which the link unloads.
    """
    import umqtt

    used, first = sys.modules["umqtt.simple"], umqtt.simple
    for before in (True, False):
        if not before:
            del sys.modules["umqtt.simple"]
        await Peer(client).connect()
        equal("umqtt.simple" in sys.modules, before)
        for name in ("warden.net.umqtt_adapter", "warden.net.login"):
            check(harness.built or name not in sys.modules, name)
    sys.modules["umqtt.simple"], umqtt.simple = used, first
