"""The outbox over a vault on littlefs, with the power cut at every program and erase of a flash in
memory: no number comes twice, what was saved is sent again, and an authority that drops repeats
has each event once and in its order.

    micropython tests/faults/device/outbox_power.py [DELIVERY]        DELIVERY: a class of this
    file, Delivery without

Prints for each scenario `NAME: OPERATIONS operations, CUTS cuts, KEPT kept, REPEATS repeats`; ends
with status 1 and the reason when a promise is broken.
"""

import sys

HERE = __file__.rsplit("/", 1)[0]
sys.path[:] = [
    HERE,
    HERE + "/../../unit/kit",
    HERE + "/../../../lib",
    HERE + "/../../../build/umqtt",
    ".frozen",
]

import os  # noqa: E402  (the path must be set first)

from board_model import RootKey  # noqa: E402
from power import MOUNT, TORN, Flash  # noqa: E402
from vault_kit import Wrong  # noqa: E402
from warden.agent import delivery as delivery_module  # noqa: E402
from warden.errors import StoreError  # noqa: E402
from warden.hal.store_file import FileStore  # noqa: E402
from warden.vault import Vault  # noqa: E402
from warden.wire import cbor  # noqa: E402

TERMS = {"outbox": 8, "outbox_keep": "reboot", "outbox_drop": "oldest"}


class Delivery(delivery_module.Delivery):
    """As it is."""


class UsesFirst(delivery_module.Delivery):
    """Wrong: numbers are used before the flash has them."""

    def _next_number(self):
        self._number += 1
        if self._number == 3:  # for the search to be short
            self._agent.vault.advance("outbox", 4096)
        return self._number


class ForgetsFirst(delivery_module.Delivery):
    """Wrong: what was saved goes before the new copy is there."""

    def save(self):
        if "outbox0" in self._agent.vault.names():
            self._agent.vault.delete("outbox0")
        super().save()


class CountsAnew(delivery_module.Delivery):
    """Wrong: numbers begin anew at each start."""

    def _next_number(self):
        self._number = max(self._number + 1, 1) % 4096
        return self._number


class Authority:
    """An application that takes each event once, if it has the one before it."""

    def __init__(self):
        self.last = self.repeats = 0
        self.got = []  # (number, value)
        self.seen = {}  # number -> value of all that was ever sent

    def receive(self, number, previous, value):
        if self.seen.setdefault(number, value) != value:
            raise Wrong("number %d is of two events" % number)
        if previous > self.last:
            raise Wrong("an event is missing before %d" % number)
        if number <= self.last:
            self.repeats += 1
        else:
            self.got.append((number, value))
            self.last = number


class App:
    appid, authority = "authority", True


class Board:
    """As much of an agent as the outbox sees, for one start of the board."""

    plain = gate = None

    def __init__(self, vault, world):
        self.vault = vault
        self.policy = self.client = self.names = self.session = self
        self.world = world
        self.max_message, self.stall_ms = 2048, 5000
        self.connected, self.owes, self.up = True, False, False
        self.appid, self.sid = "authority", b"sid"
        self.sessions = [self]
        self.wire = []
        self.delivery = world.kind(self, [App()], TERMS)

    def now_ms(self):
        return 0

    def log(self, code, text):
        raise Wrong("logged " + code)

    def report(self, code, at):
        pass

    def sealed(self, event):
        return (b"topic/" + event.encode(), b"")

    def seal_view(self, event, number, body, previous):
        return number, previous, cbor.decode(body)["v"]

    def post(self, topic, sealed):
        self.wire.append(sealed)

    def publish(self, value):
        try:
            self.delivery.publish("door", {"v": value}, None, False).send(None)
        except StopIteration as end:
            return end.value
        raise Wrong("it waits")

    def online(self, acknowledge):
        """A session; acknowledge: whether the answers come through."""
        self.up = True
        self.delivery._send(0)
        for number, previous, value in self.wire:
            self.world.authority.receive(number, previous, value)
        self.wire = []
        if acknowledge:
            self.delivery.on_ack("authority", self.world.authority.last)
        self.up = False


class World:
    def __init__(self, flash, kind):
        self.flash, self.kind = flash, kind
        self.authority = Authority()
        self.value = 0
        self.published = []
        self.saved = []  # values that a save() that returned found waiting

    def start(self, budget=None, torn=0):
        store = self.flash.restart()
        disk = self.flash.disk
        disk.operations, disk.budget, disk.torn = 0, budget, torn
        vault = Vault(store, RootKey())
        vault.open()
        return Board(vault, self)

    def publish(self, board, count):
        for _ in range(count):
            self.value += 1
            value = self.value
            board.publish(value)
            self.published.append(value)

    def save(self, board):
        board.delivery.save()
        waiting = [cbor.decode(e.body)["v"] for e in board.delivery._outbox.entries()]
        self.saved = waiting


def first_events(world, board):
    world.publish(board, 3)
    world.save(board)


def saved_again(world, board):
    world.publish(board, 2)
    world.save(board)
    world.publish(board, 2)
    world.save(board)


def delivered_between(world, board):
    world.publish(board, 3)
    world.save(board)
    board.online(True)
    world.saved = []
    world.publish(board, 2)
    world.save(board)


def answers_lost(world, board):
    world.publish(board, 3)
    board.online(False)
    world.save(board)
    world.publish(board, 1)
    world.save(board)


def emptied(world, board):
    world.publish(board, 3)
    world.save(board)
    board.online(True)
    world.saved = []
    world.save(board)


SCENARIOS = {
    "first events": first_events,
    "saved again": saved_again,
    "delivered between": delivered_between,
    "answers lost": answers_lost,
    "emptied": emptied,
}


def cut(world, work, budget, torn):
    """Start the board and do the work, with the power cut at operation `budget`."""
    disk = world.flash.disk
    try:
        work(world, world.start(budget, torn))
    except (StoreError, OSError):
        if not disk.dead:
            raise
    operations = disk.operations
    disk.power_up()
    return operations


def check_after_cut(world):
    """The board starts, goes online, and publishes more: nothing that was saved is missing."""
    must = list(world.saved)
    board = world.start()
    board.online(True)
    got = [value for _, value in world.authority.got]
    for value in must:
        if value not in got:
            raise Wrong("a saved event is lost")
    world.publish(board, 2)
    board.online(True)
    got = [value for _, value in world.authority.got]
    if got != sorted(set(got)):
        raise Wrong("events came twice or out of their order")
    if not set(got) <= set(range(1, world.value + 1)):
        raise Wrong("an event that was not published")
    if got[-2:] != [world.value - 1, world.value]:
        raise Wrong("a new event was taken for a repeat")
    return len(must), world.authority.repeats


def scenario(flash, kind, name, image):
    def fresh():
        flash.load(image)
        return World(flash, kind)

    world = fresh()
    operations = cut(world, SCENARIOS[name], None, 0)
    cuts = kept = repeats = 0
    for budget in range(operations):
        for torn in TORN:
            world = fresh()
            cut(world, SCENARIOS[name], budget, torn)
            found = check_after_cut(world)
            cuts, kept, repeats = cuts + 1, kept + found[0], repeats + found[1]
    print(
        "%s: %d operations, %d cuts, %d kept, %d repeats" % (name, operations, cuts, kept, repeats)
    )


def main(kind):
    flash = Flash(FileStore)
    os.mkdir(MOUNT + "/vault")
    vault = Vault(flash.store(), RootKey())
    vault.create()
    vault.commit({"identity": b"x" * 40})
    image = flash.image()
    for name in sorted(SCENARIOS):
        scenario(flash, kind, name, image)
    print("violations: %d" % flash.disk.violations)


if __name__ == "__main__":
    try:
        main(globals()[sys.argv[1]] if len(sys.argv) > 1 else Delivery)
    except Wrong as error:
        print("wrong:", error)
        sys.exit(1)
