"""An application of its own: it switches a relay by the temperature that a device reports.

    warden app add fan --type relay --command set_relay
    warden app export fan
    python examples/application/fan.py fan.warden.json

It runs beside `warden serve`, which leaves its account alone, and survives restarts of the broker.
"""

import asyncio
import logging
import sys

from warden_client import Application, HostError

WARM, COOL = 25, 23  # degrees: on above the first, off below the second


async def main(file: str) -> None:
    async with Application(file) as app:
        print("logged in as", app.appid, flush=True)
        async for event in app.events():
            print(event.device, event.name, event.body, flush=True)
            degrees = event.body.get("c")
            if event.name != "temperature" or not isinstance(degrees, int | float):
                continue
            if COOL <= degrees <= WARM:
                continue
            try:
                # Worth nothing after 10 s: by then the device has reported another temperature.
                reply = await app.command(
                    event.device, "set_relay", {"on": int(degrees > WARM)}, ttl_s=10
                )
            except HostError as error:
                print(event.device, error, flush=True)
                continue
            print(event.device, "set_relay", reply.result or reply.error, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    try:
        asyncio.run(main(sys.argv[1]))
    except HostError as error:
        sys.exit(f"{error}\n{error.hint}")
    except KeyboardInterrupt:
        pass
