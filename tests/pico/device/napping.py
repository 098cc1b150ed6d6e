"""An application that publishes a reading in each start, and sleeps deeply when it is told to.

Runs as /app/app.py.
"""

import asyncio

from warden import Device

SLEEP_S = 5
device = Device.from_board(log=lambda code, text: print("log", code, text), sleeps=True)
told = asyncio.Event()


@device.command("set_relay")
def set_relay(args):
    print("relay", args["on"])
    if not args["on"]:
        told.set()
    return args


async def main():
    await device.start()
    print("fate", await device.publish("reading", {"c": 20}, qos=1))
    await told.wait()
    await asyncio.sleep(1)  # the reply leaves
    print("sleeps")
    await device.sleep(SLEEP_S)


asyncio.run(main())
