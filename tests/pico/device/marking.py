"""An application that reports how far its start is, and the heap there. Runs as /app/app.py.

A mark is two lines of the console: its name and the chip's time, then the heap and what it took
to look at it, which the test subtracts.
"""

import asyncio
import gc
import time

import micropython
from warden import Device
from warden.net.link import Link


def mark(name):
    """Report a point of the start. micropython.mem_info() prints the largest free piece."""
    began = time.ticks_us()
    print("mark", name, began)
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
shake = Link._shake


async def marked_up(timeout_ms):
    await up(timeout_ms)
    mark("wifi")


async def marked_shake(self, host, first, start, deadline_ms):
    mark("tcp")
    await shake(self, host, first, start, deadline_ms)
    mark("tls")


device._agent.network.up = marked_up
Link._shake = marked_shake


@device.command("set_relay")
def set_relay(args):
    print("relay", args["on"])
    return {"on": args["on"]}


async def main():
    start = asyncio.create_task(device.start())
    await asyncio.sleep_ms(0)
    mark("begun")
    await start
    await device.publish("temperature", {"c": 20})
    while True:
        await asyncio.sleep(3600)


asyncio.run(main())
