"""A sensor on a battery: one reading each ten minutes, deep sleep in between.

The policy has an outbox (docs/telemetry.md), so an unacknowledged reading is sent at the
next wake-up. Commands for it wait at the authority meanwhile: `warden send DEVICE … --ttl 3600`.
Runs as /app/app.py on an ESP32.
"""

import asyncio

from machine import ADC, Pin
from warden import Device
from warden.errors import LinkError

SLEEP_S = 600
AWAKE_S = 20  # at most, also where no broker is reached
COMMANDS_S = 1  # how long it listens for commands that waited

battery = ADC(Pin(34))
device = Device.from_board(sleeps=True)


@device.command("identify")
def identify(args):
    Pin(2, Pin.OUT).value(1)


async def main():
    reading = {"mv": battery.read_uv() // 1000}
    patience = AWAKE_S
    try:
        await device.start(timeout=AWAKE_S)
    except LinkError as error:  # no broker: the reading waits in the outbox
        print("no session:", error.code)
        patience = 1
    try:
        await device.publish("battery", reading, qos=1, timeout=patience)
        await asyncio.sleep(COMMANDS_S)
    except LinkError as error:
        print("not delivered yet:", error.code)
    await device.sleep(SLEEP_S)


asyncio.run(main())
