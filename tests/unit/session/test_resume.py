"""Sessions that outlive deep sleep, and all that must not."""

from application_model import KEY, POLICY, App, Bench
from board_model import DictStore, RootKey
from harness import check, equal, raises
from warden.errors import LinkError
from warden.session import resume
from warden.session.resume import ResumableSession
from warden.vault import Vault
from warden.wire import cbor

NOW = 1800000000
RELAY = {"on": 1}


class Memory:
    """As hal/retained.py, of 2,048 bytes."""

    def __init__(self, data=b"", keeps=False):
        self.data, self.keeps = data, keeps

    def read(self):
        return self.data

    def write(self, data):
        if not self.keeps:
            self.data = data if len(data) <= 2048 else b""
        return len(data) <= 2048


def vault():
    made = Vault(DictStore(), RootKey())
    made.create()
    made.commit({"nonce": bytes(32)})
    return made


class Sleeper(Bench):
    """A device with a session that can be resumed, and the application's counters."""

    def __init__(self, app=None, boot=5):
        super().__init__(app or App(), boot)
        self.session = ResumableSession(
            self.app.names, self.app.appid, KEY, self.counter, POLICY, False
        )
        self.inbox._sessions[0] = self.session


def stood():
    bench = Sleeper()
    check(bench.handshake())
    return bench


def slept(bench, kept, memory, seconds=600, outbox=None, now_ms=5000):
    """The device after deep sleep: (a bench without a session, what load() found)."""
    check(resume.save(kept, memory, [bench.session], outbox, now_ms, NOW))
    bench.session.drop()
    after = Sleeper(bench.app)
    return after, resume.load(kept, memory, NOW + seconds)


def go_on(after, saved, now_ms=0):
    after.counter.connect = saved.connect
    after.session.resume(saved.sessions[0], now_ms)
    after.session.start(now_ms)


def test_a_session_goes_on_where_it_was():
    bench, kept, memory = stood(), vault(), Memory()
    app = bench.app
    app.open("x", 1, bench.session.seal("x", 0, RELAY))
    command = app.seal("set_relay", 1, 1, None, RELAY)
    bench.receive("set_relay", command, 0)
    generation = kept.generation
    after, saved = slept(bench, kept, memory)
    equal((saved.boot, saved.connect, saved.outbox), (5, 1, None))
    go_on(after, saved)
    check(after.session.up)
    equal(after.tick(0), None, "no hello")
    # The reply took counter 2: no counter comes twice.
    equal(app.open("x", 3, after.session.seal("x", 0, RELAY))[2], RELAY)
    # The broker may deliver the last command again: it does nothing.
    equal((after.receive("set_relay", command, 0), after.ran), (([], []), []))
    old = app.seal("set_relay", 0, 1, None, RELAY)
    equal(after.receive("set_relay", old, 0)[0], ["replayed"])
    codes, out = after.receive("set_relay", app.seal("set_relay", 2, 2, None, RELAY), 0)
    equal((codes, after.ran, out[0][0]), ([], [RELAY], "reply"))
    equal(kept.generation, generation, "no write to the flash")


def test_it_is_resumed_once():
    bench, kept, memory = stood(), vault(), Memory()
    after, saved = slept(bench, kept, memory)
    equal((memory.data, resume.load(kept, memory, NOW)), (b"", None))
    go_on(after, saved)
    # A connection that breaks ends it, as any session.
    after.session.start(100)
    check(not after.session.up)
    equal(after.tick(100)[0], "hello")
    equal(after.counter.connect, 2)


def test_memory_that_can_t_be_erased_is_not_used():
    bench, kept, memory = stood(), vault(), Memory()
    check(resume.save(kept, memory, [bench.session], None, 0, NOW))
    equal(resume.load(kept, Memory(memory.data, True), NOW), None)


def test_no_secret_is_kept():
    bench, kept, memory = stood(), vault(), Memory()
    check(resume.save(kept, memory, [bench.session], None, 0, NOW))
    key, iv, down_key, down_iv, _ = bench.app.keys
    for secret in (KEY, key, iv, down_key, down_iv):
        check(secret not in memory.data)


def test_what_was_changed_or_is_another_vault_s_is_not_used():
    bench, kept, memory = stood(), vault(), Memory()
    check(resume.save(kept, memory, [bench.session], None, 0, NOW))
    data = memory.data
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1
        equal(resume.load(kept, Memory(bytes(changed)), NOW), None)
    for cut in (0, 1, 31, 32, len(data) - 1):
        equal(resume.load(kept, Memory(data[:cut]), NOW), None)
    former = cbor.encode([1] + cbor.decode(data[32:])[1:])  # what another version of Warden kept
    equal(resume.load(kept, Memory(kept.mac(b"warden sleep 1", former) + former), NOW), None)
    equal(resume.load(vault(), Memory(data), NOW), None)
    check(resume.load(kept, Memory(data), NOW) is not None)
    # A flash that was played back, or a start in between that counted.
    kept.advance("boot")
    equal(resume.load(kept, Memory(data), NOW), None)


def test_a_sleep_does_not_lengthen_a_command_s_life():
    bench, kept, memory = stood(), vault(), Memory()
    app = bench.app
    after, saved = slept(bench, kept, memory, seconds=800)  # 900 s, with an eighth for the clock
    go_on(after, saved, 0)
    equal(after.receive("set_relay", app.seal("set_relay", 1, 1, 906, RELAY), 0)[0], [])
    equal(after.receive("set_relay", app.seal("set_relay", 2, 2, 904, RELAY), 0)[0], ["expired"])
    # With a clock that went back nothing says how long it slept.
    bench = stood()
    after, saved = slept(bench, kept, memory, seconds=-1)
    equal((saved.sessions, saved.boot, saved.connect), ([], 5, 1))


def test_without_an_answer_there_is_a_new_hello():
    bench, kept, memory = stood(), vault(), Memory()
    after, saved = slept(bench, kept, memory)
    go_on(after, saved, 1000)
    equal(after.session.due_ms(), 9000)
    equal(after.tick(9000)[0], "hello")
    # With one there is none.
    bench = stood()
    after, saved = slept(bench, kept, memory)
    go_on(after, saved, 1000)
    after.receive("ack", bench.app.seal("ack", 1), 1000)
    equal(after.session.due_ms(), None)


def test_a_hello_that_was_asked_for_stays_due():
    """The authority wakes a sleeper, and a message in the old session comes behind."""
    bench, kept, memory = stood(), vault(), Memory()
    after, saved = slept(bench, kept, memory)
    go_on(after, saved, 1000)
    equal(after.receive("wake", bench.app.wake(), 1000)[0], [])
    equal(after.receive("ack", bench.app.seal("ack", 1), 1000)[0], [])
    equal(after.tick(1000)[0], "hello")


def test_a_wake_up_that_reaches_no_broker_keeps_the_session():
    bench, kept, memory = stood(), vault(), Memory()
    app = bench.app
    after, saved = slept(bench, kept, memory, seconds=800)
    after.session.resume(saved.sessions[0], 7000)
    after.session.drop()  # as after each attempt that failed
    raises("no-session", after.session.seal, "x", 0, {})
    after.counter.connect = saved.connect
    later, saved = slept(after, kept, memory, seconds=80, now_ms=17000)
    go_on(later, saved, 3000)
    check(later.session.up)
    equal(app.open("x", 1, later.session.seal("x", 0, RELAY))[2], RELAY)
    # 5 s before the sleeps, 900 and 90 s of them with their eighths, 10 s of the vain wake-up.
    good, late = app.seal("set_relay", 1, 1, 1006, RELAY), app.seal("set_relay", 2, 2, 1004, RELAY)
    equal(later.receive("set_relay", good, 3000)[0], [])
    equal(later.receive("set_relay", late, 3000)[0], ["expired"])


def test_without_a_session_counters_and_outbox_are_kept():
    bench, kept, memory = Sleeper(), vault(), Memory()
    bench.counter.connect = 9
    check(resume.save(kept, memory, [bench.session], [1, 4096, b"events"], 0, NOW))
    saved = resume.load(kept, memory, NOW)
    equal((saved.boot, saved.connect, saved.sessions), (5, 9, []))
    equal(saved.outbox, [1, 4096, b"events"])
    bench = stood()
    check(not resume.save(kept, memory, [bench.session], [1, 2, bytes(2000)], 0, NOW))
    equal(resume.load(kept, memory, NOW), None)
    bench.session.drop()
    check(isinstance(raises("no-session", bench.session.seal, "x", 0, {}), LinkError))
