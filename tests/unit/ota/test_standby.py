"""The code of updates on a board with slots: loaded for an update, and let go of afterwards."""

import asyncio
import gc
import sys

from harness import check, equal
from test_download import NEW, installed
from test_service import Device, verifiers
from time_model import ModelTime
from update_kit import envelope
from warden.errors import PeerError, StoreError
from warden.ota import result as results
from warden.ota import standby
from warden.ota.slots import STAGED, SlotRecord

BUILT = True
SERVICE = "warden.ota.service"


class Heap:
    """Opens the slots of a board, or has no memory for them."""

    full = False

    def __init__(self, board):
        self.board = board
        self.opened = []

    def open(self, running):
        if self.full:
            raise MemoryError
        self.opened.append(running)
        return self.board.running


class Verified:
    """An update whose manifest this start verified, and which waits for the authority."""

    plan = True
    state, reason, sequence = "Downloading", "", 2

    def waits(self):
        return True

    def end(self, state, reason=""):
        pass


def start(board):
    """Power on; (device, Standby, Heap)."""
    board.power_on()
    outcome, heap = board.start(), Heap(board)
    outcome.open_slots = heap.open
    device = Device(board)
    return device, standby.Standby(device, outcome), heap


async def command(one, args):
    try:
        one._load()
        sys.modules["warden.ota.update"].verifiers = verifiers  # of the copy that was just loaded
    except MemoryError:
        pass  # the command meets it, too
    try:
        return await one.command(args)
    except PeerError as error:
        return error.code


def run(one, *orders):
    """The status after each order, while the task of updates runs beside; "" only waits."""

    async def work():
        task = asyncio.create_task(one.run())
        found = []
        for args in orders:
            if args != "":
                found.append(await command(one, args))
            await asyncio.sleep(3)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        return found

    with ModelTime():
        return asyncio.run(work())


def test_a_slot_that_the_start_refused_is_an_incident():
    board = installed()
    device, _one, _heap = start(board)
    equal(device.incidents, [])
    board.damage(0, 0, "app.map")
    device, _one, _heap = start(board)
    equal(device.incidents, [("slot-damaged", "update")])
    device, _one, _heap = start(board)
    equal(device.incidents, [])  # once: the slot has failed, and is not opened again
    board.off()


def test_nothing_is_loaded_until_an_order_comes():
    board = installed()
    sys.modules.pop(SERVICE, None)
    device, one, heap = start(board)
    equal((run(one, ""), heap.opened, one._service, SERVICE in sys.modules), ([], [], None, False))
    equal((one.busy(), one.drop(), one.make_room()), (False, None, None))
    idle, refused = run(one, {}, {"n": 0, "data": b"x"})
    equal((idle["state"], idle["running"], refused), ("Idle", 1, "update-state"))
    # Once an order, and of the slot that runs.
    equal((heap.opened, one._service, SERVICE in sys.modules), ([0, 0], None, False))
    equal(device.incidents, [("update-state", "update")])
    board.off()


def test_what_an_update_came_to_is_told_later():
    board = installed()
    device, one, heap = start(board)
    begun, cut, later = run(one, {"envelope": envelope(2, [NEW])}, {"abort": True}, {})
    equal((begun["state"], begun["want"]), ("Downloading", [0, "app", 0, 1024]))
    equal((cut["state"], later["state"], later["reason"]), ("Aborted", "Aborted", "aborted"))
    # It stayed for as long as the update was under way.
    equal((heap.opened, one._service), ([0, 0], None))
    # The policy, or the release keys, change in the midst of another.
    run(one, {"envelope": envelope(2, [NEW])})
    check(one.busy())
    one.drop()
    equal((one.busy(), run(one, ""), one._service), (False, [], None))
    board.off()


def test_an_update_that_waits_for_a_connection_makes_room_for_it():
    board = installed()
    board.power_on()
    outcome, heap, device = board.start(), Heap(board), Device(board)
    outcome.open_slots, outcome.update = heap.open, Verified()
    one = standby.Standby(device, outcome)
    equal((one.busy(), one._service is None), (True, False))
    one.make_room()
    equal((one.busy(), run(one, ""), one._service), (False, [], None))
    # It was not refused, and comes again. A download under way stays.
    begun = run(one, {"envelope": envelope(2, [NEW])})[0]
    equal((begun["state"], begun["want"]), ("Downloading", [0, "app", 0, 1024]))
    one.make_room()
    check(one.busy())
    equal((device.incidents, device.sent), ([], []))
    board.off()


def test_a_trial_needs_it_until_its_end():
    board = installed()
    device, one, heap = start(board)
    status = run(one, {"envelope": envelope(2, [NEW])})[0]
    while status["want"] is not None:
        number, _, at, length = status["want"]
        status = run(one, {"n": number, "data": NEW[at : at + length]})[0]
    equal((status["state"], device.after_reply), ("Testing", results.restart))
    equal(sorted([slot.state for slot in SlotRecord(board.vault()).slots])[0], STAGED)
    device, one, heap = start(board)
    equal(heap.opened, [1])
    run(one, "")
    equal([told[2] for told in device.sent], ["Accepted"])
    equal((one._service, run(one, {})[0]["confirmed"]), (None, 2))
    board.off()


def test_a_failed_trial_is_told_once():
    board = installed()
    board.power_on()
    outcome = board.start()
    outcome.open_slots, outcome.failed = Heap(board).open, 9
    outcome.reason = "trial-failed"
    device = Device(board)
    one = standby.Standby(device, outcome)
    run(one, "")
    run(one, {}, {})
    equal([told[2:] for told in device.sent], [("Rejected", "trial-failed")])
    equal(one._service, None)
    board.off()


def test_no_room_for_the_code():
    """The next start has room: it verifies the manifest before there is an agent."""
    board = installed()
    device, one, heap = start(board)
    heap.full = True
    made = envelope(2, [NEW])
    bad = {"envelope": made, "pins": [b"x"]}
    equal(
        run(one, {}, bad, {"envelope": bytes(9000)}), ["out-of-memory", "bad-body", "suit-limit"]
    )
    told = [("out-of-memory", "update"), ("bad-body", "update"), ("suit-limit", "update")]
    equal((device.incidents, device.after_reply), (told, None))
    status = run(one, {"envelope": made, "grant": True})[0]
    equal((status["state"], status["want"], status["sequence"]), ("Downloading", None, 0))
    equal(device.after_reply, results.restart)
    vault = board.vault()
    check("parked0" in vault.names())

    def full(changes, counters=None):
        raise StoreError("vault-limit", "full")

    device.vault.commit = full
    del device.incidents[:]
    equal(run(one, {"envelope": made}), ["vault-limit"])
    equal(device.incidents, [("vault-limit", "update")])
    board.off()


def test_a_heap_in_pieces():
    """With no piece for the code, an order is deferred or refused; later it is executed."""
    board = installed()
    device, one, heap = start(board)
    for name in (SERVICE, "warden.ota.deferred"):
        sys.modules.pop(name, None)
    kept, order = [], {"envelope": envelope(2, [NEW])}
    kept.append(None)
    gc.collect()
    size = 65536
    while size >= 64:
        try:
            kept[0] = [bytearray(size), kept[0]]
        except MemoryError:
            size //= 2
    room = 32_000 if sys.maxsize >> 31 else 16_000
    while gc.mem_free() < room:  # enough for the calls, in the smallest pieces
        kept[0] = kept[0][1]
        gc.collect()
    try:
        status = run(one, order)[0]
    finally:
        del kept[:]
        gc.collect()
    if isinstance(status, dict):
        equal((status["want"], device.after_reply), (None, results.restart))
        check("parked0" in board.vault().names())
    else:
        equal((status, device.incidents), ("out-of-memory", [("out-of-memory", "update")]))
    equal((one._service, one.busy()), (None, False))
    equal(run(one, order)[0]["want"], [0, "app", 0, 1024])
    board.off()
