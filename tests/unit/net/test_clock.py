"""Time that only moves forward."""

from board_model import DictStore, RootKey, Rtc
from harness import check, equal, raises
from warden.errors import PeerError
from warden.net import clock as module
from warden.net.clock import Clock, Uptime
from warden.vault import Vault, records
from warden.wire import cbor

PURE = BUILT = True

FLOOR = 1_800_000_000
STEP = 6 * 3600
BOOT = 1_609_459_200  # 2021-01-01
ALWAYS = (0, 4_000_000_000)


class Dates:
    def __init__(self, not_before, not_after):
        self.not_before, self.not_after = not_before, not_after


def vault_with(mark=None, store=None):
    vault = Vault(store or DictStore(), RootKey())
    vault.create()
    vault.commit({}, {} if mark is None else {"time": mark})
    return vault


def clock_at(now, mark=None, settable=True):
    rtc = Rtc(now, settable)
    vault = vault_with(mark)
    return Clock(rtc, vault, FLOOR), rtc, vault


def test_the_clock_is_set_to_the_higher_mark():
    for mark, least in ((None, FLOOR), (FLOOR - 5, FLOOR), (FLOOR + 5, FLOOR + 5)):
        clock, rtc, _ = clock_at(BOOT, mark)
        equal(clock.least(), least)
        clock.start()
        equal((rtc.time, clock.now(), clock.gap), (least, least, True))


def test_a_clock_above_the_marks_is_left_alone():
    clock, rtc, _ = clock_at(FLOOR + 100, FLOOR + 100)
    clock.start()
    equal((rtc.sets, clock.gap), ([], False))


def test_a_clock_that_can_not_be_set_does_not_stop_the_start():
    clock, rtc, _ = clock_at(BOOT, settable=False)
    clock.start()
    equal(clock.now(), BOOT)


# -- tentative time ---------------------------------------------------------------------------


def test_tentative_ends_with_its_connection_or_with_the_welcome():
    clock, rtc, vault = clock_at(FLOOR)
    check(clock.try_at(FLOOR + 1000))
    equal(rtc.time, FLOOR + 1000)
    clock.undo()  # no welcome came: a hand-shake that held proves nothing about the time
    equal(rtc.time, FLOOR)
    check(clock.try_at(FLOOR + 1000))
    clock.prove(FLOOR + 500, Dates(FLOOR, FLOOR + 2000), 0)
    clock.undo()
    equal(rtc.time, FLOOR + 500)


def test_no_tentative_time_beside_a_proven_one():
    clock, rtc, vault = clock_at(FLOOR)
    clock.prove(FLOOR + 500, Dates(FLOOR, FLOOR + 2000), 0)
    check(not clock.try_at(FLOOR + 1000))
    equal(rtc.time, FLOOR + 500)


def test_a_clock_ahead_may_try_the_marks():
    clock, rtc, vault = clock_at(FLOOR + 10_000_000)
    check(clock.try_at(clock.least()))
    equal(rtc.time, FLOOR)
    rtc.time += 5
    clock.undo()
    equal(rtc.time, FLOOR + 10_000_005)
    check(not clock.try_at(FLOOR - 1))  # never below them


def test_tentative_undone():
    clock, rtc, vault = clock_at(FLOOR)
    check(clock.try_at(FLOOR + 1000))
    clock.undo()
    equal(rtc.time, FLOOR)
    rtc.time = FLOOR + 7
    clock.undo()  # once only
    equal((rtc.time, vault.generation), (FLOOR + 7, 1))


def test_tentative_never_below_the_marks():
    clock, rtc, _ = clock_at(FLOOR + 50)
    for at in (FLOOR + 50, FLOOR - 1, 0):
        check(not clock.try_at(at))
    clock.undo()
    equal((rtc.time, rtc.sets), (FLOOR + 50, []))


def test_tentative_on_a_clock_that_can_not_be_set():
    clock, rtc, _ = clock_at(FLOOR, settable=False)
    check(not clock.try_at(FLOOR + 1000))
    clock.undo()
    equal((rtc.time, rtc.sets), (FLOOR, []))


def test_time_goes_on_while_a_tentative_one_is_tried():
    # Otherwise slow hand-shakes would hold the clock back, and an expired certificate valid.
    clock, rtc, _ = clock_at(FLOOR)
    check(clock.try_at(FLOOR + 1000))
    rtc.time += 20
    clock.undo()
    equal(rtc.time, FLOOR + 20)


def test_a_tentative_time_fits_a_mark():
    # The notBefore of a certificate that was not proved: its year may be 9999.
    clock, rtc, _ = clock_at(FLOOR)
    for at in (1 << 32, 253402300800, 1 << 70):
        check(not clock.try_at(at))
    equal(rtc.sets, [])
    check(clock.try_at((1 << 32) - 1))


# -- proven time ------------------------------------------------------------------------------


def prove(clock, unix_time, *dates, now_ms=0):
    taken = clock.prove(unix_time, Dates(*dates), now_ms)
    clock.keep_mark()
    return taken


def test_the_mark_counts_before_it_is_committed():
    clock, _, vault = clock_at(FLOOR)
    clock.prove(FLOOR + 5000, Dates(*ALWAYS), 0)
    equal((vault.counter("time"), vault.generation, clock.least()), (0, 1, FLOOR + 5000))
    for _ in range(2):  # once
        clock.keep_mark()
        equal((vault.counter("time"), vault.generation), (FLOOR + 5000, 2))


def test_proven_time_sets_clock_and_mark():
    clock, rtc, vault = clock_at(FLOOR)
    prove(clock, FLOOR + 5000, *ALWAYS)
    equal(
        (rtc.time, vault.counter("time"), clock.least()),
        (FLOOR + 5000, FLOOR + 5000, FLOOR + 5000),
    )


def test_proven_time_may_set_a_fast_clock_back_but_never_below_the_marks():
    clock, rtc, vault = clock_at(FLOOR + 900_000, FLOOR + 100)
    prove(clock, FLOOR + 200, *ALWAYS)
    equal((rtc.time, vault.counter("time")), (FLOOR + 200, FLOOR + 100))


def test_a_time_below_the_marks_changes_nothing():
    for mark, told in ((None, FLOOR - 1), (FLOOR + 100, FLOOR + 99), (FLOOR + 100, 0)):
        clock, rtc, vault = clock_at(FLOOR + 500, mark)
        prove(clock, told, *ALWAYS)
        equal((rtc.sets, vault.counter("time"), vault.generation), ([], mark or 0, 1))


def test_a_small_difference_is_left_alone():
    for off in (-2, -1, 0, 1, 2):
        clock, rtc, _ = clock_at(FLOOR + 100 + off)
        prove(clock, FLOOR + 100, *ALWAYS)
        equal(rtc.sets, [])
    for off in (-3, 3):
        clock, rtc, _ = clock_at(FLOOR + 100 + off)
        prove(clock, FLOOR + 100, *ALWAYS)
        equal(rtc.sets, [FLOOR + 100])


def test_the_mark_moves_in_steps_and_upward_only():
    clock, rtc, vault = clock_at(FLOOR)
    prove(clock, FLOOR, *ALWAYS)
    equal(vault.generation, 2)
    for later in (1, STEP - 1, 5, STEP // 2):
        prove(clock, FLOOR + later, *ALWAYS, now_ms=later * 1000)
        equal((vault.counter("time"), vault.generation), (FLOOR, 2))
    prove(clock, FLOOR + STEP, *ALWAYS, now_ms=STEP * 1000)
    equal((vault.counter("time"), vault.generation), (FLOOR + STEP, 3))
    prove(clock, FLOOR + STEP - 1, *ALWAYS)
    equal((vault.counter("time"), vault.generation), (FLOOR + STEP, 3))


def test_the_mark_is_there_after_a_restart():
    store = DictStore()
    vault = vault_with(None, store)
    prove(Clock(Rtc(FLOOR), vault, FLOOR), FLOOR + 90_000, *ALWAYS)
    vault = Vault(store, RootKey())
    vault.open()
    rtc = Rtc(BOOT)
    Clock(rtc, vault, FLOOR).start()
    equal(rtc.time, FLOOR + 90_000)


def test_dates_that_contradict_the_authority():
    for told, before, after in (
        (FLOOR + 100, FLOOR + 101, FLOOR + 200),
        (FLOOR + 201, FLOOR + 101, FLOOR + 200),
        (FLOOR - 1, FLOOR, FLOOR + 200),
    ):
        clock, rtc, vault = clock_at(FLOOR)
        check(clock.try_at(FLOOR + 150))
        error = raises("certificate-dates", clock.prove, told, Dates(before, after), 0)
        check(isinstance(error, PeerError))
        # The tentative time from that certificate is undone, and the welcome proves no time.
        equal((rtc.time, vault.counter("time"), vault.generation), (FLOOR, 0, 1))


def test_dates_are_inclusive():
    clock, rtc, _ = clock_at(FLOOR)
    prove(clock, FLOOR + 100, FLOOR + 100, FLOOR + 100)
    equal(rtc.time, FLOOR + 100)


# -- steps far ahead --------------------------------------------------------------------------

DAY = 86400
YEAR = 365 * DAY


def rebooted(vault, now=BOOT):
    """Return the clock of the next boot, its chip, and the vault as the flash has it."""
    again = Vault(vault.store, RootKey())
    again.open()
    rtc = Rtc(now)
    clock = Clock(rtc, again, FLOOR, records.clock_shift(again))
    clock.start()
    return clock, rtc, again


def test_within_one_boot_a_time_is_expected():
    clock, rtc, vault = clock_at(FLOOR)
    equal(clock.proven(5000), None)
    check(prove(clock, FLOOR + 100, *ALWAYS, now_ms=9000))
    equal(clock.proven(19_000), FLOOR + 110)
    # An hour later by the uptime: two hours more are not too far.
    for told, taken in ((3610 + 7201, False), (YEAR, False), (3610 + 7200, True), (3600, True)):
        check(prove(clock, FLOOR + 100 + told, *ALWAYS, now_ms=9000 + 3_610_000) == taken)
    equal((rtc.time, clock.proven(9000 + 3_610_000)), (FLOOR + 3700, FLOOR + 3700))
    equal(vault.counter("time"), FLOOR + 100)


def test_a_time_far_ahead_counts_for_its_boot_alone():
    _, _, vault = clock_at(FLOOR)
    vault.advance("time", FLOOR + 10)
    clock, rtc, vault = rebooted(vault)
    check(prove(clock, FLOOR + YEAR, *ALWAYS))
    equal((rtc.time, clock.proven(0)), (FLOOR + YEAR, FLOOR + YEAR))  # certificates, codes by time
    equal((vault.counter("time"), clock.least()), (FLOOR + 10, FLOOR + 10))
    check(prove(clock, FLOOR + 500, *ALWAYS))  # the authority's clock is right again
    equal((rtc.time, vault.counter("time"), vault.generation), (FLOOR + 500, FLOOR + 10, 3))
    clock, rtc, vault = rebooted(vault)
    equal(rtc.time, FLOOR + 10)
    check(prove(clock, FLOOR + 10 + DAY, *ALWAYS))  # a day may have passed
    equal(vault.counter("time"), FLOOR + 10 + DAY)


def test_a_time_far_ahead_is_the_mark_once_a_later_day_agrees():
    for first, second, agrees in (
        (YEAR, YEAR + DAY, True),
        (YEAR, YEAR + 90 * DAY, True),
        (YEAR, YEAR + DAY - 1, False),
        (YEAR, YEAR, False),
        (YEAR, YEAR - 1, False),
        (YEAR, YEAR + 90 * DAY + 1, False),
    ):
        _, _, vault = clock_at(FLOOR)
        vault.advance("time", FLOOR)
        for told in (first, second):
            clock, rtc, vault = rebooted(vault)
            check(prove(clock, FLOOR + told, *ALWAYS))
            equal(rtc.time, FLOOR + told)
        equal(vault.counter("time"), FLOOR + second if agrees else FLOOR)
        # Where it does not agree, the later of the two waits for a third one; within a day of
        # the first, the first: a link that flaps does not wear the flash.
        kept = records.load(vault, "clock")
        waits = first if first <= second < first + DAY else second
        earliest = min(first, second)
        wanted = [[FLOOR, FLOOR + earliest, FLOOR + waits], []]
        equal(kept, [1, 0] + ([[], [[FLOOR, FLOOR + first]]] if agrees else wanted))


def test_the_earliest_time_that_nothing_confirmed_is_kept():
    """Codes were taken in each of these boots: an order must know of the first one."""
    _, _, vault = clock_at(FLOOR)
    vault.advance("time", FLOOR)
    for told, kept in (
        (5 * YEAR, [FLOOR, FLOOR + 5 * YEAR, FLOOR + 5 * YEAR]),
        (9 * YEAR, [FLOOR, FLOOR + 5 * YEAR, FLOOR + 9 * YEAR]),
        (DAY, None),  # right again: the mark follows, and what waits goes on waiting
        (7 * YEAR, [FLOOR + DAY, FLOOR + 5 * YEAR, FLOOR + 7 * YEAR]),
    ):
        clock, _, vault = rebooted(vault)
        check(prove(clock, FLOOR + told, *ALWAYS))
        if kept is not None:
            equal(records.load(vault, "clock"), [1, 0, kept, []])
    # One that is past when the mark has gone beyond it is no step over any later time.
    vault.commit({}, {"time": FLOOR + 6 * YEAR})
    clock, _, vault = rebooted(vault)
    check(prove(clock, FLOOR + 8 * YEAR, *ALWAYS))
    found = records.load(vault, "clock")[2]
    equal(found, [FLOOR + 6 * YEAR, FLOOR + 7 * YEAR, FLOOR + 8 * YEAR])


def test_the_second_day_may_be_of_the_same_boot():
    _, _, vault = clock_at(FLOOR)
    vault.advance("time", FLOOR)
    clock, rtc, vault = rebooted(vault)
    prove(clock, FLOOR + YEAR, *ALWAYS)
    prove(clock, FLOOR + YEAR + DAY, *ALWAYS, now_ms=DAY * 1000)
    equal(vault.counter("time"), FLOOR + YEAR + DAY)


def test_a_shift_moves_the_mark_and_not_the_counter():
    vault = vault_with(FLOOR + YEAR)
    vault.put("clock", cbor.encode([1, YEAR, [], []]))
    clock, rtc, vault = rebooted(vault)
    equal((rtc.time, clock.least()), (FLOOR, FLOOR))
    prove(clock, FLOOR + STEP, *ALWAYS)
    equal((clock.least(), vault.counter("time")), (FLOOR + STEP, FLOOR + STEP + YEAR))


def test_a_mark_that_no_counter_can_hold_ends_nothing():
    last = (1 << 32) - 1
    vault = vault_with(last - 100)
    vault.put("clock", cbor.encode([1, last - 100 - FLOOR, [], []]))
    clock, rtc, vault = rebooted(vault)
    check(prove(clock, FLOOR + STEP, *ALWAYS))
    equal((rtc.time, vault.counter("time")), (FLOOR + STEP, last - 100))


# -- uptime -----------------------------------------------------------------------------------


class Ticks:
    """time.ticks_ms of a board: 30 bits."""

    PERIOD = 1 << 30

    def __init__(self, start):
        self.value = start

    def ticks_ms(self):
        return self.value % self.PERIOD

    def ticks_diff(self, a, b):
        half = self.PERIOD // 2
        return (a - b + half) % self.PERIOD - half


def test_uptime_across_the_wrap_of_ticks():
    saved = module.time
    module.time = ticks = Ticks((1 << 30) - 1000)
    try:
        uptime = Uptime()
        equal(uptime.now_ms(), 0)
        total = 0
        for step in (
            1,
            998,
            1,
            1,
            5000,
            0,
            (1 << 29) - 1,
            (1 << 29) - 1,
            (1 << 29) - 1,
            (1 << 29) - 1,
        ):
            ticks.value += step
            total += step
            equal(uptime.now_ms(), total)
        check(total > 1 << 30)
    finally:
        module.time = saved
