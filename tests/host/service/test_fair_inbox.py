"""The inbox of the engine by a virtual clock: quotas, turns, tasks first; and against a model."""

import math
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from warden_host.service import fair_inbox
from warden_host.service.fair_inbox import (
    BURST,
    RATE,
    SENDER_BYTES,
    TOTAL_BYTES,
    WAITING,
    FairInbox,
    Sender,
)

OVERHEAD = fair_inbox._OVERHEAD


def sender(name: str, appid: str = "authority") -> Sender:
    return Sender(appid, name)


A, B, C = sender("A"), sender("B"), sender("C")


def taken(inbox: FairInbox[str], now: float) -> list[str]:
    """Pop everything that is due now."""
    found = []
    while (item := inbox.pop_next(now)) is not None:
        found.append(item)
    return found


def fill(inbox: FairInbox, who: Sender, count: int, now: float = 0.0, size: int = 10) -> int:
    return sum(inbox.put(who, f"{who.device}{n}", size, now) for n in range(count))


def test_accounts_alternate():
    inbox: FairInbox[str] = FairInbox()
    fill(inbox, A, 4)
    fill(inbox, B, 2)
    fill(inbox, C, 1)
    assert taken(inbox, 0.0) == ["A0", "B0", "C0", "A1", "B1", "A2", "A3"]


def test_an_honest_message_waits_for_one_of_each_flood():
    inbox: FairInbox[str] = FairInbox()
    for name in "abcdefgh":
        fill(inbox, sender(name), 10_000)
    inbox.put(C, "honest", 10, 0.0)
    assert taken(inbox, 0.0).index("honest") == 8


def test_tasks_precede_messages_and_keep_their_order():
    inbox: FairInbox[str] = FairInbox()
    fill(inbox, A, 2)
    inbox.put_task("first")
    inbox.put_task("second")
    assert inbox.tasks == 2
    assert inbox.seconds_to_next(0.0) == 0.0
    assert [inbox.pop_next(0.0) for _ in range(3)] == ["first", "second", "A0"]
    assert inbox.tasks == 0


def test_a_task_does_not_wait_for_a_rate():
    inbox: FairInbox[str] = FairInbox()
    inbox.put_task("task")
    assert inbox.pop_next(-1.0) == "task"


def test_so_many_messages_of_an_account_wait():
    inbox: FairInbox[str] = FairInbox()
    assert fill(inbox, A, WAITING + 30) == WAITING
    assert fill(inbox, B, 1) == 1
    assert inbox.waiting == WAITING + 1
    assert inbox.pop_refused() == {A: 30}
    assert inbox.pop_refused() == {}


def test_so_many_bytes_of_an_account_wait():
    inbox: FairInbox[str] = FairInbox()
    size = SENDER_BYTES // 4 - OVERHEAD
    assert fill(inbox, A, 6, size=size) == 4
    assert inbox.pop_refused() == {A: 2}
    assert not inbox.has_room(A, 0)
    assert inbox.pop_next(0.0) == "A0"
    assert inbox.has_room(A, size)
    assert not inbox.has_room(A, size + 1)


def test_a_size_that_no_quota_allows_is_refused_at_once():
    inbox: FairInbox[str] = FairInbox()
    assert not inbox.put(A, "big", SENDER_BYTES, 0.0)
    assert inbox.put(A, "fits", SENDER_BYTES - OVERHEAD, 0.0)


def test_floods_together_leave_memory_free():
    """The last quarter is for senders of which nothing waits."""
    inbox: FairInbox[str] = FairInbox()
    for number in range(500):
        fill(inbox, sender(f"flood{number}"), WAITING, size=16_384)
    assert 0 < inbox.free_bytes < TOTAL_BYTES // 4
    honest = [sender(f"honest{number}") for number in range(500)]
    assert all(inbox.put(each, each.device, 300, 0.0) for each in honest)


def test_all_accounts_together_hold_the_total():
    inbox: FairInbox[str] = FairInbox(total_bytes=8 * (OVERHEAD + 1000))
    assert fill(inbox, A, 20, size=1000) == 6  # three quarters
    assert fill(inbox, B, 20, size=1000) == 1
    assert fill(inbox, C, 20, size=1001) == 0
    assert fill(inbox, C, 20, size=1000) == 1
    assert fill(inbox, sender("D"), 1, size=0) == 0
    assert inbox.free_bytes == 0


def test_a_burst_is_served_at_once_and_then_the_rate():
    inbox: FairInbox[str] = FairInbox()
    served = 0
    for _ in range(20):
        fill(inbox, A, WAITING)
        served += len(taken(inbox, 0.0))
    assert served == BURST
    assert inbox.seconds_to_next(0.0) == pytest.approx(1 / RATE)
    assert inbox.pop_next(0.9 / RATE) is None
    assert inbox.pop_next(1.0 / RATE) is not None
    assert inbox.seconds_to_next(1.0 / RATE) == pytest.approx(1 / RATE)
    assert len(taken(inbox, 0.25)) == 0.25 * RATE - 1
    taken(inbox, 1e6)
    assert inbox.seconds_to_next(1e6) == math.inf


def test_the_rate_saves_no_more_than_a_burst():
    inbox: FairInbox[str] = FairInbox()
    fill(inbox, A, 1)
    taken(inbox, 0.0)
    served = 0
    for _ in range(20):
        fill(inbox, A, WAITING, now=1000.0)
        served += len(taken(inbox, 1000.0))
    assert served == BURST


def test_resting_account_delays_no_other():
    inbox: FairInbox[str] = FairInbox()
    for _ in range(10):
        fill(inbox, A, WAITING)
        taken(inbox, 0.0)
    assert inbox.waiting > 0
    fill(inbox, B, 3)
    assert taken(inbox, 0.0) == ["B0", "B1", "B2"]


def test_a_weight_counts_as_so_many_messages():
    inbox: FairInbox[str] = FairInbox()
    for number in range(30):
        inbox.put(A, str(number), 10, 0.0, weight=20.0)
    assert len(taken(inbox, 0.0)) == BURST / 20
    assert len(taken(inbox, 0.5)) == 0.5 * RATE / 20


def test_applications_have_their_own_quotas_of_a_device():
    inbox: FairInbox[str] = FairInbox()
    other = sender("A", "lights")
    assert fill(inbox, A, WAITING + 1) == WAITING
    assert fill(inbox, other, WAITING + 1) == WAITING
    assert inbox.pop_refused() == {A: 1, other: 1}


def test_remove_returns_what_waited_and_frees_it():
    inbox: FairInbox[str] = FairInbox()
    other = sender("A", "lights")
    fill(inbox, A, 3)
    fill(inbox, B, 1)
    fill(inbox, other, 2)
    assert inbox.remove(lambda each: each.device == "A") == ["A0", "A1", "A2", "A0", "A1"]
    assert inbox.waiting == 1
    assert taken(inbox, 0.0) == ["B0"]
    assert inbox.free_bytes == TOTAL_BYTES
    assert inbox.seconds_to_next(0.0) == math.inf
    fill(inbox, A, 1)
    assert taken(inbox, 0.0) == ["A0"]


def test_a_removed_account_that_rested_is_not_served():
    inbox: FairInbox[str] = FairInbox()
    for _ in range(10):
        fill(inbox, A, WAITING)
        taken(inbox, 0.0)
    assert inbox.remove(lambda _: True)
    assert taken(inbox, 100.0) == []


def test_a_message_that_skips_the_queue_counts_in_its_rate():
    inbox = FairInbox()
    assert sum(inbox.skip(A, 0.0) for _ in range(int(BURST) + 50)) == BURST
    assert inbox.skip(B, 0.0)
    assert inbox.load.accepted == BURST + 1
    assert fill(inbox, A, 2) == 2
    assert taken(inbox, 0.0) == []  # its rate is used up
    assert taken(inbox, 1.0) == ["A0", "A1"]


def test_no_message_skips_the_queue_while_others_wait():
    inbox = FairInbox()
    inbox.put_task("task")
    assert not inbox.skip(A, 0.0)
    taken(inbox, 0.0)
    fill(inbox, B, 1)
    assert not inbox.skip(A, 0.0)
    taken(inbox, 0.0)
    while inbox.skip(B, 0.0):
        pass
    fill(inbox, B, 1)
    assert taken(inbox, 0.0) == []
    assert not inbox.skip(A, 0.0)  # one rests


def test_a_clock_that_stops_or_goes_back_adds_no_budget():
    inbox: FairInbox[str] = FairInbox()
    for _ in range(10):
        fill(inbox, A, WAITING, now=50.0)
        taken(inbox, 50.0)
    assert taken(inbox, 50.0) == []
    assert taken(inbox, 40.0) == []


def test_a_removed_account_wakes_no_one() -> None:
    """Another sender waits for its time: what remove() emptied must not look like a message."""
    inbox: FairInbox[str] = FairInbox()
    assert inbox.put(A, "a", 0, 0.0, 2 * BURST)
    assert inbox.put(B, "b", 0, 0.0) and inbox.seconds_to_next(0.0) == 0.0
    assert inbox.remove(lambda each: each == B) == ["b"]
    assert inbox.seconds_to_next(0.0) == BURST / RATE
    assert inbox.pop_next(0.0) is None


class Model(RuleBasedStateMachine):
    """Compare with lists: contents, order, and one message of each sender in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox: FairInbox[tuple[str, int]] = FairInbox(total_bytes=40 * (OVERHEAD + 500))
        self.now = 0.0
        self.number = 0
        self.waiting: dict[Sender, list[tuple[tuple[str, int], int]]] = {}
        self.tasks: list[tuple[str, int]] = []
        self.refused: Counter[Sender] = Counter()
        self.served: dict[Sender, list[tuple[float, float]]] = {}
        self.passed_over: Counter[Sender] = Counter()
        self.weights: dict[tuple[str, int], float] = {}

    def held(self, who: Sender) -> int:
        return sum(size + OVERHEAD for _, size in self.waiting.get(who, []))

    @property
    def all_held(self) -> int:
        return sum(self.held(each) for each in self.waiting)

    @rule(
        who=st.sampled_from([A, B, C]),
        size=st.integers(0, 4000),
        count=st.integers(1, 60),
        weight=st.sampled_from([1.0, 20.0]),
    )
    def put(self, who: Sender, size: int, count: int, weight: float) -> None:
        for _ in range(count):
            self.number += 1
            item = (who.device, self.number)
            held = self.held(who) + size + OVERHEAD
            count = len(self.waiting.get(who, []))
            most = 40 * (OVERHEAD + 500) * (3 if count else 4) // 4
            room = count < WAITING and held <= SENDER_BYTES
            room = room and self.all_held + size + OVERHEAD <= most
            assert self.inbox.put(who, item, size, self.now, weight) == room
            if room:
                self.waiting.setdefault(who, []).append((item, size))
                self.weights[item] = weight
            else:
                self.refused[who] += 1

    @rule()
    def task(self) -> None:
        self.number += 1
        self.tasks.append(("task", self.number))
        self.inbox.put_task(self.tasks[-1])

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.01, 0.3, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 80))
    def pop(self, count: int) -> None:
        for _ in range(count):
            pause = self.inbox.seconds_to_next(self.now)
            item = self.inbox.pop_next(self.now)
            if self.tasks:
                assert item == self.tasks.pop(0)
                continue
            if item is None:
                assert pause > 0 or not any(self.waiting.values())
                return
            who = sender(item[0])
            assert item == self.waiting[who].pop(0)[0]
            self.served.setdefault(who, []).append((self.now, self.weights[item]))

    @rule(who=st.sampled_from([A, B, C]))
    def remove(self, who: Sender) -> None:
        kept = [item for item, _ in self.waiting.pop(who, [])]
        assert self.inbox.remove(lambda each: each == who) == kept
        self.served.pop(who, None)  # its bucket is a new one

    @precondition(lambda self: self.refused)
    @rule()
    def ask_refused(self) -> None:
        assert self.inbox.pop_refused() == dict(self.refused)
        self.refused.clear()

    @invariant()
    def counts(self) -> None:
        assert self.inbox.waiting == sum(len(each) for each in self.waiting.values())
        assert self.inbox.tasks == len(self.tasks)
        assert self.inbox.free_bytes == 40 * (OVERHEAD + 500) - self.all_held

    @invariant()
    def rates(self) -> None:
        """No span of time has more than a burst and the rate, plus one message's weight."""
        for served in self.served.values():
            for at, (begin, _) in enumerate(served):
                weight = sum(each for _, each in served[at:])
                assert weight <= BURST + (served[-1][0] - begin) * RATE + 20.0

    @invariant()
    def due(self) -> None:
        """Every message is due within the time that its weight takes."""
        if any(self.waiting.values()):
            assert self.inbox.seconds_to_next(self.now) <= 20.0 / RATE + 1e-9


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
