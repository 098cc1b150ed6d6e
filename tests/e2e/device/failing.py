"""An application that fails at each start, each time in another way, and goes on for ever at the
fourth. Runs as /app/app.py.
"""

import asyncio
import os

import warden.hal.system
from updatable import learn_keys
from warden import Device

warden.hal.system.PAUSE_S = 0.1  # after a failure
learn_keys()
try:
    os.mkdir("/starts")
except OSError:
    pass
start = len(os.listdir("/starts"))
with open("/starts/%d" % start, "w"):
    pass
print("start", start)
device = Device.from_board(log=lambda code, text: print("log", code, text))


async def fill():
    asyncio.create_task(device.start())
    pieces = []
    while True:
        pieces.append(bytearray(512))
        await asyncio.sleep_ms(0)


if start == 0:
    print(1 // 0)
elif start == 1:
    asyncio.run(fill())
elif start == 2:
    device.command("no such name")(fill)
