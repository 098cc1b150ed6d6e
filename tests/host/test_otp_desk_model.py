"""The authority's desk and the device's gate around a plain network that plays back and forges, with crashes of the authority's process; told what to do
by hypothesis. The judge is otp_world.py, which looks at what the authority says; test_otp_model.py looks at the device.

OTP_EXAMPLES in the environment asks for more than the few runs of `make test`.
"""

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from otp_stage import other
from otp_world import World
from warden_host.session import Instant

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
        """A while of a good network, with somebody at the keys: to where the next code can be typed."""
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
    @rule(what=st.sampled_from(("right", "wrong", "wrong")), deliver=st.booleans())
    def forge(self, what, deliver) -> None:
        world = self.world
        code = world.issues[world.newest].code
        # Another one each time: the same again within five seconds would be one attempt.
        wrong = f"{(int(code) + 1 + len(world.tape)) % 10**6:06}"
        world.forge(world.newest, wrong if what == "wrong" else code)
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
        now = self.world.stage.now
        self.world.stage.now = Instant(now.unix + by, now.steady)

    @rule(linked=st.booleans())
    def lose_the_link(self, linked) -> None:
        self.world.linked = linked

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.recover()
            finally:
                SEEN["opens"] += self.world.opens
                SEEN["verdicts"] += self.world.verdicts
                SEEN["codes"] += len(self.world.issues)
                SEEN["attempts"] += self.world.sent_attempts
                self.world.close()
        self.folder.cleanup()


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
