"""An application that tells its test how the device stands. Runs as /app/app.py."""

import asyncio
import gc
import time

import micropython
from warden import Device

device = Device.from_board(log=lambda code, text: print("log", code, text))


def facts():
    vault = device._agent.vault
    return {
        "now": int(time.time()),
        "mark": vault.counter("time"),
        "boot": vault.counter("boot"),
    }


@device.command("set_relay")
def set_relay(args):
    print("relay", args["on"])
    return {"on": args["on"]}


@device.command("probe")
def probe(args):
    gc.collect()
    micropython.qstr_info()
    return facts()


async def main():
    print("start", facts())
    await device.start()
    await device.publish("temperature", {"c": 20})
    while True:
        await asyncio.sleep(3600)


asyncio.run(main())
