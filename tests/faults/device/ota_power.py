"""An update of application and firmware on an ESP32 with the power cut at every operation of
flash, otadata, filesystem and vault; after each cut the board starts a firmware and an application
of one release, whole, and the update still comes to its end.

    micropython tests/faults/device/ota_power.py ROLLBACK WELL [FAULT | all]

ROLLBACK: 1 for a bootloader as stock firmware has it, 0 for one that never goes back. WELL: 1 when
the application on trial is well, 0 when it says that it is not. Prints a line of counts; status 1
and the reason when a promise breaks. `all` ends the operation that the cut falls on in every way.
FAULT makes the device break a rule, to show that this program would notice: see FAULTS.
"""

import sys

HERE = __file__.rsplit("/", 1)[0]
sys.path[:] = [HERE + "/../../unit/kit", HERE + "/../../../lib", ".frozen"]

from board_model import PowerCut  # noqa: E402
from ota_kit import OtaBoard, feed, release  # noqa: E402
from partition_model import Chip, app_image  # noqa: E402  (the path must be set first)
from warden.errors import WardenError  # noqa: E402
from warden.ota import boot as boot_module  # noqa: E402
from warden.ota.slots import SlotRecord  # noqa: E402

OLD, NEW = ("first", "first"), ("second", "second")


class Wrong(Exception):
    """A promise was broken."""


def check(condition, text):
    if not condition:
        raise Wrong(text)


def copy_of(board):
    disk = board.disk
    return bytes(board.chip.data), bytes(disk.data), dict(board.store.files)


def load(board, state):
    board.chip.data[:] = state[0]
    board.disk.data[:] = state[1]
    board.store.files = dict(state[2])
    board.store.log.clear()
    board.chip.log.clear()


def drive(board, well, pairs):
    """From a start to the end of the story: sent, tried, and confirmed or given up.

    `pairs`: every start must be one of these.
    """
    made, images = release(3, "second", 3000)
    for _ in range(6):
        board.restart()
        pair = board.pair()
        pairs[pair] = pairs.get(pair, 0) + 1
        record = board.record()
        if board.outcome.trial:
            if well:
                board.confirm()
            else:
                board.record().give_up(board.outcome.slot)
            continue
        if record.must_exceed >= 3:
            return  # confirmed, or barred for ever
        update = board.updater()
        update.start(made, 0)
        if not feed(update, images):
            raise RuntimeError("it was refused: " + update.reason)
    raise RuntimeError("it never ends")


def attempt(board, well, pairs, budget, torn):
    """Whether the power went."""
    power = board.power
    power.budget, power.torn, power.used, power.dead = budget, torn, 0, False
    try:
        drive(board, well, pairs)
    except PowerCut:
        pass
    except (WardenError, OSError) as error:
        if not power.dead:
            raise Wrong("an error without a cut: " + repr(error))
    went = power.dead
    power.budget, power.dead = None, False
    return went


def story(rollback, well, every):
    chip = Chip((("ota_0", 0x10, 3), ("ota_1", 0x11, 3)), rollback)
    chip.flash("ota_0", app_image("old", 1000))
    board = OtaBoard(chip, 128)
    made, images = release(2, "first", 3000)
    update = board.updater()
    update.start(made, 0)
    check(feed(update, images), "the first release was refused")
    board.restart()
    board.confirm()
    board.restart()
    state = copy_of(board)
    pairs = {}
    attempt(board, well, pairs, None, 0)
    total = board.power.used
    check(set(pairs) == {OLD, NEW} and board.pair() == (NEW if well else OLD), "without a cut")
    cuts = again = 0
    for torn in (0, 1, 4, 7, 8) if every else (0, 4) if well else (4,):
        for budget in range(total):
            where = "torn %d, cut %d: " % (torn, budget)
            load(board, state)
            pairs = {}
            check(attempt(board, well, pairs, budget, torn), where + "no cut")
            cuts += 1
            # A second cut in what follows, for some: two starts of a trial may then be lost, and
            # that is all it has.
            twice = (every or (budget + torn) % 7 == 0) and attempt(
                board, well, pairs, (budget * 5) % 23, torn
            )
            again += twice
            check(not attempt(board, well, pairs, None, 0), where + "a cut")
            check(set(pairs) <= {OLD, NEW}, where + str(pairs))
            ends = (OLD, NEW) if twice else (NEW if well else OLD,)
            check(board.pair() in ends, where + str(board.pair()))
            check(board.disk.violations == 0, where + "a program over a program")
    print("%d operations, %d cuts, %d of them twice" % (total, cuts, again))


def no_attempt():
    """The attempt is not counted: a firmware that does not start is ordered for ever."""
    SlotRecord.attempt = lambda self, number: None


def no_compare():
    """Whatever firmware runs, the application of the chosen slot is mounted."""
    boot = boot_module.boot

    def deaf(vault, slots, *rest):
        engaged, slots.engaged = slots.engaged, None
        try:
            return boot(vault, slots, *rest)
        finally:
            slots.engaged = engaged

    boot_module.boot = deaf


FAULTS = {"no_attempt": no_attempt, "no_compare": no_compare}

if __name__ == "__main__":
    words = sys.argv[3:]
    if words and words[0] in FAULTS:
        FAULTS[words[0]]()
    try:
        story(sys.argv[1] == "1", sys.argv[2] == "1", words == ["all"])
    except (Wrong, RuntimeError, WardenError) as error:
        print("WRONG", error)
        sys.exit(1)
