"""An update with the power cut at every program and erase, vault and slots on one flash in memory.

    micropython tests/faults/device/update_power.py MEDIUM SCENARIO [FAULT | all]

MEDIUM: `littlefs`, one littlefs in RAM with the vault's records as files; `nor`, a model of a NOR
chip that refuses what a chip can't do and tears programs and erases bit by bit, with the vault in
its raw flash store and the slots on a littlefs behind it.

After each cut the board starts twice more (the second start cut at every operation of its own, for
some), and must then run the old or the new application, whole: every byte of every file is
compared. Where an update was under way it is sent again and must come through. Prints a line of
counts; status 1 and the reason when a promise breaks. `all` cuts in every way that the medium
knows, and more starts.

FAULT makes the device break a rule, to show that this program would notice: see FAULTS.
"""

import sys

HERE = __file__.rsplit("/", 1)[0]
sys.path[:] = [HERE + "/../../unit/kit", HERE + "/../../../lib", ".frozen"]

from board_model import PowerCut  # noqa: E402  (the path must be set first)
from nor_model import Nor, Part  # noqa: E402
from update_kit import (  # noqa: E402
    ATTEMPTS,
    CLASS,
    MOUNT,
    VENDOR,
    Board,
    Installer,
    Key,
    Slot,
    envelope,
    image,
)
from warden.errors import WardenError  # noqa: E402
from warden.hal.slots_file import FileSlots  # noqa: E402
from warden.hal.store_file import FileStore  # noqa: E402
from warden.hal.store_flash import FlashStore  # noqa: E402
from warden.ota import deferred, image_verify  # noqa: E402
from warden.ota import slots as slots_module  # noqa: E402
from warden.ota import update as update_module  # noqa: E402
from warden.ota.slots import ATTEMPTS_MAX, CONFIRMED, SlotRecord  # noqa: E402
from warden.wire import cbor  # noqa: E402

update_module.verifiers = lambda keys: [Key()]

OLD = image("old", 2000)
NEW = image("new", 5200)
OLDER = image("older", 1500)
NEW_ENTRY = [len(NEW)]


class Wrong(Exception):
    """A promise was broken."""


class FilesBoard(Board):
    """Vault and slots are files of one littlefs."""

    # How the operation ends that the cut falls on; the middle one is followed further.
    torn = [0, 3, 8]
    every = (0, 3, 8)

    def make_store(self):
        return FileStore(MOUNT + "/vault")

    def load(self, data):
        self.disk.data[:] = data
        self.power_on()

    def flash(self):
        return bytes(self.disk.data)

    @property
    def chip(self):
        return self.disk

    def violations(self):
        return self.disk.violations


class NorBoard(Board):
    """A chip of 1 KB sectors that programs 16 bytes: eight sectors for the vault's raw store,
    littlefs on the others. What the chip can't do raises Misused, which nothing catches."""

    torn = [0, -4, 8]
    every = (0, 3, -2, -4, -6, 8)

    def make_disk(self, blocks):
        self.chip = Nor(blocks, 1024, 16)
        return Part(self.chip, 8, blocks - 8)

    def make_store(self):
        return FlashStore(Part(self.chip, 0, 8), 16)

    def load(self, data):
        self.chip.data[:] = data
        self.power_on()

    def flash(self):
        return bytes(self.chip.data)

    def violations(self):
        return 0


def release(board, sequences, counters, states=(CONFIRMED, CONFIRMED)):
    """Slot 0 holds OLD, slot 1 OLDER."""
    vault = board.vault()
    record = SlotRecord(vault)
    for number, data in ((0, OLD), (1, OLDER)):
        entry = board.put(number, data)
        record._set(number, Slot((states[number], 1, sequences[number], 0, [entry])))
    record._commit(counters)
    vault.put("release", cbor.encode([VENDOR, CLASS, [bytes(64)]]))
    vault.close()


def install(board, stop_at=None):
    """Start the board, send the update; True when it was staged."""
    outcome = board.start()
    update = Installer(board.vault(), board.running, outcome.slot, (Key(),), VENDOR, CLASS, 512)
    update.start(envelope(3, [NEW]), 0)
    return fetch(update, stop_at)


def park_and_install(board):
    """The same on a board that is short of memory: the next start verifies the update that waits
    in the vault."""
    board.start()
    deferred.save(board.vault(), envelope(3, [NEW]), None, False)
    outcome = board.start()
    vault = board.vault()
    parked = deferred.load(vault, board.running, outcome.slot)
    if parked is None:
        return False  # the power is gone
    update = Installer(vault, board.running, outcome.slot, chunk=512)
    update.update = parked
    parked.start(vault, board.running, outcome.slot, 512, 0)
    return fetch(update)


def fetch(update, stop_at=None):
    total = 0
    while update.state not in ("Testing", "Aborted", "Rejected"):
        update.step()
        wanted = update.want()
        if wanted is not None:
            number, _, at, length = wanted
            if stop_at is not None and total >= stop_at:
                return False
            update.chunk(number, NEW[at : at + length], 0)
            total += length
    return update.state == "Testing"


def start(board):
    board.start()


def confirm(board):
    SlotRecord(board.vault()).confirm(1)


def give_up(board):
    SlotRecord(board.vault()).give_up(1)
    board.start()


def prepare(board, name):
    release(board, (2, 1), {"sequence": 2})
    if name == "fallback":
        board.damage(0, 0, "app.map")
    if name in ("dead", "recovery"):
        board.damage(0, 0, "app.map")
        board.damage(1, 0, "app.map")
    if name == "recovery":
        board.start()
    if name == "resume":
        install(board, 3000)
    if name in ("trial", "confirm", "unwell", "revert"):
        install(board)
        board.power_on()
    if name in ("confirm", "unwell", "revert"):
        board.start()
    if name == "revert":
        for _ in range(ATTEMPTS - 1):
            board.power_on()
            board.start()


# What is cut, and what may run after it.
SCENARIOS = {
    "install": (install, ("old", "new")),
    "parked": (park_and_install, ("old", "new")),
    "resume": (install, ("old", "new")),
    "trial": (start, ("new",)),
    "confirm": (confirm, ("new",)),
    # The application on trial says that it is not well: until that is on the flash, it is tried
    # again.
    "unwell": (give_up, ("new", "old")),
    # All attempts are used.
    "revert": (start, ("old",)),
    # The confirmed slot was changed on the flash; then both.
    "fallback": (start, ("older",)),
    "dead": (start, ("recovery",)),
    "recovery": (install, ("recovery", "new")),
}


def whole(board):
    """Which application runs, every byte of it compared."""
    outcome = board.start()
    if outcome.slot is None:
        return outcome.mode, outcome
    said = board.mark()
    wanted = {"old": OLD, "new": NEW, "older": OLDER}[said]
    with board.mounts["/app"].open("/filler.bin", "rb") as file:
        filler = file.read()
    # The data ends the image: nothing follows the last file.
    if not filler or filler != wanted[-len(filler) :]:
        raise Wrong("the application is not whole")
    return said, outcome


def cut(board, work, budget, torn):
    """(did it finish, how many operations)."""
    chip = board.chip
    chip.operations, chip.budget, chip.torn = 0, budget, torn
    try:
        finished = work(board) is not False and not chip.dead
    except (WardenError, OSError, PowerCut):
        if not chip.dead:
            raise
        finished = False
    return finished, chip.operations


def check_after_cut(board, allowed, attempts):
    """Start from the flash as it is; what runs."""
    board.power_on()
    said, _ = whole(board)
    if said not in allowed:
        raise Wrong("%s runs after a cut" % said)
    record = SlotRecord(board.vault())
    for slot in record.slots:
        if attempts < slot.attempts < ATTEMPTS_MAX:
            raise Wrong("more attempts than the policy allows")
    return said


def send_again(board, name):
    """The same update, after whatever happened: it comes through, and runs."""
    record = SlotRecord(board.vault())
    if NEW_ENTRY in [list(slot.images[0])[:1] for slot in record.slots if slot.images]:
        return 0  # it had come through
    try:
        done = install(board)
    except WardenError as error:
        raise Wrong("the update did not come through: %s" % error)
    board.power_on()
    if not done or whole(board)[0] != "new":
        raise Wrong("the update did not come through")
    return 1


def scenario(medium, name):
    work, allowed = SCENARIOS[name]
    board = MEDIA[medium]()
    torn_in = board.torn
    prepare(board, name)
    flash = board.flash()
    board.load(flash)
    finished, operations = cut(board, work, None, 0)
    if not finished:
        raise Wrong("it does not work even without a cut")
    counted = {said: 0 for said in ("old", "new", "older", "recovery")}
    cuts = heals = again = healed = 0
    long = work in (install, park_and_install)
    for budget in range(operations):
        # Each operation is lost, torn, and finished unseen.
        for torn in torn_in:
            board.load(flash)
            cut(board, work, budget, torn)
            left = board.flash()
            said = check_after_cut(board, allowed, ATTEMPTS)
            counted[said] += 1
            cuts += 1
            # The start that follows is cut as well.
            if torn == board.torn[1]:
                board.load(left)
                _, more = cut(board, start, None, 0)
                healed += more > 0
                each = EACH[0 if long else 1]
                if healed % each != 1 % each:
                    more = 0
                later = (said,) if name not in ("trial", "confirm", "unwell") else ("new", "old")
                for second in range(more):
                    board.load(left)
                    cut(board, start, second, torn_in[second % len(torn_in)])
                    check_after_cut(board, later, ATTEMPTS)
                    heals += 1
            if long and torn == board.torn[1] and budget % EACH[2] == 0:
                board.load(left)
                again += send_again(board, name)
    found = tuple([counted[said] for said in ("old", "new", "older", "recovery")])
    print("%s %s: %d operations, %d cuts, " % (medium, name, operations, cuts), end="")
    print("%d old, %d new, %d older, %d recovery, " % found, end="")
    print("%d cut starts, %d sent again, " % (heals, again), end="")
    print("%d violations" % board.violations())


def no_attempt():
    """The attempt is not counted."""

    def attempt(self, number):
        self.slots[number].state = slots_module.TRIAL

    SlotRecord.attempt = attempt


def no_check():
    """A slot is staged before it was read back."""

    def stage(update, record, slots):
        plan = update.plan
        images = [(image.size, image.digest, bytes(32)) for image in plan.images]
        record.stage(plan.slot, plan.sequence, plan.floor, images)
        update.end("Testing")
        yield True

    image_verify.stage = stage


def wrong_slot():
    """An update overwrites the slot that runs."""
    SlotRecord.spare = lambda self, running, engaged=None: running or 0
    FileSlots.lock = lambda self, slot: None


FAULTS = {"no_attempt": no_attempt, "no_check": no_check, "wrong_slot": wrong_slot}


MEDIA = {"littlefs": lambda: FilesBoard(blocks=160), "nor": lambda: NorBoard(blocks=64)}
# Of how many cuts one is followed by starts that are cut, of a long scenario and of a short one;
# and by sending the update again.
EACH = [16, 3, 2]

if __name__ == "__main__":
    extra = sys.argv[3] if len(sys.argv) > 3 else ""
    if extra == "all":
        FilesBoard.torn, NorBoard.torn = list(FilesBoard.every), list(NorBoard.every)
        EACH[:] = [1, 1, 1]
    elif extra:
        FAULTS[extra]()
    try:
        scenario(sys.argv[1], sys.argv[2])
    except Wrong as error:
        print("wrong:", error)
        sys.exit(1)
