"""The device's side of bench_gate.py, on the compiled build: `micropython gate_device.py LIB
REPO`, in a tree of warden_build.compiled.lay_out().

Prints a JSON line {name: number}: live heap that a shut gate takes beside the agent, and what its
idle keypad costs, counted in empty calls.
"""

import gc
import sys

LIB, REPO = sys.argv[1], sys.argv[2]
sys.path[:] = [
    LIB,
    REPO + "/build/umqtt",
    REPO + "/tests/unit/kit",
    REPO + "/boards/UNIX",
    ".frozen",
]

import asyncio  # noqa: E402  (the path must be set first)
import json  # noqa: E402
import time  # noqa: E402

import pins  # noqa: E402
import warden.agent.device  # noqa: E402, F401  (what an agent has loaded anyway)
import warden.session.session  # noqa: E402, F401
from board_model import DictStore, RootKey  # noqa: E402
from gate_kit import TERMS  # noqa: E402
from warden.board.load import find  # noqa: E402
from warden.net.clock import Uptime  # noqa: E402
from warden.vault import Vault  # noqa: E402
from warden.wire import cbor  # noqa: E402

COUNT = 500


class Machine:
    Pin = pins.Pin


class Policy:
    max_message = 2048
    incidents = None


class Agent:
    """What the gate asks of the agent that it belongs to."""

    def __init__(self, source):
        self.policy = Policy()
        self.policy.otp = dict(TERMS)
        self.policy.otp["source"] = source
        self.names = self.plain = self.gate = None
        self.inbox = self  # of which the gate sets an attribute
        self.vault = Vault(DictStore(), RootKey())
        self.vault.create()
        self.vault.commit({"otp": cbor.encode([bytes(20), 6, 0, None])})
        self.now_ms = Uptime().now_ms

    def authority(self):
        return None

    async def send(self, event, body, wrap=True):
        return False

    def log(self, code, text):
        pass

    def report(self, code, at, count=1):
        pass


def load():
    """Import what a shut gate runs. The build may have put several modules into one file."""
    from warden.gate import gate

    # As board.py's names are found: in the build a driver's make() has another name.
    return gate, find("display_", "console"), find("keypad_", "matrix")


def unload(known):
    """Take out the modules that are not among those known."""
    for name in [name for name in sys.modules if name not in known]:
        package, _, last = name.rpartition(".")
        del sys.modules[name]
        if hasattr(sys.modules.get(package), last):
            delattr(sys.modules[package], last)


def live():
    for _ in range(3):
        gc.collect()
    return gc.mem_alloc()


async def heap(agent, found):
    """With everything loaded, in the middle of a code that is typed."""
    # Once for the names: they stay for ever, here as on a board, and are counted by
    # tests/e2e/test_heap.py.
    known = set(sys.modules)
    load()
    unload(known)
    before = live()
    gate, make_display, make_keypad = load()
    found["code"] = live() - before
    keypad = make_keypad, (range(4), range(4, 7), b"123456789*0#")
    made = gate.Gate(agent, (keypad, (make_display, ()), False))
    task = asyncio.create_task(made.run())
    await asyncio.sleep_ms(50)
    found["whole"] = live() - before
    task.cancel()


async def beat(found):
    """What a look at an idle keypad costs, with the wake-up of its task, and a wake-up where an
    interrupt tells of keys."""
    keypad = find("keypad_", "matrix")((range(4), range(4, 7), b"123456789*0#"))
    flag = asyncio.ThreadSafeFlag()

    def empty():
        pass

    async def calls():
        for _ in range(COUNT):
            empty()

    async def polled():
        for _ in range(COUNT):
            keypad.poll()
            await asyncio.sleep_ms(0)

    async def quiet():
        for _ in range(COUNT):
            keypad.poll()
            flag.clear()
            try:
                await asyncio.wait_for_ms(flag.wait(), 0)
            except asyncio.TimeoutError:
                pass

    # Waiting is the system's work, and costs a chip nothing: range(0) is an answer as empty as
    # poll()'s.
    queue = asyncio.core._io_queue
    real, queue.poller = queue.poller, Poller(queue.poller)
    gc.disable()
    best = {}
    for _ in range(15):
        for work in (calls, polled, quiet):
            began = time.ticks_us()
            await work()
            took = time.ticks_diff(time.ticks_us(), began) / COUNT
            best[work] = min(best.get(work, took), took)
            gc.collect()
    gc.enable()
    queue.poller = real
    found["polled"] = best[polled] / best[calls]
    found["quiet"] = best[quiet] / best[calls]
    found["period"] = keypad.poll()


class Poller:
    ipoll = range

    def __init__(self, real):
        self.register, self.unregister, self.modify = real.register, real.unregister, real.modify


async def main():
    found = {}
    await heap(Agent(sys.argv[3]), found)
    # A pin of a chip is C: the model's contacts would be measured otherwise.
    Machine.Pin = Fast
    await beat(found)
    print(json.dumps(found))


class Fast:
    IN = PULL_UP = 0
    OPEN_DRAIN = 2

    def __new__(cls, pin, mode, *_, **__):
        # Calls into C: a row takes a value, a column gives a true one, for all contacts are open.
        return int if mode == cls.OPEN_DRAIN else time.ticks_us


sys.modules["machine"] = Machine
asyncio.run(main())
