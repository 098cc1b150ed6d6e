"""An update from its manifest to its trial.

Anything unexpected is refused with a code, and the running slot stays unchanged.
"""

import os

from harness import check, equal, raises
from update_kit import (
    CLASS,
    MOUNT,
    VENDOR,
    Board,
    Installer,
    Key,
    Slot,
    envelope,
    image,
    romfs,
    sha256,
)
from warden.errors import WardenError
from warden.hal.store_file import FileStore
from warden.ota.slots import CONFIRMED, EMPTY, FAILED, STAGED, SlotRecord

BUILT = True
OLD = image("old")
NEW = image("new", 12000)


def installed(names=("app",), blocks=256):
    """A board that runs its first release from slot 0."""
    board = Board(names, blocks)
    vault = board.vault()
    record = SlotRecord(vault)
    entries = [board.put(0, OLD, name) for name in names]
    record._set(0, Slot((CONFIRMED, 0, 1, 0, entries)))
    record._commit({"sequence": 1})
    vault.close()
    restart(board)
    return board


def restart(board):
    board.power_on()
    board.outcome = board.start()
    equal((board.outcome.mode, board.outcome.slot), ("application", 0))


def updater(board, key=None, chunk=1024):
    return Installer(
        board.vault(), board.running, board.outcome.slot, (key or Key(),), VENDOR, CLASS, chunk
    )


def settle(update):
    while update.step():
        pass


def feed(update, images, stop_at=None, now=0):
    """Answer every request.

    stop_at: bytes after which the connection ends
    Returns: the states that were seen
    """
    seen = [update.state]
    total = 0
    while True:
        more = update.step()
        if update.state != seen[-1]:
            seen.append(update.state)
        wanted = update.want()
        if wanted is not None:
            number, name, at, length = wanted
            if stop_at is not None and total >= stop_at:
                return seen
            update.chunk(number, memoryview(images[name])[at : at + length], now)
            total += length
        elif not more and update.state in ("Testing", "Rejected", "Aborted"):
            return seen


def states(board):
    return [slot.state for slot in SlotRecord(board.vault()).slots]


def starved(*args):
    raise MemoryError()


def test_memory_that_runs_out():
    """The update ends with out-of-memory and resumes when the order is sent again."""
    for where, name in (
        ("warden.ota.image_verify", "check"),
        ("warden.ota.image_verify", "check_map"),
        ("warden.ota.reuse", "copy"),
    ):
        board = installed()
        update = updater(board)
        update.start(envelope(2, [NEW]), 0)
        feed(update, {"app": NEW}, 9000)
        update.abort()
        update = updater(board)
        # Now: the download before has let go of it.
        module = __import__(where, None, None, (name,))
        real = getattr(module, name)
        setattr(module, name, starved)
        try:
            update.start(envelope(2, [NEW]), 0)
            raises("out-of-memory", feed, update, {"app": NEW})
        finally:
            setattr(module, name, real)
        equal((update.state, update.reason, update.want()), ("Aborted", "out-of-memory", None))
        equal((update.step(), states(board)), (False, [CONFIRMED, EMPTY]))
        update.start(envelope(2, [NEW]), 0)
        equal(feed(update, {"app": NEW})[-1], "Testing")
        board.off()
    # In the middle of a chunk: what the hash missed is hashed from the flash.
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    settle(update)
    update.download._advance = starved
    update.download._edge = 1 << 30
    raises("out-of-memory", update.chunk, 0, NEW[:1024], 0)
    equal((update.state, update.reason), ("Aborted", "out-of-memory"))
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    equal(feed(update, {"app": NEW})[-1], "Testing")
    equal(SlotRecord(board.vault()).failed, 0)
    board.off()


def test_an_update():
    board = installed()
    key = Key()
    update = updater(board, key)
    equal((update.state, update.want()), ("Idle", None))
    update.start(envelope(2, [NEW]), 0)
    equal(key.asked, 1)
    seen = feed(update, {"app": NEW})
    equal(seen, ["Downloading", "Verifying", "Installing", "Testing"])
    equal((update.reason, update.sequence), ("", 2))
    record = SlotRecord(board.vault())
    equal([slot.state for slot in record.slots], [CONFIRMED, STAGED])
    equal((record.confirmed, record.slots[1].images[0][:2]), (1, [len(NEW), sha256(NEW)]))
    board.power_on()
    outcome = board.start()
    equal((outcome.slot, outcome.trial, board.mark()), (1, True, "new"))
    SlotRecord(board.vault()).confirm(1)
    board.power_on()
    outcome = board.start()
    equal((outcome.slot, outcome.trial, board.mark()), (1, False, "new"))
    # The next one goes into the slot that was left; the one that was confirmed can't come again.
    board.outcome = outcome
    update = updater(board)
    raises("old-manifest", update.start, envelope(2, [NEW]), 0)
    equal((update.state, update.reason), ("Rejected", "old-manifest"))
    raises("old-manifest", update.start, envelope(1, [OLD]), 0)
    update.start(envelope(3, [OLD]), 0)
    feed(update, {"app": OLD})
    equal(states(board), [STAGED, CONFIRMED])
    board.off()


def test_nothing_is_written_for_a_bad_manifest():
    board = installed()
    before = bytes(board.disk.data)
    log = len(board.store.log)
    update = updater(board)
    good = envelope(2, [NEW])
    changed = bytearray(good)
    changed[-10] ^= 1
    other = bytes(16)
    for code, bad in (
        ("suit-digest", bytes(changed)),
        ("cbor-malformed", good[:-1]),
        ("wrong-device", envelope(2, [NEW], vendor=other)),
        ("wrong-device", envelope(2, [NEW], class_id=other)),
        ("old-manifest", envelope(1, [NEW])),
        ("suit-component", envelope(2, [NEW], names=("web",))),
        ("slot-full", envelope(2, [(1 << 20, bytes(32))])),
        ("suit-condition", envelope(2, [(0, sha256(b""))])),
        ("suit-malformed", envelope(2, [NEW], floor=3)),
    ):
        raises(code, update.start, bad, 0)
        equal((update.state, update.reason, update.want()), ("Rejected", code, None))
        raises("update-state", update.chunk, 0, b"x", 0)
    check(bytes(board.disk.data) == before)
    equal(len(board.store.log), log)
    # No key made this signature.
    key = Key()
    key.verify = lambda digest, signature: False
    raises("tampered", updater(board, key).start, good, 0)
    board.off()


def test_chunks_out_of_order_twice_or_oversized():
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    raises("update-state", update.start, envelope(2, [NEW]), 0)
    settle(update)
    first = NEW[:1024]
    for number, data in (
        (1, first),
        (0, first[:-1]),
        (0, first + b"x"),
        (0, b""),
        (0, bytes(5000)),
        (-1, first),
    ):
        raises("update-chunk", update.chunk, number, data, 0)
    equal(update.want(), (0, "app", 0, 1024))
    update.chunk(0, first, 0)
    raises("update-chunk", update.chunk, 0, first, 0)
    equal(update.want(), (1, "app", 1024, 1024))
    # None of it did harm.
    feed(update, {"app": NEW})
    equal(update.state, "Testing")
    raises("update-state", update.chunk, 2, first, 0)
    raises("update-state", update.abort)
    board.off()


def test_an_image_that_does_not_match():
    """Three times, then the manifest is refused for good; a newer one is taken."""
    board = installed()
    wrong = bytearray(NEW)
    wrong[7000] ^= 4
    for turn in range(3):
        update = updater(board)
        update.start(envelope(2, [NEW]), 0)
        feed(update, {"app": wrong})
        equal(update.reason, "image-mismatch")
        equal(update.state, "Rejected" if turn == 2 else "Aborted")
        equal(states(board), [CONFIRMED, EMPTY])
        equal(board.slots().size(1, "app"), 0)
        restart(board)
        equal(board.mark(), "old")
    raises("old-manifest", updater(board).start, envelope(2, [NEW]), 0)
    update = updater(board)
    update.start(envelope(3, [NEW]), 0)
    feed(update, {"app": NEW})
    equal(update.state, "Testing")
    board.off()


def test_a_flash_that_loses_data():
    """The image arrived whole; the flash returns something else."""
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    while update.state == "Downloading":
        update.step()
        wanted = update.want()
        if wanted is not None:
            number, _, at, length = wanted
            update.chunk(number, NEW[at : at + length], 0)
    equal(update.state, "Verifying")
    board.damage(1, 9000)
    settle(update)
    equal((update.state, update.reason), ("Aborted", "image-mismatch"))
    equal(states(board), [CONFIRMED, EMPTY])
    # The same of the hashes.
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    while update.state != "Installing":
        update.step()
        wanted = update.want()
        if wanted is not None:
            number, _, at, length = wanted
            update.chunk(number, NEW[at : at + length], 0)
    board.damage(1, 3, "app.map")
    raises("slot-damaged", settle, update)
    equal((update.state, update.reason), ("Aborted", "slot-damaged"))
    equal(states(board), [CONFIRMED, EMPTY])
    board.off()


def test_resumed_after_a_restart():
    """It resumes from what the filesystem kept, at least the half that was flushed.

    Another manifest starts from nothing.
    """
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    feed(update, {"app": NEW}, stop_at=len(NEW) - 2000)
    restart(board)
    kept = board.slots().size(1, "app")
    check(len(NEW) // 2 <= kept < len(NEW), str(kept))
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    settle(update)
    equal(update.want()[2], kept)
    feed(update, {"app": NEW})
    equal(update.state, "Testing")
    board.off()

    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    feed(update, {"app": NEW}, stop_at=len(NEW) - 2000)
    restart(board)
    other = image("other", 12000)
    update = updater(board)
    update.start(envelope(3, [other]), 0)
    settle(update)
    equal(update.want()[2], 0)
    feed(update, {"app": other})
    equal(update.state, "Testing")
    board.off()


def test_a_beginning_that_was_changed_is_found_out():
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    feed(update, {"app": NEW}, stop_at=len(NEW) - 2000)
    restart(board)
    board.damage(1, 10)
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    feed(update, {"app": NEW})
    equal((update.state, update.reason), ("Aborted", "image-mismatch"))
    # A file that is longer than the image is nothing to go on from.
    restart(board)
    slots = board.slots()
    with slots.write(1, "app") as file:
        file.write(bytes(len(NEW) + 1))
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    feed(update, {"app": NEW})
    equal(update.state, "Testing")
    board.off()


def test_aborted_and_taken_up_again():
    board = installed()
    update = updater(board)
    raises("update-state", update.abort)
    update.start(envelope(2, [NEW]), 0)
    feed(update, {"app": NEW}, stop_at=5000)
    update.abort()
    equal((update.state, update.reason, update.want()), ("Aborted", "aborted", None))
    update.start(envelope(2, [NEW]), 0)
    settle(update)
    check(update.want()[2] >= 5000)
    feed(update, {"app": NEW})
    equal(update.state, "Testing")
    board.off()


def test_deadlines():
    """A chunk that does not come is asked for again, three times; a trickle ends as well."""
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 1000)
    settle(update)
    due = 21000
    for _ in range(3):
        check(not update.tick(due - 1))
        check(update.tick(due))
        equal(update.want()[0], 0)
        due += 20000
    check(not update.tick(due))
    equal((update.state, update.reason), ("Aborted", "update-timeout"))
    # Each chunk in its last moment, but for hours.
    update.start(envelope(2, [NEW]), 0)
    settle(update)
    update.download._last = 30000
    number, _, at, length = update.want()
    update.chunk(number, NEW[at : at + length], 19999)
    check(not update.tick(29999))
    check(not update.tick(30000))
    equal((update.state, update.reason), ("Aborted", "update-timeout"))
    board.off()


def test_a_full_flash():
    board = installed(blocks=96)
    with open(MOUNT + "/filler", "wb") as file:
        file.write(bytes(8000))
    update = updater(board)
    size = board.slots().room("app") - 1500
    update.start(envelope(2, [(size, bytes(32))]), 0)
    # Something else takes the space meanwhile.
    with open(MOUNT + "/more", "wb") as file:
        file.write(bytes(3000))
    raises("slot-full", feed, update, {"app": bytes(size)})
    equal((update.state, update.reason), ("Aborted", "slot-full"))
    restart(board)
    equal(board.mark(), "old")
    board.off()


class OneFlash(Board):
    """The vault lies in the same filesystem as the slots."""

    def make_store(self):
        return FileStore(MOUNT + "/vault")


def fill(most=400):
    """Files until not one more fits; how many."""
    for count in range(most):
        try:
            with open(MOUNT + "/f%d" % count, "wb") as file:
                file.write(bytes(400))
        except OSError:
            return count
    return most


def on_one_flash():
    board = OneFlash(blocks=96)
    vault = board.vault()
    record = SlotRecord(vault)
    record._set(0, Slot((CONFIRMED, 0, 1, 0, [board.put(0, OLD)])))
    record._commit({"sequence": 1})
    restart(board)
    return board


def test_no_room_is_not_all_the_room():
    """Where littlefs is all but full, its count of free blocks is below zero."""
    board = on_one_flash()
    count = fill()
    for gone in range(3):
        check(board.slots().room("app") <= 3 * 512, str(board.slots().room("app")))
        os.remove(MOUNT + "/f%d" % (count - 1 - gone))
    raises("slot-full", updater(board).start, envelope(2, [NEW]), 0)
    board.off()


def test_a_trial_that_fills_the_flash():
    """Its attempts can't be counted any more, so it fails.

    Its slot has the room to record that.
    """
    for spoil in (False, True):
        for starts in range(3):
            board = on_one_flash()
            update = updater(board)
            update.start(envelope(2, [NEW]), 0)
            equal(feed(update, {"app": NEW})[-1], "Testing")
            for _ in range(starts):
                board.power_on()
                equal(board.start().trial, True)
            if spoil:
                board.damage(1, 0, "app.map")
            fill()
            board.power_on()
            outcome = board.start()
            reason = "vault-limit" if starts < 2 else "trial-failed"
            equal((outcome.slot, outcome.trial, outcome.failed), (0, False, 2))
            equal((outcome.reason, board.mark(), states(board)[1]), (reason, "old", FAILED))
            board.power_on()
            equal((board.start().slot, board.outcome.failed), (0, 0))
            board.off()


def test_several_components_or_none():
    board = installed(("app", "web"))
    web = romfs({"index.html": b"<p>" * 2000})
    update = updater(board)
    raises("suit-component", update.start, envelope(2, [NEW]), 0)
    update.start(envelope(2, [NEW, web], names=("app", "web")), 0)
    seen = feed(update, {"app": NEW, "web": web}, stop_at=len(NEW) + 1024)
    equal(seen, ["Downloading"])
    restart(board)
    # The first one is there whole and is not asked for again.
    update = updater(board)
    update.start(envelope(2, [NEW, web], names=("app", "web")), 0)
    settle(update)
    equal(update.want()[1], "web")
    feed(update, {"web": web})
    equal(update.state, "Testing")
    board.power_on()
    equal(board.start().slot, 1)
    equal(board.mark(), "new")
    with board.mounts["/web"].open("/index.html", "rb") as file:
        equal(file.read(), b"<p>" * 2000)
    board.off()


def test_the_slot_on_trial_is_all_there_is():
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    feed(update, {"app": NEW})
    board.power_on()
    board.outcome = board.start()
    check(board.outcome.trial)
    raises("update-state", updater(board).start, envelope(3, [OLD]), 0)
    equal(states(board)[0], CONFIRMED)
    board.off()


def test_the_floor_rises_with_the_confirmation():
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW], floor=2), 0)
    feed(update, {"app": NEW})
    equal(SlotRecord(board.vault()).floor, 0)
    board.power_on()
    board.start()
    SlotRecord(board.vault()).confirm(1)
    record = SlotRecord(board.vault())
    equal((record.floor, record.confirmed), (2, 2))
    # The old slot is below the floor now: when the new one is damaged, neither boots, and recovery
    # accepts a newer release.
    board.damage(1, 0, "app.map")
    board.power_on()
    outcome = board.start()
    equal(outcome.mode, "recovery")
    board.outcome = outcome
    update = updater(board)
    raises("old-manifest", update.start, envelope(2, [NEW]), 0)
    update.start(envelope(3, [NEW]), 0)
    feed(update, {"app": NEW})
    board.power_on()
    equal((board.start().mode, board.mark()), ("application", "new"))
    board.off()


def test_at_most_eight_metadata_writes():
    """Count commits of the record and of the slot's files, from manifest to confirmation."""
    board = installed()
    # The usual case: the spare slot holds the release before.
    vault = board.vault()
    record = SlotRecord(vault)
    record._set(1, Slot((CONFIRMED, 1, 0, 0, [board.put(1, image("older"))])))
    record._commit()
    board.store.log.clear()
    syncs = [0]

    class Counted:
        def __init__(self, file):
            self._file = file

        def write(self, data):
            return self._file.write(data)

        def flush(self):
            syncs[0] += 1
            self._file.flush()

        def close(self):
            syncs[0] += 1
            self._file.close()

    write = board.running.write
    board.running.write = lambda *args: Counted(write(*args))
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    feed(update, {"app": NEW})
    board.power_on()
    board.start()
    SlotRecord(board.vault()).confirm(1)
    commits = len([1 for what, name in board.store.log if (what, name) == ("write", "commit")])
    equal((commits, syncs[0]), (4, 3))
    board.off()


def test_an_error_ends_it_with_its_code():
    """An error in any step ends the update with its code and closes the file."""
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    settle(update)
    board.disk.dead = True
    try:
        feed(update, {"app": NEW})
        check(False)
    except WardenError as error:
        equal((error.code, update.state), ("filesystem", "Aborted"))
    board.off()


def test_a_file_that_takes_or_gives_less():
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    settle(update)
    update.download._file.close()

    class Short:
        def write(self, data):
            return len(data) - 1

        def close(self):
            pass

    update.download._file = Short()
    raises("slot-full", update.chunk, 0, NEW[:1024], 0)
    equal(update.state, "Aborted")
    # Shorter than the directory says, on a resume; and between the download and the verification.
    real = board.running.size
    board.running.size = lambda slot, part: 5000 if part == "app" else real(slot, part)
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    raises("slot-damaged", settle, update)
    board.running.size = real
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    while update.state == "Downloading":
        update.step()
        wanted = update.want()
        if wanted is not None:
            update.chunk(wanted[0], NEW[wanted[2] : wanted[2] + wanted[3]], 0)
    with board.running.write(1, "app") as file:
        file.write(NEW[:5000])
    raises("slot-damaged", settle, update)
    board.off()


def test_a_record_that_does_not_read_back():
    board = installed()
    vault = board.vault()
    record = SlotRecord(vault)
    vault.get = lambda name: b"other"
    raises("vault-unwritten", record.fail, 0)
    board.off()


def test_each_chunk_has_its_own_requests():
    """Each chunk that arrives resets the count of requests.

    Nothing is requested when no chunk is wanted.
    """
    board = installed()
    update = updater(board)
    equal((update.tick(0), update.tick(1 << 40)), (False, False))
    now = 0
    update.start(envelope(2, [NEW]), now)
    equal(update.tick(1 << 40), False)  # it is still looking at what is there
    settle(update)
    for _ in range(3):
        for _ in range(3):
            now += 20000
            equal((update.tick(now), update.state), (True, "Downloading"))
            equal(update.tick(now + 19999), False)
        number, _, at, length = update.want()
        update.chunk(number, NEW[at : at + length], now)
    for again in (True, True, True, False):
        now += 20000
        equal(update.tick(now), again)
    equal((update.state, update.reason), ("Aborted", "update-timeout"))
    equal(update.tick(1 << 40), False)
    board.off()
