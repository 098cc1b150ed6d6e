"""A moment of a wrong clock at the host must not become every device's time for ever."""

import pytest
from engine_kit import Stage
from host_kit import DEVICE, NoLink, new_fleet, refused
from warden_client.protocol.session import Instant
from warden_host.broker.mosquitto.broker import Broker
from warden_host.cli.common import State
from warden_host.cli.main import warden
from warden_host.service import authority as authority_module
from warden_host.service import clock_guard
from warden_host.service.authority import Authority
from warden_host.service.clock_guard import (
    AWAY_S,
    BACK_S,
    DRIFT,
    STEP_S,
    UNSET_S,
    ClockGuard,
    Reading,
)
from warden_host.service.run import serving
from warden_host.store.clock import Mark
from warden_host.store.store import Store

NOW = 1_700_000_000
YEARS = 5 * 365 * 86400
HOUR = 3600


class Machine:
    """A machine's clocks, set by the test."""

    def __init__(self) -> None:
        self.unix, self.steady, self.boot, self.monotonic = float(NOW), 1000.0, "first", 50.0

    def __call__(self) -> Reading:
        return Reading(Mark(self.unix, self.steady, self.boot), self.monotonic)

    def runs(self, seconds: float, wall: float | None = None) -> None:
        """Time passes; wall: how far the wall clock moves, where that is another span."""
        self.steady += seconds
        self.monotonic += seconds
        self.unix += seconds if wall is None else wall

    def restarts(self, off: float, error: float = 0.0) -> None:
        """The machine is off for so long, and its clock starts with this error."""
        self.unix += off + error
        self.steady, self.boot = 5.0, self.boot + "'"


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "fleet.db") as made:
        yield made


def starts(store: Store, machine: Machine, accept: bool = False, unset: bool = False) -> bool:
    """Whether `warden serve` starts at the machine's present time."""
    if accept:
        clock_guard.check_start(store, True, machine)
        return True
    before = store.clock_mark()
    try:
        clock_guard.check_start(store, False, machine, lambda: unset)
    except clock_guard.HostError as error:
        assert error.code == "clock-jumped"
        assert "--accept-clock" in error.hint
        assert store.clock_mark() == before  # what was refused is no mark
        return False
    return True


# While it runs


@pytest.mark.parametrize("jump", [YEARS, -YEARS, STEP_S + 1, -STEP_S - 1])
def test_a_jump_is_not_sealed_until_the_clock_is_right_again(store, machine, jump):
    assert starts(store, machine)
    guard = ClockGuard(store, machine)
    machine.runs(10)
    assert guard.now() == Instant(int(machine.unix), machine.monotonic, True)
    machine.unix += jump
    assert not guard.now().sealable
    assert "jumped" in guard.tick()
    machine.runs(10)
    assert guard.tick() == ""  # told once
    guard.close()
    assert store.clock_mark() == Mark(NOW, 1000.0, "first")
    machine.unix -= jump
    assert guard.now().sealable
    assert "agrees again" in guard.tick()
    assert guard.tick() == ""


def test_a_right_clock_raises_no_doubt(store, machine):
    """NTP steps and slews, the machine sleeps: BOOTTIME and the wall clock go on together."""
    assert starts(store, machine)
    guard = ClockGuard(store, machine)
    for passed, wall in ((5, 5 + STEP_S), (HOUR, HOUR - STEP_S), (8 * HOUR, 8 * HOUR * 1.0005)):
        machine.runs(passed, wall)
        assert guard.now().sealable
        assert guard.tick() == ""
    machine.runs(30 * 86400)
    assert guard.now().sealable


def test_small_steps_do_not_add_up_to_a_jump(store, machine):
    assert starts(store, machine)
    guard = ClockGuard(store, machine)
    start = machine.unix - machine.steady
    for _ in range(HOUR // 10):
        machine.runs(10, 10 + STEP_S / 2)
        guard.tick()
        if not guard.now().sealable:
            break
    else:
        pytest.fail("the clock was walked away")
    assert machine.unix - machine.steady - start < 2 * STEP_S + DRIFT * HOUR


def test_the_mark_follows_once_an_hour_and_at_the_end(store, machine):
    assert starts(store, machine)
    guard = ClockGuard(store, machine)
    machine.runs(HOUR - 1)
    guard.tick()
    assert store.clock_mark().unix == NOW
    machine.runs(1)
    guard.tick()
    assert store.clock_mark().unix == NOW + HOUR
    machine.runs(7)
    guard.close()
    assert store.clock_mark().unix == NOW + HOUR + 7


# At the start


def test_a_first_start(store, machine):
    assert starts(store, machine)
    assert store.clock_mark() == Mark(NOW, 1000.0, "first")


def test_a_jump_between_two_starts_of_serve(store, machine):
    assert starts(store, machine)
    machine.runs(HOUR, HOUR + STEP_S + DRIFT * HOUR + 1)
    assert not starts(store, machine)
    assert starts(store, machine, accept=True)
    assert starts(store, machine)


def test_a_machine_that_was_off(store, machine):
    assert starts(store, machine)
    machine.restarts(31 * 86400)
    assert starts(store, machine)  # a month away is no jump
    machine.restarts(0, -BACK_S)
    assert starts(store, machine)
    machine.restarts(0, -BACK_S - 1)
    assert not starts(store, machine)
    machine.unix += 1
    assert starts(store, machine)


@pytest.mark.parametrize(("off", "good"), [(UNSET_S, True), (UNSET_S + 1, False)])
def test_a_clock_that_no_time_server_has_set_is_believed_for_a_day(store, machine, off, good):
    assert starts(store, machine, unset=True)  # the first start: there is nothing to compare
    machine.restarts(off)
    assert starts(store, machine, unset=True) == good
    assert starts(store, machine)
    machine.runs(90 * UNSET_S)
    assert starts(store, machine, unset=True)  # within one start the steady clock shows it


def test_the_kernel_is_asked():
    assert clock_guard.is_unset() in (True, False)


@pytest.mark.parametrize("why", [OSError("no libc"), AttributeError("adjtimex")])
def test_a_system_without_the_kernels_word_counts_as_set(monkeypatch, why):
    def fails(*_, **__):
        raise why

    monkeypatch.setattr(clock_guard.ctypes, "CDLL", fails)
    assert clock_guard.is_unset() is False


@pytest.mark.parametrize(("off", "good"), [(AWAY_S, True), (AWAY_S + 1, False), (YEARS, False)])
def test_how_long_a_fleet_may_have_been_away(store, machine, off, good):
    assert starts(store, machine)
    machine.restarts(off)
    assert starts(store, machine) is good
    assert starts(store, machine, accept=True)
    assert starts(store, machine)


@pytest.mark.parametrize(("ahead", "good"), [(86400, True), (YEARS, False), (-YEARS, False)])
def test_a_database_from_before_there_was_a_mark(tmp_path, machine, ahead, good):
    made = Stage(tmp_path)
    with made.store as store:
        store.set_last_seen(DEVICE, NOW)
        store.write_events()
        machine.unix += ahead
        assert starts(store, machine) is good


def test_serve_refuses_before_there_is_a_broker(tmp_path, monkeypatch):
    made = new_fleet(tmp_path)
    with Store(made.database) as store:
        store.set_clock_mark(Mark(NOW - YEARS, 0.0, "another"))
    monkeypatch.setattr(Broker, "start", lambda _: pytest.fail("the broker was started"))
    with refused("clock-jumped"), serving(made):
        pass


def test_serve_accepts_the_clock_by_option(folder, monkeypatch):
    """--accept-clock reaches the check."""
    told = []
    monkeypatch.setattr(
        clock_guard, "check_start", lambda _store, accept: told.append(accept) or 1 / 0
    )
    for arguments in (["serve"], ["serve", "--accept-clock"]):
        with pytest.raises(ZeroDivisionError):
            warden.main(
                args=["--fleet", str(folder), *arguments], standalone_mode=False, obj=State()
            )
    assert told == [False, True]


# What the engine makes of it


def test_no_welcome_holds_a_time_that_jumped(stage, peer):
    stage.handshake(peer)
    stage.now = Instant(NOW + YEARS, stage.now.steady + 1, False)
    stage.sent.clear()
    stage.receive("hello", peer.hello())
    assert stage.sent == []
    assert stage.codes() == ["clock-jumped"]
    (row,) = stage.store.incidents(DEVICE)
    assert (row.source, row.code, row.at, row.n) == ("host", "clock-jumped", "hello", 1)
    assert stage.engine.online() == {DEVICE: ["authority"]}  # sessions that stand go on
    stage.now = Instant(NOW + 2, stage.now.steady + 1)
    stage.handshake(peer)


def test_the_clock_of_a_running_authority_is_guarded(tmp_path):
    """Authority gives the guard's clock to the engine, and announces a jump."""
    made = new_fleet(tmp_path)
    news = []
    with serving(made, news.append) as service:
        assert service.authority.ask(lambda engine: engine.clock().sealable)
        now = clock_guard.read()

        def set_ahead(engine):
            guard = engine.clock._now.__self__
            guard._clocks = lambda: now._replace(
                mark=now.mark._replace(unix=now.mark.unix + YEARS)
            )
            return service.authority.check_clock(guard) or engine.clock().sealable

        assert service.authority.ask(set_ahead) is False
    assert "clock-jumped" in [each.code for each in news]


def test_no_deadline_passes_by_a_clock_that_jumped(stage):
    state = stage.engine.state(DEVICE)
    state.old_keys_expire = NOW + 10
    stage.now = Instant(NOW + YEARS, stage.now.steady + 1, False)
    stage.engine.tick()
    assert state.old_keys_expire == NOW + 10
    stage.now = Instant(NOW + 10, stage.now.steady + 1)
    stage.engine.tick()
    assert state.old_keys_expire is None


def test_one_piece_of_work_sees_one_time():
    times = iter([Instant(1, 1.0), Instant(2, 2.0)])
    clock = clock_guard.WorkClock(lambda: next(times))
    assert clock() == clock() == Instant(1, 1.0)
    clock.renew()
    assert clock() == Instant(2, 2.0)


def test_the_authority_reads_the_clock_for_each_piece_of_work(tmp_path, monkeypatch):
    monkeypatch.setattr(authority_module, "AppLink", NoLink)
    with Authority(new_fleet(tmp_path), lambda _: None) as made:
        first = made.ask(lambda engine: engine.clock().steady)
        assert made.ask(lambda engine: engine.clock().steady) > first
