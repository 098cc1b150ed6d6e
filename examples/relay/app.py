"""Switch a relay as an application orders, and report a temperature. Runs as /app/app.py."""

import asyncio
import os

from warden import Device

device = Device.from_board(log=lambda code, text: print(code, text))
state = {"on": 0}


@device.command("set_relay")
def set_relay(args):
    state["on"] = 1 if args["on"] else 0
    print("relay", state["on"])
    return {"on": state["on"]}


@device.command("get_relay")
async def get_relay(args):
    return state


def read_sensor():
    """Return a temperature between 20.00 and 22.55 °C, in place of a sensor."""
    return 20 + os.urandom(1)[0] / 100


async def main():
    await device.start()
    while True:
        await device.publish("temperature", {"c": read_sensor()})
        await asyncio.sleep(5)


asyncio.run(main())
