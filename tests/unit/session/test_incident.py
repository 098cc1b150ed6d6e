"""Incidents are counted, and take no more memory than an attacker may have."""

from harness import check, equal
from warden.session.incident import Incidents

PURE = True


def test_equal_ones_are_counted():
    incidents = Incidents()
    for now in (5, 6, 7):
        incidents.add("tampered", "blink", now)
    incidents.add("tampered", "", 8)
    incidents.add("replayed", "blink", 9)
    batch = incidents.collect()
    equal(
        sorted((b["code"], b["at"], b["n"]) for b in batch),
        [("replayed", "blink", 1), ("tampered", "", 1), ("tampered", "blink", 3)],
    )
    for body in batch:
        equal(sorted(body), ["at", "code", "n"])


def test_taken_ones_are_forgotten():
    incidents = Incidents()
    incidents.add("tampered", "", 0)
    equal(len(incidents.collect()), 1)
    equal((incidents.collect(), incidents.due_ms()), ([], None))


def test_due_a_second_after_the_first():
    incidents = Incidents()
    equal(incidents.due_ms(), None)
    incidents.add("a", "", 0)
    equal(incidents.due_ms(), 1000)
    incidents.add("a", "", 999)
    incidents.add("b", "", 5000)
    equal(incidents.due_ms(), 1000)  # a flood does not put its own report off
    incidents.collect()
    incidents.add("a", "", 7000)
    equal(incidents.due_ms(), 8000)


def test_no_noise_hides_a_code():
    incidents = Incidents()
    for code in ("bad-topic", "tampered", "replayed", "plain-refused"):
        for i in range(5000):
            incidents.add(code, "x%d" % (i % 77), i)
        check(len(incidents._counts) <= 16)
    incidents.add("gap", "blink", 0)
    rows = incidents.collect()
    for code in ("bad-topic", "tampered", "replayed", "plain-refused"):
        equal(sum(b["n"] for b in rows if b["code"] == code), 5000)
        check(sum(b["code"] == code for b in rows) <= 4)
    check({"code": "gap", "n": 1, "at": "blink"} in rows)


def test_no_noise_of_many_kinds_hides_a_code():
    """All that a peer can provoke, at more places than rows: a duress code still has a row."""
    incidents = Incidents()
    for i in range(77):
        for kind in range(16):
            incidents.add("noise-%d" % kind, "x%d" % i, i)
    incidents.add("duress", "gate", 0)
    rows = incidents.collect()
    check({"code": "duress", "n": 1, "at": "gate"} in rows)
    for kind in range(16):
        equal(sum(b["n"] for b in rows if b["code"] == "noise-%d" % kind), 77)
    check(len(rows) <= 32)


def test_bounded():
    incidents = Incidents()
    for i in range(5000):
        incidents.add("code-%d" % i, "", i)
        check(len(incidents._counts) <= 33)
    rows = incidents.collect()
    equal(len(rows), 33)
    equal([b["n"] for b in rows if b["code"] == "incident-overflow"], [5000 - 32])


def test_what_could_not_be_told_is_put_back():
    incidents = Incidents()
    for _ in range(3):
        incidents.add("tampered", "blink", 0)
    batch = incidents.collect()
    incidents.add("tampered", "blink", 5)
    incidents.put_back(batch, 7)
    equal(incidents.collect(), [{"code": "tampered", "n": 4, "at": "blink"}])
    incidents.put_back([], 9)
    equal(incidents.due_ms(), None)
