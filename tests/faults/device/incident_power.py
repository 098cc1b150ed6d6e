"""The incident log over a vault on littlefs, with the power cut at every program and erase of a
flash in memory: the log is the one before or the one after, no number is of two records, and an
authority that has some of it gets the rest by a chain that holds.

    micropython tests/faults/device/incident_power.py [early]

early: wrong on purpose: a record is sent before the flash has it. Prints `OPERATIONS operations,
CUTS cuts, KEPT kept`; ends with status 1 and the reason when a promise is broken.
"""

import sys

HERE = __file__.rsplit("/", 1)[0]
UNIT = HERE + "/../../unit/"
sys.path[:] = [
    HERE,
    UNIT + "kit",
    HERE + "/../../../lib",
    HERE + "/../../../build/umqtt",
    ".frozen",
]
sys.path += [UNIT + folder for folder in ("agent", "policy", "provisioning", "wire")]

import os  # noqa: E402  (the path must be set first)

from agent_kit import provisioned  # noqa: E402
from board_model import RootKey  # noqa: E402
from harness import Failed  # noqa: E402
from test_bundle import good  # noqa: E402
from test_incident_report import Stage, terms  # noqa: E402
from warden.errors import StoreError  # noqa: E402
from warden.hal.store_file import FileStore  # noqa: E402
from warden.vault import Vault  # noqa: E402

# isort: split
from power import MOUNT, TORN, Flash  # noqa: E402  (it sets the path anew)

CODES = ("first", "second", "third")


def started(flash, chain, budget=None, torn=0):
    store = flash.restart()
    disk = flash.disk
    disk.operations, disk.budget, disk.torn = 0, budget, torn
    vault = Vault(store, RootKey())
    vault.open()
    return Stage(vault, terms(writes=1000), chain)


def work(stage, early, finished):
    """Log three incidents; the authority gets each, and its answers come but for the last."""
    for code in CODES:
        stage.add(code, "x", 1, "a" * 20)
        if early:
            log = stage.log
            log.append([[0, code, "x", "a" * 20, 1, 0]], 0)
            for _, body in log.messages(stage.chain.last):
                stage.chain.receive(body)
        stage.deliver(stage.run(), code != "third")
        finished.append(code)


def cut(flash, early, budget, torn):
    """Return (operations, codes that were logged for certain, the authority's side)."""
    finished, stage = [], None
    try:
        stage = started(flash, None, budget, torn)
        work(stage, early, finished)
    except (StoreError, OSError):
        if not flash.disk.dead:
            raise
    operations = flash.disk.operations
    flash.disk.power_up()
    return operations, finished, None if stage is None else stage.chain


def check(flash, finished, chain):
    """The board starts, logs one more, and the authority has all of it once."""
    stage = started(flash, chain)
    chain = stage.chain
    stage.agent.incidents.acknowledge(chain.last, 0)
    stage.agent.incidents.wake(0)
    stage.add("fourth", "x", 1, "a" * 20)
    stage.deliver(stage.run(2000))
    codes = [one[0] for one in chain.got]
    if codes[: len(finished)] != finished or codes[-1] != "fourth" or chain.missing:
        raise Failed("logged %r, and the authority has %r" % (finished, codes))
    if sorted(set(codes)) != sorted(codes):
        raise Failed("twice: %r" % (codes,))
    return len(codes) - 1


def main(early):
    flash = Flash(FileStore)
    os.mkdir(MOUNT + "/vault")
    provisioned(good(), flash.store())
    image = flash.image()
    operations, _, _ = cut(flash, early, None, 0)
    cuts = kept = 0
    for budget in range(operations):
        for torn in TORN:
            flash.load(image)
            _, finished, chain = cut(flash, early, budget, torn)
            kept += check(flash, finished, chain)
            cuts += 1
    print("%d operations, %d cuts, %d kept" % (operations, cuts, kept))


if __name__ == "__main__":
    try:
        main(sys.argv[1:] == ["early"])
    except Failed as error:
        print("wrong:", error)
        sys.exit(1)
