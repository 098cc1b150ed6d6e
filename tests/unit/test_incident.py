"""Incidents are counted, and take no more memory than an attacker may have."""

from harness import check, equal
from warden.incident import Incidents

PURE = True


def test_equal_ones_are_counted():
    incidents = Incidents()
    for now in (5, 6, 7):
        incidents.add("tampered", "blink", now)
    incidents.add("tampered", "", 8)
    incidents.add("replayed", "blink", 9)
    batch = incidents.take()
    equal(
        sorted((b["code"], b["at"], b["n"]) for b in batch),
        [("replayed", "blink", 1), ("tampered", "", 1), ("tampered", "blink", 3)],
    )
    for body in batch:
        equal(sorted(body), ["at", "code", "n"])


def test_taken_ones_are_forgotten():
    incidents = Incidents()
    incidents.add("tampered", "", 0)
    equal(len(incidents.take()), 1)
    equal((incidents.take(), incidents.due_ms()), ([], None))


def test_due_a_second_after_the_first():
    incidents = Incidents()
    equal(incidents.due_ms(), None)
    incidents.add("a", "", 0)
    equal(incidents.due_ms(), 1000)
    incidents.add("a", "", 999)
    incidents.add("b", "", 5000)
    equal(incidents.due_ms(), 1000)  # a flood does not put its own report off
    incidents.take()
    incidents.add("a", "", 7000)
    equal(incidents.due_ms(), 8000)


def test_bounded():
    incidents = Incidents()
    for i in range(8):
        incidents.add("code", "%d" % i, 0)
    for i in range(5000):
        incidents.add("code-%d" % i, "x%d" % (i % 77), i)
        check(len(incidents._counts) <= 9)
    incidents.add("code", "3", 0)  # one that is known is still counted by itself
    batch = incidents.take()
    counts = {(b["code"], b["at"]): b["n"] for b in batch}
    equal(len(batch), 9)
    equal(counts[("incident-overflow", "")], 5000)
    equal((counts[("code", "3")], counts[("code", "0")]), (2, 1))
