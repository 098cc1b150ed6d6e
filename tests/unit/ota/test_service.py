"""The authority's update orders on a device that is connected, and what becomes of a trial."""

import asyncio
import gc
import sys

from harness import check, equal
from test_download import NEW, installed
from time_model import ModelTime
from update_kit import CLASS, VENDOR, Key, envelope, loaded, unload
from warden.errors import LinkError, PeerError
from warden.ota import result as results
from warden.ota import service, standby
from warden.ota import update as update_module
from warden.ota.slots import CONFIRMED, EMPTY, FAILED, STAGED, TRIAL, SlotRecord
from warden.wire import cbor

BUILT = True


class Session:
    authority = True
    up = True


class Device:
    """As much of an agent as an update sees; itself in most of the roles."""

    def __init__(self, board):
        self.board = board
        self.vault = board.vault()
        if self.vault.get("release") is None:
            self.vault.put("release", cbor.encode([VENDOR, CLASS, [bytes(64)]]))
        self.client = self.policy = self
        self.max_message = 2048
        self.now = 0
        self.health = self.gate = None
        self.after_reply = None
        self.sessions = [Session()]
        self.sent = []
        self.incidents = []
        self.resets = 0
        self.broken = False

    def now_ms(self):
        return self.now

    def report(self, code, at):
        self.incidents.append((code, at))

    def authority(self):
        for session in self.sessions:
            if session.authority and session.up:
                return session

    async def disconnect(self):
        pass

    def log(self, code, text):
        pass

    def restart(self):
        self.resets += 1

    async def send(self, event, body):
        if self.authority() is None:
            return False
        if self.broken:
            raise LinkError("link-closed")
        self.sent.append((event, "cose", body["state"], body["reason"]))
        return True


def start(board):
    """Power on; (device, UpdateService)."""
    board.power_on()
    outcome = board.start()
    outcome.open_slots = lambda running: board.running
    device = Device(board)
    return device, service.UpdateService(device, outcome, board.running)


def verifiers(keys):
    equal(keys, [bytes(64)])
    return [Key()]


def order(one, judged_by=verifiers, **args):
    """The status, or the code of the refusal."""
    real, update_module.verifiers = update_module.verifiers, judged_by
    try:
        return asyncio.run(one.command(args))
    except PeerError as error:
        return error.code
    finally:
        update_module.verifiers = real


async def _turns(one, count):
    one.poll_ms = 2
    task = asyncio.create_task(one.run())
    await asyncio.sleep_ms(one.poll_ms * count)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass


def run(one, count=8):
    """Run the service's task for a few turns.

    The clock moves only while waiting, so that a slow machine makes as many turns.
    """
    with ModelTime():
        asyncio.run(_turns(one, count))


def install(one, status, image=NEW):
    while status["want"] is not None:
        number, name, at, length = status["want"]
        equal(name, "app")
        status = order(one, n=number, data=image[at : at + length])
        check(isinstance(status, dict), str(status))
    return status


def test_an_update_over_orders():
    board = installed()
    device, one = start(board)
    equal(order(one)["state"], "Idle")
    status = order(one, envelope=envelope(2, [NEW]))
    equal(
        status,
        {
            "state": "Downloading",
            "reason": "",
            "sequence": 2,
            "want": [0, "app", 0, 1024],
            "ahead": 1,
        },
    )
    status = install(one, status)
    equal((status["state"], device.incidents), ("Testing", []))
    equal([slot.state for slot in SlotRecord(board.vault()).slots], [CONFIRMED, STAGED])
    # Once the answer is on its way, the board starts anew.
    asyncio.run(device.after_reply(device))
    equal(device.resets, 1)
    device, one = start(board)
    equal(one.status()["state"], "Testing")
    run(one)
    equal([sent[2] for sent in device.sent][-1], "Accepted")
    equal(SlotRecord(board.vault()).slots[1].state, CONFIRMED)
    equal(SlotRecord(board.vault()).confirmed, 2)
    board.off()


def facts(one):
    status = order(one)
    return status["state"], status["running"], status["confirmed"], status["failed"]


def test_a_status_query_replaces_a_lost_report():
    board = installed()
    _, one = start(board)
    equal(facts(one), ("Idle", 1, 1, 0))
    install(one, order(one, envelope=envelope(2, [NEW])))
    equal(facts(one), ("Testing", 1, 1, 0))
    _, one = start(board)
    equal(facts(one), ("Testing", 2, 1, 0))
    run(one)
    equal(facts(one), ("Idle", 2, 2, 0))
    equal(sorted(one.status()), ["reason", "sequence", "state", "want"])
    board.off()
    board, device, one = trial(lambda: False)
    run(one)
    _, one = start(board)
    run(one)  # its report is on its way, and may get lost
    equal(facts(one), ("Idle", 1, 1, 2))
    board.off()


def test_the_verifier_of_the_manifest_is_unloaded():
    board = installed()
    _, one = start(board)
    unload()
    order(one, envelope=envelope(2, [NEW]))
    equal(loaded(), [])
    equal(hasattr(sys.modules["warden.wire"], "suit"), False)
    # A module that was loaded before keeps its reference.
    __import__("warden.crypto.p256")
    before = loaded()
    check("warden.crypto.p256" in before)
    # And loaded again for the next, also where that is refused.
    equal(order(one, abort=True)["state"], "Aborted")
    equal(order(one, envelope=envelope(1, [NEW])), "old-manifest")
    equal(loaded(), before)
    equal(order(one, envelope=envelope(2, [NEW]))["state"], "Downloading")
    equal(loaded(), before)
    board.off()


def test_refusals_have_their_names():
    board = installed()
    device, one = start(board)
    for args, code in (
        ({"envelope": "text"}, "bad-body"),
        ({"envelope": b"", "n": 1}, "bad-body"),
        ({"n": 0}, "bad-body"),
        ({"n": 0, "data": "text"}, "bad-body"),
        ({"n": 0, "z": "text"}, "bad-body"),
        ({"n": 0, "data": b"", "z": b""}, "bad-body"),
        ({"n": 0, "z": b"\x03\x00"}, "update-state"),
        ({"other": 1}, "bad-body"),
        ({"n": 0, "data": b""}, "update-state"),
        ({"abort": True}, "update-state"),
        ({"envelope": b"", "pins": 5}, "bad-body"),
        ({"envelope": b"", "pins": [bytes(32)]}, "bad-body"),
        ({"envelope": b"", "pins": [bytes(32)] * 5}, "bad-body"),
        ({"envelope": b"", "pins": [bytes(32), bytes(31)]}, "bad-body"),
        ({"envelope": b"", "pins": [bytes(32), "p" * 32]}, "bad-body"),
        ({"envelope": b"", "https": 0}, "bad-body"),
        ({"envelope": b""}, "suit-malformed"),
        ({"envelope": envelope(2, [(1 << 22, bytes(32))])}, "slot-full"),
        ({"envelope": envelope(1, [NEW])}, "old-manifest"),
    ):
        equal(order(one, **args), code)
        equal(device.incidents.pop(), (code, "update"))
        # It may come again where the flash is what refuses it.
        word = {"slot-full": "Aborted", "old-manifest": "Rejected"}.get(code)
        if word is not None:
            equal((one.status()["state"], one.status()["reason"]), (word, code))
    order(one, envelope=envelope(2, [NEW]))
    equal(order(one, n=5, data=NEW[:1024]), "update-chunk")
    equal(order(one, n="0", data=NEW[:1024]), "update-chunk")
    equal(order(one, envelope=envelope(2, [NEW])), "update-state")
    equal(install(one, order(one))["state"], "Testing")
    board.off()


def stored(data):
    """Raw deflate with one stored block."""
    size = len(data)
    return b"\x01" + size.to_bytes(2, "little") + (65535 - size).to_bytes(2, "little") + data


def test_chunks_that_are_compressed():
    board = installed()
    device, one = start(board)
    equal(order(one)["deflate"], True)
    status = order(one, envelope=envelope(2, [NEW]))
    # More than was asked for, less, and nothing of the kind.
    for packed in (stored(NEW[:1025]), stored(NEW[:1023]), NEW[:1024], b""):
        equal(order(one, n=0, z=packed), "update-chunk")
        equal(device.incidents.pop(), ("update-chunk", "update"))
    equal(order(one, n=1, z=stored(NEW[:1024])), "update-chunk")
    while status["want"] is not None:
        number, _, at, length = status["want"]
        status = order(one, n=number, z=stored(NEW[at : at + length]))
    equal(status["state"], "Testing")
    equal(order(one, n=number + 1, z=stored(b"x")), "update-state")
    board.off()


def test_chunks_fit_into_a_message():
    board = installed()
    device, one = start(board)
    device.max_message = 512
    equal(order(one, envelope=envelope(2, [NEW]))["want"], [0, "app", 0, 256])
    board.off()


def trial(health=None, stands=True):
    board = installed()
    device, one = start(board)
    install(one, order(one, envelope=envelope(2, [NEW])))
    device, one = start(board)
    device.health = health
    device.sessions[0].up = stands
    return board, device, one


def test_a_trial_that_is_not_well_falls_back():
    async def slow():
        return False

    def broken():
        raise ValueError("of the application")

    for health in (lambda: False, slow, broken, lambda: 1):
        board, device, one = trial(health)
        run(one)
        equal(device.resets, 1)
        equal(SlotRecord(board.vault()).confirmed, 1)
        # One more start, and the attempts that were left are not used.
        device, one = start(board)
        equal(board.mark(), "old")
        equal([slot.state for slot in SlotRecord(board.vault()).slots], [CONFIRMED, FAILED])
        equal(one.status()["reason"], "trial-failed")
        equal(order(one, envelope=envelope(2, [NEW])), "old-manifest")
        board.off()


def test_a_health_check_that_never_answers():
    """It is waited for until the trial's ten minutes are over, and then the trial fails."""

    async def never():
        await asyncio.Event().wait()

    board, device, one = trial(never)
    device.now = 600000 - 4
    run(one)
    equal((device.resets, SlotRecord(board.vault()).confirmed), (1, 1))
    start(board)
    equal(board.mark(), "old")
    board.off()


def test_an_application_that_is_well():
    async def well():
        return True

    board, device, one = trial(well)
    equal(order(one, envelope=envelope(3, [NEW])), "update-state")
    run(one)
    equal((device.resets, SlotRecord(board.vault()).slots[1].state), (0, CONFIRMED))
    board.off()


def test_only_the_authoritys_session_counts():
    """A session with another application confirms nothing, and gets no update reports."""
    board, device, one = trial()
    device.sessions[0].authority = False
    run(one)
    equal((SlotRecord(board.vault()).slots[1].state, device.sent), (TRIAL, []))
    other = Session()
    other.up = False
    device.sessions.append(other)
    run(one)
    equal((SlotRecord(board.vault()).slots[1].state, device.sent), (TRIAL, []))
    other.up = True
    run(one)
    equal(SlotRecord(board.vault()).slots[1].state, CONFIRMED)
    check(device.sent)
    board.off()


def test_a_trial_behind_a_shut_gate():
    """The application has not started, so the trial is confirmed only once the gate opens."""
    board, device, one = trial()
    device.gate = device
    run(one)
    equal((device.resets, SlotRecord(board.vault()).slots[1].state), (0, TRIAL))
    device.gate = None
    run(one)
    equal((device.resets, SlotRecord(board.vault()).slots[1].state), (0, CONFIRMED))
    board.off()


def test_a_trial_without_its_authority():
    """Without a session nothing is confirmed: the board restarts until the attempts run out."""
    board, device, one = trial(stands=False)
    Session.up = True
    run(one)
    equal((device.resets, device.sent), (0, []))
    device.now = 600001
    run(one)
    check(device.resets > 0)
    equal(SlotRecord(board.vault()).slots[1].attempts, 1)
    start(board)
    device, one = start(board)
    equal(board.mark(), "old")
    device.broken = True
    run(one)
    equal(device.sent, [])
    # Told when the link is there again.
    device.broken = False
    run(one)
    equal(device.sent, [("update", "cose", "Rejected", "trial-failed")])
    board.off()


def test_the_chunk_is_asked_for_again():
    board = installed()
    device, one = start(board)
    order(one, envelope=envelope(2, [NEW]))
    for turn in range(3):
        device.now = (turn + 1) * 20001
        run(one)
        equal(device.sent[-1], ("update", "cose", "Downloading", ""))
        equal(len(device.sent), turn + 1)
    device.now = 100000
    run(one)
    equal(device.sent[-1], ("update", "cose", "Aborted", "update-timeout"))
    equal(order(one, n=0, data=NEW[:1024]), "update-state")
    board.off()


def test_recovery_says_so_and_takes_an_update():
    board = installed()
    board.damage(0, 0, "app.map")
    board.power_on()
    device, one = start(board)
    run(one)
    equal(device.sent, [("update", "cose", "Recovery", "slot-damaged")])
    equal(install(one, order(one, envelope=envelope(2, [NEW])))["state"], "Testing")
    device, one = start(board)
    equal(board.mark(), "new")
    board.off()


WEB = "https://web.example/"
BALLAST = 65536  # bytes that a module holds, to see whether its memory is free


class Link:
    """To a web server that has NEW at /app. found: of the last one, its trust."""

    found = broken = None

    def __init__(self, trust, clock, stall_ms):
        Link.found = trust
        self.out = b""

    async def connect(self, host, port, first, deadline_ms):
        if Link.broken:
            raise PeerError(Link.broken)
        await self.send(first)

    async def send(self, request):
        span = request.split(b"bytes=")[1].split(b"\r\n")[0]
        first, last = [int(part) for part in span.split(b"-")]
        total = ("/%d" % len(NEW)).encode()
        lines = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes " + span + total
        lines += b"\r\nContent-Length: " + str(last + 1 - first).encode() + b"\r\n\r\n"
        self.out = lines + NEW[first : last + 1]

    def receive_into(self, view):
        count = min(len(view), len(self.out))
        view[:count] = self.out[:count]
        self.out = self.out[count:]
        return count or None

    async def wait_readable(self, wait_ms):
        raise LinkError("link-closed")

    def close(self):
        pass


def by_web(one, broken=None):
    from warden.net import link

    real, link.Link = link.Link, Link
    Link.found, Link.broken = None, broken
    try:
        run(one, 100)
    finally:
        link.Link = real


def equipped(board):
    from warden.net.verifier import TrustAnchors

    device, one = start(board)
    device.trust = TrustAnchors([b"ca"], [bytes(32), bytes(31) + b"1"])
    device.clock = None
    device.stall_ms = 1000
    return device, one


def test_from_a_web_server():
    board = installed()
    device, one = equipped(board)
    status = order(one, envelope=envelope(2, [NEW], uri=WEB))
    equal((status["state"], status["want"]), ("Downloading", None))
    # No other task sends or starts anything meanwhile.
    equal(order(one, n=0, data=NEW[:1024]), "update-state")
    equal(order(one, envelope=envelope(2, [NEW], uri=WEB)), "update-state")
    from warden.ota import https

    gc.collect()
    before = gc.mem_alloc()
    https.ballast = bytearray(BALLAST)
    del https
    loaded_then, memory = [], []
    from warden.ota import image_verify  # a trial, with which it shares a file, has unloaded it

    real = image_verify.check, image_verify.check_map

    def seen(work, *args):
        gc.collect()
        loaded_then.append("https" in sys.modules["warden.ota"].__dict__)
        memory.append(gc.mem_alloc() - before)
        return work(*args)

    image_verify.check = lambda *args: seen(real[0], *args)
    image_verify.check_map = lambda *args: seen(real[1], *args)
    try:
        by_web(one)
    finally:
        image_verify.check, image_verify.check_map = real
    # What fetched the image is unloaded before the image is read back, and its memory is free.
    equal(loaded_then, [False, False])
    check(min(memory) < BALLAST, str(memory))
    equal(Link.found.pins, device.trust.pins)
    equal(device.sent[-1], ("update", "cose", "Testing", ""))
    check(device.resets > 0)
    equal([slot.state for slot in SlotRecord(board.vault()).slots], [CONFIRMED, STAGED])
    check("warden.ota.https" not in sys.modules)
    board.off()


def test_from_a_web_server_with_its_own_pins():
    board = installed()
    device, one = equipped(board)
    pins = [bytes(30) + b"22", bytes(30) + b"33"]
    order(one, envelope=envelope(2, [NEW], uri=WEB), pins=pins)
    by_web(one)
    equal((Link.found.cas, Link.found.pins), ([b"ca"], pins))
    equal(device.sent[-1][2], "Testing")
    board.off()


def test_a_web_server_that_is_not_to_be_had():
    """The authority is asked for the image: at once, or for the rest."""
    board = installed()
    device, one = equipped(board)
    status = order(one, envelope=envelope(2, [NEW], uri=WEB))
    by_web(one, "pin-mismatch")
    equal(device.incidents.pop(), ("pin-mismatch", "update"))
    equal(device.sent[-1], ("update", "cose", "Downloading", ""))
    equal(install(one, order(one))["state"], "Testing")
    board.off()
    # Not requested, no web address, another kind of address for one image, no memory for it.
    for args, uri, most in (
        ({"https": False}, WEB, service.WEB_BYTES),
        ({}, "mqtt:", service.WEB_BYTES),
        ({}, "http://web.example/", service.WEB_BYTES),
        ({}, WEB, 1 << 40),
    ):
        board = installed()
        device, one = equipped(board)
        before, service.WEB_BYTES = service.WEB_BYTES, most
        try:
            status = order(one, envelope=envelope(2, [NEW], uri=uri), **args)
        finally:
            service.WEB_BYTES = before
        equal(status["want"], [0, "app", 0, 1024])
        board.off()


def test_all_images_or_none_from_a_web_server():
    board = installed(("app", "web"))
    device, one = equipped(board)
    addresses = (WEB, "mqtt:")
    status = order(one, envelope=envelope(2, [NEW, NEW], names=("app", "web"), uri=addresses))
    equal(status["want"], [0, "app", 0, 1024])
    board.off()


def test_an_abort_while_a_web_server_sends():
    board = installed()
    device, one = equipped(board)
    order(one, envelope=envelope(2, [NEW], uri=WEB))
    equal(order(one, abort=True)["state"], "Aborted")
    # The fetch has not noticed yet: it must not meet another one.
    equal(order(one, envelope=envelope(2, [NEW], uri=WEB)), "update-state")
    del device.incidents[:]
    by_web(one)
    equal((device.resets, device.incidents), (0, []))
    equal(order(one)["state"], "Aborted")
    board.off()


def test_release_keys_that_go_while_it_is_verified():
    """No slot is staged for release keys that were removed between two steps.

    Another task may execute the authority's command in between.
    """
    for state in ("Downloading", "Verifying", "Installing"):
        board = installed()
        device, one = equipped(board)
        device.ota = one
        order(one, envelope=envelope(2, [NEW], uri=WEB))
        one._web = None  # as if the fetch had just ended
        while one._update.state != state:
            if not one._step():
                number, _, at, length = one._update.download.want()
                one._update.download.chunk(number, NEW[at : at + length], 0)
        one.drop()
        equal((one._step(), one._update.state), (False, "Aborted"))
        equal([slot.state for slot in SlotRecord(board.vault()).slots], [CONFIRMED, EMPTY])
        one.drop()  # nothing is left to drop
        board.off()


def test_only_where_the_board_has_slots():
    board = installed()
    device, one = start(board)
    equal(results.boot_result, None)
    equal(standby.make(device), None)
    results.boot_result = board.outcome
    try:
        board.outcome.open_slots = lambda running: board.running
        check(standby.make(device) is not None)
        board.outcome.open_slots = None
        equal(standby.make(device), None)
    finally:
        results.boot_result = None
    board.off()
