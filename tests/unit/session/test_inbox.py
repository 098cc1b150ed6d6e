"""Messages to the device pass its gates in the order of docs/protocol.md: the first refuses."""

import gc
import sys

import cryptolib
from application_model import NAMES, App, Bench, ccm, flip
from harness import Skipped, check, equal, need, raises
from warden.errors import PeerError
from warden.session.inbox import Inbox
from warden.wire import cbor
from warden.wire.names import COSE, JSON

PURE = BUILT = True


class Sealed:
    """A device whose session stands, and its application; counter 0 was the ack's."""

    def __init__(self, stand=True, **options):
        self.bench = Bench(App(), **options)
        self.app = self.bench.app
        self.inbox = self.bench.inbox
        if stand:
            check(self.bench.handshake())
        self.now = 0

    def receive(self, topic, data, retained=False):
        """(codes, answers opened, job)."""
        self.bench.refused.codes = []
        job = self.inbox.receive(topic, memoryview(bytearray(data)), retained, self.now)
        out = self.inbox.out[:]
        del self.inbox.out[:]
        return self.bench.refused.codes, out, job

    def command(self, command, data, **options):
        return self.receive(NAMES.command(command, COSE).encode(), data, **options)

    def raw(self, command, counter, payload, keys=None):
        """Sealed well, whatever the payload."""
        _, _, key, iv, sid = keys or self.app.keys
        protected = self.app.header(counter, sid)
        aad = self.app.aad(protected, NAMES.command(command, COSE))
        text, tag = ccm(key, self.app.nonce(iv, counter), payload, aad, True)
        return cbor.encode([protected, {}, text + tag])


def silently(result, code):
    """Refused with this code alone: no job, no answer."""
    equal((result[0], result[1]), ([code], []))
    check(result[2] is None)


def answered(device, result, code, id, counter):
    """Refused with this code, and told so, for the sender proved who he is."""
    equal(result[0], [code])
    check(result[2] is None)
    equal([(event, fmt) for event, fmt, _ in result[1]], [("reply", COSE)])
    equal(
        device.app.open("reply", counter, bytes(result[1][0][2])),
        [id, None, {"ok": False, "error": code}],
    )


OTHER = App(key=bytes(32))
JSON_TOPIC = NAMES.command("set_relay", JSON).encode()
COSE_TOPIC = NAMES.command("set_relay", COSE).encode()


def test_a_good_command():
    device = Sealed()
    codes, out, job = device.command(
        "set_relay", device.app.seal("set_relay", 1, 7, None, {"on": 1})
    )
    equal((codes, out, job.command, job.args), ([], [], "set_relay", {"on": 1}))
    job.answer({"ok": True, "result": 5})
    event, fmt, data = device.inbox.out[0]
    equal((event, fmt), ("reply", COSE))
    equal(device.app.open("reply", 1, bytes(data)), [7, None, {"ok": True, "result": 5}])


def test_a_command_and_its_reply_take_little_memory():
    """With 32-bit words 2,048 bytes: on a board each object searches the heap."""
    need("gc.mem_alloc")
    if hasattr(cryptolib, "__file__"):
        raise Skipped("AES is Python here, and its memory is counted with ours")
    device = Sealed()
    topic = memoryview(NAMES.command("set_relay", COSE).encode())
    taken = []
    for counter in range(1, 4):
        sealed = device.app.seal("set_relay", counter, 7, 60, {"on": 1})
        message = memoryview(bytearray(sealed))
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        job = device.inbox.receive(topic, message, False, 0)
        job.late(0)
        job.finish(job.run(print), print)
        taken.append(gc.mem_alloc() - before)
        gc.enable()
        reply = bytes(device.inbox.out.pop()[2])
        equal(device.app.open("reply", counter, reply), [7, None, {"ok": True, "result": None}])
    # The first one makes what is kept for the next.
    word = 4 if sys.maxsize < 1 << 32 else 8
    check(max(taken[1:]) <= 2048 * word // 4, "%r bytes" % taken)


# -- the gates, each before the next one --------------------------------------------------------


def test_topic_before_retained():
    silently(
        Sealed().receive(b"iot-2/type/door/id/other/cmd/x/fmt/json", b"", retained=True),
        "bad-topic",
    )


def test_retained_before_format():
    silently(Sealed().receive(JSON_TOPIC, b"", retained=True), "retained")
    device = Sealed()
    good = device.app.seal("set_relay", 1)
    silently(device.command("set_relay", good, retained=True), "retained")
    # Refused at a gate before the counter's, so the same message without the flag is new.
    equal(device.command("set_relay", good)[0], [])


def test_format_before_structure():
    device = Sealed()
    silently(device.receive(JSON_TOPIC, b"garbage"), "plain-refused")
    silently(device.receive(JSON_TOPIC, device.app.seal("set_relay", 1)), "plain-refused")
    silently(
        device.receive(NAMES.command("server_uid_response", JSON).encode(), b"{}"), "plain-refused"
    )


def test_structure_before_kid():
    device = Sealed()
    OTHER.keys = device.app.keys
    silently(device.command("set_relay", OTHER.seal("set_relay", 1) + b"\0"), "cose-malformed")
    for kind in ("welcome", "wake"):
        silently(device.command(kind, OTHER.mac0(kind, [1])[:-1]), "cose-malformed")
    # A structure of the other kind.
    silently(device.command("set_relay", device.app.wake()), "cose-malformed")
    silently(device.command("wake", device.app.seal("wake", 1)), "cose-malformed")


def test_kid_before_session():
    device = Sealed(stand=False)
    OTHER.keys = [bytes(32), bytes(13), bytes(32), bytes(13), bytes(8)]
    silently(device.command("set_relay", OTHER.seal("set_relay", 0)), "wrong-application")
    device = Sealed()
    silently(device.command("set_relay", OTHER.seal("set_relay", 0)), "wrong-application")
    for kind in ("welcome", "wake"):
        silently(device.command(kind, OTHER.mac0(kind, b"")), "wrong-application")


def test_no_session_before_all_that_needs_one():
    device = Sealed(stand=False)
    device.app.keys = [bytes(32), bytes(13), bytes(32), bytes(13), bytes(8)]
    for counter in (0, 1):
        silently(
            device.command("set_relay", flip(device.app.seal("set_relay", counter))), "no-session"
        )


def test_sid_before_counter():
    device = Sealed()
    keys = list(device.app.keys)
    keys[4] = bytes(8)
    silently(
        device.command("set_relay", flip(device.app.seal("set_relay", 0, keys=keys))),
        "old-session",
    )


def test_counter_before_tag():
    device = Sealed()
    equal(device.command("set_relay", device.app.seal("set_relay", 5))[0], ["gap"])
    for counter in (0, 4, 5):
        silently(
            device.command("set_relay", flip(device.app.seal("set_relay", counter))), "replayed"
        )


def test_tag_before_payload():
    device = Sealed()
    silently(device.command("set_relay", flip(device.raw("set_relay", 1, b"\xff"))), "tampered")
    # Under another command's topic, in the other direction, or with a bit of any part flipped.
    silently(device.command("reboot", device.app.seal("set_relay", 1)), "tampered")
    up = device.app.keys
    silently(
        device.command(
            "set_relay", device.app.seal("set_relay", 1, keys=[up[2], up[3], up[0], up[1], up[4]])
        ),
        "tampered",
    )
    for kind in ("welcome", "wake"):
        silently(device.command(kind, flip(device.app.mac0(kind, b"\xff"))), "tampered")


def test_payload_before_expiry():
    device = Sealed()
    device.now = 100_000
    silently(device.command("set_relay", device.raw("set_relay", 1, b"\xff")), "cbor-malformed")
    silently(
        device.command("set_relay", device.raw("set_relay", 2, b"\x18\x01")), "cbor-not-canonical"
    )
    silently(
        device.command("set_relay", device.raw("set_relay", 3, b"\x81" * 40 + b"\x80")),
        "cbor-limit",
    )
    silently(
        device.command("set_relay", device.raw("set_relay", 4, b"\x83\x01\xf6\xa0\0")),
        "cbor-malformed",
    )
    bad = (
        [1, 0, []],
        [1, 0, 5],
        [-1, 0, {}],
        [1 << 32, 0, {}],
        [None, 0, {}],
        [True, 0, {}],
        [1, 0, {1: 2}],
        [1, 0],
        [1, 0, {}, 0],
        {},
        7,
        [1, -1, {}],
        [1, "0", {}],
    )
    counter = 5
    for payload in bad:
        silently(
            device.command("set_relay", device.raw("set_relay", counter, cbor.encode(payload))),
            "bad-body",
        )
        counter += 1


def test_a_body_above_the_limits_is_answered():
    """Nested as deep as is read, a level deeper, and of too many lists: an answer each time."""
    device = Sealed()

    def send(counter, body):
        return device.command(
            "set_relay", device.raw("set_relay", counter, b"\x83\x07\xf6" + body)
        )

    codes, out, job = send(1, b"\xa1\x61a" + b"\x81" * 6 + b"\0")
    equal((codes, out, job.args), ([], [], {"a": [[[[[[0]]]]]]}))
    bodies = (b"\x81" * 6 + b"\x80", b"\x81" * 40 + b"\0", b"\x98\x7e" + b"\x80" * 126)
    for counter, body in enumerate(bodies):
        answered(device, send(counter + 2, b"\xa1\x61a" + body), "cbor-limit", 7, counter + 1)
    # Without a number there is nothing to answer.
    deep = b"\x83\x81\x80\xf6\xa1\x61a" + bodies[0]
    silently(device.command("set_relay", device.raw("set_relay", 5, deep)), "bad-body")
    ack = device.raw("ack", 6, b"\x83\0\xf6\xa1\x61a" + bodies[0])
    equal(device.command("ack", ack)[1:], ([], None))


def test_expiry_before_rights():
    device = Sealed()
    device.now = 10_001
    answered(
        device,
        device.command("open_door", device.app.seal("open_door", 1, 9, 10)),
        "expired",
        9,
        1,
    )
    device.now = 10_000
    answered(
        device,
        device.command("open_door", device.app.seal("open_door", 2, 9, 10)),
        "not-allowed",
        9,
        2,
    )


def test_rights_before_handlers():
    device = Sealed()
    answered(
        device, device.command("nothing", device.app.seal("nothing", 1, 3)), "not-allowed", 3, 1
    )
    answered(device, device.command("wipe", device.app.seal("wipe", 2, 4)), "not-allowed", 4, 2)
    answered(
        device, device.command("reboot", device.app.seal("reboot", 3, 5)), "unknown-command", 5, 3
    )


# -- the hand-shake -----------------------------------------------------------------------------


def test_only_the_authoritys_session_tells_the_time_and_wakes_the_incidents():
    for authority, times, woken_ms in ((False, [], []), (True, [1800000000] * 2, [0, 60_000])):
        device = Sealed(authority=authority)
        device.command("set_relay", device.app.seal("set_relay", 1))
        check(device.bench.handshake(60_000))
        equal((device.bench.times, device.bench.refused.woken_ms), (times, woken_ms))


def test_dates_that_contradict_end_the_link():
    device = Sealed(stand=False, authority=True)

    def contradicted(unix_time):
        raise PeerError("certificate-dates")

    device.inbox._on_time = contradicted
    hello = device.bench.hello()
    topic = NAMES.command("welcome", COSE).encode()
    raises(
        "certificate-dates",
        device.inbox.receive,
        topic,
        memoryview(bytearray(device.app.welcome(hello))),
        False,
        0,
    )
    # And no `ready` goes out on a link that must fall.
    equal((device.bench.refused.codes, device.inbox.out), (["certificate-dates"], []))


def test_a_reply_does_not_outlive_its_session():
    device = Sealed()
    job = device.command("set_relay", device.app.seal("set_relay", 1, 7))[2]
    check(device.bench.handshake(60_000))
    job.answer({"ok": True, "result": None})
    equal(device.inbox.out, [])


# -- a command that waited ----------------------------------------------------------------------


def test_a_command_that_waited_past_its_expiry():
    """Seconds since the hello was sent; the last millisecond of it still counts."""
    device = Sealed()
    job = device.command("set_relay", device.app.seal("set_relay", 1, 7, 10))[2]
    equal([job.late(now) for now in (0, 9_999, 10_000)], [""] * 3)
    equal([job.late(now) for now in (10_001, 1 << 40)], ["expired"] * 2)
    # One without an expiry waits as long as its session stands.
    job = device.command("set_relay", device.app.seal("set_relay", 2, 8, None))[2]
    equal(job.late(1 << 40), "")
    # The hello of this session went out later.
    check(device.bench.handshake(60_000))
    device.now = 60_000
    job = device.command("set_relay", device.app.seal("set_relay", 1, 9, 10))[2]
    equal([job.late(now) for now in (70_000, 70_001)], ["", "expired"])


def test_a_command_that_outlived_its_session():
    device = Sealed()
    expiring = device.command("set_relay", device.app.seal("set_relay", 1, 7, 10))[2]
    lasting = device.command("set_relay", device.app.seal("set_relay", 2, 8, None))[2]
    device.bench.hello(60_000)  # the session ends before the next one stands
    equal([job.late(0) for job in (expiring, lasting)], ["old-session"] * 2)
    check(device.bench.handshake(60_000))
    # Of two reasons the session's is told; it is not asked what the time was in it.
    equal([job.late(60_000) for job in (expiring, lasting)], ["old-session"] * 2)
    device.now = 60_000
    fresh = device.command("set_relay", device.app.seal("set_relay", 1, 9, None))[2]
    equal((fresh.late(60_000), lasting.late(60_000)), ("", "old-session"))


# -- memory -------------------------------------------------------------------------------------


def test_what_waits_to_be_sent_is_bounded():
    # While a slow handler runs nothing is sent: the broker's owner repeats the last command, or
    # its sender floods.
    device = Sealed()
    first = device.app.seal("set_relay", 1, 7)
    job = device.command("set_relay", first)[2]
    job.answer({"ok": True, "result": None})
    topic = COSE_TOPIC
    for _ in range(100):
        check(device.inbox.receive(topic, memoryview(bytearray(first)), False, 0) is None)
    for counter in range(2, 100):
        device.inbox.receive(
            topic, memoryview(bytearray(device.app.seal("set_relay", counter, 8, 0))), False, 5000
        )
    check(len(device.inbox.out) <= 16, "%d wait" % len(device.inbox.out))
    check("busy" in device.bench.refused.codes)
    # Refused before its counter was taken: the same message is good once there is room.
    del device.inbox.out[:]
    equal(device.command("set_relay", device.app.seal("set_relay", 99, 9))[2].args, {})


def test_a_reply_fits_into_a_packet_with_its_topic():
    """One that does not is refused here, where its command can still be answered."""
    inbox = Inbox(NAMES, None, None, [], None, None, 512)
    room = 512 - len(NAMES.event("reply", COSE)) - 5
    inbox._post(COSE, bytes(room))
    equal(len(inbox.out), 1)
    raises("bad-argument", inbox._post, COSE, bytes(room + 1))
    equal(len(inbox.out), 1)
