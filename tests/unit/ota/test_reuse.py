"""Copy what did not change since the running release from its slot.

A failed copy counts against no peer.
"""

from harness import check, equal, raises
from ota_kit import NAMES, OtaBoard, update_to
from partition_model import app_image
from test_download import NEW, OLD, installed, restart, settle, states, updater
from update_kit import envelope, image
from warden.ota.slots import CONFIRMED, EMPTY, STAGED, SlotRecord

HEAP = "8m"  # boards of 64 to 128 KB, one after the other

BOTH = ("app", "web")


def fetched(update, images, stop_at=None):
    """What came of each component, in bytes."""
    came = {}
    while True:
        more = update.step()
        wanted = update.want()
        if wanted is not None:
            number, name, at, length = wanted
            if stop_at is not None and sum(came.values()) >= stop_at:
                return came
            update.chunk(number, memoryview(images[name])[at : at + length], 0)
            came[name] = came.get(name, 0) + length
        elif not more and update.state != "Downloading":
            return came


def holds(slot, part, data):
    with open("/ram/slots/%s.%d" % (part, slot), "rb") as file:
        return file.read() == data


def test_only_what_changed_is_fetched():
    board = installed(BOTH)
    update = updater(board)
    update.start(envelope(2, [NEW, OLD], names=BOTH), 0)
    equal(fetched(update, {"app": NEW, "web": OLD}), {"app": len(NEW)})
    equal((update.state, states(board)), ("Testing", [CONFIRMED, STAGED]))
    check(holds(1, "web", OLD) and holds(1, "app", NEW))
    board.power_on()
    outcome = board.start()
    equal((outcome.slot, board.mark("/app"), board.mark("/web")), (1, "new", "old"))
    board.off()


def test_nothing_changed_at_all():
    board = installed()
    update = updater(board)
    update.start(envelope(2, [OLD]), 0)
    equal(fetched(update, {}), {})
    equal(update.state, "Testing")
    board.off()


def test_a_cut_copy_goes_on():
    board = installed(BOTH)
    made = envelope(2, [OLD, NEW], names=BOTH)
    update = updater(board)
    update.start(made, 0)
    for _ in range(5):
        update.step()
    update.abort()
    restart(board)
    have = board.running.size(1, "app")
    check(0 < have < len(OLD), str(have))
    update = updater(board)
    update.start(made, 0)
    equal(fetched(update, {"web": NEW}), {"web": len(NEW)})
    equal(update.state, "Testing")
    check(holds(1, "app", OLD))
    board.off()


def test_a_damaged_source():
    """A running slot that was changed or shortened: all is downloaded, and no try is counted."""
    for damage in ("changed", "shorter"):
        board = installed()
        if damage == "changed":
            board.damage(0, 5000)
        else:
            with open("/ram/slots/app.0", "wb") as file:
                file.write(OLD[:3000])
        made = envelope(2, [OLD])
        update = updater(board)
        update.start(made, 0)
        equal(fetched(update, {"app": OLD}), {"app": len(OLD)})
        equal(update.state, "Testing")
        check(holds(1, "app", OLD))
        board.off()
        # What is fetched then is judged as ever.
        board = installed()
        board.damage(0, 5000)
        update = updater(board)
        update.start(made, 0)
        fetched(update, {"app": OLD[:-1] + b"?"})
        equal((update.state, update.reason), ("Aborted", "image-mismatch"))
        equal(states(board), [CONFIRMED, EMPTY])
        board.off()


def test_a_source_that_can_not_be_read():
    """From its middle on: all of it is fetched, and the update comes through."""

    class Torn:
        def __init__(self, file):
            self._file = file

        def seek(self, at):
            self._file.seek(at)

        def readinto(self, view):
            if self._file.tell() >= 3000:
                raise OSError(5)
            return self._file.readinto(view)

        def close(self):
            self._file.close()

    board = installed(BOTH)
    read = board.running.read
    board.running.read = lambda slot, part: (
        Torn(read(slot, part)) if slot == 0 else read(slot, part)
    )
    update = updater(board)
    update.start(envelope(2, [NEW, OLD], names=BOTH), 0)
    equal(fetched(update, {"app": NEW, "web": OLD}), {"app": len(NEW), "web": len(OLD)})
    equal((update.state, states(board)), ("Testing", [CONFIRMED, STAGED]))
    check(holds(1, "web", OLD))
    board.off()


def test_a_full_store():
    board = installed()
    write = board.running.write

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            return len(data) - 1

        def close(self):
            self.file.close()

    board.running.write = lambda *args: Full(write(*args))
    update = updater(board)
    update.start(envelope(2, [OLD]), 0)
    raises("slot-full", settle, update)
    equal(update.state, "Aborted")
    board.off()


def test_an_image_of_the_same_digest_only():
    """Size and digest, of the same component."""
    board = installed(BOTH)
    from warden.ota.slots import Slot

    slot = SlotRecord(board.vault()).slots[0]
    size, digest, _ = slot.images[0]

    class Image:
        pass

    one = Image()
    for component, length, value, same in (
        (0, size, digest, True),
        (1, size, digest, True),
        (2, size, digest, False),
        (0, size + 1, digest, False),
        (0, size, bytes(32), False),
    ):
        one.component, one.size, one.digest = component, length, value
        equal(slot.holds(one), same)
    equal(Slot().holds(one), False)
    board.off()


def test_a_firmware_that_stays():
    """A new application over the same firmware downloads the application only.

    Still each slot holds one whole release.
    """
    board = OtaBoard()
    update_to(board, 2, "first")
    apps = {"app": image("second", 3000), "firmware": app_image("first")}
    update = board.updater()
    update.start(envelope(3, [apps[name] for name in NAMES], names=NAMES), 0)
    equal(fetched(update, {"app": apps["app"]}), {"app": len(apps["app"])})
    board.restart()
    equal((board.pair(), board.chip.running[3]), (("first", "second"), "ota_0"))
    board.confirm()
    board.restart()
    equal(board.pair(), ("first", "second"))
    board.off()


def test_an_abort_closes_the_files():
    """During the read-back too: littlefs must not use an old file later."""
    board = installed()
    update = updater(board)
    update.start(envelope(2, [NEW]), 0)
    while update.state != "Verifying":
        update.step()
        wanted = update.want()
        if wanted is not None:
            update.chunk(wanted[0], NEW[wanted[2] : wanted[2] + wanted[3]], 0)
    files = []
    real = board.running.write, board.running.read

    class Watched:
        def __init__(self, file):
            self.file = file
            files.append(self)
            self.closed = False

        def __getattr__(self, name):
            return getattr(self.file, name)

        def close(self):
            self.closed = True
            self.file.close()

    board.running.write = lambda *args: Watched(real[0](*args))
    board.running.read = lambda *args: Watched(real[1](*args))
    update.step()
    equal([file.closed for file in files], [False, False])
    update.abort()
    equal([file.closed for file in files], [True, True])
    equal((update.state, update.reason), ("Aborted", "aborted"))
    board.off()


def test_a_vault_that_fails_at_the_beginning():
    """Judged, and then the flash failed: aborted by name, and no key is left behind."""
    from test_payload import board_of, release, wrapped
    from test_payload import updater as encrypted
    from warden.errors import StoreError

    board = board_of()
    update = encrypted(board)

    def fail(self, slot, manifest):
        raise StoreError("vault-unwritten")

    real, SlotRecord.clear = SlotRecord.clear, fail
    made = release()
    try:
        update.start(made, 0, wrapped(made))
        key = update.update.key
        raises("vault-unwritten", update.step)
    finally:
        SlotRecord.clear = real
    equal((update.state, update.reason), ("Aborted", "vault-unwritten"))
    equal((key, update.update.key), (bytearray(32), None))
    board.off()
