"""Both real ends of the session around an adversary's network, told what to do by hypothesis (the
judge is session_model.py), and the same traces once more on the unix port.

SESSION_EXAMPLES in the environment asks for more than the few runs of `make test`.
"""

import os
import subprocess

import cbor2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from session_model import REPO, Message, World

EXAMPLES = int(os.environ.get("SESSION_EXAMPLES", "150"))
PROFILE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
NAMES = ("hello", "welcome", "wake", "ready", "ack", "set", "reply", "temperature")
# Traces of the machines, for the port.
TRACES: list[list[tuple[str, str]]] = []
STEPS = [0]

picks = st.integers(0, 999)
apps = st.sampled_from(("authority", "acme"))


def other_tape() -> list[Message]:
    """What another device of the same applications ever said and heard."""
    world = World(device="back-2")
    world.recover()
    world.publish("acme")
    world.deliver_all()
    return world.tape


OTHERS = other_tape()


def splice(one: bytes, two: bytes, part: int) -> bytes:
    """Return the first message with one part of the second: a header, the body or the tag."""
    first, second = cbor2.loads(one), cbor2.loads(two)
    if part < 4:
        at = min(part, len(first) - 1)
        first[at] = second[min(part, len(second) - 1)]
    else:
        headers = cbor2.loads(first[0])
        label = (4, 6, 10)[part % 3]
        headers[label] = cbor2.loads(second[0]).get(label, b"\1")
        first[0] = cbor2.dumps(headers, canonical=True)
    return cbor2.dumps(first, canonical=True)


class Sessions(RuleBasedStateMachine):
    @initialize(weak=st.booleans(), stands=st.booleans())
    def start(self, weak: bool, stands: bool) -> None:
        self.world = World(weak)
        if stands:
            self.world.recover()

    # What happens by itself

    @rule()
    def deliver_all(self) -> None:
        self.world.deliver_all()

    @rule(ms=st.sampled_from((1, 900, 1000, 3000, 6000, 9999, 10000, 20000, 30000, 61000)))
    def pass_time(self, ms: int) -> None:
        self.world.pass_time(ms)

    @rule(app=apps)
    def publish(self, app: str) -> None:
        self.world.publish(app)

    @rule(app=apps, ttl_s=st.sampled_from((1, 5, 30, 3600)))
    def command(self, app: str, ttl_s: int) -> None:
        self.world.command(app, ttl_s)

    @rule()
    def work(self) -> None:
        self.world.work()

    @rule()
    def vault_rises(self) -> None:
        self.world.raise_generation()

    @rule()
    def device_restarts(self) -> None:
        self.world.restart_device()

    @rule()
    def device_reconnects(self) -> None:
        self.world.reconnect()

    @rule()
    def applications_restart(self) -> None:
        self.world.restart_apps()

    @rule(when=st.sampled_from(("before", "after")))
    def crash_when_proven(self, when: str) -> None:
        self.world.crash = when

    # What the adversary does

    @precondition(lambda self: self.world.wire)
    @rule(pick=picks, work=st.booleans())
    def deliver_one(self, pick: int, work: bool) -> None:
        wire = self.world.wire
        self.world.deliver(wire.pop(pick % len(wire)), work)

    @precondition(lambda self: self.world.wire)
    @rule(pick=picks)
    def drop(self, pick: int) -> None:
        wire = self.world.wire
        wire.pop(pick % len(wire))

    @rule()
    def drop_all(self) -> None:
        self.world.wire.clear()

    @rule(pick=picks, late=st.booleans())
    def play_back(self, pick: int, late: bool) -> None:
        """Anything that was ever said here, now or at some time."""
        tape = self.world.tape
        message = tape[pick % len(tape)] if not late else tape[-1 - pick % min(8, len(tape))]
        self.world.deliver(message)

    @rule(pick=picks)
    def foreign(self, pick: int) -> None:
        """Another device's message, on this one's topic."""
        self.world.deliver(OTHERS[pick % len(OTHERS)])

    @rule(pick=picks, name=st.sampled_from(NAMES), turn=st.booleans())
    def retopic(self, pick: int, name: str, turn: bool) -> None:
        """Under another name, or reflected to who sent it."""
        message = self.world.tape[-1 - pick % min(12, len(self.world.tape))]
        way = {"evt": "cmd", "cmd": "evt"}[message.way] if turn else message.way
        self.world.deliver(Message(way, name, message.data, message.device))

    @rule(one=picks, two=picks, part=st.integers(0, 6))
    def spliced(self, one: int, two: int, part: int) -> None:
        tape = self.world.tape
        first, second = tape[-1 - one % min(12, len(tape))], tape[-1 - two % len(tape)]
        data = splice(first.data, second.data, part)
        self.world.deliver(Message(first.way, first.name, data, first.device))

    @rule(pick=picks, bit=st.integers(0, 4000))
    def flip(self, pick: int, bit: int) -> None:
        tape = self.world.tape
        message = tape[-1 - pick % min(12, len(tape))]
        data = bytearray(message.data)
        data[bit // 8 % len(data)] ^= 1 << bit % 8
        self.world.deliver(Message(message.way, message.name, bytes(data), message.device))

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.recover()
            TRACES.append(self.world.trace)
            STEPS[0] += len(self.world.trace)


def test_the_model() -> None:
    """Forgeries change nothing, no message counts twice, no nonce repeats, sessions come back."""
    run_state_machine_as_test(Sessions, settings=PROFILE)
    print(f"{len(TRACES)} runs, {STEPS[0]} operations of the device")


def replay(micropython: str, trace: list[tuple[str, str]]) -> None:
    done = subprocess.run(
        [micropython, "-X", "heapsize=2m", "tests/cpython/session_driver.py"],
        cwd=REPO,
        input="".join(line + "\n" for line, _ in trace),
        capture_output=True,
        text=True,
        check=False,
    )
    got = done.stdout.splitlines()
    for (line, wanted), answer in zip(trace, got, strict=False):
        assert answer == wanted, line
    assert len(got) == len(trace), done.stderr[-2000:] + done.stdout[-500:]


def test_the_port_answers_alike(micropython: str) -> None:
    """The longest traces of the model, operation by operation, on MicroPython itself."""
    if not TRACES:
        run_state_machine_as_test(Sessions, settings=settings(PROFILE, max_examples=12))
    for trace in sorted(TRACES, key=len)[-max(10, EXAMPLES // 6) :]:
        replay(micropython, trace)


@pytest.mark.parametrize("weak", [False, True])
def test_a_quiet_life(weak: bool) -> None:
    """Without an adversary everything arrives, in one session."""
    world = World(weak)
    world.deliver_all()
    assert world.is_session_up()
    for _ in range(5):
        for appid in world.apps:
            assert world.command(appid, 10)
            world.publish(appid)
        world.deliver_all()
    assert len(world.obeyed) == 10
    assert len(world.heard) == 20


def test_lost_wakes_end_nothing_for_good() -> None:
    """The device keeps a session that the restarted application lacks, and gets no wake in
    time."""
    world = World()
    world.recover()
    world.restart_apps()
    for _ in range(6):
        world.wire.clear()
        world.pass_time(10_000)
    world.wire.clear()
    world.recover()


def test_a_hello_from_before_the_vault_rose_is_only_old() -> None:
    """A hello with an older generation than another application proved: late, or replayed."""
    world = World()
    held = take_off(world, "hello")
    world.raise_generation()
    world.pass_time(31_000)
    world.pass_time(2_000)
    new = take_off(world, "hello")
    assert len(held) == len(new) == 2
    # The authority gets the first hello, with the new generation; the other application the old.
    world.deliver(new[0])
    world.deliver_all()
    assert world.mark.vault_gen == world.generation
    world.deliver(held[1])
    assert not world.mark.quarantine
    assert [message.name for message in world.wire] == ["welcome"]
    world.recover()


def test_a_flash_that_is_played_back_ends_in_quarantine() -> None:
    """Its secrets may be in other hands: once the boots have caught up, the generation tells."""
    world = World()
    world.raise_generation()
    world.reconnect()
    world.recover()
    world.boot, world.generation = 0, world.generation - 1
    world.allow_quarantine = True
    for _ in range(4):
        world.restart_device()
        world.deliver_all()
    assert world.mark.quarantine
    assert not any(app.session.is_up for app in world.apps.values())
    for appid in world.apps:
        assert not world.command(appid, 60)
    world.restart_apps()
    world.pass_time(60_000)
    world.deliver_all()
    assert not any(app.session.is_up for app in world.apps.values())


def said(world: World, name: str) -> list[bytes]:
    return [message.data for message in world.tape if message.name == name]


def take_off(world: World, *names: str) -> list[Message]:
    """What is on the wire under these names, and no longer."""
    found = [message for message in world.wire if message.name in names]
    world.wire = [message for message in world.wire if message.name not in names]
    return found


def test_a_welcome_held_back_lengthens_no_command() -> None:
    """The device counts from its hello: a delay before the session shortens each command's
    life."""
    world = World()
    held: list[Message] = []
    while world.wire:
        world.deliver(world.wire.pop(0))
        held += take_off(world, "welcome")
    world.pass_time(25_000)
    world.wire.clear()
    for message in held:
        world.deliver(message)
    world.deliver_all()
    assert world.is_session_up()
    for appid in world.apps:
        assert world.command(appid, 10)
    late = take_off(world, "set")
    world.pass_time(10_001)
    for message in late:
        world.deliver(message)
    assert world.obeyed == []


def test_commands_live_as_long_late_in_a_session() -> None:
    world = World()
    world.recover()
    world.pass_time(500_000)
    assert world.is_session_up()
    world.recover()


def test_proofs_outlive_the_application() -> None:
    world = World()
    world.recover()
    world.restart_apps()
    world.wire.clear()
    for message in [message for message in world.tape if message.name == "hello"]:
        world.deliver(message)
    assert world.wire == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_application_that_ends_while_it_keeps_a_proof(when: str) -> None:
    """No ack left, so no command can have: the keys of that session are never used downwards."""
    world = World()
    world.crash = when
    while world.crash:
        world.deliver(world.wire.pop(0))
    assert said(world, "ack") == []
    world.recover()


def test_a_repeated_hello_gets_the_same_welcome_and_four_are_kept() -> None:
    world = World()
    world.apps.pop("authority")  # its hellos are not looked at here
    first = take_off(world, "hello")
    for _ in range(4):
        world.reconnect()
        first += take_off(world, "hello")
    hellos = first[1::2]
    for message in hellos + hellos[1:] + hellos[:1]:
        world.deliver(message)
    welcomes = said(world, "welcome")
    assert welcomes[5:9] == welcomes[1:5], "the last four, again"
    assert welcomes[9] not in welcomes[:9], "the first had made room"


def test_a_ready_from_before_a_reconnect_does_not_cost_the_new_handshake() -> None:
    world = World()
    old = []
    while len(old) < 2:
        world.deliver(world.wire.pop(0))
        old += take_off(world, "ready")
    world.reconnect()
    welcomes = []
    while world.wire:
        world.deliver(world.wire.pop(0))
        welcomes += take_off(world, "welcome")
    for message in old + welcomes:
        world.deliver(message)
    world.deliver_all()
    assert world.is_session_up(), "at once, without another attempt"


def test_a_lost_ack_costs_one_second() -> None:
    world = World()
    while len(said(world, "ack")) < 2:
        world.deliver(world.wire.pop(0))
    world.wire.clear()
    assert not world.is_session_up()
    world.pass_time(1000)
    world.deliver_all()
    assert world.is_session_up()


def test_an_ack_after_a_command_is_taken() -> None:
    """A command overtakes the ack: the answer to a repeated ready must not look replayed."""
    world = World()
    while len(said(world, "ack")) < 2:
        world.deliver(world.wire.pop(0))
    world.wire.clear()
    world.pass_time(3000)
    for appid in world.apps:
        assert world.command(appid, 60)
    for message in take_off(world, "set"):
        world.deliver(message)
    start = len(world.trace)
    world.deliver_all()
    assert world.is_session_up()
    assert not [answer for _, answer in world.trace[start:] if answer.startswith("r:")]


def test_a_ready_held_over_a_restart_causes_no_quarantine() -> None:
    """Another application proved the next boot: this ready is late, and no rollback."""
    world = World()
    held: list[Message] = []
    while len(held) < 2:
        world.deliver(world.wire.pop(0))
        held += take_off(world, "ready")
    world.wire.clear()
    world.raise_generation()
    world.restart_device()
    authority, _ = take_off(world, "hello")
    world.deliver(authority)
    world.deliver_all()
    assert world.mark.boot == world.boot
    for message in held:
        world.deliver(message)
    assert not world.mark.quarantine
    world.recover()


def test_a_lower_boot_counter_ends_in_quarantine() -> None:
    """One application missed the last boots: the shared mark still shows the rollback."""
    world = World()
    world.recover()
    for _ in range(2):
        world.wire.clear()
        world.restart_device()
        authority, _ = take_off(world, "hello")
        world.deliver(authority)
        world.deliver_all()
    assert world.mark.boot == world.boot == 3
    world.boot = 1
    world.allow_quarantine = True
    world.restart_device()
    world.deliver_all()
    assert world.mark.quarantine
    assert not any(app.session.is_up for app in world.apps.values())
