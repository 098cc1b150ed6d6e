"""A relay that its owner's application switches, and a temperature that it reports. Runs as /app/app.py."""

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
    """Stands for a real sensor: 20.00 to 22.55 degrees."""
    return 20 + os.urandom(1)[0] / 100


async def main():
    await device.start()
    while True:
        await device.publish("temperature", {"c": read_sensor()})
        await asyncio.sleep(5)


asyncio.run(main())
