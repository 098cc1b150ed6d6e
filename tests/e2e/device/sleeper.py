"""A device that sends one reading each time it wakes up. Runs as /app/app.py.

It gives up soon where a file `vain` is there, and waits for a command where `awaits` is. Its deep
sleep is the end of the process, and its retained memory a file: no unix port has them.
"""

import asyncio
import os

from warden import Device
from warden.errors import LinkError
from warden.hal import retained, system

FILE = "/rtc"


class Memory:
    def read(self):
        try:
            with open(FILE, "rb") as file:
                return file.read()
        except OSError:
            return b""

    def write(self, data):
        with open(FILE, "wb") as file:
            file.write(data)
        return True


def deep_sleep(seconds):
    print("sleeps", device_facts)
    system.reset()


retained.find, retained.deep_sleep = Memory, deep_sleep
device = Device.from_board(log=lambda code, text: print("log", code, text), sleeps=True)
vault = device._agent.vault
device_facts = {}
obeyed = []


@device.command("set_relay")
def set_relay(args):
    print("relay", args["on"])
    obeyed.append(args)
    return args


async def main():
    before = vault.generation
    patience = 0.5 if "vain" in os.listdir("/") else 240
    try:
        await device.start(timeout=patience)
    except LinkError as error:
        print(error.code)
    session = device._agent.sessions[0]
    try:
        reading = {"n": vault.counter("boot")}
        print("fate", await device.publish("reading", reading, qos=1, timeout=patience))
        while "awaits" in os.listdir("/") and not obeyed:
            await asyncio.sleep_ms(20)
        await asyncio.sleep_ms(500)
    except LinkError:
        print("fate unknown")
    device_facts.update(
        writes=vault.generation - before, boot=vault.counter("boot"), sid=session.sid.hex()
    )
    await device.sleep(60)


asyncio.run(main())
