"""Full jitter between 1 ms and a ceiling that doubles."""

from harness import check, equal
from warden.net import backoff as module
from warden.net.backoff import Backoff

PURE = True


def drawing(value, function):
    """Run with every draw at this value."""
    saved = module.random_bytes
    module.random_bytes = lambda n: value.to_bytes(n, "big")
    try:
        return function()
    finally:
        module.random_bytes = saved


HIGHEST, LOWEST = (1 << 32) - 1, 0


def test_the_ceiling_doubles_up_to_the_most():
    waits = drawing(HIGHEST, lambda: [next_of(Backoff(1000, 7000), 6)])[0]
    equal(waits, [1000, 2000, 4000, 7000, 7000, 7000])


def next_of(backoff, count):
    return [backoff.next_ms() for _ in range(count)]


def test_the_least_is_one_millisecond():
    equal(drawing(LOWEST, lambda: next_of(Backoff(1000, 7000), 4)), [1, 1, 1, 1])


def test_reset():
    backoff = Backoff(1000, 60000)
    drawing(HIGHEST, lambda: next_of(backoff, 5))
    backoff.reset()
    equal(drawing(HIGHEST, backoff.next_ms), 1000)


def test_slow_down():
    backoff = Backoff(1000, 60000)
    backoff.slow_down()
    equal(drawing(HIGHEST, lambda: next_of(backoff, 2)), [60000, 60000])
    backoff.reset()
    equal(drawing(HIGHEST, backoff.next_ms), 1000)


def test_limit():
    backoff = Backoff(1000, 600000)
    backoff.slow_down()
    backoff.limit(60000)
    # It doubles on from there, unless it is limited again.
    equal(drawing(HIGHEST, lambda: next_of(backoff, 2)), [60000, 120000])
    backoff.reset()
    backoff.limit(60000)
    equal(drawing(HIGHEST, backoff.next_ms), 1000)


def test_equal_bounds():
    equal(drawing(HIGHEST, lambda: next_of(Backoff(500, 500), 3)), [500, 500, 500])


def test_draws_are_spread_evenly():
    backoff = Backoff(1000, 1000)
    waits = next_of(backoff, 2000)
    check(1 <= min(waits) and max(waits) <= 1000)
    # 200 a tenth are expected, 13 the deviation: eight of those happen in no test's lifetime.
    for tenth in range(10):
        count = sum(1 for wait in waits if wait - 1 in range(tenth * 100, tenth * 100 + 100))
        check(94 < count < 306, "tenth %d: %d" % (tenth, count))


def test_two_devices_do_not_come_back_as_one():
    check(next_of(Backoff(60000, 60000), 8) != next_of(Backoff(60000, 60000), 8))
