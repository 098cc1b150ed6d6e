"""Connects with the device's own Client and Link as it is told, and says what came of it as one
line of JSON.

    micropython drive.py CONFIG.json          the keys: see tests/e2e/link_kit.py

A ticker counts every tick_ms meanwhile: what held the event loop would show as ticks that are
missing.
"""

import json
import sys

with open(sys.argv[1]) as file:
    config = json.load(file)
sys.path[:] = [config["lib"], config["umqtt"], ".frozen"]

import asyncio  # noqa: E402  (the path must be set first)
import gc  # noqa: E402
import os  # noqa: E402

from warden.errors import WardenError  # noqa: E402
from warden.hal.clock_system import SystemClock  # noqa: E402
from warden.net.clock import Clock  # noqa: E402
from warden.net.link import Link  # noqa: E402
from warden.net.mqtt import Client  # noqa: E402
from warden.net.verifier import TrustAnchors  # noqa: E402


class Vault:
    """As much of a vault as the clock asks for."""

    def __init__(self):
        self.time = 0

    def counter(self, name):
        return self.time

    def advance(self, name, value):
        self.time = value


class State:
    ticks = 0
    messages = 0
    # Messages since the last tick, and the most there ever were.
    row = longest = 0


async def tick():
    while True:
        State.ticks += 1
        State.row = 0
        await asyncio.sleep_ms(config["tick_ms"])


def on_message(topic, payload, retained):
    State.messages += 1
    State.row += 1
    State.longest = max(State.longest, State.row)


def field(name):
    return None if config[name] is None else bytes.fromhex(config[name])


async def work(out):
    rtc = SystemClock(config["clock"])
    vault = Vault()
    clock = Clock(rtc, vault, config["floor"])
    clock.start()
    trust = TrustAnchors(
        [bytes.fromhex(ca) for ca in config["cas"]], [bytes.fromhex(pin) for pin in config["pins"]]
    )
    client = Client(
        config["client_id"],
        field("user"),
        field("password"),
        on_message,
        config["keepalive_s"],
        config["max_packet"],
        config["stall_ms"],
    )
    for topic in config["topics"]:
        await client.subscribe(topic)
    asyncio.create_task(tick())
    for place in range(config["times"]):
        link = Link(trust, clock, config["stall_ms"])
        before = State.ticks
        try:
            await client.connect(link, config["host"], config["port"], config["handshake_ms"])
            out["connected"] += 1
            for topic, size in config["publish"]:
                await client.publish(topic, bytes(size), 1)
            if config["flood"]:
                while True:
                    await client.publish("t", bytes(1000))
            if config["pump"]:
                await client.pump()
            await client.disconnect()
            out["codes"][place] = ""
        except WardenError as error:
            client.close()
            out["codes"][place] = error.code
        out["ticks"][place] = State.ticks - before
        gc.collect()
        out["free"][place] = gc.mem_free()
        out["files"][place] = len(os.listdir("/proc/self/fd"))
    out["messages"] = State.messages
    out["longest"] = State.longest
    out["now"] = rtc.now()
    out["mark"] = vault.time


out = {"connected": 0}
for key in ("codes", "ticks", "free", "files"):
    out[key] = [None] * config["times"]  # they must not grow: the heap is measured
asyncio.run(work(out))
print(json.dumps(out))
