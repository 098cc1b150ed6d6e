"""Strict policy at boot: only images that a present release key signed run.

The slot record alone is not believed.
"""

from harness import check, equal, raises
from ota_kit import OtaBoard, update_to
from partition_model import app_image
from test_download import NEW, OLD, feed, settle
from update_kit import (
    CLASS,
    VENDOR,
    Board,
    Installer,
    Key,
    envelope,
    image,
    loaded,
    sha256,
    unload,
)
from warden.ota import boot_verify, update
from warden.ota.slots import CONFIRMED, FAILED, STAGED, TRIAL, SlotRecord
from warden.wire import cbor

HEAP = "8m"  # boards of 64 to 128 KB, one after the other

STRICT = cbor.encode({"strict": True})


class Refusing(Key):
    def verify(self, digest, signature):
        return False


def verifiers(keys):
    """Key 1 signs, key 0 is another one."""
    return [Key() if key[0] else Refusing() for key in keys]


update.verifiers = verifiers


def release_keys(board, *keys):
    vault = board.vault()
    vault.commit({"release": cbor.encode([VENDOR, CLASS, [bytes((key,)) * 64 for key in keys]])})


def policy(board, record=STRICT):
    vault = board.vault()
    vault.commit({"policy": record})


def send(board, sequence, data, names=("app",), **more):
    update = Installer(board.vault(), board.running, board.outcome.slot, (Key(),), VENDOR, CLASS)
    update.start(envelope(sequence, [data] * len(names), names=names, **more), 0)
    feed(update, {name: data for name in names})
    equal(update.state, "Testing")


def restart(board, confirm=False):
    board.power_on()
    board.outcome = outcome = board.start()
    if confirm:
        check(outcome.trial)
        SlotRecord(board.vault()).confirm(outcome.slot)
    return outcome


def updated(names=("app",), record=STRICT):
    """Return a board that runs OLD, release 2, in slot 0; NEW, release 3, is in slot 1.

    Both slots are confirmed.
    """
    board = Board(names, 256)
    release_keys(board, 1)
    policy(board, record)
    restart(board)
    send(board, 2, OLD, names)
    restart(board, True)
    send(board, 3, NEW, names)
    restart(board, True)
    outcome = restart(board)
    equal((outcome.mode, outcome.slot, board.mark()), ("application", 1, "new"))
    return board


def states(board):
    return [slot.state for slot in SlotRecord(board.vault()).slots]


def tail(board, slot, data=NEW, part="app.map"):
    """What stands behind the hashes."""
    with open("/ram/slots/%s.%d" % (part, slot), "rb") as file:
        file.seek((len(data) + 4095) // 4096 * 32)
        return file.read()


def rewrite(board, slot, new, data=NEW):
    path = "/ram/slots/app.map.%d" % slot
    with open(path, "rb") as file:
        hashes = file.read((len(data) + 4095) // 4096 * 32)
    with open(path, "wb") as file:
        file.write(hashes + new)


def test_the_envelope_is_kept():
    board = updated()
    equal((tail(board, 1), tail(board, 0, OLD)), (envelope(3, [NEW]), envelope(2, [OLD])))
    # Under a policy that is not strict as well, so that it can become strict.
    board.off()
    board = updated(record=cbor.encode({"v": 1}))
    equal(tail(board, 1), envelope(3, [NEW]))
    release_keys(board, 0)
    equal(restart(board).slot, 1)
    policy(board)
    equal(restart(board).mode, "recovery")
    board.off()


def test_an_envelope_that_the_flash_did_not_keep():
    """Read back with the hashes before anything is staged."""
    for bad in (b"", envelope(4, [OLD])[:-1], envelope(4, [OLD])[:-1] + b"?"):
        board = updated()
        update = Installer(board.vault(), board.running, 1, (Key(),), VENDOR, CLASS)
        update.start(envelope(4, [OLD]), 0)
        while update.state != "Installing":
            update.step()
            wanted = update.want()
            if wanted is not None:
                update.chunk(wanted[0], OLD[wanted[2] : wanted[2] + wanted[3]], 0)
        equal(tail(board, 0, OLD), envelope(4, [OLD]))
        rewrite(board, 0, bad, OLD)
        raises("slot-damaged", settle, update)
        equal((update.state, update.reason), ("Aborted", "slot-damaged"))
        equal(states(board)[1], CONFIRMED)
        equal(restart(board).slot, 1)
        board.off()


def test_a_key_that_was_taken_away():
    board = updated()
    release_keys(board, 0)
    outcome = restart(board)
    equal((outcome.mode, outcome.failed, states(board)), ("recovery", 2, [FAILED, FAILED]))
    equal(outcome.reason, "slot-unsigned")
    board.off()
    # Another key beside it changes nothing; none at all refuses everything.
    board = updated()
    release_keys(board, 0, 1)
    equal(restart(board).slot, 1)
    vault = board.vault()
    vault.delete("release")
    equal(restart(board).mode, "recovery")
    board.off()


def other_wins(board):
    """The newer slot is given up, and the older one runs."""
    outcome = restart(board)
    equal((outcome.slot, outcome.failed, board.mark()), (0, 3, "old"))
    equal((outcome.reason, states(board)), ("slot-unsigned", [CONFIRMED, FAILED]))
    board.off()


def test_the_manifest_beside_the_slot():
    good = envelope(3, [NEW])
    for bad in (
        b"",
        good[:-1],
        good + b"x",
        good[:40] + bytes((good[40] ^ 1,)) + good[41:],
        bytes(9000),
        envelope(2, [OLD]),  # signed, and another release
        envelope(4, [NEW]),
        envelope(3, [OLD]),
        envelope(3, [NEW], floor=1),
        envelope(3, [NEW], vendor=bytes(16)),
    ):
        board = updated()
        rewrite(board, 1, bad)
        slot = SlotRecord(board.vault()).slots[1]
        raises(
            "slot-unsigned",
            boot_verify.check_slot,
            board.vault(),
            board.running,
            1,
            slot,
            [],
            None,
        )
        other_wins(board)


def test_the_record_against_the_manifest():
    """An attacker who writes the record can't make up what a release key signed."""
    evil = image("evil", 12000)
    for field in ("images", "sequence", "floor", "manifest", "size"):
        board = updated()
        vault = board.vault()
        record = SlotRecord(vault)
        slot = record.slots[1]
        if field == "images":
            slot.images = [board.put(1, evil)]
            rewrite(board, 1, envelope(3, [NEW]), evil)
        elif field == "sequence":
            slot.sequence = 9
        elif field == "floor":
            slot.floor = 1
        elif field == "manifest":
            slot.manifest = bytes(32)
        else:
            # The blocks are another image's; the record has the digest that was signed.
            entry = board.put(1, evil)
            rewrite(board, 1, envelope(3, [NEW]), evil)
            slot.images = [[entry[0], sha256(NEW), entry[2]]]
        record._commit()
        failed = slot.sequence
        outcome = restart(board)
        equal((outcome.slot, outcome.failed, board.mark()), (0, failed, "old"), field)
        board.off()


def test_the_same_size_and_another_image():
    """Digest and size of the record are those that were signed; only hashing all of it tells."""
    board = updated()
    evil = NEW[:-1] + bytes((NEW[-1] ^ 1,))
    vault = board.vault()
    record = SlotRecord(vault)
    entry = board.put(1, evil)
    rewrite(board, 1, envelope(3, [NEW]))
    record.slots[1].images = [[len(NEW), sha256(NEW), entry[2]]]
    record._commit()
    other_wins(board)


def test_a_trial_as_well():
    """Each of its starts is counted before anything is verified."""
    board = updated()
    send(board, 4, OLD)
    release_keys(board, 0)
    outcome = restart(board)
    equal((outcome.mode, states(board)), ("recovery", [FAILED, FAILED]))
    board.off()
    board = updated()
    send(board, 4, OLD)
    outcome = restart(board)
    equal((outcome.slot, outcome.trial, states(board)), (0, True, [TRIAL, CONFIRMED]))
    board.off()


def test_every_component():
    board = updated(("app", "web"))
    equal((tail(board, 1, part="web.map"), len(tail(board, 1)) > 200), (b"", True))
    # The second component's image: exchanged together with its map and its entry in the record.
    evil = NEW[:-1] + bytes((NEW[-1] ^ 1,))
    record = SlotRecord(board.vault())
    entry = board.put(1, evil, "web")
    record.slots[1].images[1] = [len(NEW), sha256(NEW), entry[2]]
    record._commit()
    other_wins(board)


def test_a_watchdog_is_fed():
    from warden.ota.boot import boot

    board = updated()
    board.power_on()
    fed = []
    slots = board.slots()
    outcome = boot(board.vault(), slots, 2, None, lambda *_: None, lambda: fed.append(1))
    equal(outcome.slot, 1)
    equal(len(fed), len(NEW) // 4096)
    board.off()


def test_a_malformed_policy():
    """An authentic policy counts as strict unless it says false.

    One that is no policy at all stops the start.
    """
    board = updated(record=cbor.encode({"strict": 1}))
    release_keys(board, 0)
    equal(restart(board).mode, "recovery")
    board.off()
    board = updated()
    policy(board, b"\xff")
    board.power_on()
    raises("cbor-malformed", board.start)
    equal(board.mounts, {})
    board.off()


def test_the_verifier_is_unloaded():
    import sys

    board = updated()
    unload()
    restart(board)
    equal((board.outcome.mode, loaded()), ("application", []))
    board.off()
    board = updated(record=cbor.encode({"strict": False}))
    sys.modules.pop("warden.ota.boot_verify", None)
    restart(board)
    check("warden.ota.boot_verify" not in sys.modules)
    board.off()


def test_with_firmware():
    """The firmware that runs is hashed as well."""
    board = OtaBoard()
    release_keys(board, 1)
    policy(board)
    update_to(board, 2, "first")
    update_to(board, 3, "second")
    board.restart()
    equal(board.pair(), ("second", "second"))
    from warden.ota import firmware_verify

    fed = []
    slot = SlotRecord(board.vault()).slots[0]
    firmware_verify.check_firmware(board.running, 0, slot, lambda: fed.append(1))
    equal(len(fed), (slot.images[1][0] + 4095) // 4096)
    # One that the chip's loader takes.
    board.chip.flash("ota_0", app_image("secund"))
    board.restart()
    equal(board.pair(), ("first", "first"))
    equal(states(board), [FAILED, CONFIRMED])
    board.off()


def test_a_grant():
    """Said at the starts of the trial, and never after it."""
    board = updated()
    update = Installer(board.vault(), board.running, 1, (Key(),), VENDOR, CLASS)
    update.start(envelope(4, [OLD]), 0, None, True)
    feed(update, {"app": OLD})
    equal(states(board), [STAGED, CONFIRMED])
    equal(SlotRecord(board.vault()).slots[0].granted, True)
    outcome = restart(board)
    equal((outcome.trial, outcome.granted), (True, True))
    outcome = restart(board)
    equal((outcome.trial, outcome.granted), (True, True))
    SlotRecord(board.vault()).confirm(0)
    equal(SlotRecord(board.vault()).slots[0].granted, False)
    equal((restart(board).trial, board.outcome.granted), (False, False))
    # Given up, or out of attempts: gone as well.
    for how in ("give up", "attempts"):
        update = Installer(board.vault(), board.running, 0, (Key(),), VENDOR, CLASS)
        update.start(envelope(5 + len(how), [NEW]), 0, None, True)
        feed(update, {"app": NEW})
        check(restart(board).granted)
        if how == "give up":
            SlotRecord(board.vault()).give_up(1)
            equal(SlotRecord(board.vault()).slots[1].granted, False)
        else:
            restart(board)
        equal((restart(board).granted, SlotRecord(board.vault()).slots[1].granted), (False, False))
        equal(states(board), [CONFIRMED, FAILED])
    # Without a grant, and one that a later order takes back.
    update = Installer(board.vault(), board.running, 0, (Key(),), VENDOR, CLASS)
    update.start(envelope(30, [NEW]), 0, None, True)
    settle(update)
    update.abort()
    update.start(envelope(30, [NEW]), 0)
    feed(update, {"app": NEW})
    equal((restart(board).trial, board.outcome.granted), (True, False))
    board.off()
