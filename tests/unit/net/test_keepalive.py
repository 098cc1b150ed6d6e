"""When a ping is due, and when a silent peer is given up, by a clock of the test."""

from harness import check, equal, raises
from warden.net.keepalive import Keepalive

STALL, KEEPALIVE = 5000, 60000


def made(keepalive_ms=KEEPALIVE, stall_ms=STALL, now=1000):
    times = Keepalive(keepalive_ms, stall_ms)
    times.start(now)
    return times


def ping_due(times, now, most=200000):
    """Return the time at which a ping is due, for a reader that sleeps as long as it may."""
    end = now + most
    while now < end:
        left = times.left_ms(False, now)
        if not left:
            return now
        now += left
    return None


def test_an_idle_line_has_a_ping_after_half_the_keepalive():
    equal(ping_due(made(), 1000), 1000 + KEEPALIVE // 2)
    times = made(keepalive_ms=1000)
    equal(ping_due(times, 1000), 1500)


def test_a_ping_follows_an_unanswered_packet():
    """Also for a packet sent right after the reader began to wait."""
    for sent in range(1001, 1000 + KEEPALIVE // 2, 700):
        times = made()
        now = 1000
        while True:
            left = times.left_ms(False, now)
            if now <= sent < now + left:
                times.sent_at = sent
            if not left:
                break
            now += left
        check(sent <= now <= sent + STALL // 2, "sent at %d, ping at %d" % (sent, now))


def test_an_answer_makes_the_ping_needless():
    times = made()
    for now in range(2000, 2000 + KEEPALIVE // 4, 1000):
        times.sent_at = now
        times.received_at = now + 1
        check(times.left_ms(False, now + 2) > 0)


def test_only_sending_is_no_sign_of_the_peers_life():
    times = made()
    found = None
    for now in range(1100, 20000, 100):
        times.sent_at = now
        if found is None and not times.left_ms(False, now):
            found = now
    equal(found, 1000 + STALL // 2)


def test_an_unanswered_ping_ends_the_link():
    times = made()
    times.ping_at = 3000
    equal(times.left_ms(False, 3001), STALL - 1)
    equal(times.left_ms(False, 2999 + STALL), 1)
    raises("link-timeout", times.left_ms, False, 3000 + STALL)


def test_an_incomplete_packet_has_its_time_from_the_first_byte():
    times = made()
    equal(times.left_ms(True, 2000), STALL // 2)
    check(times.left_ms(True, 1999 + STALL) >= 1)
    raises("link-timeout", times.left_ms, True, 2000 + STALL)
    # The next packet has its own time.
    equal(times.began_at, 2000)
    times.left_ms(False, 2000 + STALL)
    equal(times.began_at, None)


def test_ticks_that_wrap():
    import time

    last = time.ticks_add(0, -1)
    times = made(now=time.ticks_add(last, -100))
    times.sent_at = last
    equal(times.left_ms(False, time.ticks_add(last, 1)), STALL // 2 - 101)


def test_a_slow_line_has_as_long_as_the_policy_allows():
    """A PINGRESP after 20 s: too late by default, on time where stall_ms is 30 s."""
    for stall_ms in (STALL, 30000):
        times = made(stall_ms=stall_ms)
        times.ping_at = 1000
        if stall_ms == STALL:
            raises("link-timeout", times.left_ms, False, 21000)
        else:
            equal(times.left_ms(False, 21000), 10000)
            raises("link-timeout", times.left_ms, False, 31000)
