"""Test the device's outbox and the authority's receipts together, driven by hypothesis.

The network keeps the order within a session, and loses what it likes; the authority's disk fails
and its process restarts; the device's power is cut in the middle of any change of its vault.
OUTBOX_EXAMPLES in the environment sets the number of examples; `make test` runs few.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from warden_client.protocol.results import Received
from warden_host.engine.receipts import Receipts
from warden_host.errors import HostError

REPO = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(REPO / "tests" / name) for name in ("cpython", "unit/kit")] + [
    str(REPO / "lib")
]

from board_model import DictStore, PowerCut, RootKey  # noqa: E402  (the path must be set first)
from warden.agent.delivery import Delivery  # noqa: E402
from warden.vault import Vault  # noqa: E402
from warden.wire import cbor  # noqa: E402

APP = "authority"


class Disk:
    """The authority's fleet.db: what is committed outlives its process."""

    def __init__(self) -> None:
        self.kept: list[int] = []  # values
        self.number = 0
        self.waiting: list[tuple[int, int]] = []
        self.full = False

    def add_event(self, _d: str, _a: str, _e: str, body: str, number: int, _u: bytes) -> None:
        self.waiting.append((number, int(body.strip("{}").split(":")[1])))

    def write_events(self) -> None:
        waiting, self.waiting = self.waiting, []
        if self.full and waiting:
            raise HostError("database-damaged", "the disk is full")
        for number, value in waiting:
            self.number, self.kept = number, [*self.kept, value]


class Board:
    """As much of an agent as the outbox sees, for one start of the device."""

    plain = gate = None

    def __init__(self, store: DictStore, terms: dict[str, Any], world: "Outboxes") -> None:
        self.vault = Vault(store, RootKey())
        self.vault.open()
        self.world = world
        self.client = SimpleNamespace(connected=True, owes=False)
        self.policy = SimpleNamespace(max_message=2048, stall_ms=5000)
        self.session = SimpleNamespace(
            up=False, appid=APP, sid=b"", seal_view=lambda e, n, b, p: (n, p, cbor.decode(b)["v"])
        )
        self.sessions = [self.session]
        self.names = SimpleNamespace(sealed=lambda event: (b"t/" + event.encode(), b""))
        self.delivery = Delivery(self, [SimpleNamespace(appid=APP, authority=True)], terms)
        end, self.values = self.delivery._on_end, {}
        for entry in self.delivery._outbox.entries():
            self.values[entry.number] = cbor.decode(entry.body)["v"]

        def on_end(number: int, delivered: bool) -> None:
            world.on_end(self.values.get(number), delivered)
            end(number, delivered)

        self.delivery._outbox._on_end = on_end

    def now_ms(self) -> int:
        return self.world.now

    def log(self, *_: object) -> None:
        pass

    report = log

    def post(self, _topic: bytes, message: tuple[int, int, int]) -> None:
        self.world.up.append(message)

    def waiting(self) -> set[int]:
        return {cbor.decode(entry.body)["v"] for entry in self.delivery._outbox.entries()}


class Outboxes(RuleBasedStateMachine):
    @initialize(
        keep=st.sampled_from(["connection", "reboot"]),
        drop=st.sampled_from(["oldest", "newest"]),
        most=st.integers(1, 6),
    )
    def start(self, keep: str, drop: str, most: int) -> None:
        self.terms = {"outbox": most, "outbox_keep": keep, "outbox_drop": drop}
        self.now = self.value = self.sid = 0
        self.up: list[tuple[int, int, int]] = []
        self.down: list[int] = []
        self.seen: dict[int, int] = {}
        self.gone: set[int] = set()  # values that the device was told are dropped, or lost power
        self.delivered: set[int] = set()
        self.saved: set[int] = set()
        self.disk = Disk()
        self.restart_authority()
        self.store = DictStore()
        made = Vault(self.store, RootKey())
        made.create()
        made.commit({"x": b"x"})
        self.board = Board(self.store, self.terms, self)

    def on_end(self, value: int | None, delivered: bool) -> None:
        assert value is not None
        if delivered:
            # A dropped event whose record a power cut brought back leaves with those after it.
            known = value in self.disk.kept or value in self.gone
            assert known, "delivered, and not on the authority's disk"
            self.delivered.add(value)
        else:
            self.gone.add(value)
        self.saved.discard(value)

    @rule()
    def publish(self) -> None:
        self.value += 1
        value = self.value
        work = self.board.delivery.publish("door", {"v": value}, None, False)
        try:
            self._step(work)
        except PowerCut:
            self.gone.add(value)
            self.cut_power()

    def _step(self, work: Any) -> None:
        # The number is known once the block is reserved.
        number = self.board.delivery._number
        if number == self.board.delivery._numbers:
            number = self.board.vault.counter("outbox")
        self.board.values[number + 1] = self.value
        try:
            work.send(None)
        except StopIteration as end:
            assert end.value in ("sent", "queued", "dropped"), end.value
            if end.value == "dropped":
                self.gone.add(self.value)

    @rule()
    def connect(self) -> None:
        """A new session: what was on the wire is lost."""
        self.up, self.down = [], []
        self.sid += 1
        session = self.board.session
        session.up, session.sid = True, b"%d" % self.sid
        self.board.delivery._send(self.now)

    @rule()
    def disconnect(self) -> None:
        self.up, self.down = [], []
        self.board.session.up = False

    @rule(lost=st.booleans(), count=st.integers(1, 4))
    def carry_up(self, lost: bool, count: int) -> None:
        for _ in range(min(count, len(self.up))):
            number, previous, value = self.up.pop(0)
            assert self.seen.setdefault(number, value) == value, "one number for two events"
            if not lost:
                body = {"v": value}
                self.receipts.keep(self.state, APP, Received("door", number, body, previous))

    @rule(full=st.booleans())
    def write(self, full: bool) -> None:
        self.disk.full = full
        try:
            self.receipts.write()
        except HostError:
            assert full
        self.disk.full = False

    @rule(lost=st.booleans())
    def carry_down(self, lost: bool) -> None:
        while self.down:
            number = self.down.pop(0)
            if not lost:
                self.board.delivery.on_ack(APP, number)
        if self.board.session.up:
            self.board.delivery._send(self.now)

    @rule(ms=st.sampled_from([100, 5000, 70_000, 400_000]))
    def pass_time(self, ms: int) -> None:
        self.now += ms
        if self.board.session.up:
            self.board.delivery._send(self.now)

    @rule(budget=st.one_of(st.none(), st.integers(0, 8)))
    def save(self, budget: int | None) -> None:
        """Save, with the power cut in the middle or not."""
        self.store.budget = budget
        before = self.board.waiting()
        try:
            self.board.delivery.save()
        except PowerCut:
            self.cut_power()
            return
        finally:
            self.store.budget = None
        if self.terms["outbox_keep"] == "reboot":
            self.saved = before

    @rule(budget=st.integers(0, 8))
    def publish_with_a_failing_supply(self, budget: int) -> None:
        self.store.budget = budget
        self.publish()
        self.store.budget = None

    @rule()
    def cut_power(self) -> None:
        self.store.budget = None
        before = self.board.waiting()
        must = set(self.saved)
        self.disconnect()
        self.board = Board(self.store, self.terms, self)
        after = self.board.waiting()
        assert must <= after, "a saved event is lost"
        self.gone |= before - after - set(self.disk.kept)

    @rule()
    def restart_authority(self) -> None:
        self.up, self.down = [], []
        self.disk.waiting = []
        self.state = SimpleNamespace(
            device=SimpleNamespace(device="D1", type="t"),
            numbers={APP: self.disk.number},
            sessions={APP: self},
            uid=lambda _: b"u",
        )
        self.receipts = Receipts(self.disk, lambda _, send: None, lambda: None)
        if hasattr(self, "board"):
            self.board.session.up = False

    # The authority's session, as far as its receipts use it.
    is_up = True

    def seal(self, _command: str, number: int, *_: object) -> bytes:
        self.down.append(number)
        return b""

    def teardown(self) -> None:
        """On a fair network all that is kept arrives, once and in its order."""
        if not hasattr(self, "board"):
            return
        self.connect()
        for _ in range(40):
            self.carry_up(False, 10)
            self.write(False)
            self.carry_down(False)
            self.pass_time(70_000)
        assert self.board.waiting() == set()
        kept = self.disk.kept
        assert kept == sorted(set(kept)), "twice, or out of order"
        missing = set(range(1, self.value + 1)) - set(kept) - self.gone
        assert not missing, f"lost: {missing}"


def test_the_model() -> None:
    run_state_machine_as_test(
        Outboxes,
        settings=settings(
            max_examples=int(os.environ.get("OUTBOX_EXAMPLES", "30")),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_events_that_the_disk_refused_are_sent_again() -> None:
    """The one order of steps that the search finds too seldom."""
    world = Outboxes()
    world.start("connection", "oldest", 4)
    world.connect()
    world.publish()
    world.carry_up(False, 1)
    world.write(True)
    world.write(False)
    world.carry_down(False)
    assert world.delivered == set()
    world.teardown()
    assert (world.disk.kept, world.delivered) == ([1], {1})


def test_no_number_is_used_again_after_a_power_cut() -> None:
    world = Outboxes()
    world.start("connection", "oldest", 4)
    for _ in range(2):
        world.connect()
        world.publish()
        world.carry_up(False, 1)
        world.write(False)
        world.cut_power()
    world.teardown()
    assert (world.disk.kept, sorted(world.seen)) == ([1, 2], [1, 4097])
