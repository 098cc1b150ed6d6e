"""Attacks on updates that Uptane lists, one refusal each, against the code of a board.

The names are those of Uptane's deployment considerations and of its standard 2.1.0, section 3.2.

The attacker owns the broker and the network: it can drop, delay, replay and reorder, and has every
signed release. It can't sign. Orders go straight to the updater, as if the attacker had the keys
of the link too.
"""

from harness import check, equal, raises
from test_download import NEW, OLD, feed, installed, restart, settle, states, updater
from test_service import facts, install, order, run, start, trial
from update_kit import envelope, image
from warden.ota.slots import CONFIRMED, EMPTY, FAILED, SlotRecord

CHUNK_MS = 20000
HOUR_MS = 3600000


def check_unharmed(board, sequence=1):
    """Check that the old release still runs, and that nothing else would boot."""
    restart(board)
    equal(board.mark(), "old")
    equal(states(board), [CONFIRMED, EMPTY])
    equal(SlotRecord(board.vault()).confirmed, sequence)


def test_drop():
    """A chunk that never arrives is requested four times, then the update ends.

    What has arrived stays, and a later update resumes there.
    """
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
    check_unharmed(board)
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    settle(update)
    check(update.want()[2] > 0)
    feed(update, {"app": NEW})
    equal(update.state, "Testing")
    board.off()


def test_drop_of_reports():
    """With every report dropped, the trial confirms itself; a later status query reports that."""
    board, device, one = trial()
    device.broken = True
    run(one)
    equal((device.sent, SlotRecord(board.vault()).slots[1].state), ([], CONFIRMED))
    device, one = start(board)
    equal(facts(one), ("Idle", 2, 2, 0))
    board.off()


def test_slow_retrieval():
    """Chunks that each arrive just before a repeat is requested: six hours end the update."""
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
    check_unharmed(board)
    board.off()


def test_freeze():
    """The running or an older release offered as the newest is refused, by any signature.

    The device reports what it runs, so its authority sees that it did not move.
    """
    board = installed()
    device, one = start(board)
    for number in (1, 0):
        equal(order(one, envelope=envelope(number, [OLD])), "old-manifest")
    equal(order(one)["state"], "Rejected")
    check_unharmed(board)
    device, one = start(board)
    equal(facts(one), ("Idle", 1, 1, 0))
    board.off()


def test_freeze_of_a_trial():
    """A new release that reaches no authority is not confirmed, and the old one returns."""
    board, device, one = trial(stands=False)
    device.now = 600001
    run(one)
    check(device.resets > 0)
    start(board)
    start(board)
    equal(board.mark(), "old")
    equal(states(board), [CONFIRMED, FAILED])
    board.off()


def test_partial_bundle():
    """A release with one of two components missing does not boot."""
    board = installed(("app", "web"))
    update = updater(board)
    raises("suit-component", update.start, envelope(2, [NEW]), 0)
    update.start(envelope(2, [NEW, NEW], names=("app", "web")), 0)
    feed(update, {"app": NEW, "web": NEW}, stop_at=len(NEW))
    equal(update.want()[1:3], ("web", 0))
    check_unharmed(board)
    equal(board.mark("/web"), "old")
    # The half that is there is no release, whatever else is sent as the other.
    update = updater(board)
    update.start(envelope(2, [NEW, NEW], names=("app", "web")), 0)
    feed(update, {"app": NEW, "web": bytes(len(NEW))})
    equal((update.state, update.reason), ("Aborted", "image-mismatch"))
    check_unharmed(board)
    board.off()


def test_rollback():
    """Old signed releases are refused: below the confirmed one, the failed one, or the floor."""
    board = installed()
    update = updater(board)
    update.start(envelope(5, [NEW], floor=5), 0)
    feed(update, {"app": NEW})
    board.power_on()
    board.outcome = board.start()
    record = SlotRecord(board.vault())
    record.confirm(1)
    equal((record.confirmed, record.floor), (5, 5))
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
    """Return the code that refuses this release on a board that runs no application."""
    board.outcome = Slotless
    update = updater(board)
    return raises("old-manifest", update.start, envelope(number, [NEW]), 0).code


class Slotless:
    slot = None


def test_rollback_to_a_failed_release():
    board, device, one = trial(lambda: False)
    run(one)
    device, one = start(board)
    equal(board.mark(), "old")
    equal(order(one, envelope=envelope(2, [NEW])), "old-manifest")
    equal(install(one, order(one, envelope=envelope(3, [NEW])))["state"], "Testing")
    board.off()


def test_endless_data():
    """Surplus data is refused.

    Chunks of another length, chunks behind the last one, images that fit no flash.
    """
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
    """A slot never mixes the images of two signed manifests."""
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
    check_unharmed(board)
    # A download of one release is cut, then the other one starts: it reuses nothing of the first.
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
    equal((board.mark("/app"), board.mark("/web")), ("three", "three"))
    board.off()


def test_mix_of_slots_on_flash():
    """A component of another release, written to flash directly, does not match the record."""
    board = installed(("app", "web"))
    update = updater(board)
    update.start(envelope(2, [NEW, NEW], names=("app", "web")), 0)
    feed(update, {"app": NEW, "web": NEW})
    board.put(1, OLD, "web")
    board.power_on()
    equal(board.start().slot, 0)
    equal((board.mark("/app"), board.mark("/web")), ("old", "old"))
    board.off()
