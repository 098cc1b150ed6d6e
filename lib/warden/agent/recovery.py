"""Run the agent without an application, so that it accepts an update.

firmware/main.py calls it where `/app` left the module path: neither slot can run, or the choice of
the slot failed (boot_slots() of board/slots.py).
"""

import asyncio

from micropython import const

from .device import Device

_HOUR_S = const(3600)


async def _recover() -> None:
    device = Device.from_board(print)
    print("recovery: no application runs; waiting for an update")
    await device.start()
    while True:
        await asyncio.sleep(_HOUR_S)


def main() -> None:
    """Run the agent until the board restarts."""
    asyncio.run(_recover())
