"""Which slot starts, what is counted before, and what a changed block does."""

import vfs
from board_model import PowerCut
from harness import check, equal, raises
from update_kit import ATTEMPTS, Board, Slot, image, romfs
from warden.ota.boot import boot
from warden.ota.slots import CONFIRMED, FAILED, STAGED, TRIAL, SlotRecord

BUILT = True


def prepared(*slots, names=("app",), floor=None):
    """A board whose slots are (state, sequence, image)."""
    board = Board(names)
    vault = board.vault()
    record = SlotRecord(vault)
    marks = {}
    for number, slot in enumerate(slots):
        if slot is None:
            continue
        state, sequence, data = slot
        record._set(number, Slot((state, 0, sequence, 0, [board.put(number, data)])))
        if state == CONFIRMED:
            marks["sequence"] = max(sequence, marks.get("sequence", 0))
    if floor:
        marks["floor"] = floor
    record._commit(marks)
    vault.close()
    return board


def states(board):
    return [slot.state for slot in SlotRecord(board.vault()).slots]


def test_factory_until_an_update_was_confirmed():
    board = Board()
    outcome = board.start()
    equal((outcome.mode, outcome.slot, outcome.failed), ("factory", None, 0))
    board = prepared((TRIAL, 3, image("new")))
    for _ in range(ATTEMPTS):
        board.power_on()
        equal(board.start().mode, "application")
    outcome = board.start()
    equal((outcome.mode, outcome.failed), ("factory", 3))
    board.off()


def test_a_trial_falls_back():
    board = prepared((CONFIRMED, 1, image("old")), (STAGED, 2, image("new")))
    for _ in range(ATTEMPTS):
        board.power_on()
        outcome = board.start()
        equal((outcome.slot, outcome.trial, board.mark()), (1, True, "new"))
    board.power_on()
    outcome = board.start()
    equal((outcome.slot, outcome.trial, outcome.failed), (0, False, 2))
    equal((board.mark(), outcome.reason), ("old", "trial-failed"))
    equal(states(board), [CONFIRMED, FAILED])
    record = SlotRecord(board.vault())
    equal((record.failed, record.confirmed, record.must_exceed), (2, 1, 2))
    # Once told, it is no news any more.
    board.power_on()
    equal(board.start().failed, 0)
    board.off()


def test_a_confirmed_trial_stays():
    board = prepared((CONFIRMED, 1, image("old")), (STAGED, 2, image("new")))
    board.start()
    record = SlotRecord(board.vault())
    equal(record.confirmed, 1)
    # The way back is not overwritten while the trial is on.
    raises("update-state", record.spare, 1)
    record.confirm(1)
    equal((record.spare(1), record.spare(0), record.spare(None)), (0, 1, 0))
    raises("bad-argument", record.confirm, 1)
    equal((record.confirmed, record.must_exceed), (2, 2))
    for _ in range(ATTEMPTS + 1):
        board.power_on()
        outcome = board.start()
        equal((outcome.slot, outcome.trial, board.mark()), (1, False, "new"))
    board.off()


def test_the_attempt_counts_before_the_mount():
    board = prepared((CONFIRMED, 1, image("old")), (STAGED, 2, image("new")))

    def cut(filesystem, path):
        raise PowerCut()

    for attempt in range(ATTEMPTS):
        try:
            boot(board.vault(), board.slots(), ATTEMPTS, None, cut)
            check(False)
        except PowerCut:
            pass
        equal(SlotRecord(board.vault()).slots[1].attempts, attempt + 1)
    equal(board.start().slot, 0)
    board.off()


def test_an_attempt_that_the_flash_lost_is_none():
    """The record is read back before anything of the slot is touched."""
    board = prepared((CONFIRMED, 1, image("old")), (STAGED, 2, image("new")))
    store = board.store
    write = store.write
    store.write = lambda name, data: None
    raises("vault-unwritten", board.start)
    store.write = write
    equal(board.mounts, {})
    board.off()


def test_a_damaged_map_gives_the_slot_up():
    board = prepared((CONFIRMED, 1, image("old")), (CONFIRMED, 2, image("new")))
    board.damage(1, 0, "app.map")
    outcome = board.start()
    equal((outcome.slot, outcome.failed, board.mark()), (0, 2, "old"))
    equal(states(board), [CONFIRMED, FAILED])
    board.damage(0, 0, "app.map")
    board.power_on()
    outcome = board.start()
    equal((outcome.mode, outcome.slot, outcome.failed), ("recovery", None, 1))
    board.power_on()
    equal(board.start().mode, "recovery")
    board.off()


def test_a_block_changed_after_installation():
    """A block that was changed after the installation is never served, not even the rest of it."""
    data = image("new")
    place = data.find(b"filler.bin") + 5000
    for slot_at in (data.find(b"MARK"), place):
        board = prepared((CONFIRMED, 1, data))
        board.damage(0, slot_at)
        told = []
        outcome = board.start(on_damage=told.append)
        if outcome.slot is None:
            # In the block that the header is in: seen at once.
            equal(outcome.mode, "recovery")
        else:
            equal(board.mark(), "new")
            file = board.mounts["/app"].open("/filler.bin", "rb")
            raises("slot-damaged", file.read)
            equal(told, [0])
        board.off()


def test_a_slot_with_other_parts():
    board = prepared((CONFIRMED, 1, image("old")))
    board.names = ("app", "data")
    equal(board.start().mode, "recovery")
    board.off()
    board = prepared((CONFIRMED, 1, image("old")))
    board.slots().remove(0, "app.map")
    equal(board.start().mode, "recovery")
    board.off()
    board = prepared((CONFIRMED, 1, b"no file system at all"))
    equal(board.start().mode, "recovery")
    board.off()


def test_the_floor():
    board = prepared((CONFIRMED, 1, image("old")), (CONFIRMED, 2, image("new")), floor=2)
    board.damage(1, 0, "app.map")
    equal(board.start().mode, "recovery")
    board.off()


def test_the_slot_that_runs_is_never_written():
    board = prepared((CONFIRMED, 1, image("old")))
    board.start()
    slots = board.running
    raises("bad-argument", slots.write, 0, "app")
    raises("bad-argument", slots.write, 0, "app", True)
    raises("bad-argument", slots.write, 0, "app.map")
    raises("bad-argument", slots.remove, 0, "app")
    slots.write(1, "app").close()
    slots.remove(1, "app")
    equal(board.mark(), "old")
    board.off()


def test_several_components():
    board = Board(("app", "web"))
    vault = board.vault()
    record = SlotRecord(vault)
    entries = [
        board.put(0, image("app")),
        board.put(0, romfs({"index.html": b"<p>"}), "web"),
    ]
    record._set(0, Slot((CONFIRMED, 0, 1, 0, entries)))
    record._commit({"sequence": 1})
    board.start()
    equal(sorted(board.mounts), ["/app", "/web"])
    with board.mounts["/web"].open("/index.html", "rb") as file:
        equal(file.read(), b"<p>")
    # One of them changed: the slot as a whole is no good.
    board.damage(0, 0, "web.map")
    board.power_on()
    equal(board.start().mode, "recovery")
    board.off()


def test_imported_from_a_slot():
    import sys

    board = prepared((CONFIRMED, 1, image("imported")))
    board.start()
    vfs.mount(board.mounts["/app"], "/app")
    path = sys.path[:]
    sys.path[:] = ["/app"]
    try:
        module = __import__("app")
    finally:
        sys.path[:] = path
        vfs.umount("/app")
    equal(module.__dict__["MARK"], "imported")
    del sys.modules["app"]
    board.off()


def test_a_record_of_another_version():
    from warden.wire import cbor

    others = [b"\xff", cbor.encode([3, 0, None, []]), cbor.encode([2, 0]), cbor.encode(2)]
    for data in others + [cbor.encode({0: 2, 1: 0, 2: None, 3: []})]:
        board = Board()
        vault = board.vault()
        vault.put("slots", data)
        raises("vault-damaged", SlotRecord, vault)
        board.off()


def test_a_record_of_version_one():
    """It lacks the manifest's digest and the grant; the next change writes version 2."""
    from warden.wire import cbor

    board = Board()
    vault = board.vault()
    entry = board.put(0, image("old"))
    slots = [[CONFIRMED, 0, 1, 0, [entry]], [STAGED, 0, 2, 0, [board.put(1, image("new"))]]]
    vault.commit({"slots": cbor.encode([1, 0, None, slots])}, {"sequence": 1})
    record = SlotRecord(vault)
    equal([slot.fields()[5:] for slot in record.slots], [[b"", False], [b"", False]])
    outcome = board.start()
    equal((outcome.slot, outcome.trial, board.mark()), (1, True, "new"))
    equal(cbor.decode(board.vault().get("slots"))[0], 2)
    board.off()


def test_the_attempts_of_a_confirmed_slot():
    """They bound the orders to start a firmware, and mean nothing in slots that have none."""
    board = prepared((CONFIRMED, 3, image("old")))
    record = SlotRecord(board.vault())
    record.slots[0].attempts = 9
    record._commit()
    commits = len(board.store.log)
    outcome = board.start()
    equal((outcome.slot, outcome.failed, board.mark()), (0, 0, "old"))
    equal(len(board.store.log), commits)
    board.off()


def test_a_slot_that_can_not_be_read():
    """A read error changes no slot's state.

    The other slot starts; where neither can be read, an update can still arrive.
    """
    from warden.errors import StoreError

    class Torn:
        def seek(self, at):
            pass

        def readinto(self, view):
            raise OSError(5)

    def refused(slot, part):
        raise StoreError("filesystem")

    for broken in (refused, lambda slot, part: Torn()):
        passed_over(broken)


def passed_over(broken):
    board = prepared((CONFIRMED, 1, image("old")), (CONFIRMED, 2, image("new")))
    slots = board.slots()
    read = slots.read
    slots.read = lambda slot, part: (broken if slot == 1 else read)(slot, part)
    mounted = []
    outcome = boot(board.vault(), slots, 2, None, lambda *_: mounted.append(1))
    equal((outcome.mode, outcome.slot, outcome.failed), ("application", 0, 0))
    equal((states(board), mounted), ([CONFIRMED, CONFIRMED], [1]))
    slots.read = broken
    outcome = boot(board.vault(), slots, 2, None, lambda *_: mounted.append(2))
    equal((outcome.mode, outcome.slot, outcome.reason), ("recovery", None, "filesystem"))
    equal((states(board), mounted), ([CONFIRMED, CONFIRMED], [1]))
    board.off()


def test_a_trial_that_can_not_be_read():
    """Each start of it has counted all the same."""
    board = prepared((CONFIRMED, 1, image("old")), (STAGED, 2, image("new")))
    slots = board.slots()
    read = slots.read

    def broken(slot, part):
        if slot == 1:
            raise OSError(5)
        return read(slot, part)

    slots.read = broken
    for _ in range(ATTEMPTS):
        outcome = boot(board.vault(), slots, ATTEMPTS, None, lambda *_: None)
        equal((outcome.slot, outcome.trial, outcome.failed), (0, False, 0))
    outcome = boot(board.vault(), slots, ATTEMPTS, None, lambda *_: None)
    equal((outcome.slot, outcome.failed, states(board)), (0, 2, [CONFIRMED, FAILED]))
    board.off()


def test_other_errors_of_the_flash_end_the_start():
    from warden.errors import StoreError

    board = prepared((CONFIRMED, 1, image("old")))
    slots = board.slots()

    def broken(slot, part):
        raise StoreError("vault-damaged")

    slots.read = broken
    raises("vault-damaged", boot, board.vault(), slots, 2, None, lambda *_: None)
    equal(states(board)[0], CONFIRMED)
    board.off()


def test_a_block_that_can_not_be_read():
    """While the application runs: the slot is given up, or it would fail there at each start."""
    board = prepared((CONFIRMED, 1, image("old")))
    told = []
    board.start(on_damage=told.append)
    mounted = board.mounts["/app"]

    class Torn:
        def seek(self, at):
            raise OSError(5)

    mounted._image._file = Torn()
    try:
        mounted.open("/filler.bin", "rb").read()
        check(False)
    except OSError:
        pass
    equal(told, [0])
    board.off()


def record_of(*slots, **counters):
    """A slot record of (state, attempts, sequence), on a vault alone."""
    board = Board()
    vault = board.vault()
    record = SlotRecord(vault)
    for number, (state, attempts, sequence) in enumerate(slots):
        record._set(number, Slot((state, attempts, sequence, 0, [])))
    record._commit(counters)
    board.off()
    return record


def test_the_edges_of_a_choice():
    equal(record_of((TRIAL, 1, 5), (FAILED, 0, 6)).choose(2), 0)
    equal(record_of((TRIAL, 2, 5), (FAILED, 0, 6)).choose(2), None)
    # The floor itself boots, what is below it does not.
    equal(record_of((CONFIRMED, 0, 5), (FAILED, 0, 6), floor=5).choose(2), 0)
    equal(record_of((CONFIRMED, 0, 4), (STAGED, 0, 4), floor=5).choose(2), None)
    equal(record_of((CONFIRMED, 0, 5), (CONFIRMED, 0, 6)).choose(2), 1)
    equal(record_of((CONFIRMED, 0, 6), (CONFIRMED, 0, 5)).choose(2), 0)


def test_the_slot_that_may_be_overwritten():
    """First what no start would choose, then the older one; never the firmware that runs."""
    good, bad = (CONFIRMED, 0, 5), (FAILED, 2, 9)
    for first, second, spare in (
        (good, bad, 1),
        (bad, good, 0),
        ((FAILED, 0, 3), (FAILED, 0, 4), 0),
        ((FAILED, 0, 4), (FAILED, 0, 3), 1),
        ((CONFIRMED, 0, 4), (CONFIRMED, 0, 5), 0),
        ((CONFIRMED, 0, 5), (CONFIRMED, 0, 4), 1),
    ):
        record = record_of(first, second)
        equal(record.spare(None), spare)
        for engaged in (0, 1):
            equal(record.spare(None, engaged), 1 - engaged)
    record = record_of(good, bad)
    equal((record.spare(0), record.spare(0, 0)), (1, 1))
    raises("update-state", record_of((TRIAL, 1, 6), good).spare, 0)
    raises("update-state", record_of((TRIAL, 1, 6), good).spare, 0, 0)


def test_clear_empties_the_slot():
    record = record_of((CONFIRMED, 0, 5), (0, 0, 0))
    record.clear(1, b"m" * 32)
    check(record.resumes(1, b"m" * 32) and not record.resumes(1, b"n" * 32))
    check(not record.resumes(0, b"m" * 32))
    record.clear(1, b"n" * 32)
    equal((record.pending, record.resumes(1, b"m" * 32)), ([b"n" * 32, 0], False))
    # And what the slot held: from then on no start chooses it.
    record = record_of((CONFIRMED, 0, 5), (CONFIRMED, 0, 6))
    record.clear(1, b"m" * 32)
    again = SlotRecord(record._vault)
    equal((again.slots[1].state, again.choose(2)), (0, 0))
