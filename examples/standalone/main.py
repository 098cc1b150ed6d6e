"""A relay and a temperature at a broker of one's own, over pinned TLS (docs/standalone.md)."""

import asyncio
import os

from warden.crypto.kdf import hmac_sha256
from warden.crypto.rand import random_bytes
from warden.hal.clock_rtc import ChipClock
from warden.hal.rootkey_software import SoftwareRootKey
from warden.hal.store_file import FileStore
from warden.standalone import Connection
from warden.vault import Vault

FOLDER = os.getcwd().rstrip("/")


def on_message(topic, payload):
    print("message", bytes(topic).decode(), bytes(payload).decode())


async def main():
    vault = Vault(
        FileStore(FOLDER + "/vault"),
        SoftwareRootKey(FOLDER + "/root-key", hmac_sha256, random_bytes),
    )
    vault.open()
    will = "porch/state", b"away"
    connection = Connection(vault, ChipClock(), on_message, will=will)
    await connection.subscribe("porch/relay")
    running = asyncio.create_task(connection.run())  # kept: a task that is not ends any time
    while not running.done():
        await connection.publish("porch/temperature", b"21.5", qos=1)
        print("published")
        await asyncio.sleep(2)


asyncio.run(main())
