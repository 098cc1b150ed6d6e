"""An application that times what it sends over its own TLS connection. Runs as /app/app.py.

Each round sends one message of 64 bytes sealed, and one as umqtt.simple sends it; a pause lets the
radio take both. No collection happens in a round: it takes longer than four messages, and the call
that it falls on would seem slow. Its time and what each call allocates are printed instead.
"""

import asyncio
import gc
import time

from umqtt.simple import MQTTClient
from warden import Device

ROUNDS = 20
BODY = {"v": bytes(59)}  # 64 bytes of CBOR
device = Device.from_board()


async def send_sealed():
    began = time.ticks_us()
    await device.publish("temperature", BODY)
    return time.ticks_diff(time.ticks_us(), began)


def send_plain(client, topic, payload):
    began = time.ticks_us()
    client.publish(topic, payload)
    return time.ticks_diff(time.ticks_us(), began)


async def main():
    await device.start()
    agent = device._agent
    client = MQTTClient("", "")
    client.sock = agent.link.tls
    # As long as the topic of the sealed message.
    topic = agent.names.event("temperature", "json").encode()
    payload = bytes(64)
    await send_sealed()
    await asyncio.sleep_ms(500)
    sealed, plain, sealed_bytes, plain_bytes = [], [], 0, 0
    began = time.ticks_us()
    gc.collect()
    collection = time.ticks_diff(time.ticks_us(), began)
    gc.disable()
    for _ in range(ROUNDS):
        before = gc.mem_alloc()
        sealed.append(await send_sealed())
        sealed_bytes += gc.mem_alloc() - before
        await asyncio.sleep_ms(100)
        before = gc.mem_alloc()
        plain.append(send_plain(client, topic, payload))
        plain_bytes += gc.mem_alloc() - before
        await asyncio.sleep_ms(100)
    gc.enable()
    print("rounds", sealed, plain)
    print("sealed", sum(sealed) // ROUNDS, sealed_bytes // ROUNDS)
    print("plain", sum(plain) // ROUNDS, plain_bytes // ROUNDS)
    print("collection", collection, gc.threshold())
    while True:
        await asyncio.sleep(3600)


asyncio.run(main())
