"""What Uptane says an attacker on the way of an update can try, one refusal each, against the code that a board runs. The names are those of its
deployment considerations and of its standard, 2.1.0, section 3.2.

The attacker owns the broker and every line: it may drop, delay, replay and reorder, and it has all that was ever released, signed as it is. It can't
sign. What it can't do even with keys of the link is judged here too: the orders are handed to the updater as if the session had let them pass.
"""

from harness import check, equal, raises
from test_download import NEW, OLD, feed, installed, restart, settle, states, updater
from test_service import facts, order, run, start, take, trial
from update_kit import envelope, image
from warden.ota.slots import CONFIRMED, EMPTY, FAILED, SlotRecord

CHUNK_MS = 20000
HOUR_MS = 3600000


def unharmed(board, sequence=1):
    """The release that ran before still runs, and nothing else would boot."""
    restart(board)
    equal(board.says(), "old")
    equal(states(board), [CONFIRMED, EMPTY])
    equal(SlotRecord(board.vault()).mark, sequence)


def test_drop():
    """Whatever is asked for never arrives. It is asked for four times, then let go of; what came stays, and another day goes on with it."""
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    feed(update, {"app": NEW}, stop_at=8192)
    asked = now = 0
    while update.state == "Downloading":
        now += CHUNK_MS
        asked += update.tick(now)
    equal((asked, now), (3, 4 * CHUNK_MS))
    equal((update.state, update.reason), ("Aborted", "update-timeout"))
    raises("update-state", update.chunk, 8, NEW[8192:9216], now)
    unharmed(board)
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    settle(update)
    check(update.want()[2] > 0)
    feed(update, {"app": NEW})
    equal(update.state, "Testing")
    board.off()


def test_drop_of_reports():
    """No report of the trial gets through: it is confirmed by what the device knows itself, and the authority learns it by asking."""
    board, device, one = trial()
    device.broken = True
    run(one)
    equal((device.sent, SlotRecord(board.vault()).slots[1].state), ([], CONFIRMED))
    device, one = start(board)
    equal(facts(one), ("Idle", 2, 2, 0))
    board.off()


def test_slow_retrieval():
    """Each chunk comes in the last moment before it is asked for again: six hours end that."""
    board = installed()
    data = bytes(90000)
    update = updater(board, chunk=64)
    update.start(envelope(2, [data]), 0)
    settle(update)
    now = 0
    while update.state == "Downloading":
        now += CHUNK_MS - 1
        equal(update.tick(now), False)
        wanted = update.want()
        if wanted is not None:
            update.chunk(wanted[0], data[: wanted[3]], now)
    check(6 * HOUR_MS <= now < 6 * HOUR_MS + CHUNK_MS, str(now))
    equal((update.state, update.reason), ("Aborted", "update-timeout"))
    unharmed(board)
    board.off()


def test_freeze():
    """The newest release is withheld, and the one that runs, or one before it, is shown as the newest: never taken, whoever signed it. The device
    tells what it runs, so an authority that hears it at all sees that it stood still."""
    board = installed()
    device, one = start(board)
    for number in (1, 0):
        equal(order(one, envelope=envelope(number, [OLD])), "old-manifest")
    equal(order(one)["state"], "Rejected")
    unharmed(board)
    device, one = start(board)
    equal(facts(one), ("Idle", 1, 1, 0))
    board.off()


def test_freeze_of_a_trial():
    """Nothing gets through any more once the new release runs: it is not believed without its authority, and the one before comes back."""
    board, device, one = trial(stands=False)
    device.now = 600001
    run(one)
    check(device.resets > 0)
    start(board)
    start(board)
    equal(board.says(), "old")
    equal(states(board), [CONFIRMED, FAILED])
    board.off()


def test_partial_bundle():
    """Of two components only one is brought, or only one arrives: neither boots without the other."""
    board = installed(("app", "web"))
    update = updater(board)
    raises("suit-component", update.start, envelope(2, [NEW]), 0)
    update.start(envelope(2, [NEW, NEW], names=("app", "web")), 0)
    feed(update, {"app": NEW, "web": NEW}, stop_at=len(NEW))
    equal(update.want()[1:3], ("web", 0))
    unharmed(board)
    equal(board.says("/web"), "old")
    # The half that is there is no release, whatever else is sent as the other.
    update = updater(board)
    update.start(envelope(2, [NEW, NEW], names=("app", "web")), 0)
    feed(update, {"app": NEW, "web": bytes(len(NEW))})
    equal((update.state, update.reason), ("Aborted", "image-mismatch"))
    unharmed(board)
    board.off()


def test_rollback():
    """A release that was good once, with its own signature: not below what was confirmed, not what failed, and nothing below the floor boots."""
    board = installed()
    update = updater(board)
    update.start(envelope(5, [NEW], floor=5), 0)
    feed(update, {"app": NEW})
    board.power_on()
    board.outcome = board.start()
    record = SlotRecord(board.vault())
    record.confirm(1)
    equal((record.mark, record.floor), (5, 5))
    board.power_on()
    board.outcome = board.start()
    update = updater(board)
    for number in (1, 4, 5):
        raises("old-manifest", update.start, envelope(number, [OLD]), 0)
    # Its slot is spoilt: the one before is below the floor, and stays off.
    board.damage(1, 3, "app.map")
    board.power_on()
    equal(board.start().mode, "recovery")
    equal(updater_in_recovery(board, 5), "old-manifest")
    board.off()


def updater_in_recovery(board, number):
    """How it ends to offer this release to a board that nothing runs on."""
    board.outcome = Slotless
    update = updater(board)
    return raises("old-manifest", update.start, envelope(number, [NEW]), 0).code


class Slotless:
    slot = None


def test_rollback_to_what_failed():
    board, device, one = trial(lambda: False)
    run(one)
    device, one = start(board)
    equal(board.says(), "old")
    equal(order(one, envelope=envelope(2, [NEW])), "old-manifest")
    equal(take(one, order(one, envelope=envelope(3, [NEW])))["state"], "Testing")
    board.off()


def test_endless_data():
    """More than the manifest says: a chunk of any other length, chunks behind the last one, an image that no flash could hold."""
    board = installed()
    free = board.slots().room("app")
    update = updater(board)
    raises("slot-full", update.start, envelope(2, [((1 << 32) - 1, bytes(32))]), 0)
    update.start(envelope(2, [NEW]), 0)
    settle(update)
    while True:
        settle(update)
        number, _, at, length = update.want()
        raises("update-chunk", update.chunk, number, NEW[at : at + length] + b"x", 0)
        raises("update-chunk", update.chunk, number, bytes(60000), 0)
        update.chunk(number, NEW[at : at + length], 0)
        if at + length == len(NEW):
            break
    for _ in range(3):
        raises("update-state", update.chunk, number + 1, bytes(1024), 0)
    settle(update)
    equal(update.state, "Testing")
    slots = board.slots()
    equal(slots.size(1, "app"), len(NEW))
    # The image, the hashes of its blocks, and what littlefs rounds up.
    check(free - slots.room("app") <= len(NEW) + 32 * 3 + 4 * 512)
    board.off()


def test_mix_and_match():
    """Images of two releases, each signed, each in its own manifest: a slot holds what one manifest names, or nothing."""
    board = installed(("app", "web"))
    two, three = image("two", 6000), image("three", 6000)
    equal(len(two), len(three) - 2)
    two += bytes(2)
    first = envelope(2, [two, two], names=("app", "web"))
    second = envelope(3, [three, three], names=("app", "web"))
    update = updater(board)
    update.start(first, 0)
    # Before the flash is read back.
    equal(feed(update, {"app": two, "web": three}), ["Downloading", "Aborted"])
    equal((update.state, update.reason), ("Aborted", "image-mismatch"))
    unharmed(board)
    # A download of one release is cut; the other one goes on where that stood: nothing of the first is taken over.
    update = updater(board)
    update.start(first, 0)
    feed(update, {"app": two, "web": two}, stop_at=4096)
    restart(board)
    update = updater(board)
    update.start(second, 0)
    settle(update)
    equal(update.want(), (0, "app", 0, 1024))
    feed(update, {"app": three, "web": two})
    equal((update.state, update.reason), ("Aborted", "image-mismatch"))
    # Both of one: good.
    update = updater(board)
    update.start(second, 0)
    feed(update, {"app": three, "web": three})
    equal(update.state, "Testing")
    board.power_on()
    board.start()
    equal((board.says("/app"), board.says("/web")), ("three", "three"))
    board.off()


def test_mix_of_slots_on_flash():
    """The same by whoever writes the flash: one component's files of another release are not what the record says."""
    board = installed(("app", "web"))
    update = updater(board)
    update.start(envelope(2, [NEW, NEW], names=("app", "web")), 0)
    feed(update, {"app": NEW, "web": NEW})
    board.put(1, OLD, "web")
    board.power_on()
    equal(board.start().slot, 0)
    equal((board.says("/app"), board.says("/web")), ("old", "old"))
    board.off()
