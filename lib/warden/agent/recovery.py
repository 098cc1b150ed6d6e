"""The agent without an application, when neither slot can run: it obeys the authority, takes an update, and says so."""

import asyncio

from micropython import const

from .device import Device

_HOUR_S = const(3600)


async def _recover() -> None:
    device = Device.from_board(print)
    print("recovery: neither slot can run; waiting for an update")
    await device.start()
    while True:
        await asyncio.sleep(_HOUR_S)


def main() -> None:
    """Does not return."""
    asyncio.run(_recover())
