"""Update an ESP32's firmware in its OTA partitions.

It is written to the partition that does not run, started, confirmed, and abandoned when it fails.
"""

from harness import check, equal, has_text, raises
from ota_kit import ATTEMPTS, NAMES, OtaBoard, feed, install, release, update_to
from partition_model import FACTORY, NEW, OTA_0, PENDING, VALID, Chip, app_image
from update_kit import envelope
from warden.errors import PeerError
from warden.ota.slots import CONFIRMED, EMPTY, FAILED, STAGED

HEAP = "8m"  # boards of 64 to 128 KB, one after the other


def states(board):
    return [slot.state for slot in board.record().slots]


def test_the_model_is_the_chip():
    """The model writes otadata as the bootloader does on a board that esptool flashed.

    4743989A is the CRC that every such board has.
    """
    chip = Chip()
    chip.flash("ota_0", app_image("x"))
    equal(chip.start(), "ota_0")
    equal(bytes(chip.data[:4]) + bytes(chip.data[28:32]), b"\1\0\0\0\x9a\x98\x43\x47")
    equal((chip.entry(0), chip.active(), chip.mark()), ([1, VALID, True], 0, "x"))


def test_an_update_of_both():
    board = OtaBoard()
    equal((board.outcome.mode, board.pair()), ("factory", ("old", "factory")))
    before = board.sector("ota_0")
    done, _ = install(board, 2, "new")
    check(done)
    # Into the other partition, and told to start.
    equal((states(board), board.sector("ota_0") == before), ([EMPTY, STAGED], True))
    equal(board.chip.entry(1)[:2], [2, NEW])
    board.restart()
    equal((board.pair(), board.outcome.trial), (("new", "new"), True))
    equal(board.chip.entry(1)[:2], [2, PENDING])
    board.confirm()
    equal(board.chip.entry(1)[:2], [2, VALID])
    board.restart()
    equal(
        (board.pair(), board.outcome.trial, states(board)),
        (("new", "new"), False, [EMPTY, CONFIRMED]),
    )
    # And back into the first partition with the next one.
    update_to(board, 3, "newer")
    equal((board.pair(), states(board)), (("newer", "newer"), [CONFIRMED, CONFIRMED]))
    equal(board.chip.running[3], "ota_0")
    for _ in range(3):
        board.restart()
        equal((board.pair(), board.outcome.trial), (("newer", "newer"), False))
    writes = len(board.chip.log), len(board.store.log)
    board.restart()
    # A start writes nothing, neither into otadata nor into the vault.
    equal((len(board.chip.log), len(board.store.log)), writes)
    board.off()


def test_firmware_that_does_not_start():
    """Firmware that crashes before Warden runs is tried as often as the policy says.

    The bootloader goes back each time; then the old release stays.
    """
    for rollback in (True, False):
        board = OtaBoard()
        update_to(board, 2, "first")
        board.chip.rollback = rollback
        install(board, 3, "new")
        starts = []
        for _ in range(20):
            board.power_on()
            board.chip.start()
            starts.append(board.chip.mark())
            if starts[-1] == "new" and rollback:
                continue  # it resets before boot.py
            board.start()
            if board.mounts and board.mark() == "first":
                break
        equal(starts[-1], "first")
        # At least as often as the policy says; twice that and once more where the bootloader goes
        # back before the start is counted.
        check(ATTEMPTS <= starts.count("new") <= 2 * ATTEMPTS + 1, str(starts))
        outcome = board.restart()
        equal((board.pair(), outcome.trial, states(board)[0]), (("first", "first"), False, FAILED))
        board.off()


def test_an_application_whose_health_check_fails():
    board = OtaBoard()
    update_to(board, 2, "first")
    install(board, 3, "new")
    board.restart()
    equal(board.pair(), ("new", "new"))
    board.record().give_up(board.outcome.slot)
    board.restart()
    equal((board.pair(), board.outcome.failed), (("first", "first"), 3))
    equal(states(board), [FAILED, CONFIRMED])
    writes = len(board.store.log)
    equal((board.restart().failed, len(board.store.log)), (0, writes))
    # And without the bootloader's help: Warden itself orders the other slot.
    board.chip.rollback = False
    install(board, 4, "next")
    board.restart()
    equal(board.pair(), ("next", "next"))
    board.record().give_up(board.outcome.slot)
    board.restart()
    equal(board.pair(), ("first", "first"))
    board.off()


def test_the_first_update_fails():
    """Back to what was provisioned, whether the bootloader goes back or not."""
    for rollback in (True, False):
        board = OtaBoard()
        board.chip.rollback = rollback
        install(board, 2, "new")
        board.restart()
        equal(board.pair(), ("new", "new"))
        board.record().give_up(1)
        board.restart()
        equal((board.pair(), states(board)), (("old", "factory"), [EMPTY, FAILED]))
        board.restart()
        equal(board.pair(), ("old", "factory"))
        update_to(board, 3, "better")
        equal(board.pair(), ("better", "better"))
        board.off()


def test_changed_on_the_flash():
    """Firmware that differs from what was verified is not started.

    Where neither slot can run, an update is still accepted.
    """
    board = OtaBoard()
    update_to(board, 2, "first")
    update_to(board, 3, "second")
    _, at, _, _, _ = board.chip.part("ota_1")
    board.damage(0, 0, "app.map")
    board.chip.data[at + 100] ^= 1
    board.restart()
    equal((board.outcome.mode, states(board)), ("recovery", [FAILED, FAILED]))
    equal(board.chip.mark(), "second")
    done, _ = install(board, 4, "third")
    check(done)
    board.restart()
    equal(board.pair(), ("third", "third"))
    board.off()
    # The chip's own check passes, ours does not: bytes behind the image that is signed as a whole.
    board = OtaBoard()
    update_to(board, 2, "first")
    update_to(board, 3, "second")
    other = app_image("evil")
    board.chip.flash("ota_1", other)
    board.damage(0, 0, "app.map")
    board.restart()
    equal((board.outcome.mode, board.chip.mark()), ("recovery", "second"))
    board.off()


def test_a_confirmed_firmware_that_never_starts():
    """The bootloader does not do what it was told: bounded, and then the other."""
    board = OtaBoard()
    update_to(board, 2, "first")
    update_to(board, 3, "second")
    board.chip.write_entry = lambda *args: None
    board.damage(0, 0, "app.map")  # of the newer one: the older one in ota_1 is to start
    board.restart()
    equal((board.outcome.mode, states(board)), ("recovery", [FAILED, FAILED]))
    board.off()


def test_a_start_clears_a_confirmed_slots_attempts():
    board = OtaBoard()
    update_to(board, 2, "first")
    for sequence in (3, 4, 5, 6, 7, 8):
        install(board, sequence, "bad")
        board.chip.rollback = False
        board.restart()
        board.record().give_up(board.outcome.slot)
        board.restart()
        equal(board.pair(), ("first", "first"))
    equal(board.record().slots[1].attempts, 0)
    board.off()


def test_a_slot_without_firmware():
    """A record from before the board had firmware in its slots: refused, not guessed."""
    from warden.ota import firmware_verify

    board = OtaBoard()
    update_to(board, 2, "first")
    record = board.record()
    record.slots[1].images.pop()
    raises("slot-damaged", firmware_verify.check_firmware, board.running, 1, record.slots[1], None)
    board.running.firmware = None
    slot = board.record().slots[1]
    raises("slot-damaged", firmware_verify.check_firmware, board.running, 1, slot, None)
    record._commit()
    board.restart()
    equal((board.outcome.mode, states(board)[1]), ("recovery", FAILED))
    board.off()


def test_an_application_that_can_not_be_read():
    """A slot with an unreadable application fails together with its firmware.

    If each start only skipped it, the two firmwares would start each other for ever.
    """
    board = OtaBoard()
    update_to(board, 2, "first")
    update_to(board, 3, "second")
    slots = board.slots

    def broken():
        made = slots()
        read = made.read

        def refused(slot, part):
            if part == "app" and slot == board.outcome.slot:
                raise OSError(5)
            return read(slot, part)

        made.read = refused
        return made

    board.slots = broken
    bad = board.outcome.slot
    for _ in range(2):
        board.power_on()
        board.chip.start()
        if board.start().mode == "switch":
            break
    board.slots = slots
    board.restart()
    equal((board.pair(), states(board)[bad]), (("first", "first"), FAILED))
    board.off()


def test_firmware_that_the_chip_refuses():
    """Signed by us, and no firmware for this chip: nothing changes."""
    board = OtaBoard()
    update_to(board, 2, "first")
    made, images = release(3, "new")
    images["firmware"] = b"\0" + images["firmware"][1:]
    made = envelope(3, [images[name] for name in NAMES], names=NAMES)
    update = board.updater()
    update.start(made, 0)
    check(not feed(update, images))
    equal((update.state, update.reason), ("Rejected", "firmware-invalid"))
    equal(states(board), [FAILED, CONFIRMED])
    board.restart()
    equal(board.pair(), ("first", "first"))
    raises("old-manifest", board.updater().start, made, 0)
    board.off()


def test_resume():
    """A download resumes at the first block that looks erased, less one that may be torn.

    Whole blocks of FF in the image cost only part of it.
    """
    images = release(2, "new", 20000)[1]
    with_gap = bytearray(images["firmware"])
    with_gap[8192:12288] = b"\xff" * 4096
    with_gap = {"app": images["app"], "firmware": bytes(with_gap)}
    app = len(images["app"])
    for data, more, least in (
        (images, 1000, 0),
        (images, 4096, 0),
        (images, 9000, 4096),
        (images, 18000, 12288),
        (with_gap, 18000, 4096),
    ):
        board = OtaBoard()
        made = envelope(2, [data[name] for name in NAMES], names=NAMES)
        update = board.updater()
        update.start(made, 0)
        feed(update, data, app + more)
        board.restart()
        got = board.running.size(1, "firmware")
        check(least <= got <= more and got % 4096 == 0, str((more, got)))
        equal(board.sector("ota_1")[:got], data["firmware"][:got])
        update = board.updater()
        update.start(made, 0)
        while update.step():
            pass
        equal(update.want()[1:3], ("firmware", got))
        equal(feed(update, data), data is images)
        board.off()
    # Another manifest: nothing of the old one is taken for its beginning.
    board = OtaBoard()
    made, images = release(2, "new", 20000)
    update = board.updater()
    update.start(made, 0)
    feed(update, images, app + 12000)
    update.abort()
    update = board.updater()
    update.start(release(3, "other")[0], 0)
    update.step()
    equal(board.running.size(1, "firmware"), 0)
    board.off()


def test_encrypted_flash():
    """Erased blocks don't look erased there: a download begins anew."""
    chip = Chip(encrypted=True)
    chip.flash("ota_0", app_image("old"))
    board = OtaBoard(chip)
    made, images = release(2, "new", 12000)
    update = board.updater()
    update.start(made, 0)
    feed(update, images, 12000)
    board.restart()
    equal(board.running.size(1, "firmware"), 0)
    update_to(board, 2, "new")
    equal(board.pair(), ("new", "new"))
    board.off()


def test_too_large():
    board = OtaBoard()
    made, images = release(2, "new", 8 * 4096)
    raises("slot-full", board.updater().start, made, 0)
    # The writer itself never leaves the partition.
    file = board.running.write(1, "firmware")
    file.write(bytes(8 * 4096))
    try:
        file.write(bytes(4096))
        check(False)
    except OSError as error:
        equal(error.errno, 28)
    equal(board.running.room("firmware"), 8 * 4096)
    board.off()


def test_the_firmware_that_runs_is_never_written():
    board = OtaBoard()
    slots = board.running
    equal(slots.engaged, 0)
    for call in (slots.write, slots.remove):
        raises("bad-argument", call, 0, "firmware")
    update_to(board, 2, "new")
    raises("bad-argument", board.running.remove, 1, "firmware")
    raises("bad-argument", board.running.remove, 1, "app")
    board.off()


def test_a_confirmation_that_the_bootloader_missed():
    """A cut between the record's confirmation and the chip's is mended by the next start.

    The old firmware does not come back.
    """
    board = OtaBoard()
    update_to(board, 2, "first")
    install(board, 3, "new")
    board.restart()
    board.record().confirm(board.outcome.slot)
    equal(board.chip.entry(board.chip.active())[1], PENDING)
    board.restart()
    equal((board.pair(), board.outcome.trial), (("new", "new"), False))
    equal(board.chip.entry(board.chip.active())[1], VALID)
    equal(board.record().slots[0].attempts, 0)
    board.off()


def test_nothing_is_left_over():
    """Firmware starts only for a slot, or because the running one failed.

    Its presence in a partition is no reason.
    """
    board = OtaBoard()
    board.chip.flash("ota_1", app_image("leftover"))
    record = board.record()
    record._commit()
    board.restart()
    equal((board.pair(), board.outcome.mode), (("old", "factory"), "factory"))
    board.off()
    # The one that runs has failed, and beside it lies a download that was not read back yet.
    for pending in (None, [b"m" * 32, 0]):
        board = OtaBoard()
        install(board, 2, "new")
        board.restart()
        board.chip.flash("ota_0", app_image("unread"))
        record = board.record()
        record.slots[1].state = FAILED
        record.pending = pending
        record._commit()
        board.chip.rollback = False
        board.restart()
        equal(board.chip.mark(), "new" if pending else "unread")
        board.off()


def test_the_writer_alone():
    """It starts at the right block, erases one block ahead, and never past the end."""
    board = OtaBoard()
    slots = board.running
    board.chip.flash("ota_1", bytes(8 * 4096))
    equal(slots.size(1, "firmware"), 7 * 4096)
    # From the beginning, over what was there: erased first, or the model says Misused.
    file = slots.write(1, "firmware")
    equal(file.write(b"\xa5" * 4096), 4096)
    file.close()
    equal(board.sector("ota_1")[:8192], b"\xa5" * 4096 + b"\xff" * 4096)
    equal(board.sector("ota_1")[8192:], bytes(6 * 4096))
    equal(slots.size(1, "firmware"), 0)
    # Behind what is there, less the block that may be torn.
    file = slots.write(1, "firmware")
    file.write(b"\xa5" * 3 * 4096)
    file = slots.write(1, "firmware", True)
    file.write(b"\x5a" * 5000)
    file.close()
    wanted = b"\xa5" * 2 * 4096 + b"\x5a" * 5000 + b"\xff" * (8192 - 5000)
    equal(board.sector("ota_1")[: 4 * 4096], wanted)
    # All of it, and nothing behind it.
    file = slots.write(1, "firmware")
    file.write(b"\xa5" * 8 * 4096)
    file.close()
    # Files and partition are apart.
    before = board.sector("ota_1")
    board.put(1, b"x" * 100)
    slots.remove(1, "app")
    equal((slots.size(1, "app"), board.sector("ota_1") == before), (0, True))
    slots.lock(1)
    raises("bad-argument", slots.write, 1, "firmware")
    board.off()


def test_the_number_of_tries():
    """An order and a start are counted apart, so the policy's number is doubled.

    After a cut before the first order, all of the policy's starts are left.
    """
    board = OtaBoard()
    update_to(board, 2, "first")
    board.running.activate = lambda slot: None
    install(board, 3, "new")
    for _ in range(ATTEMPTS):
        board.restart()
        equal((board.pair(), board.outcome.trial), (("new", "new"), True))
    board.restart()
    equal(board.pair(), ("first", "first"))
    board.off()


def test_partition_tables():
    """Two OTA partitions, and the firmware runs in one of them: anything else is said."""
    tables = (
        (("factory", FACTORY, 8),),
        (("ota_0", OTA_0, 8),),
        (("factory", FACTORY, 8), ("ota_0", OTA_0, 8), ("ota_1", OTA_0 + 1, 8)),
        (("ota_0", OTA_0, 8), ("ota_1", OTA_0 + 1, 8), ("ota_2", OTA_0 + 2, 8)),
    )
    for table in tables:
        chip = Chip(table)
        chip.flash(table[0][0], app_image("old"))
        raises("no-ota", OtaBoard, chip)
    for names in (("firmware",), ("firmware", "app"), ("app",)):
        board = OtaBoard()
        board.names = names
        raises("bad-argument", board.slots)
        board.off()


def test_the_read_back_of_a_partition():
    """What the flash did not keep is found before anything is staged."""
    board = OtaBoard()
    made, images = release(2, "new")
    update = board.updater()
    update.start(made, 0)
    while update.state == "Downloading":
        update.step()
        wanted = update.want()
        if wanted is not None:
            number, name, at, length = wanted
            update.chunk(number, images[name][at : at + length], 0)
    _, at, _, _, _ = board.chip.part("ota_1")
    board.chip.data[at + 4500] ^= 4
    check(not feed(update, images))
    equal((update.state, update.reason), ("Aborted", "image-mismatch"))
    equal((states(board), board.running.size(1, "firmware")), ([EMPTY, EMPTY], 0))
    board.off()


def test_reads():
    board = OtaBoard()
    image = app_image("old")
    file = board.running.read(0, "firmware")
    buffer = bytearray(700)
    got = b""
    while len(got) < 9000:
        got += bytes(buffer[: file.readinto(buffer)])
    equal(got[: len(image)], image)
    file.seek(8 * 4096 - 10)
    equal((file.readinto(buffer), file.readinto(buffer)), (10, 0))
    file.close()
    board.off()


class FirmwareCheck:
    def __init__(self, size, code):
        self.left = size
        self.code = code
        self.sha = b""

    def update(self, view):
        self.left -= len(view)

    def finish(self):
        equal(self.left, 0)
        if self.code:
            raise PeerError(self.code)


def test_a_check_of_firmware():
    """The firmware's own check decides after the digest; three refusals bar the manifest."""
    board = OtaBoard()
    board.make_check = lambda size: FirmwareCheck(size, "firmware-key")
    board.restart()
    made, images = release(2, "new")
    for state in ("Aborted", "Aborted", "Rejected"):
        update = board.updater()
        update.start(made, 0)
        check(not feed(update, images))
        equal((update.state, update.reason), (state, "firmware-key"))
        equal(states(board), [EMPTY, EMPTY])
    board.make_check = lambda size: FirmwareCheck(size, "")
    board.restart()
    made, images = release(3, "new")
    update = board.updater()
    update.start(made, 0)
    check(feed(update, images))
    board.off()


def test_the_slots_of_board_py():
    """Join the parts of SLOTS = ("partition", path, names, attempts, key digests).

    An order to start another firmware resets the board, with nothing of an application on the
    path.
    """
    import sys

    from warden.board import load
    from warden.board.slots import boot_slots
    from warden.hal import system
    from warden.ota import result as results

    resets = []
    kept = sys.path[:], load.open_board, system.reset, results.boot_result
    board = OtaBoard()
    load.open_board = lambda: (None, board.vault())
    system.reset = lambda: resets.append(1)
    args = ("partition", "/ram/slots", NAMES, ATTEMPTS, ("00" * 32,))
    try:
        sys.path.append("/app")
        boot_slots(args)
        slots = results.boot_result.open_slots(0)
        # It has let go of the module that found the driver.
        sys.modules["warden.board.load"] = sys.modules["warden.board"].load = load
        equal((results.boot_result.mode, slots.engaged, sys.path[1]), ("factory", 0, "/app"))
        raises("bad-argument", slots.remove, 0, "app")  # the slot that runs is locked
        firmware = slots.make_check(8192)
        firmware.update(bytes(8192))
        raises("firmware-unsigned", firmware.finish)
        raises("firmware-unsigned", slots.make_check, 5000)
        raises("firmware-unsigned", firmware.update, b"x")
        sys.path.remove("/app")
        # Staged, and the chip was not told yet.
        board.running.activate = lambda slot: None
        install(board, 2, "new")
        sys.path.append("/app")
        board.chip.start()
        boot_slots(args[:4])
        equal((results.boot_result.mode, resets, "/app" in sys.path), ("switch", [1], False))
        equal(results.boot_result.open_slots(None).make_check, None)
    finally:
        sys.path[:] = kept[0]
        load.open_board, system.reset, results.boot_result = kept[1:]
    board.restart()
    equal(board.pair(), ("new", "new"))
    board.off()


def test_partitions_of_two_sizes():
    """room() is the partition's for firmware, and the filesystem's for an application."""
    table = (("ota_0", OTA_0, 8), ("ota_1", OTA_0 + 1, 10))
    chip = Chip(table)
    chip.flash("ota_0", app_image("old"))
    board = OtaBoard(chip)
    equal((board.running.engaged, board.running.room("firmware")), (0, 10 * 4096))
    free = board.running.room("app")
    board.put(1, b"x" * 9000)
    check(8000 < free - board.running.room("app") < 20000)
    board.running.remove(1, "app")
    update_to(board, 2, "new")
    equal((board.running.engaged, board.running.room("firmware")), (1, 8 * 4096))
    board.off()


def test_what_counts_as_written():
    """A block counts as written if one of its first 32 bytes is not FF.

    The rest of the block is not read.
    """
    board = OtaBoard()
    for at, written in ((0, 4096), (31, 4096), (32, 0), (4095, 0)):
        data = bytearray(b"\xff" * 8192)
        data[0] = 0
        data[4096 + at] = 0xFE
        board.chip.flash("ota_1", data)
        equal(board.running.size(1, "firmware"), written, str(at))
    board.off()


def test_what_is_removed_is_gone():
    """The first block of refused firmware is erased, so that it can't start."""
    board = OtaBoard()
    board.chip.flash("ota_1", app_image("bad"))
    board.running.remove(1, "firmware")
    equal(board.sector("ota_1")[:4096], b"\xff" * 4096)
    for error, number in ((OSError(5), 5), (OSError(), 0)):

        def failing(*args):
            raise error  # noqa: B023  (called at once)

        board.chip.erase = failing
        error = raises("filesystem", board.running.remove, 1, "firmware")
        has_text(error, "errno %d)" % number)
    del board.chip.erase
    board.off()


def test_reading_ends_with_the_partition():
    board = OtaBoard()
    board.chip.flash("ota_1", bytes(range(256)) * 128)
    file = board.running.read(1, "firmware")
    view = bytearray(100)
    for at, wanted in ((0, 100), (4090, 6), (8 * 4096 - 60, 60), (8 * 4096, 0), (8 * 4096 + 9, 0)):
        file.seek(at)
        # A block at a time, as the driver takes it.
        part = memoryview(view)[:6] if at == 4090 else view
        equal(file.readinto(part), wanted, str(at))
        equal(bytes(part[:wanted]), bytes([(at + n) & 255 for n in range(wanted)]))
    file.close()
    board.off()
