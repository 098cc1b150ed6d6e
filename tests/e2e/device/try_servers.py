"""Connects with the device's own Client and Link to one server after the other, and prints as one
line of JSON of each the error's code, "" where the log-in was accepted, its text, and how many
milliseconds it took.

    micropython try_servers.py CONFIG.json          lib, umqtt, servers: see tests/e2e/tls_table.py
"""

import json
import sys

with open(sys.argv[1]) as file:
    config = json.load(file)
sys.path[:] = [config["lib"], config["umqtt"], ".frozen"]

import asyncio  # noqa: E402  (the path must be set first)
import time  # noqa: E402

from warden.errors import WardenError  # noqa: E402
from warden.net.link import Link  # noqa: E402
from warden.net.mqtt import Client  # noqa: E402
from warden.net.verifier import TrustAnchors  # noqa: E402


class Clock:
    """A proven time: no certificate's dates are tried as a tentative one."""

    def now(self):
        return time.time()

    def least(self):
        return 0

    def try_at(self, moment):
        return False


async def attempt(server):
    trust = TrustAnchors(
        [bytes.fromhex(ca) for ca in server["cas"]], [bytes.fromhex(pin) for pin in server["pins"]]
    )
    client = Client("d", b"u", b"p", lambda *_: None)
    link = Link(trust, Clock(), 120000)
    try:
        await client.connect(link, server["host"], server["port"], server["handshake_ms"])
    except WardenError as error:
        return error.code, error.text
    client.close()
    return "", ""


async def work():
    answers = []
    for server in config["servers"]:
        start = time.ticks_ms()
        code, text = await attempt(server)
        answers.append([code, text, time.ticks_diff(time.ticks_ms(), start)])
    return answers


print(json.dumps(asyncio.run(work())))
