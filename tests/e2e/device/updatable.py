"""An application with a version, and an opinion on its own health.

Runs as /app/app.py, or from a slot.
"""

import asyncio

from warden import Device

VERSION = "factory"
HEALTHY = True


def learn_keys():
    """Release keys come with provisioning; here from a file that the test left."""
    from warden.board.load import open_board

    _, vault = open_board()
    if vault.get("release") is None:
        with open("/release.cbor", "rb") as file:
            vault.put("release", file.read())
    vault.close()


if VERSION == "factory":
    learn_keys()
device = Device.from_board(log=lambda code, text: print("log", code, text))
device.health(lambda: HEALTHY)


async def main():
    print("version", VERSION)
    await device.start()
    while True:
        await asyncio.sleep(3600)


asyncio.run(main())
