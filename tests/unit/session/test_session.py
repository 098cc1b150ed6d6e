"""The session's rules one by one, against an application made by hand (application_model.py).

And against the messages of tests/vectors/session.json, which neither side wrote.
"""

import gc
import json
import sys

import cryptolib
import warden.session.session
from application_model import KEY, POLICY, App, Bench, ccm, flip, sha256
from harness import Skipped, check, equal, need, raises
from warden.errors import PeerError
from warden.wire import cbor
from warden.wire.cbor_reader import ITEMS, check_items
from warden.wire.names import Topics

PURE = BUILT = True
FOLDER = __file__.rsplit("/", 1)[0].rsplit("unit", 1)[0]
RELAY = {"on": 1}


def stood(**options):
    bench = Bench(App(), **options)
    check(bench.handshake(), "the session does not stand")
    return bench, bench.app


def fixed_random(value):
    """Every draw from now on is the same; returns what puts the generator back."""
    before = warden.session.session.random_bytes
    warden.session.session.random_bytes = lambda n: value[:n]

    def restore():
        warden.session.session.random_bytes = before

    return restore


# -- the hand-shake -----------------------------------------------------------------------------


def test_hello_says_what_the_page_says():
    bench = Bench(App(), boot=5, generation=9)
    fields = bench.app.read_hello(bench.hello())
    equal([fields[0]] + fields[2:], [1, 5, 9, POLICY, 0, None])
    equal(len(fields[1]), 16)


def test_hello_is_repeated_then_made_anew():
    bench = Bench(App())
    bench.session.start(1000)
    equal(bench.session.due_ms(), 1000)
    equal(bench.tick(999), None)
    first = bench.tick(1000)
    equal(first[0], "hello")
    for at in (2000, 4000, 10000):
        equal(bench.session.due_ms(), at)
        equal(bench.tick(at - 1), None)
        equal(bench.tick(at), first, "the identical hello")
    equal(bench.session.due_ms(), 31000)
    equal(bench.tick(31000), None)
    again = bench.session.due_ms()
    check(31000 < again <= 32000, "full jitter from one second on")
    second = bench.tick(again)[1]
    equal(bench.app.read_hello(second)[5], 1)
    check(second != first[1])


def test_late_ticks_say_a_hello_once():
    bench = Bench(App())
    bench.hello(0)
    equal(bench.tick(20000)[0], "hello")
    equal(bench.session.due_ms(), 30000)


def test_backoff_grows_to_a_minute_and_never_beyond():
    import warden.net.backoff

    bench = Bench(App())
    before = warden.net.backoff.random_bytes
    warden.net.backoff.random_bytes = lambda n: b"\xff" * n
    try:
        bench.session.start(0)
        waits = []
        now = 0
        for _ in range(9):
            bench.tick(now)
            now += 30000
            bench.tick(now)
            waits.append(bench.session.due_ms() - now)
            now = bench.session.due_ms()
        equal(waits, [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000])
    finally:
        warden.net.backoff.random_bytes = before


def test_welcome_ready_ack():
    bench = Bench(App())
    app = bench.app
    hello = bench.hello()
    codes, out = bench.receive("welcome", app.welcome(hello), 100)
    equal((codes, len(out), out[0][0]), ([], 1, "ready"))
    equal(app.open("ready", 0, out[0][1]), [0, None, {}])
    equal(bench.session.sid, app.keys[4])
    check(not bench.session.up, "nobody has heard our ready yet")
    equal(bench.receive("ack", app.seal("ack", 0), 200), ([], []))
    check(bench.session.up)
    equal(bench.session.due_ms(), None)
    equal(bench.times, [])


def test_ready_is_repeated_then_given_up():
    bench = Bench(App())
    hello = bench.hello()
    ready = bench.receive("welcome", bench.app.welcome(hello), 1000)[1][0]
    for at in (2000, 4000, 10000):
        equal(bench.tick(at - 1), None)
        equal(bench.tick(at), ready, "the identical ready")
    equal(bench.tick(31000), None)
    equal(bench.session.sid, b"")
    equal(bench.receive("ack", bench.app.seal("ack", 0), 31001), (["no-session"], []))
    again = bench.tick(bench.session.due_ms())
    equal((again[0], bench.app.read_hello(again[1])[5]), ("hello", 1))


def test_welcome_counts_once():
    bench = Bench(App(), authority=True)
    welcome = bench.app.welcome(bench.hello())
    equal(len(bench.receive("welcome", welcome, 0)[1]), 1)
    sid = bench.session.sid
    equal(bench.receive("welcome", welcome, 1), ([], []), "the repeat")
    equal(bench.session.sid, sid)
    equal(bench.times, [1800000000])


def test_welcome_to_another_hello():
    bench = Bench(App())
    app = bench.app
    first = app.welcome(bench.hello())
    hello = bench.hello(50)
    equal(bench.receive("welcome", first, 60), (["unexpected"], []), "of the connection before")
    other_hello = [1, sha256(hello + b"\0"), bytes(16), 1, POLICY]
    equal(bench.receive("welcome", app.mac0("welcome", other_hello), 60)[0], ["unexpected"])
    equal(len(bench.receive("welcome", app.welcome(hello), 61)[1]), 1)
    other = app.mac0("welcome", [1, sha256(hello), b"\1" * 16, 1, POLICY])
    equal(bench.receive("welcome", other, 62), (["unexpected"], []), "a second one, not the same")


def test_welcome_without_an_outstanding_hello():
    bench, app = stood()
    sid = bench.session.sid
    for answered in (bytes(32), sha256(b"")):
        welcome = app.mac0("welcome", [1, answered, bytes(16), 1, POLICY])
        equal(bench.receive("welcome", welcome, 5), (["unexpected"], []))
    fresh = Bench(App())
    welcome = app.mac0("welcome", [1, sha256(b""), bytes(16), 1, POLICY])
    equal(fresh.receive("welcome", welcome, 5), (["unexpected"], []), "no hello was ever said")
    equal((bench.session.sid, bench.session.up), (sid, True))


def test_late_welcome():
    bench = Bench(App())
    hello = bench.hello(0)
    late = Bench(App())
    late_hello = late.hello(0)
    equal(len(bench.receive("welcome", bench.app.welcome(hello), 29999)[1]), 1)
    # Also without a tick() in between: a board that was busy for a minute is late all the same.
    equal(late.receive("welcome", late.app.welcome(late_hello), 30000), (["unexpected"], []))
    equal(late.tick(30000), None)
    equal(late.receive("welcome", late.app.welcome(late_hello), 30001), (["unexpected"], []))


def test_reflected_and_foreign_welcomes():
    bench = Bench(App())
    app = bench.app
    hello = bench.hello()
    body = [1, sha256(hello), bytes(16), 1, POLICY]
    other = App(key=bytes(32))
    other.kid = app.kid
    elsewhere = Topics("door", "back-2").command("welcome", "cose")
    for text, data, code in (
        ("reflected", hello, "tampered"),
        ("under Kh", app.mac0("welcome", body, purpose="hello"), "tampered"),
        ("under another K", other.mac0("welcome", body), "tampered"),
        ("of another topic", app.mac0("welcome", body, topic=elsewhere), "tampered"),
        ("a wake on this topic", app.wake(), "tampered"),
        ("one bit", flip(app.mac0("welcome", body)), "tampered"),
        ("another appid", App("other").mac0("welcome", body), "wrong-application"),
        ("garbage", b"\x84", "cose-malformed"),
    ):
        equal(bench.receive("welcome", data, 1), ([code], []), text)
    equal(len(bench.receive("welcome", app.welcome(hello), 2)[1]), 1, "the true one still counts")


def test_policy_mismatch():
    bench = Bench(App())
    hello = bench.hello()
    other = bench.app.welcome(hello, policy=bytes(32))
    equal(bench.receive("welcome", other, 1), (["policy-mismatch"], []))
    equal((bench.session.sid, bench.session.up), (b"", False))
    equal(len(bench.receive("welcome", bench.app.welcome(hello), 2)[1]), 1)
    check(not bench.session.diverged)

    bench = Bench(App(), authority=True)
    other = bench.app.welcome(bench.hello(), policy=bytes(32))
    equal(len(bench.receive("welcome", other, 1)[1]), 1, "the authority may put the policy right")
    check(bench.session.diverged)
    equal(bench.times, [1800000000])


def test_a_refused_policy_leaves_what_stands():
    bench, app = stood()
    sid = bench.session.sid
    equal(bench.receive("wake", app.wake(), 100), ([], []))
    hello = bench.tick(100)[1]
    equal(
        bench.receive("welcome", app.welcome(hello, policy=bytes(32)), 101)[0], ["policy-mismatch"]
    )
    equal((bench.session.sid, bench.session.up), (sid, True))


# -- wake ---------------------------------------------------------------------------------------


def test_wake_is_answered_once_in_ten_seconds():
    bench, app = stood()
    keys, sid = app.keys, bench.session.sid
    nonce = bytes(range(16))
    equal(bench.receive("wake", app.wake(nonce), 1000), ([], []))
    hello = bench.tick(1000)
    fields = app.read_hello(hello[1])
    equal((hello[0], fields[5], fields[6]), ("hello", 1, nonce))
    for at in (1001, 10999):
        equal(bench.receive("wake", app.wake(nonce), at), ([], []))
        equal(
            bench.session.due_ms() > at or bench.tick(at) == hello, True, "no hello but the repeat"
        )
    equal(bench.receive("wake", app.wake(), 11000), ([], []))
    equal(app.read_hello(bench.tick(11000)[1])[5], 2)
    equal((bench.session.sid, bench.session.up), (sid, True), "the old session stands")
    equal(bench.receive("set_relay", app.seal("set_relay", 1, keys=keys), 11001)[0], [])
    equal(bench.ran, [{}])


def test_a_wake_forgets_the_hello_before_it():
    bench = Bench(App())
    welcome = bench.app.welcome(bench.hello())
    equal(bench.receive("wake", bench.app.wake(), 10), ([], []))
    equal(bench.receive("welcome", welcome, 10), (["unexpected"], []))
    fields = bench.app.read_hello(bench.tick(10)[1])
    equal(fields[5:], [1, bytes(16)])


def test_a_wake_nobody_follows_up_leaves_the_session():
    bench, app = stood()
    sid = bench.session.sid
    bench.receive("wake", app.wake(), 100)
    for at in (100, 3100, 9100, 30100):
        bench.tick(at)
    equal((bench.session.sid, bench.session.up), (sid, True))
    fields = app.read_hello(bench.tick(bench.session.due_ms())[1])
    equal(fields[5:], [2, None], "the nonce is answered once")


def test_the_new_session_replaces_the_old_one():
    bench, app = stood()
    old = app.keys
    bench.receive("wake", app.wake(), 100)
    hello = bench.tick(100)[1]
    equal(len(bench.receive("welcome", app.welcome(hello), 101)[1]), 1)
    check(not bench.session.up)
    equal(
        bench.receive("set_relay", app.seal("set_relay", 1, keys=old), 102), (["old-session"], [])
    )
    bench.receive("ack", app.seal("ack", 0), 103)
    check(bench.session.up)
    equal(bench.ran, [])


def test_bad_wakes():
    bench, app = stood()
    for data, code in (
        (flip(app.wake()), "tampered"),
        (app.mac0("wake", [1, bytes(15)]), "bad-body"),
        (app.mac0("wake", [2, bytes(16)]), "bad-body"),
        (app.mac0("wake", [1]), "bad-body"),
        (app.mac0("wake", [1, bytes(16)], purpose="hello"), "tampered"),
        (app.welcome(b""), "tampered"),
    ):
        equal(bench.receive("wake", data, 100000), ([code], []))
        equal(bench.session.due_ms(), None)


# -- messages -----------------------------------------------------------------------------------


def test_commands_and_duplicates():
    bench, app = stood()
    data = app.seal("set_relay", 1, 7, None, RELAY)
    codes, out = bench.receive("set_relay", data, 10)
    equal((codes, bench.ran), ([], [RELAY]))
    equal(app.open("reply", 1, out[0][1]), [7, None, {"ok": True, "result": None}])
    equal(bench.receive("set_relay", data, 20), ([], out), "the stored reply again")
    equal(bench.receive("set_relay", app.seal("set_relay", 1, 8), 30), (["replayed"], []))
    equal(bench.receive("ack", app.seal("ack", 0), 30), ([], []), "the ack crossed our ready")
    equal(bench.receive("ack", app.seal("ack", 0, 1), 30), (["replayed"], []))
    equal(bench.ran, [RELAY])


def test_a_copy_is_one_by_all_of_its_bytes():
    """Its tag alone says nothing: what comes with the last counter and tag must open as well."""
    bench, app = stood()
    data = app.seal("set_relay", 1, 7, None, RELAY)
    bench.receive("set_relay", data, 10)
    for at in range(len(data) - 18, len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        equal(bench.receive("set_relay", bytes(changed), 20), (["replayed"], []), str(at))
    equal(bench.receive("open_door", data, 20), (["replayed"], []), "of another topic")
    equal(len(bench.receive("set_relay", data, 20)[1]), 1, "the stored reply again")
    equal(bench.ran, [RELAY])


def test_a_duplicate_never_gets_another_commands_reply():
    bench, app = stood()
    bench.receive("set_relay", app.seal("set_relay", 1, 7), 10, work=False)
    second = app.seal("set_relay", 2, 8)
    bench.receive("set_relay", second, 10, work=False)
    bench.jobs[0].answer({"ok": True, "result": None})
    del bench.inbox.out[:]
    equal(bench.receive("set_relay", second, 20), ([], []), "its own is not there yet")
    bench.jobs[1].answer({"ok": True, "result": None})
    (reply,) = bench.inbox.out
    equal(bench.receive("set_relay", second, 20)[1][-1], ("reply", bytes(reply[2])))
    third = app.seal("set_relay", 3, 9)
    bench.receive("set_relay", third, 30, work=False)
    equal(bench.receive("set_relay", third, 30), ([], []), "nor the one of the command before")


def test_gap_and_replay():
    bench, app = stood()
    early = app.seal("set_relay", 1)
    equal(bench.receive("set_relay", app.seal("set_relay", 3), 10)[0], ["gap"])
    equal(bench.receive("set_relay", early, 10), (["replayed"], []))
    equal(bench.receive("set_relay", app.seal("set_relay", 4), 10)[0], [])
    equal(len(bench.ran), 2)


def test_a_forgery_moves_no_counter():
    bench, app = stood()
    good = app.seal("set_relay", 1)
    equal(bench.receive("set_relay", flip(good), 10), (["tampered"], []))
    equal(bench.receive("set_relay", flip(app.seal("set_relay", 1 << 31)), 10), (["tampered"], []))
    equal(bench.receive("reboot", good, 10), (["tampered"], []), "another topic")
    equal(bench.receive("set_relay", good, 10)[0], [])
    equal(len(bench.ran), 1)


def test_a_command_before_the_ack_shows_that_ready_arrived():
    bench = Bench(App())
    bench.receive("welcome", bench.app.welcome(bench.hello()), 0)
    equal(bench.receive("set_relay", bench.app.seal("set_relay", 1), 1)[0], ["gap"])
    check(bench.session.up)
    equal((bench.session.due_ms(), len(bench.ran)), (None, 1))


def test_expiry_counts_from_the_hello():
    bench = Bench(App())
    app = bench.app
    hello = bench.hello(0)
    bench.receive("welcome", app.welcome(hello), 25000)
    bench.receive("ack", app.seal("ack", 0), 25001)
    equal(bench.receive("set_relay", app.seal("set_relay", 1, 1, 30), 30000)[0], [])
    codes, out = bench.receive("set_relay", app.seal("set_relay", 2, 2, 30), 30001)
    equal(codes, ["expired"])
    equal(app.open("reply", 2, out[0][1])[2], {"ok": False, "error": "expired"})
    equal(bench.receive("set_relay", app.seal("set_relay", 3, 3, None), 1 << 40)[0], [])
    equal(len(bench.ran), 2)


def test_expiry_counts_from_the_first_sending_of_the_hello():
    bench = Bench(App())
    hello = bench.hello(0)
    equal(bench.tick(9000)[1], hello)
    bench.receive("welcome", bench.app.welcome(hello), 9001)
    equal(bench.receive("set_relay", bench.app.seal("set_relay", 0, 1, 9), 9002)[0], ["expired"])


def test_no_session():
    bench = Bench(App())
    raises("no-session", bench.session.seal, "x", 0, {})
    bench, app = stood()
    bench.session.drop()
    raises("no-session", bench.session.seal, "x", 0, {})
    equal(bench.receive("set_relay", app.seal("set_relay", 1), 10), (["no-session"], []))
    check(not bench.session.up)
    check(bench.handshake(100), "and it comes to stand again")


def test_counter_exhausted():
    bench, app = stood()
    bench.session._keys.next_up = (1 << 32) - 2
    data = bench.session.seal("x", 0, {})
    equal(app.open("x", (1 << 32) - 2, data), [0, None, {}])
    raises("counter-exhausted", bench.session.seal, "x", 0, {})
    equal((bench.session.up, bench.session.sid), (False, b""))
    said = bench.tick(5000)
    equal((said[0], app.read_hello(said[1])[5]), ("hello", 1))
    bench.receive("welcome", app.welcome(said[1]), 5001)
    bench.receive("ack", app.seal("ack", 0), 5002)
    check(bench.session.up)


def test_last_counter_down():
    bench, app = stood()
    equal(bench.receive("set_relay", app.seal("set_relay", (1 << 32) - 1), 10)[0], ["gap"])
    said = bench.tick(10)
    equal((said[0], len(bench.ran)), ("hello", 1))


def test_a_counter_is_spent_before_sealing():
    bench, app = stood()
    used = []

    def broken(nonce, buf, n, aad):
        used.append(bytes(nonce))
        raise MemoryError

    ccm_up = bench.session._keys.up
    before = ccm_up.seal
    ccm_up.seal = broken
    try:
        bench.session.seal("x", 0, {})
    except MemoryError:
        pass
    ccm_up.seal = before
    equal(used, [app.nonce(app.keys[1], 1)])
    equal(
        app.open("x", 2, bench.session.seal("x", 0, {})), [0, None, {}], "the next one, not that"
    )


class _Late(dict):
    """A body that does something while it is encoded, as one that reads a sensor may."""

    def __init__(self, work):
        super().__init__()
        self["late"] = 0
        self.work = work

    def __getitem__(self, key):
        return self.work()


def test_an_event_that_is_sealed_while_another_is_encoded():
    """Neither gets the other's counter or bytes, whichever way they are sealed."""
    bench, app = stood()
    aad = app.names.sealed("x")[1]
    counter = 0
    found = []

    def seal(own, body):
        view = bench.session.seal_event(aad, body) if own else bench.session.seal("x", 0, body)
        found.append(bytes(view))
        return 2

    for inner, outer in ((False, False), (False, True), (True, False), (True, True)):
        seal(outer, _Late(lambda own=inner: seal(own, {"first": 1})))
        for body in ({"first": 1}, {"late": 2}):
            counter += 1
            equal(app.open("x", counter, found.pop(0)), [0, None, body])


def test_a_session_that_ends_while_an_event_is_encoded():
    bench, app = stood()

    def end():
        bench.session.drop()
        return 0

    raises("no-session", bench.session.seal, "x", 0, _Late(end))

    bench, app = stood()
    bench.session._keys.next_up = (1 << 32) - 2
    first = []

    def last():
        first.append(bench.session.seal("x", 0, {}))
        return 0

    raises("counter-exhausted", bench.session.seal, "x", 0, _Late(last))
    equal(app.open("x", (1 << 32) - 2, first[0]), [0, None, {}])


def test_what_an_event_and_a_reply_carry():
    """Ids of every length, and a body as deep as can be: the list around it is a level as well."""
    bench, app = stood()
    counter = 0
    for id in (0, 1, 23, 24, 255, 65536, 0xFFFFFFFF):
        counter += 1
        equal(
            app.open("x", counter, bench.session.seal("x", id, {"n": id})), [id, None, {"n": id}]
        )
    body = {}
    for _ in range(5):
        body = {"a": body}
    counter += 1
    equal(app.open("x", counter, bench.session.seal("x", 7, body)), [7, None, body])
    for _ in range(9):
        body = {"a": body}
    bench.session.seal("x", 7, body)
    raises("bad-argument", bench.session.seal, "x", 7, {"a": body})


def test_what_an_event_leaves_behind_is_not_in_the_next_one():
    """Buffers are used again, for shorter and longer bodies; what seal() returned stays."""
    bench, app = stood()
    kept = bench.session.seal("x", 0, {"a": b"kept"})
    before = bytes(kept)
    counter = 1
    for size in (0, 5, 400, 3, 1500, 2, 600, 1):
        for event in ("x", "longer_name", "x"):
            counter += 1
            body = {"v": bytes(range(size & 255)) + b"v" * size}
            view = bench.session.seal_view(event, 0, body)
            equal(app.open(event, counter, bytes(view)), [0, None, body])
    raises("bad-argument", bench.session.seal_view, "x", 0, {"a": [b"half", object()]})
    counter += 1
    equal(app.open("x", counter, bench.session.seal("x", 3, {"b": 1})), [3, None, {"b": 1}])
    equal(bytes(kept), before)


def test_an_event_takes_little_memory():
    """On a board each object searches the heap, and a collection takes as long as four events."""
    need("gc.mem_alloc")
    if hasattr(cryptolib, "__file__"):
        raise Skipped("AES is Python here, and its memory is counted with ours")
    bench, app = stood()
    aad = app.names.sealed("temperature")[1]
    taken, counter = [], 0
    for body in ({"v": bytes(59)}, {"c": "21"}, {"on": True}):
        for _ in range(2):  # the first one makes what is kept for the next
            gc.collect()
            gc.disable()
            before = gc.mem_alloc()
            view = bench.session.seal_event(aad, body)
            used = gc.mem_alloc() - before
            gc.enable()
        taken.append(used)
        counter += 2
        equal(app.open("temperature", counter, bytes(view)), [0, None, body])
    word = 4 if sys.maxsize < 1 << 32 else 8
    check(max(taken) <= 240 * word // 4, "%r bytes" % taken)


def test_an_event_of_more_items_than_the_host_reads():
    bench, app = stood()
    most = ITEMS
    for body in (
        {"a": [0] * (most - 3)},
        {"a": [300, "text", b"bytes", 1.5, None] * 399},
        {"a": [{}] * (most - 3)},
    ):
        check_items(cbor.encode(body))
        bench.session.seal("x", 0, body)
        body["b"] = [1] * 4
        raises("bad-argument", bench.session.seal, "x", 0, body)
    check_items(cbor.encode([0] * (most - 1)))
    raises("bad-argument", check_items, cbor.encode([0] * most))


def test_keys_and_nonces_are_never_the_same_twice():
    restore = fixed_random(b"\x55" * 16)  # the worst chip: one value for ever
    try:
        hellos, sids = set(), set()
        for boot in range(3):
            bench = Bench(App(), boot=boot)
            for now in range(3):
                hello = bench.hello(now)
                hellos.add(hello)
                sids.add(bytes(bench.app.read_hello(hello)[1]))
                bench.receive(
                    "welcome", bench.app.welcome(hello), now
                )  # and the application's is one
                sids.add(bench.session.sid)
        equal((len(hellos), len(sids)), (9, 18))
    finally:
        restore()


def test_randomness_that_fails_says_no_hello():
    from warden.errors import StoreError

    def broken(n):
        raise StoreError("randomness")

    before = warden.session.session.random_bytes
    warden.session.session.random_bytes = broken
    bench = Bench(App())
    bench.session.start(0)
    try:
        raises("randomness", bench.session.tick, 0)
    finally:
        warden.session.session.random_bytes = before
    equal(bench.app.read_hello(bench.tick(1)[1])[5], 1, "its number is spent")


def test_an_answer_after_its_session():
    bench, app = stood()
    bench.receive("set_relay", app.seal("set_relay", 1), 10, work=False)
    check(bench.handshake(20))
    bench.jobs[0].answer({"ok": True, "result": None})
    equal(bench.inbox.out, [], "nobody waits for it")


def test_begin_drops_what_stood():
    bench, app = stood()
    bench.session.start(10)
    equal((bench.session.up, bench.session.sid), (False, b""))
    equal(bench.receive("set_relay", app.seal("set_relay", 1), 10), (["no-session"], []))


# -- what others computed -----------------------------------------------------------------------


def vectors():
    with open(FOLDER + "vectors/session.json") as file:
        return json.load(file)


def outcome(bench, command, message):
    codes, out = bench.receive(command, message, 5000)
    done = len(bench.ran)
    del bench.ran[:]
    if done:
        return codes[0] if codes else "obeyed"
    return codes[0] if codes else "repeat"


def test_vectors():
    v = vectors()
    octets = {}
    for name in v:
        if isinstance(v[name], str) and name not in ("type", "device", "appid"):
            octets[name] = bytes.fromhex(v[name])
    app = App(v["appid"], octets["k"], Topics(v["type"], v["device"]))
    bench = Bench(app, v["boot"], v["vault_gen"], False, octets["nonce_key"])
    bench.session.policy_digest = octets["policy_hash"]
    equal(bench.session.kid, octets["kid"])
    restore = fixed_random(octets["urandom"])
    try:
        bench.session.start(1000)
        equal(bench.tick(1000), ("hello", octets["hello"]))
    finally:
        restore()
    equal(bytes(app.read_hello(octets["hello"])[1]), octets["nd"])
    for case in v["device_before"]:
        got = outcome(bench, case["command"], bytes.fromhex(case["message"]))
        check(got in case["outcome"].split(" or "), "%s: %s" % (case["name"], got))
    equal(bench.receive("welcome", octets["welcome"], 1500), ([], [("ready", octets["ready"])]))
    equal(bench.session.sid, octets["sid"])
    equal(bench.receive("ack", octets["ack"], 1600), ([], []))
    check(bench.session.up)
    equal(bench.receive("wake", octets["wake"], 1600), ([], []))
    app.keys = [octets[name] for name in ("up_key", "up_iv", "down_key", "down_iv", "sid")]
    for case in v["device_after"]:
        got = outcome(bench, case["command"], bytes.fromhex(case["message"]))
        check(got in case["outcome"].split(" or "), "%s: %s" % (case["name"], got))


def test_vectors_of_our_own_arithmetic():
    v = vectors()
    app = App(v["appid"], bytes.fromhex(v["k"]), Topics(v["type"], v["device"]))
    hello, welcome = bytes.fromhex(v["hello"]), bytes.fromhex(v["welcome"])
    names = ("up_key", "up_iv", "down_key", "down_iv", "sid")
    equal(app.session_keys(hello, welcome), [bytes.fromhex(v[name]) for name in names])
    app.keys = app.session_keys(hello, welcome)
    equal(app.seal("ack", 0), bytes.fromhex(v["ack"]))
    text, tag = ccm(KEY, bytes(13), b"x" * 33, b"aad", True)
    equal(ccm(KEY, bytes(13), text, b"aad", False), (b"x" * 33, tag))
    raised = False
    try:
        app.open("ready", 1, bytes.fromhex(v["ready"]))
    except ValueError:
        raised = True
    check(raised, "the wrong counter")
    check(isinstance(raises("no-session", Bench(app).session.seal, "x", 0, {}), PeerError))
