"""Run the agent without an application when neither slot can run: it accepts an update."""

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
    """Run the agent until the board restarts."""
    asyncio.run(_recover())
