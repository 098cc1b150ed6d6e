"""A relay that an application switches, and a temperature that it reports: /app/app.py."""

import asyncio
import os

from warden import Device, Refused
from warden.errors import LinkError

device = Device.from_board(log=print)  # progress, too
state = {"on": 0}


@device.command("set_relay", call=True)
def set_relay(args, call):
    on = args["on"]
    if on not in (0, 1):
        raise Refused("on-or-off")
    if on and device.secrets.get("locked") == call.appid.encode():
        raise Refused("locked")
    state["on"] = on
    print("relay", on)
    return {"on": on}


@device.command("get_relay")
async def get_relay(args):
    return state


@device.command("lock_relay", call=True)
def lock_relay(args, call):
    """Keep the sender from switching the relay on, also after a power cut."""
    if args["locked"]:
        device.secrets.set("locked", call.appid.encode())
    else:
        device.secrets.delete("locked")


def read_sensor():
    """Return 20.00 to 22.55 degrees, in the place of a real sensor."""
    return 20 + os.urandom(1)[0] / 100


@device.health
def is_well():
    return 20 <= read_sensor() < 23


async def main():
    async with device:
        try:
            # Must arrive; the broker says that it has it.
            await device.publish("started", {"on": state["on"]}, qos=1, timeout=60)
        except LinkError:
            print("no one knows that we started")
        while True:
            await device.publish("temperature", {"c": read_sensor()})  # may be lost
            await asyncio.sleep(5)


asyncio.run(main())
