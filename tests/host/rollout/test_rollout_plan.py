"""Waves and limits: what a rollout does next follows from the devices' states alone."""

import json

import pytest
from host_kit import refused
from hypothesis import given
from hypothesis import strategies as st
from warden_host.rollout import plan as rollout_plan
from warden_host.rollout.plan import BUSY, FAILED, FINAL, STATES, Plan, assign
from warden_host.rollout.tally import Tally, next_step
from warden_host.store.releases import Target


def targets(*waves: str) -> Tally:
    """One letter a device: w(aiting), d(ownloading), t(esting), a(ccepted), r(ejected), l(ost), y:
    away."""
    names = {
        "w": "Waiting",
        "d": "Downloading",
        "t": "Testing",
        "a": "Accepted",
        "r": "Rejected",
        "l": "Lost",
        "y": "Away",
        "s": "Superseded",
    }
    return Tally(
        Target(f"D{wave}{number}", wave, names[letter], "", float(number))
        for wave, letters in enumerate(waves)
        for number, letter in enumerate(letters)
    )


@pytest.mark.parametrize(
    ("waves", "state", "wave"),
    [
        (["ww"], "active", 0),
        (["aw", "ww"], "active", 0),
        (["at", "ww"], "active", 0),
        (["aa", "ww"], "active", 1),
        (["aa", "aa"], "done", 1),
        (["ar", "ww"], "stopped", 0),
        (["al", "ww"], "stopped", 0),
        # One that is away holds no other up, once another has shown that it works.
        (["ay", "ww"], "active", 1),
        (["yy", "ww"], "active", 0),
        (["ay"], "active", 0),
        (["as"], "done", 0),
        (["ss", "ww"], "active", 1),
        (["aaaaaaaaaa", "raaaaaaaaa", "ww"], "active", 2),
        (["aaaaaaaaaa", "rraaaaaaaa", "ww"], "active", 2),
        (["aaaaaaaaaa", "rrraaaaaaa", "ww"], "stopped", 1),
        # The share counts over those that were reached, not over the fleet.
        (["raaaaaaaa", "w" * 100], "stopped", 0),
    ],
)
def test_the_next_wave(waves, state, wave):
    step = next_step(Plan(), targets(*waves), 0)
    assert (step.state, step.wave) == (state, wave)


def test_limits():
    assert (
        next_step(Plan(max_failures=0), targets("raaaaaaaaaaaaaaaaaaa", "w"), 0).state == "stopped"
    )
    assert (
        next_step(Plan(max_failures=1, in_percent=False), targets("ra", "w"), 0).state == "active"
    )
    assert (
        next_step(Plan(max_failures=1, in_percent=False), targets("rr", "w"), 0).state == "stopped"
    )
    assert next_step(Plan(max_failures=100), targets("rrr", "w"), 0).wave == 1
    # What the owner looked at counts no more; what fails after it does.
    assert next_step(Plan(), targets("ra", "w"), 1).state == "active"
    assert next_step(Plan(), targets("rr", "w"), 1).state == "stopped"
    why = next_step(Plan(), targets("arw"), 0)
    assert why.reason == "1 of 3 failed, the last with Rejected"
    why = next_step(Plan(), targets("alrw"), 0)
    assert why.reason == "2 of 4 failed, the last with Rejected"
    why = next_step(Plan(), targets("r", "al"), 0)
    assert why.reason == "1 of 1 failed, the last with Rejected"
    why = next_step(Plan(), targets("arlw", "r"), 0)
    assert why.reason == "2 of 4 failed, the last with Lost"


@given(st.lists(st.text("wdtarlys", min_size=1, max_size=6), min_size=1, max_size=4))
def test_wave_starts_after_the_earlier_ones_passed(waves):
    step = next_step(Plan(), targets(*waves), 0)
    for wave in waves[: step.wave]:
        assert not set(wave) & set("wdt")
        assert "a" in wave or not set(wave) & set("yl")
    reached = "".join(waves[: step.wave + 1])
    failed = sum(letter in "rl" for letter in reached)
    if step.state != "stopped":
        assert failed * 100 <= len(reached) * 10
    if step.state == "done":
        assert not set("".join(waves)) & set("wdtyl")


@given(st.integers(1, 300), st.lists(st.integers(1, 99), max_size=5, unique=True))
def test_waves_reach_their_share(count, shares):
    waves = (*sorted(shares), 100)
    devices = [f"D{number}" for number in range(count)]
    found = assign(waves, devices)
    assert list(found) == devices
    for number, percent in enumerate(waves):
        reached = sum(wave <= number for wave in found.values())
        assert reached >= 1
        assert count * percent / 100 <= reached < count * percent / 100 + 1


def test_a_larger_share_holds_the_smaller_one():
    devices = [f"D{number}" for number in range(50)]
    order = rollout_plan.shuffle("lock-1", devices)
    assert sorted(order) == sorted(devices)
    assert order == rollout_plan.shuffle("lock-1", list(reversed(devices)))
    assert order != rollout_plan.shuffle("lock-2", devices)
    few, many = rollout_plan.first_share(order, 10), rollout_plan.first_share(order, 40)
    assert (len(few), len(many)) == (5, 20)
    assert many[:5] == few
    assert rollout_plan.first_share(order[:1], 1) == order[:1]
    assert rollout_plan.first_share([], 50) == []


TOO_MANY = ",".join(f"{share}%" for share in range(1, rollout_plan.MAX_WAVES + 2))


def test_waves_and_limits_as_typed():
    assert rollout_plan.parse_waves("10%, 50%,100%") == (10, 50, 100)
    assert rollout_plan.parse_waves("5%") == (5, 100)
    assert rollout_plan.parse_failures("0%") == (0, True)
    assert rollout_plan.parse_failures("3") == (3, False)
    for waves in ("", "10", "50%,10%", "10%,10%", "0%", "101%", "10%,,100%", TOO_MANY):
        with refused("bad-argument"):
            rollout_plan.parse_waves(waves)
    for failures in ("", "-1", "101%", "x", "²", "1" * 7):
        with refused("bad-argument"):
            rollout_plan.parse_failures(failures)
    with refused("database-damaged"):
        rollout_plan.read_plan({"waves": [1], "more": 1})


def test_pins_of_a_web_server():
    one, two = "ab" * 32, "cd" * 32
    assert rollout_plan.parse_pins([]) == ()
    assert rollout_plan.parse_pins([one, two]) == (one, two)
    many = [f"{number:064x}" for number in range(5)]
    for wrong in ([one], [one, one], many, [one, "x" * 64], [one, two[:-1]], [one, two + "\n"]):
        with refused("bad-argument"):
            rollout_plan.parse_pins(wrong)
    plan = rollout_plan.Plan(web_pins=(one, two), web=False)
    assert rollout_plan.read_plan(json.loads(json.dumps(plan.record()))) == plan


def test_every_state_has_its_kind():
    assert FAILED | FINAL | BUSY | {"Away"} == set(STATES)
    assert not BUSY & (FINAL | FAILED)
