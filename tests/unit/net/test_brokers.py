"""Several brokers: the order in which they are tried, and the waits between."""

from harness import check, equal
from warden.net.brokers import Brokers

PURE = True

A, B, C = ("a", 1), ("b", 2), ("c", 3)


def made(*weights):
    listed = [list((A, B, C)[at]) + [weight] for at, weight in enumerate(weights)]
    return Brokers(listed, 1000, 60000)


def attempts(brokers, count):
    """Return the brokers of so many failed attempts."""
    found = []
    for _ in range(count):
        found.append(brokers.server)
        brokers.resume()
        brokers.failed(False)
    return found


def test_in_order():
    equal(attempts(made(0, 0, 0), 7), [A, B, C, A, B, C, A])
    equal(made(0, 0).count, 2)


def test_one_way_first():
    listed = [["a", 1, 0, "certificate"], ["a", 2, 0, "password"], ["b", 1, 0, "certificate"]]
    brokers = Brokers(listed, 1000, 60000)
    equal((brokers.server, brokers.way), (("a", 1), "certificate"))
    brokers.prefer("password")  # the round has not begun
    equal((brokers.server, brokers.way), (("a", 2), "password"))
    equal(attempts(brokers, 3), [("a", 2), ("a", 1), ("b", 1)])
    brokers.failed(False)
    brokers.prefer("")  # from the next round on
    equal(attempts(brokers, 5), [("a", 1), ("b", 1), ("a", 1), ("a", 2), ("b", 1)])
    equal(made(0, 0).way, "")


def test_by_weight():
    brokers = made(3, 1, 0)
    rounds = [attempts(brokers, 3) for _ in range(400)]
    # Each once a round; the one without a weight last.
    check(all([sorted(one) == [A, B, C] and one[2] == C for one in rounds]))
    first = [one[0] for one in rounds].count(A)
    check(240 < first < 360, first)  # 300, by more than six standard deviations


def test_the_first_one_again_behind_a_connection():
    brokers = made(0, 0, 0)
    equal(attempts(brokers, 1), [A])
    equal(brokers.server, B)
    brokers.failed(True)
    equal(attempts(brokers, 2), [A, B])


def test_the_back_off_grows_with_rounds():
    brokers = made(0, 0, 0)
    ceilings = []
    for _ in range(9):
        brokers.resume()
        brokers.failed(False)
        ceilings.append(brokers._ceiling_ms)
        check(brokers.next_ms() <= ceilings[-1])
    equal(ceilings, [1000, 1000, 1000, 1000, 1000, 2000, 1000, 1000, 4000])


def test_a_refused_log_in_waits_long_once_all_refused_it():
    brokers = made(0, 0)
    waits = []
    for _ in range(4):
        brokers.resume()
        brokers.slow_down()
        brokers.failed(False)
        waits.append(brokers._ceiling_ms)
        brokers.next_ms()
    equal(waits, [1000, 60000] * 2)


def test_a_session_ends_what_had_grown():
    brokers = made(0, 0)
    brokers.slow_down()
    brokers.failed(False)
    brokers.reset()
    brokers.resume()
    equal(brokers._ceiling_ms, 1000)
