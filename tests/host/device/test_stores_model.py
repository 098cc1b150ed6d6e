"""Every store, and the vault on it, against a dict: hypothesis chooses what is done, and when and
how the power goes.

STORE_EXAMPLES in the environment asks for more than the few runs of `make test`.
"""

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from stores_model import MEDIA, Medium, PowerCut, RootKey, Vault

EXAMPLES = int(os.environ.get("STORE_EXAMPLES", "25"))
PROFILE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
NAMES = ("a", "b", "c", "D-4", "n" * 40)
# None: the power stays. Otherwise after how many operations it goes, how the last one ends (see
# tests/unit/kit/nor_model.py), and a seed.
cuts = st.none() | st.tuples(
    st.integers(0, 3) | st.integers(0, 20),
    st.sampled_from((0, 1, 4, 7, 8, -1, -4, -7)),
    st.integers(1, 1000),
)
values = st.binary(max_size=40) | st.integers(41, 300).map(
    lambda size: bytes(range(256))[:1] * size
)
names = st.sampled_from(NAMES)
Records = dict[str, bytes]


class Machine(RuleBasedStateMachine):
    """A medium and the count of what happened on it."""

    medium_name = ""
    tally: Counter[str]
    medium: Medium

    def choose_medium(self) -> None:
        self.medium = MEDIA[self.medium_name]()

    def teardown(self) -> None:
        if hasattr(self, "medium"):
            self.medium.close()

    def runs(self, cut: tuple[int, int, int] | None, work, *arguments) -> bool:
        """Whether the work was done before the power went."""
        if cut is not None:
            self.medium.cut_after(*cut)
        try:
            work(*arguments)
        except PowerCut:
            self.tally["cuts"] += 1
            return False
        self.medium.part.budget = None
        self.tally["calls"] += 1
        return True


class Stores(Machine):
    """The store alone: a change is all of it, or, where records are replaced one at a time, as
    many steps as were done."""

    @initialize()
    def start(self) -> None:
        self.choose_medium()
        self.store = self.medium.store()
        self.records: Records = {}

    @rule(
        puts=st.dictionaries(names, values, max_size=3),
        removes=st.lists(names, max_size=2),
        cut=cuts,
    )
    def change(self, puts: Records, removes: list[str], cut) -> None:
        removes = [name for name in removes if name not in puts]
        states = [self.records]
        for name, value in puts.items():
            states.append({**states[-1], name: value})
        for name in removes:
            states.append({n: v for n, v in states[-1].items() if n != name})
        if self.runs(cut, self.store.change, list(puts.items()), removes):
            self.records = states[-1]
            return
        self.found([states[0], states[-1]] if self.medium.atomic else states)

    @rule(name=names, value=values, cut=cuts)
    def write(self, name: str, value: bytes, cut) -> None:
        new = {**self.records, name: value}
        if self.runs(cut, self.store.write, name, value):
            self.records = new
        else:
            self.found([self.records, new])

    @rule(name=names, cut=cuts)
    def remove(self, name: str, cut) -> None:
        new = {n: v for n, v in self.records.items() if n != name}
        if self.runs(cut, self.store.remove, name):
            self.records = new
        else:
            self.found([self.records, new])

    @rule(cut=cuts)
    def restart(self, cut) -> None:
        self.store = self.medium.store()
        if not self.runs(cut, self.store.names):
            self.found([self.records])

    def found(self, allowed: list[Records]) -> None:
        """After a cut: one of these, and from now on that one."""
        self.store = self.medium.store()
        contents = self.contents()
        assert contents in allowed
        self.records = contents

    def contents(self) -> Records:
        return {name: self.store.read(name, 5000) for name in self.store.names()}

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "records"):
            assert self.contents() == self.records
            assert self.store.read("never", 5000) is None


class Vaults(Machine):
    """The vault: each call is old or new, the counter and the generation never fall."""

    @initialize()
    def start(self) -> None:
        self.choose_medium()
        self.vault = Vault(self.medium.store(), RootKey())
        self.vault.create()
        self.vault.commit({}, {"boot": 1})
        self.records: Records = {}
        self.boot = 1
        self.generation = 1

    @rule(
        changes=st.dictionaries(names, values | st.none(), max_size=3),
        rise=st.integers(0, 3),
        cut=cuts,
    )
    def commit(self, changes: dict[str, bytes | None], rise: int, cut) -> None:
        new = {**self.records, **changes}
        wanted = {n: v for n, v in new.items() if v is not None}, self.boot + rise
        counters = {"boot": self.boot + rise} if rise else {}
        finished = self.runs(cut, self.vault.commit, changes, counters)
        self.after(finished, *wanted)

    @rule(name=names, value=values, cut=cuts)
    def put(self, name: str, value: bytes, cut) -> None:
        finished = self.runs(cut, self.vault.put, name, value)
        self.after(finished, {**self.records, name: value}, self.boot)

    @rule(name=names, cut=cuts)
    def delete(self, name: str, cut) -> None:
        finished = self.runs(cut, self.vault.delete, name)
        self.after(finished, {n: v for n, v in self.records.items() if n != name}, self.boot)

    @rule(cut=cuts)
    def advance(self, cut) -> None:
        finished = self.runs(cut, self.vault.advance, "boot")
        self.after(finished, self.records, self.boot + 1)

    @rule(cut=cuts)
    def restart(self, cut) -> None:
        self.vault = Vault(self.medium.store(), RootKey())
        if not self.runs(cut, self.vault.open):
            self.after(False, self.records, self.boot)

    def after(self, finished: bool, records: Records, boot: int) -> None:
        if not finished:
            self.vault = Vault(self.medium.store(), RootKey())
            self.vault.open()
            if self.seen() != (records, boot):
                assert self.seen() == (self.records, self.boot)
                return
        self.records, self.boot = records, boot

    def seen(self) -> tuple[Records, int]:
        records = {name: self.vault.get(name) for name in self.vault.names()}
        return records, self.vault.counter("boot")

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "generation"):
            assert self.seen() == (self.records, self.boot)
            assert self.vault.generation >= self.generation
            self.generation = self.vault.generation


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("machine", [Stores, Vaults], ids=("store", "vault"))
def test_like_a_dict(machine: type[Machine], medium: str) -> None:
    kind = type(machine.__name__, (machine,), {"medium_name": medium, "tally": Counter()})
    run_state_machine_as_test(kind, settings=PROFILE)
    print(
        f"{machine.__name__} on {medium}: {kind.tally['calls']} calls, {kind.tally['cuts']} cuts"
    )
    assert kind.tally["cuts"] > EXAMPLES
