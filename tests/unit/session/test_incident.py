"""Incidents are counted, and take no more memory than an attacker may have."""

from harness import check, equal
from incident_kit import collect
from warden.session.incident import Incidents

PURE = True


def test_equal_ones_are_counted():
    incidents = Incidents()
    for now in (5, 6, 7):
        incidents.add("tampered", "blink", now)
    incidents.add("tampered", "", 8)
    incidents.add("replayed", "blink", 9)
    batch = collect(incidents)
    equal(
        sorted((b["code"], b["at"], b["n"]) for b in batch),
        [("replayed", "blink", 1), ("tampered", "", 1), ("tampered", "blink", 3)],
    )
    for body in batch:
        equal(sorted(body), ["at", "code", "n"])


def test_taken_ones_are_forgotten():
    incidents = Incidents()
    incidents.add("tampered", "", 0)
    equal(len(collect(incidents)), 1)
    equal((collect(incidents), incidents.due), ([], None))


def test_due_a_second_after_the_first():
    incidents = Incidents()
    equal(incidents.due, None)
    incidents.add("unreachable", "link", 0)
    equal(incidents.due, None)  # it waits for a session, or for something that matters
    incidents.add("a", "", 0)
    equal(incidents.due, 1000)
    incidents.add("a", "", 999)
    incidents.add("b", "", 5000)
    equal(incidents.due, 1000)  # a flood does not put its own report off
    collect(incidents)
    incidents.add("a", "", 7000)
    equal(incidents.due, 8000)


def test_no_noise_hides_a_code():
    incidents = Incidents()
    for code in ("bad-topic", "tampered", "replayed", "plain-refused"):
        for i in range(5000):
            incidents.add(code, "x%d" % (i % 77), i)
        check(len(incidents.rows) <= 16)
    incidents.add("gap", "blink", 0)
    rows = collect(incidents)
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
    rows = collect(incidents)
    check({"code": "duress", "n": 1, "at": "gate"} in rows)
    for kind in range(16):
        equal(sum(b["n"] for b in rows if b["code"] == "noise-%d" % kind), 77)
    check(len(rows) <= 32)


def test_bounded():
    incidents = Incidents()
    for i in range(5000):
        incidents.add("code-%d" % i, "", i)
        check(len(incidents.rows) <= 33)
    rows = collect(incidents)
    equal(len(rows), 33)
    equal([b["n"] for b in rows if b["code"] == "incident-overflow"], [5000 - 32])


def test_an_application_is_named_where_it_is_known():
    incidents = Incidents()
    incidents.add("not-allowed", "blink", 0, 1, "acme")
    incidents.add("not-allowed", "blink", 0)
    rows = collect(incidents)
    equal(len(rows), 2)
    check({"code": "not-allowed", "n": 1, "at": "blink", "from": "acme"} in rows)
    check({"code": "not-allowed", "n": 1, "at": "blink"} in rows)


def test_a_session_wakes_what_waits():
    incidents = Incidents()
    incidents.wake(7)
    equal(incidents.due, None)  # nothing does
    incidents.add("unreachable", "link", 0)
    incidents.wake(8)
    equal(incidents.due, 8)
    incidents = Incidents()
    incidents.kept = True
    incidents.wake(9)
    equal(incidents.due, 9)


def test_an_acknowledgement_only_rises_and_is_of_this_log():
    incidents = Incidents()
    incidents.kept, incidents.newest = True, 5
    for number in (None, "5", -1, 6, True):
        incidents.acknowledge(number, 1)
    equal((incidents.acked, incidents.due), (-1, None))
    incidents.acknowledge(3, 2)
    equal((incidents.acked, incidents.kept, incidents.due), (3, True, 2))
    incidents.acknowledge(2, 3)
    equal((incidents.acked, incidents.due), (3, 2))
    incidents.acknowledge(5, 4)
    equal((incidents.acked, incidents.kept, incidents.due), (5, False, 2))
