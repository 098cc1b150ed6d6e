"""Floods of one application: named, and ignored as far as nobody else could have sent them."""

from application_model import NAMES, App, Bench
from harness import check, equal
from warden.wire.names import COSE

PURE = True


class Rows:
    """Stands where incidents are counted, and keeps (code, place, application)."""

    def __init__(self):
        self.rows = []

    def add(self, code, at, now_ms, n=1, source=""):
        self.rows.append((code, at, source))

    def acknowledge(self, number, now_ms):
        pass


class Flooded(Bench):
    def __init__(self, lock_ms=60000, **options):
        super().__init__(App(), **options)
        check(self.handshake())
        self.rows = self.inbox._incidents = Rows()
        self.inbox.lock_ms = lock_ms
        self.counter = 0

    def forbidden(self, now_ms):
        """A command that the application may not give; return what the device answers."""
        self.counter += 1
        data = self.app.seal("forbidden", self.counter, self.counter)
        topic = NAMES.command("forbidden", COSE).encode()
        self.inbox.receive(topic, memoryview(bytearray(data)), False, now_ms)
        out, self.inbox.out = self.inbox.out, []
        return len(out)

    def skip(self, now_ms, head=None):
        topic = NAMES.command("set_relay", COSE).encode()
        if head is None:
            head = self.app.seal("set_relay", 900, 1)[:17]
        self.inbox.skip(topic, head, now_ms)

    def take(self):
        rows, self.rows.rows = self.rows.rows, []
        return rows


def test_a_flood_of_refused_commands_has_its_application_ignored_for_a_time():
    bench = Flooded()
    answers = [bench.forbidden(1000) for _ in range(40)]
    equal(answers, [1] * 25 + [0] * 15)
    rows = bench.take()
    equal(rows.count(("not-allowed", "forbidden", "acme")), 25)
    equal(rows.count(("app-flood", "", "acme")), 1)
    equal(len(rows), 26)
    equal(bench.forbidden(60999), 0)
    equal(bench.forbidden(61000), 1)


def test_two_refused_commands_a_second_are_no_flood():
    bench = Flooded()
    for second in range(100):
        equal([bench.forbidden(second * 1000), bench.forbidden(second * 1000 + 500)], [1, 1])
    check("app-flood" not in [row[0] for row in bench.take()])


def test_a_flood_of_good_commands_is_none():
    bench = Flooded()
    for number in range(1, 100):
        data = bench.app.seal("set_relay", number, number)
        equal(len(bench.receive("set_relay", data, 1000)[1]), 1)


def test_no_reaction_and_never_to_the_authority():
    for options in ({"lock_ms": 0}, {"authority": True}):
        bench = Flooded(**options)
        equal([bench.forbidden(1000) for _ in range(60)], [1] * 60)
        check("app-flood" not in [row[0] for row in bench.take()])


def test_messages_above_the_limit_name_their_application_and_shut_none_out():
    """Nothing proves who sent them: another account may claim the name."""
    bench = Flooded()
    for second in range(6):
        bench.skip(second * 1000)
    rows = bench.take()
    equal(rows.count(("mqtt-too-large", "set_relay", "acme")), 4)
    equal(rows.count(("app-flood", "", "acme")), 1)
    equal(len(rows), 5)
    data = bench.app.seal("set_relay", 1, 1)
    equal(len(bench.receive("set_relay", data, 6000)[1]), 1)
    bench.skip(64000)
    equal(bench.rows.rows, [("mqtt-too-large", "set_relay", "acme")])


def test_messages_above_the_limit_bring_no_application_nearer_to_being_ignored():
    bench = Flooded()
    for _ in range(3):
        bench.skip(1000)
    equal([bench.forbidden(1000) for _ in range(24)], [1] * 24)
    check("app-flood" not in [row[0] for row in bench.take()])


def test_a_message_above_the_limit_of_nobody_knows_whom():
    bench = Flooded()
    for head in (b"", b"\x83", bytes(17), bench.app.seal("set_relay", 900, 1)[:16]):
        bench.skip(0, head)
    equal(bench.take(), [("mqtt-too-large", "set_relay", "")] * 4)


def test_reading_pauses_where_the_policy_says_so():
    bench = Flooded()
    topic = NAMES.command("set_relay", COSE).encode()
    for delays, junk, refused in (((0, 0), 0, 0), ((100, 0), 100, 0), ((0, 70), 0, 70)):
        bench.inbox.delays = delays
        bench.inbox.receive(topic, memoryview(bytearray(b"junk")), False, 0)
        equal(bench.inbox.pause_ms, junk)
        bench.forbidden(0)
        equal(bench.inbox.pause_ms, refused)
        bench.counter += 1
        data = bytearray(bench.app.seal("set_relay", bench.counter, 1))
        bench.inbox.receive(topic, memoryview(data), False, 0)
        equal(bench.inbox.pause_ms, 0)


def test_a_locked_device_obeys_the_authority_alone():
    bench = Flooded()
    bench.inbox.locked = True
    data = bench.app.seal("set_relay", 1, 1)
    equal(len(bench.receive("set_relay", data, 0)[1]), 1)
    equal((bench.ran, bench.take()), ([], [("device-locked", "set_relay", "acme")]))
    bench.inbox.locked = False
    bench.receive("set_relay", bench.app.seal("set_relay", 2, 2), 0)
    equal(len(bench.ran), 1)
