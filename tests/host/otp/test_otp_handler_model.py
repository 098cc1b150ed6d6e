"""Test the authority's handler and the device's gate over a plain network, by hypothesis.

The network replays and forges, and the authority's process crashes. otp_model.py checks the
authority's answers; test_otp_model.py checks the device.
"""

import os
import random
import tempfile
from pathlib import Path

from codes_kit import other
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from otp_model import World

EXAMPLES = int(os.environ.get("OTP_EXAMPLES", "30"))
# A database there waits for no disk.
MEMORY = "/dev/shm"
SEEN = {"opens": 0, "verdicts": 0, "codes": 0, "attempts": 0}

picks = st.integers(0, 999)
# Mostly none: a device that is cut at every turn gets nowhere.
budgets = st.one_of(st.none(), st.none(), st.none(), st.integers(0, 6))


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None)

    @initialize(retries=st.sampled_from((1, 2, 3)), duress=st.booleans())
    def start(self, retries, duress) -> None:
        self.world = World(Path(self.folder.name), retries, duress)
        self.world.pass_time(1)
        self.world.deliver_all()

    @rule(seconds=st.sampled_from((1, 4, 20, 31, 61, 100, 299, 301, 3600)))
    def pass_time(self, seconds) -> None:
        self.world.pass_time(seconds)

    @rule(keys=st.sampled_from(("5", "*", "#", "12", "1234567#")), budget=budgets)
    def press(self, keys, budget) -> None:
        self.world.press(keys, budget)

    @precondition(lambda self: self.world.issues)
    @rule(
        pick=picks,
        what=st.sampled_from(("right", "right", "wrong", "duress", "old")),
        budget=budgets,
    )
    def type_code(self, pick, what, budget) -> None:
        world = self.world
        if not world.device.lines(world.now_ms)[0].startswith("Code?"):
            self.go_on()
        issue = world.issues[world.newest]
        if what == "old":
            issue = list(world.issues.values())[pick % len(world.issues)]
        code = issue.duress if what == "duress" and issue.duress else issue.code
        world.press("*" + (other(code) if what == "wrong" else code) + "#", budget)

    @precondition(lambda self: self.world.net)
    @rule(pick=picks, keep=st.booleans(), budget=budgets)
    def deliver_one(self, pick, keep, budget) -> None:
        self.world.deliver(pick % len(self.world.net), keep, budget)

    @precondition(lambda self: self.world.net)
    @rule()
    def deliver_oldest(self) -> None:
        self.world.deliver(0, False)

    @rule()
    def go_on(self) -> None:
        """A while of a good network, with a person at the keys: to where the next code can be
        typed."""
        self.world.linked = True
        if self.world.device.by:
            self.world.boot()
        self.world.press("5")
        self.world.pass_time(61)
        self.world.deliver_all()

    @precondition(lambda self: self.world.tape)
    @rule(pick=picks)
    def play_back(self, pick) -> None:
        """Something that was said before, one of the last dozen."""
        tape = self.world.tape
        self.world.net.append(tape[-1 - pick % min(len(tape), 12)])
        self.world.deliver(len(self.world.net) - 1, False)

    @precondition(lambda self: self.world.issues)
    @rule(guesses=st.integers(0, 4), right=st.booleans(), deliver=st.booleans())
    def forge(self, guesses, right, deliver) -> None:
        world = self.world
        code = world.issues[world.newest].code
        # Another one each time: the same again within five seconds would be one attempt.
        wrong = [f"{(int(code) + 1 + len(world.tape) + n) % 10**6:06}" for n in range(guesses)]
        for each in [*wrong, code] if right else wrong:
            world.forge(world.newest, each)
            if deliver:
                world.deliver(len(world.net) - 1, False)

    @precondition(lambda self: self.world.net)
    @rule(pick=picks)
    def lose(self, pick) -> None:
        del self.world.net[pick % len(self.world.net)]

    @rule()
    def cut_the_power(self) -> None:
        self.world.boot()

    @rule()
    def restart_the_authority(self) -> None:
        self.world.restart()

    @precondition(lambda self: self.world.net)
    @rule(statements=st.integers(0, 14))
    def crash_the_authority(self, statements) -> None:
        self.world.deliver(len(self.world.net) - 1, True, statements=statements)

    @rule(by=st.sampled_from((-7200, -400, 400, 7200)))
    def set_the_authoritys_clock(self, by) -> None:
        self.world.set_clock(by)

    @rule(linked=st.booleans())
    def lose_the_link(self, linked) -> None:
        self.world.linked = linked

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.recover()
            finally:
                for key, count in self.world.counts().items():
                    SEEN[key] += count
                self.world.close()
        self.folder.cleanup()


def walk(world: World, chance: random.Random, steps: int) -> None:
    """As the machine above, but to the end: hypothesis prefers short stories, and what wears out
    takes long ones."""
    for _ in range(steps):
        way = chance.random()
        if world.device.by:
            world.boot()
        if way < 0.25:
            world.press("5")
            world.pass_time(chance.choice((1, 10, 61)))
            world.deliver_all()
        elif way < 0.45 and world.issues:
            issue = world.issues[world.newest]
            code = chance.choice((issue.code, other(issue.code), issue.duress or issue.code))
            world.press("*" + code + "#", chance.choice((None, None, None, 0, 1, 2, 3)))
        elif way < 0.6 and world.issues:
            code = world.issues[world.newest].code
            wrong = [f"{chance.randrange(10**6):06}" for _ in range(chance.randrange(4))]
            for each in [*(each for each in wrong if each != code), code]:
                world.forge(world.newest, each)
                world.deliver(len(world.net) - 1, False)
        elif way < 0.7 and world.tape:
            world.net.append(chance.choice(world.tape[-12:]))
            world.deliver(len(world.net) - 1, False)
        elif way < 0.8 and world.net:
            crash = chance.choice((None, None, chance.randrange(14)))
            world.deliver(chance.randrange(len(world.net)), chance.random() < 0.3, None, crash)
        elif way < 0.85 and world.net:
            del world.net[chance.randrange(len(world.net))]
        elif way < 0.9:
            world.pass_time(chance.choice((6, 31, 100, 299, 301, 1800)))
        elif way < 0.94:
            world.set_clock(chance.choice((-7200, -400, 400, 7200)))
        elif way < 0.97:
            world.restart()
        else:
            world.boot()


def test_long_stories():
    seen = dict.fromkeys(SEEN, 0)
    for seed in range(EXAMPLES):
        chance = random.Random(seed)
        with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as folder:
            world = World(Path(folder), chance.choice((1, 2, 3)), chance.random() < 0.5)
            try:
                walk(world, chance, 80)
                world.recover()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error
            finally:
                world.close()
            for key, count in world.counts().items():
                seen[key] += count
    print(f"{EXAMPLES} walks: {seen}")
    assert seen["verdicts"] > 10 * EXAMPLES


def test_no_message_lost_doubled_or_late_gains_anything():
    profile = settings(
        max_examples=EXAMPLES,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=profile)
    print(f"{EXAMPLES} runs: {SEEN}")
    # A model in which nothing happens finds nothing.
    assert SEEN["opens"] >= EXAMPLES
    assert SEEN["verdicts"] > EXAMPLES
