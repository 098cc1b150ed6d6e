"""An application that reports how far its start is, and the heap there. Runs as /app/app.py.

A mark is a line of the console: its name and the chip's time. Most have a second one: the heap and
what it took to look at it, which the test subtracts. Around the TLS hand-shake there is no second
one: it begins with a collection, after which the allocator searches each of the hand-shake's many
pieces from the first gap of the heap on, and the hand-shake takes twice its time.
"""

import asyncio
import gc
import time

import micropython
from warden import Device
from warden.net.link import Link
from warden.net.meter import Meter


def mark(name, heap=True):
    """Report a point of the start. micropython.mem_info() prints the largest free piece."""
    began = time.ticks_us()
    print("mark", name, began)
    if not heap:
        return
    gc.collect()
    free = gc.mem_free()
    micropython.mem_info()
    print("marked", (began, free, time.ticks_diff(time.ticks_us(), began)))


def log(code, text):
    print("log", code, text)
    if code in ("link-up", "session-stands"):
        mark(code)


device = Device.from_board(log=log)
mark("built")
up = device._agent.network.up
connect, meter = Link.connect, Meter.__init__


async def marked_up(timeout_ms):
    await up(timeout_ms)
    mark("wifi", heap=False)


def marked_meter(self, raw):  # made for the hand-shake, once the TCP connection is open
    mark("tcp", heap=False)
    meter(self, raw)


async def marked_connect(self, host, port, first, deadline_ms):
    await connect(self, host, port, first, deadline_ms)
    mark("tls", heap=False)


device._agent.network.up = marked_up
Meter.__init__, Link.connect = marked_meter, marked_connect


@device.command("set_relay")
def set_relay(args):
    print("relay", args["on"])
    return {"on": args["on"]}


async def main():
    start = asyncio.create_task(device.start())
    await asyncio.sleep_ms(0)
    mark("begun")
    await start
    mark("started")
    await device.publish("temperature", {"c": 20})
    await asyncio.sleep(1)
    mark("settled")
    while True:
        await asyncio.sleep(3600)


asyncio.run(main())
