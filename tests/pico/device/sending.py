"""An application that times what it sends over its own TLS connection. Runs as /app/app.py.

Each round sends one message of 64 bytes sealed, and one as umqtt.simple sends it; a pause lets the
radio take both. Printed: the microseconds of each call, the mean of the rounds: what the heap's
state costs counts.
"""

import asyncio
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
    sealed = plain = 0
    for _ in range(ROUNDS):
        sealed += await send_sealed()
        await asyncio.sleep_ms(100)
        plain += send_plain(client, topic, bytes(64))
        await asyncio.sleep_ms(100)
    print("sealed", sealed // ROUNDS)
    print("plain", plain // ROUNDS)
    while True:
        await asyncio.sleep(3600)


asyncio.run(main())
