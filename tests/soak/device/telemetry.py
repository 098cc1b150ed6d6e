"""An application that sends ten readings a second, and alarms that it waits for. Runs as
/app/app.py.
"""

import asyncio
import gc

from warden import Device

device = Device.from_board(log=lambda code, text: print("log", code, text))
counts = {"reading": 0, "alarm": 0, "dropped": 0}
over = asyncio.Event()
ended = asyncio.Event()


async def readings():
    """What a full outbox does not take is dropped, and the program knows it."""
    while not over.is_set():
        fate = await device.publish("reading", {"n": counts["reading"]})
        if fate == "dropped":
            print("dropped", counts["reading"])
            counts["dropped"] += 1
        counts["reading"] += 1
        await asyncio.sleep_ms(100)


async def alarms():
    """An alarm is given until it is delivered."""
    while not over.is_set():
        if await device.publish("alarm", {"n": counts["alarm"]}, qos=1) == "delivered":
            counts["alarm"] += 1
        await asyncio.sleep_ms(200)
    ended.set()


@device.command("finish")
def finish(args):
    """Publish no more; asked again until the last alarm was delivered."""
    over.set()
    gc.collect()
    counts["free"], counts["ended"] = gc.mem_free(), ended.is_set()
    return counts


async def main():
    await device.start()
    print("started")
    await asyncio.gather(readings(), alarms())
    while True:
        await asyncio.sleep(3600)


asyncio.run(main())
