"""An application that hangs a ballast on the start's code, and reports the heap. Runs as
/app/app.py."""

import asyncio
import gc

from warden import Device

BALLAST = 100000
PIECES = 10
DEPTH = 30


def hang(depth):
    # Deeper on the stack than what runs later: addresses that are left there hold objects.
    if depth:
        return hang(depth - 1)
    from warden.agent import build

    # In pieces: an address that the collector left on the stack may keep one, but no code.
    for number in range(PIECES):
        setattr(build, "ballast%d" % number, bytearray(BALLAST // PIECES))


def free():
    gc.collect()
    return gc.mem_free()


device = Device.from_board(log=lambda code, text: print("log", code, text))
before = free()
hang(DEPTH)


async def main():
    await device.start()
    print("kept", before - free())
    while True:
        await asyncio.sleep(3600)


asyncio.run(main())
