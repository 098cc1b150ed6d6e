"""An update whose manifest can't be verified beside the agent, for lack of heap.

It is kept in the vault, and the next start verifies it before there is an agent.
"""

import asyncio
import gc
import sys

import vfs
from harness import check, equal, raises
from test_download import NEW, OLD, installed
from test_service import Device, install, order, run, verifiers
from update_kit import Key, envelope
from warden.errors import PeerError, StoreError
from warden.ota import deferred, service
from warden.ota import result as results
from warden.ota import update as update_module
from warden.ota.slots import CONFIRMED, EMPTY, STAGED, TRIAL, SlotRecord
from warden.vault import Vault
from warden.wire import suit_plan

HEAP = "8m"


def starved(*args):
    raise MemoryError()


def start(board, make=None):
    """Return (device, UpdateService), as boot_slots() and the agent make them."""
    board.power_on()
    outcome = board.start()
    outcome.open_slots = lambda running: board.running
    vault = board.vault()
    if "parked0" in vault.names():
        real, update_module.verifiers = update_module.verifiers, make or verifiers
        try:
            outcome.update = deferred.load(vault, board.running, outcome.slot)
        finally:
            update_module.verifiers = real
    device = Device(board)
    board.outcome = outcome
    return device, service.UpdateService(device, outcome, board.running)


def test_what_lives_on_does_not_lie_behind_what_verified_it():
    """It lives for the whole download, and each hand-shake needs a large piece of the heap."""
    from test_payload import board_of, release, wrapped

    board, made, places = board_of(), release(), []
    short_of_memory(start(board)[1], envelope=made, key=wrapped(made))

    class Verifier(Key):
        def verify(self, digest, signature):
            garbage = [bytearray(16) for _ in range(20000)]  # fills every hole
            places.append(id(garbage[-1]))
            return super().verify(digest, signature)

    update = start(board, lambda keys: [Verifier()])[1]._update
    plan, image = update.plan, update.plan.images[0]
    equal((len(places), len(update.key)), (1, 32))
    for one in (plan, plan.images, plan.digest, image, image.digest, image.encryption, update.key):
        check(id(one) < places[0], repr(one))
    board.off()


def test_a_verification_without_memory_for_what_lives_on():
    from test_payload import board_of, release, wrapped

    board, made = board_of(), release()
    vault = start(board)[0].vault
    update = update_module.Update(made, wrapped(made), False)
    real = suit_plan.copied, update_module.verifiers
    suit_plan.copied, update_module.verifiers = starved, verifiers
    try:
        update.verify(vault, board.running, board.outcome.slot)
        check(False, "it had memory")
    except MemoryError:
        pass
    finally:
        suit_plan.copied, update_module.verifiers = real
    equal((update.plan, update.key, update.state), (None, None, ""))
    board.off()


def short_of_memory(one, **args):
    """An order that this start can't verify."""
    return order(one, starved, **args)


def defers(board, **more):
    """The order lies in the vault, and the board is about to start anew."""
    device, one = start(board)
    status = short_of_memory(one, envelope=envelope(2, [NEW]), **more)
    equal(status, {"state": "Downloading", "reason": "", "sequence": 0, "want": None})
    equal(order(one)["state"], "Downloading")
    asyncio.run(device.after_reply(device))
    equal((device.resets, device.incidents), (1, []))
    return device


def test_the_next_start_verifies_it():
    board = installed()
    boot = defers(board).vault.counter("boot")
    device, one = start(board)
    equal((one.status()["sequence"], one.status()["want"]), (2, None))
    # It is removed from the vault in the commit that raises the counter of the starts.
    equal([name for name in device.vault.names() if "parked" in name], [])
    equal(device.vault.counter("boot"), boot + 1)
    run(one)
    equal(device.sent, [("update", "cose", "Downloading", "")])
    status = one.status()
    equal(status["want"], [0, "app", 0, 1024])
    equal(install(one, status)["state"], "Testing")
    equal([slot.state for slot in SlotRecord(board.vault()).slots], [CONFIRMED, STAGED])
    board.off()


def test_the_first_status_query_starts_the_download():
    board = installed()
    defers(board)
    device, one = start(board)
    device.sessions[0].up = False
    run(one)
    # Without the authority nothing is written.
    equal((device.sent, SlotRecord(board.vault()).pending), ([], None))
    equal(one.status(), {"state": "Downloading", "reason": "", "sequence": 2, "want": None})
    equal(order(one)["want"], [0, "app", 0, 1024])
    equal(order(one, envelope=envelope(2, [NEW])), "update-state")
    board.off()


def test_a_refusal():
    from test_boot_verify import Refusing

    board = installed()
    defers(board)
    device, one = start(board, lambda keys: [Refusing()])
    equal(device.incidents, [("tampered", "update")])
    status = order(one)
    equal((status["state"], status["reason"], status["sequence"]), ("Rejected", "tampered", 0))
    run(one)
    equal(device.sent, [("update", "cose", "Rejected", "tampered")])
    equal([slot.state for slot in SlotRecord(board.vault()).slots], [CONFIRMED, EMPTY])
    # The same of one that may be sent again.
    defers(board)
    device, one = start(board, starved)
    equal(device.incidents, [("out-of-memory", "update")])
    equal((order(one)["state"], order(one)["reason"]), ("Aborted", "out-of-memory"))
    board.off()


def test_a_grant_and_a_key_go_with_it():
    from test_payload import board_of, encrypted, release, wrapped

    board = board_of()
    device, one = start(board)
    made = release()
    short_of_memory(one, envelope=made, key=wrapped(made), grant=True)
    device, one = start(board)
    equal(len(one._update.key), 32)
    status = order(one)
    while status["want"] is not None:
        number, _, at, length = status["want"]
        status = order(one, n=number, data=encrypted(NEW, 2)[at : at + length])
    equal(status["state"], "Testing")
    check(SlotRecord(board.vault()).slots[1].granted)
    board.off()


def test_a_start_that_fails_at_it_is_the_last():
    """Whatever verification does to a start, the start after it has no trace of the order."""
    board = installed()
    defers(board)

    def broken(keys):
        raise SystemExit  # as a cut, or the watchdog: it passes every `except Exception`

    try:
        start(board, broken)
        check(False)
    except SystemExit:
        pass
    device, one = start(board)
    equal((one._update, order(one)["state"]), (None, "Idle"))
    board.off()


def test_a_vault_that_takes_nothing():
    """Neither the application nor the agent waits for an order that can't be taken away."""
    board = installed()
    defers(board)
    board.power_on()
    outcome = board.start()
    vault = board.vault()
    real = Vault.commit

    def full(self, changes, counters=None):
        self.close()
        raise StoreError("vault-limit")

    Vault.commit = full
    try:
        equal(deferred.load(vault, board.running, outcome.slot), None)
    finally:
        Vault.commit = real
    # The authority is told.
    device, one = start(board)
    order(one, abort=True)
    Vault.commit = full
    try:
        equal(short_of_memory(one, envelope=envelope(2, [NEW])), "vault-limit")
    finally:
        Vault.commit = real
    equal((device.resets, device.after_reply), (0, None))
    board.off()


def test_a_reader_without_memory():
    """A lack of memory shows as cbor-limit.

    That refuses no manifest, except at a start that has the whole heap.
    """
    board = installed()
    device, one = start(board)
    real = update_module.Update._verify

    def limit(self, *args):
        raise PeerError("cbor-limit")

    update_module.Update._verify = limit
    try:
        equal(order(one, envelope=envelope(2, [NEW]))["state"], "Downloading")
        check(device.after_reply is not None)
        device, one = start(board)
    finally:
        update_module.Update._verify = real
    equal((order(one)["state"], order(one)["reason"]), ("Rejected", "cbor-limit"))
    board.off()


def test_large_ones_lie_in_pieces():
    board = installed()
    vault = board.vault()
    text = bytes(range(256)) * 32
    deferred.save(vault, text, bytes(61), True)
    equal(
        sorted(name for name in vault.names() if "parked" in name),
        ["parked%d" % n for n in range(3)],
    )
    found = []

    class Seen(update_module.Update):
        def verify(self, *args):
            found.append((self.envelope, self.wrapped, self.granted))

    real, update_module.Update = update_module.Update, Seen
    try:
        deferred.load(vault, board.running, 0)
    finally:
        update_module.Update = real
    equal(found, [(text, bytes(61), True)])
    equal([name for name in vault.names() if "parked" in name], [])
    board.off()


def test_no_larger_than_any_order():
    """An oversized envelope is not saved.

    Memory may end before its size is checked.
    """
    board = installed()
    device, one = start(board)
    for args in ({"envelope": bytes(8193)}, {"envelope": b"", "key": bytes(62)}):
        equal(short_of_memory(one, **args), "suit-limit")
        equal((device.after_reply, deferred._names(device.vault)), (None, []))
    board.off()


def test_release_keys_that_go_meanwhile():
    """An update verified under removed keys is dropped, and its content key wiped."""
    from test_payload import board_of, release, wrapped

    board = board_of()
    device, one = start(board)
    made = release()
    short_of_memory(one, envelope=made, key=wrapped(made))
    device, one = start(board)
    key = one._update.key
    check(key != bytearray(32))
    one.drop()
    equal((one._update, key), (None, bytearray(32)))
    equal(order(one)["state"], "Idle")
    board.off()


def test_the_counter_rises_once():
    """The first agent of a start uses the committed number.

    A second agent of the same start uses the next one.
    """
    board = installed()
    defers(board)
    start(board)
    saved = results.boot_result
    results.boot_result = board.outcome
    board.outcome.update = update_module.Update(b"", None, False)
    vault = board.vault()
    board.outcome.update.boot = number = vault.counter("boot")
    try:
        equal((results.advance(vault), results.advance(vault)), (number, number + 1))
        # A vault that was made anew, or that counted on meanwhile.
        for other in (number, number + 5):
            board.outcome.update.boot = other
            here = vault.counter("boot")
            equal((results.advance(vault), board.outcome.update.boot), (here + 1, 0))
        here = vault.counter("boot")
        board.outcome.update = None
        equal(results.advance(vault), here + 1)
        results.boot_result = None
        equal((results.advance(vault), vault.counter("boot")), (here + 2, here + 2))
    finally:
        results.boot_result = saved
    board.off()


def test_chunks_of_a_heap_that_is_nearly_full():
    """A 32nd of what is free, of 128 bytes at least."""
    board = installed()

    class Heap:
        free = 0

        def collect():
            pass

        def mem_free():
            return Heap.free

    real, service.gc = service.gc, Heap
    try:
        for free, wanted, ahead in (
            (1 << 20, 1024, 1),
            (65536, 1024, 1),
            (65535, 1024, 0),
            (32768, 1024, 0),
            (32767, 512, 0),
            (8192, 256, 0),
            (100, 128, 0),
        ):
            Heap.free = free
            device, one = start(board)
            status = order(one, envelope=envelope(2, [NEW]))
            equal((status["want"][3], status["ahead"]), (wanted, ahead))
    finally:
        service.gc = real
    board.off()


def loaded(board):
    board.power_on()
    outcome = board.start()
    return deferred.load(board.vault(), board.running, outcome.slot)


def test_nothing_of_an_order_that_could_not_be_taken_away_is_left():
    """Pieces of a longer one behind those of a shorter one would be an order that never came."""
    board = installed()
    deferred.save(board.vault(), bytes(8192), None, True)
    deferred.save(board.vault(), envelope(2, [NEW]), None, False)
    vault = board.vault()
    equal([name for name in vault.names() if "parked" in name], ["parked0"])
    vault.put("release", b"")
    order = loaded(board)
    equal((order.plan, order.granted), (None, False))
    board.off()


def test_no_failure_keeps_the_application_from_starting():
    board = installed()
    defers(board)
    real = update_module.Update._verify
    plan = []

    def fails(error):
        def fail(self, *args):
            self.key, self.plan = bytearray(b"key"), plan
            plan.append(self.key)
            raise error

        return fail

    # Of the flash, of the memory after verification, of Warden itself.
    for error in (OSError(5), MemoryError(), TypeError(), KeyError(1)):
        update_module.Update._verify = fails(error)
        try:
            device, one = start(board)
        finally:
            update_module.Update._verify = real
        code = "out-of-memory" if isinstance(error, MemoryError) else "command-failed"
        equal((one._update.plan, device.incidents), (None, [(code, "update")]))
        equal((order(one)["state"], order(one)["reason"]), ("Aborted", code))
        equal(plan.pop(), bytearray(3))
        defers(board)
    # An order that can't be read, and a vault that fails in other ways.
    vault = board.vault()
    vault.put("parked0", b"\xff")
    device, one = start(board)
    equal((order(one)["state"], order(one)["reason"]), ("Aborted", "command-failed"))
    for error in (OSError(5), MemoryError(), StoreError("vault-limit")):
        defers(board)
        commit = Vault.commit

        def broken(self, changes, counters=None, error=error):
            raise error

        Vault.commit = broken
        vault = board.vault()
        try:
            equal(deferred.load(vault, board.running, 0), None)
        finally:
            Vault.commit = commit
        raises("closed", vault.names)
        equal(start(board)[1].status()["sequence"], 2)
    board.off()


def test_an_order_that_is_too_large_to_read_is_taken_away_all_the_same():
    """It would be there at each start else."""
    board = installed()
    defers(board)
    real = Vault.get

    def get(self, name):
        if name.startswith("parked"):
            raise MemoryError()
        return real(self, name)

    Vault.get = get
    try:
        device, one = start(board)
    finally:
        Vault.get = real
    equal((order(one)["state"], order(one)["reason"]), ("Aborted", "command-failed"))
    check("parked0" not in board.vault().names())
    board.off()


def test_an_image_in_the_running_slot_needs_no_chunk():
    """An update whose image is all in the running slot needs no chunk.

    The board then restarts by itself.
    """
    board = installed()
    device, one = start(board)
    short_of_memory(one, envelope=envelope(2, [OLD]))
    device, one = start(board)
    run(one, 40)
    equal([sent[2] for sent in device.sent], ["Testing"])
    equal(device.resets, 1)
    equal([slot.state for slot in SlotRecord(board.vault()).slots], [CONFIRMED, STAGED])
    board.off()


def test_a_trial_does_not_lose_a_start_to_an_order():
    """No update is deferred during a trial: a restart would cost the trial an attempt."""
    board = installed()
    device, one = start(board)
    install(one, order(one, envelope=envelope(2, [NEW])))
    device, one = start(board)
    equal(SlotRecord(board.vault()).slots[1].state, TRIAL)
    equal(short_of_memory(one, envelope=envelope(3, [NEW])), "update-state")
    equal(device.after_reply, None)
    check("parked0" not in device.vault.names())
    board.off()


def test_no_memory_for_the_download():
    """The error is reported, the content key wiped, and the agent goes on.

    Each status query gives the same answer.
    """
    from test_payload import board_of, release, wrapped

    board = board_of()
    made = release()
    for asks in (False, True):
        device, one = start(board)
        short_of_memory(one, envelope=made, key=wrapped(made))
        device, one = start(board)
        key = one._update.key
        from warden.ota import download

        real, download.Download = download.Download, starved
        try:
            if asks:
                equal(order(one), "out-of-memory")
            else:
                run(one)
                equal(device.sent, [("update", "cose", "Aborted", "out-of-memory")])
            equal(device.incidents, [("out-of-memory", "update")])
        finally:
            download.Download = real
        equal((order(one)["state"], order(one)["reason"]), ("Aborted", "out-of-memory"))
        equal((key, device.resets), (bytearray(32), 0))
    board.off()


def test_no_key_outlives_memory_that_runs_out():
    """The content key is wiped when memory ends.

    That is before the update is saved, and while its slot is prepared.
    """
    from test_payload import board_of, release, wrapped

    board = board_of()
    made = release()
    verify, clear = update_module.Update._verify, SlotRecord.clear
    keys = []

    def late(self, *args):
        verify(self, *args)
        keys.append(self.key)
        raise MemoryError()

    device, one = start(board)
    update_module.Update._verify = late
    try:
        equal(order(one, envelope=made, key=wrapped(made))["state"], "Downloading")
    finally:
        update_module.Update._verify = verify
    device, one = start(board)
    keys.append(one._update.key)
    SlotRecord.clear = starved
    try:
        equal(order(one), "out-of-memory")
    finally:
        SlotRecord.clear = clear
    equal(keys, [bytearray(32)] * 2)
    board.off()


def test_a_start_of_the_board():
    """The start of board.py's parts verifies the deferred update.

    The watchdog is fed before, the verifier is unloaded after, and the application is mounted
    either way.
    """
    from warden.board import load, slots
    from warden.hal import watchdog

    board = installed()

    class Named:
        WATCHDOG = 5000

    kept = load.open_board, load.find, watchdog.start, results.boot_result, update_module.verifiers
    path, commit = sys.path[:], Vault.commit
    fed = []

    def full(self, changes, counters=None):
        if "parked0" in changes:
            self.close()
            raise StoreError("vault-limit")
        commit(self, changes, counters)

    load.open_board = lambda: (Named, board.vault())
    watchdog.start = lambda timeout_ms: lambda: fed.append(timeout_ms)
    update_module.verifiers = verifiers
    try:
        defers(board)
        update_module.verifiers = verifiers
        load.find = lambda prefix, kind: lambda args: board.slots()
        for broken, sequence in ((True, None), (False, 2), (False, None)):
            Vault.commit = full if broken else commit
            del fed[:]
            board.power_on()
            sys.path.append("/app")
            gc.collect()
            slots.boot_slots(("file", "/ram/slots", ("app",), 2))
            if sequence:
                # The verifier's garbage is gone before anything is made that stays.
                left = gc.mem_alloc()
                gc.collect()
                check(left - gc.mem_alloc() < 8192)
            outcome = results.boot_result
            equal((outcome.mode, sys.path[1]), ("application", "/app"))
            equal(outcome.update and outcome.update.plan.sequence, sequence)
            if sequence:
                # That number is committed: the agent of this start works with it.
                number = board.vault().counter("boot")
                equal(
                    (results.advance(board.vault()), board.vault().counter("boot")),
                    (number, number),
                )
            equal("parked0" in board.vault().names(), broken)
            equal(fed, [5000] if broken or sequence else [])
            sys.path[:] = path
            vfs.umount("/app")
    finally:
        sys.path[:], Vault.commit = path, commit
        (
            load.open_board,
            load.find,
            watchdog.start,
            results.boot_result,
            update_module.verifiers,
        ) = kept
        check("warden.ota.deferred" not in sys.modules)
        sys.modules["warden.ota.deferred"] = sys.modules["warden.ota"].deferred = deferred
    board.off()


def test_an_order_that_a_trial_meets():
    """Not the manifest's fault: it may come again when the trial is over."""
    board = installed()
    device, one = start(board)
    install(one, order(one, envelope=envelope(2, [NEW])))
    deferred.save(board.vault(), envelope(3, [NEW]), None, True)
    device, one = start(board)
    status = one.status()
    equal((status["state"], status["reason"]), ("Aborted", "update-state"))
    equal([slot.state for slot in SlotRecord(board.vault()).slots], [CONFIRMED, TRIAL])
    board.off()


def test_no_memory_for_the_reading_back():
    """It is said, and the same manifest goes on with what came."""
    from warden.ota import image_verify

    board = installed()
    device, one = start(board)
    status = order(one, envelope=envelope(2, [NEW]))
    real, image_verify.stage = image_verify.stage, starved
    try:
        for number, at in enumerate(range(0, len(NEW), 1024)):
            status = order(one, n=number, data=NEW[at : at + 1024])
        equal(status, "out-of-memory")
    finally:
        image_verify.stage = real
    said = order(one)
    equal((said["state"], said["reason"], said["sequence"]), ("Aborted", "out-of-memory", 2))
    equal(order(one, envelope=envelope(2, [NEW]))["state"], "Testing")
    board.off()


def test_a_start_of_another_firmware_leaves_the_order_for_it():
    """The board restarts at once: an update verified now would be lost."""
    from warden.board import load, slots
    from warden.hal import system

    boot = sys.modules["warden.ota.boot"]
    board = installed()
    defers(board)
    board.power_on()
    resets = []
    kept = load.open_board, load.find, system.reset, results.boot_result, boot.boot
    path = sys.path[:]
    load.open_board = lambda: (None, board.vault())
    load.find = lambda prefix, kind: lambda args: board.slots()
    system.reset = lambda: resets.append(1)
    boot.boot = lambda *args, **more: results.BootResult("switch", 1, False, 0)
    sys.path.append("/app")
    try:
        slots.boot_slots(("file", "/ram/slots", ("app",), 2))
        equal((resets, results.boot_result.update), ([1], None))
    finally:
        load.open_board, load.find, system.reset, results.boot_result, boot.boot = kept
        sys.path[:] = path
    check("parked0" in board.vault().names())
    board.off()
