"""Log in to the broker: from the opened link to the first subscription.

net/mqtt.py loads this module for each connection and unloads it once the client is connected.
"""

import time

from micropython import const

from ..errors import LinkError, PeerError
from ..wire.mqtt import CONNACK, publish
from .umqtt_adapter import Packets

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .link import Link
    from .mqtt import Client


async def connect(client: "Client", link: "Link", host: str, port: int, deadline_ms: int) -> None:
    """Do the work of Client.connect(), but for closing the link of one that failed."""
    start = time.ticks_ms()
    client.attach(link)
    packets = Packets()
    seconds = client.keepalive.keepalive_ms // 1000
    first = packets.login(client.client_id, client.user, client.password, seconds, client.will)
    asked = {one: client.request(*one) for one in client.topics}
    packets.close()  # before the hand-shake, whose buffers are large
    # Not collected here: among the gaps of this garbage each piece that mbedTLS asks for would be
    # searched from the first gap on, and the hand-shake take twice its time (docs/benchmarks.md).
    requests = client.pop_packets()

    def rest() -> bytearray:  # which a broker that refuses the log-in must not process
        out = requests[:]
        for topic, payload in client.greet():
            out.extend(publish(topic, payload))
        return out

    link.rest = rest
    try:
        await link.connect(host, port, first, deadline_ms)
    finally:
        link.rest = bytes
    client.keepalive.start(time.ticks_ms())
    while not await client.receive():
        left = deadline_ms - time.ticks_diff(time.ticks_ms(), start)
        if left <= 0 or not await link.wait_readable(left):
            raise LinkError("link-timeout")
    framer = client.framer
    if framer.kind != CONNACK:
        raise PeerError("mqtt-malformed")
    code = framer.body()[1]
    framer.clear()
    if code == 3:  # MQTT 3.1.1 §3.2.2.3: this says nothing of the password
        raise LinkError("mqtt-unavailable", "the broker can't serve now (code 3)")
    if code:
        raise PeerError("mqtt-refused", "the broker refused the log-in (code %d)" % code)
    client.connected = client.accepted = True
    for one in client.topics:
        await client.subscribed(asked.get(one) or client.request(*one))
