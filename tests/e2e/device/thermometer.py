"""An application that reports a temperature again and again. Runs as /app/app.py."""

import asyncio

from warden import Device

device = Device.from_board(log=lambda code, text: print("log", code, text))


@device.command("set_relay")
def set_relay(args):
    print("relay", args["on"])
    return {"on": args["on"]}


@device.command("probe")
def probe(args):
    return args


async def main():
    await device.start()
    while True:
        await device.publish("temperature", {"c": 20})
        await asyncio.sleep(0.5)


asyncio.run(main())
