"""The cost of a rollout grows with the fleet and no faster, counted in calls and SQL statements.

The devices are records, and a script decides the result of each. `-s` prints the figures.
"""

import sys
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress
from warden_client.protocol.session import Instant
from warden_host.cli import rollout
from warden_host.engine.engine import Engine
from warden_host.engine.events import FleetEvent
from warden_host.engine.jobs import Wait
from warden_host.rollout import device_job
from warden_host.rollout import plan as rollout_plan
from warden_host.rollout.plan import BUSY, FAILED, STATES, TESTING
from warden_host.rollout.rollouts import Rollouts
from warden_host.rollout.tally import Tally, next_step
from warden_host.store.releases import Target
from warden_host.store.store import Store

FEW, MANY = 60, 480


def well(engine, device, report):
    report("Downloading", "", 0)
    yield Wait(lambda _: False, 0.0, device)
    report("Testing", "", 0)
    yield Wait(lambda _: False, engine.clock().steady + 10, device)
    return {"state": "Accepted", "reason": ""}


def away(engine, device, report):
    yield from ()
    return {"state": "Away", "reason": "no-session"}


def long_trial(engine, device, report):
    """Put the whole fleet on trial at once, then let each device send an event."""
    report("Testing", "", 0)
    yield Wait(lambda news: news.device == device, engine.clock().steady + 10_000, device)
    return {"state": "Accepted", "reason": ""}


def counted(work) -> int:
    """Count the calls that the work takes."""
    calls = 0

    def note(_frame, event, _argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def cost(folder, count: int, script, monkeypatch) -> tuple[float, float]:
    """Return (calls, statements) of a rollout for each of `count` devices."""

    def job(engine, release, device, plan, report):
        return script(engine, device, report)

    monkeypatch.setattr(device_job, "job", job)
    now = [50.0]
    with Store(folder / f"{count}.db") as store:
        engine = Engine(store, lambda *_: None, lambda _: None, lambda: Instant(0, now[0]))
        made = Rollouts(engine)
        release = SimpleNamespace(name="r-1", sequence=1, total=1000, close=lambda: None)
        waves = (100,) if script is away else (5, 20, 100)
        plan = rollout_plan.Plan(waves=waves)
        devices = [f"D{number}" for number in range(count)]
        number = store.add_rollout("r-1", 1, plan.record(), rollout_plan.assign(waves, devices))
        statements: list[str] = []
        store._db.set_trace_callback(statements.append)

        def work():
            made.start(number, release)
            for at in range(200):
                now[0] += 130 if script is away else 5
                engine.tick()
                done = not made.active or (script is away and at == 3)
                if done:
                    return
                if script is long_trial:
                    for device in devices:
                        engine.notify(FleetEvent("session", device, "lights"))

        calls = counted(work)
        found = store.rollout(number)
        wanted = ("active", {"Away"}) if script is away else ("done", {"Accepted"})
        # Nothing is kept of a device that is done with; those that look in on time wait for none.
        assert set(engine._jobs._running) == {None}
        assert (found.state, {target.state for target in found.targets}) == wanted
    return calls / count, len(statements) / count


@pytest.mark.parametrize("script", [well, away, long_trial], ids=lambda script: script.__name__)
def test_a_larger_fleet_costs_each_device_no_more(tmp_path, monkeypatch, script):
    few = cost(tmp_path, FEW, script, monkeypatch)
    many = cost(tmp_path, MANY, script, monkeypatch)
    text = "{}: {:.0f} calls and {:.1f} statements a device with {} devices"
    for count, found in ((FEW, few), (MANY, many)):
        print(text.format(script.__name__, *found, count))
    assert many[0] < 1.3 * few[0]
    assert many[1] < 1.1 * few[1]


def test_looking_on_costs_each_line_no_more():
    def shown(count: int) -> float:
        rows = [[f"D{number}", 0, "Waiting", ""] for number in range(count)]
        with Progress(console=Console(quiet=True), disable=True) as progress:
            bars = rollout._Bars(progress)
            bars.show({"rollout": 1, "targets": rows})
            bars.show({"rollout": 1, "counts": {}, "release": "r-1"})

            def work():
                for row in rows:
                    for state in ("Rejected", "Accepted"):
                        bars.show({"device": row[0], "state": state, "total": 1})

            calls = counted(work) / count
            task = progress.tasks[0]
            assert (task.completed, task.total) == (count, count)
        return calls

    assert shown(MANY) < 1.3 * shown(FEW)


@example([0], [(0, "start"), (0, "Testing"), (0, "finish")])
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=6),
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([*STATES, "start", "finish"])), max_size=40
    ),
)
def test_counts_match_a_fresh_count(waves, changes):
    """After any changes the counts equal a fresh count."""
    tally = Tally(
        Target(f"D{number}", wave, "Waiting", "", 0) for number, wave in enumerate(waves)
    )
    for moment, (number, change) in enumerate(changes):
        device = f"D{number % len(waves)}"
        if change == "start":
            if device not in tally.running:
                tally.start(device)
        elif change == "finish":
            tally.finish(device)
        else:
            tally.change(device, change, "x", float(moment))
        targets = list(tally.targets.values())
        anew = Tally(targets)
        assert tally.counts() == anew.counts()
        assert next_step(rollout_plan.Plan(), tally, 0) == next_step(rollout_plan.Plan(), anew, 0)
        assert tally.downloading == sum(
            tally.targets[one].state != TESTING for one in tally.running
        )
        for wave in range(3):
            reached = [target for target in targets if target.wave <= wave]
            for states in (FAILED, BUSY):
                assert tally.count_reached(wave, states) == sum(
                    one.state in states for one in reached
                )
            follows = tally.next_device(wave)
            assert follows is None or tally.targets[follows].state == "Waiting"
            assert follows is None or follows not in tally.running
            assert follows is None or tally.targets[follows].wave <= wave
            waiting = [
                one
                for one in reached
                if one.state == "Waiting" and one.device not in tally.running
            ]
            # One whose job ended while it waited is not begun again by itself.
            assert (
                follows is not None
                or not waiting
                or any(change == "finish" for _, change in changes)
            )
