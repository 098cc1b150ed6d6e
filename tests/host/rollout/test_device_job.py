"""One release to one device: which of its answers and events decide the result."""

import pytest
from release_kit import Maker, cheap
from rollout_model import Gadget, World, idle
from warden_host.engine import resend
from warden_host.rollout import rollouts
from warden_host.store import releases


@pytest.fixture
def maker(tmp_path, monkeypatch):
    cheap(monkeypatch)
    made = Maker(tmp_path)
    made.make("1.0")
    yield made
    made.store.close()


def said(state: str, reason: str = "", sequence: int = 0) -> dict:
    return {"state": state, "reason": reason, "sequence": sequence, "want": None}


GOOD = said("Downloading")
LOST = said("Idle")


class Parking(Gadget):
    """A device short of memory: it stores the manifest, and verifies it after a restart.

    words: the result of each manifest; GOOD: accepted; LOST: a power cut before it was stored.
    Knobs: forgets (its status is Idle after a report), early (its status before the restart),
    crosses (its report crosses a query).
    """

    def __init__(self, world: World, words: list[dict], **knobs) -> None:
        old = world.gadgets["D00"]
        super().__init__(old.name, old.peer.k)
        self.world, self.words = world, list(words)
        self.forgets = self.crosses = False
        self.early: dict = GOOD
        self.parked: dict | None = None
        self.told: dict | None = None
        vars(self).update(knobs)
        world.gadgets["D00"] = self

    def execute(self, args):
        if "envelope" in args:
            self.parked, self.restarting, self.status = args, True, dict(GOOD)
            return {"ok": True, "result": dict(GOOD)}
        if self.parked is not None:
            return {"ok": True, "result": dict(self.early)}
        if self.told is not None and self.crosses:
            self.report()
        return super().execute(args)

    def report(self):
        body, self.told = self.told, None
        if self.forgets:
            self.status = idle()
        self.world.receive(self, "update", self.peer.seal("update", [0, None, body]))

    def restart(self, world):
        if self.parked is None:
            return super().restart(world)
        args, self.parked, self.restarting = self.parked, None, False
        word = self.words.pop(0) if self.words else GOOD
        self.status = dict(word)
        if word == GOOD:
            super().execute(args)
        elif word != LOST and self.reports:
            self.told = dict(word)
        self.anew(world)
        return None

    def anew(self, world):
        """Restart: a new boot and session; its report follows, or crosses a query."""
        world.receive(self, "offline", b"{}", fmt="json")
        self.peer.boot += 1
        self.peer.connect = -1
        self.connect(world)
        while self.told is not None and not self.crosses and world.sent:
            stood = world.sent[0][1] == "ack"
            self.handle(world, *world.sent.pop(0)[1:])
            if stood:
                self.report()

    @property
    def ordered(self) -> int:
        return sum("envelope" in order for order in self.orders)


def parking(maker, *words: dict, **knobs) -> tuple[World, Parking]:
    world = World(maker, 1)
    gadget = Parking(world, list(words), **knobs)
    world.connect_all()
    return world, gadget


def course(world: World, seconds: float = 120) -> tuple[str, str]:
    number = world.start()
    world.settle()
    world.pass_time(seconds)
    return world.states(number)["D00"]


# A manifest that is judged at the next start


def test_manifest_accepted_after_a_restart(maker):
    world, gadget = parking(maker, GOOD)
    assert course(world) == ("Accepted", "")
    assert gadget.ordered == 1


@pytest.mark.parametrize("sequence", [0, 1])
@pytest.mark.parametrize(
    "knobs",
    [{"reports": False}, {"forgets": True}, {"forgets": True, "crosses": True}],
    ids=["asked", "told", "told while it is asked"],
)
def test_manifest_rejected_after_a_restart(maker, knobs, sequence):
    world, gadget = parking(maker, said("Rejected", "tampered", sequence), **knobs)
    assert course(world) == ("Rejected", "tampered")
    assert gadget.ordered == 1


@pytest.mark.parametrize(
    "word", [said("Aborted", "command-failed"), said("Aborted", "x", 1), LOST]
)
@pytest.mark.parametrize("knobs", [{"reports": False}, {"forgets": True}])
def test_failed_verification_is_retried_within_a_limit(maker, word, knobs):
    world, gadget = parking(maker, word, word, GOOD, **knobs)
    assert course(world) == ("Accepted", "")
    assert gadget.ordered == 3
    world, gadget = parking(maker, *[word] * 9, **knobs)
    assert course(world, 300) == ("Aborted", word["reason"] or "update-state")
    assert gadget.ordered == 3


@pytest.mark.parametrize("old", [0, 1])
def test_status_of_an_earlier_manifest_does_not_count(maker, old):
    """Neither its state before our manifest nor its answers and events before the restart
    count."""
    stale = said("Rejected", "tampered", old)
    world, gadget = parking(maker, GOOD, early=stale)
    gadget.status = dict(stale)
    number = world.start()
    while gadget.parked is None:
        gadget.handle(world, *world.sent.pop(0)[1:])
    world.receive(gadget, "update", gadget.peer.seal("update", [0, None, stale]))
    for _ in range(2):
        world.pump()
        world.now = world.now._replace(steady=world.now.steady + 20)
        world.engine.tick()
    assert world.states(number)["D00"][0] == "Downloading"
    assert len(gadget.orders) > 2
    world.pass_time(60)
    assert world.states(number)["D00"] == ("Accepted", "")
    assert gadget.ordered == 1


def test_status_of_another_sequence_does_not_count(maker):
    world, gadget = parking(maker, said("Rejected", "slot-damaged", 7), GOOD)
    assert course(world) == ("Accepted", "")
    assert gadget.ordered == 2


def test_new_session_of_the_same_boot_is_no_result(maker):
    world, gadget = parking(maker, GOOD, early=said("Rejected", "tampered"))
    number = world.start()
    while gadget.parked is None:
        gadget.handle(world, *world.sent.pop(0)[1:])
    gadget.connect(world)
    world.pump()
    assert world.states(number)["D00"][0] == "Downloading"
    world.pass_time(60)
    assert world.states(number)["D00"] == ("Accepted", "")


def test_device_that_never_restarts(maker):
    world, gadget = parking(maker, GOOD)
    number = world.start()
    world.pump()
    for _ in range(40):
        world.now = world.now._replace(steady=world.now.steady + 15)
        world.engine.tick()
        world.pump()
    assert world.states(number)["D00"] == ("Aborted", "update-state")
    assert gadget.ordered == 1


def test_reply_to_the_manifest_is_lost(maker):
    world, gadget = parking(maker, said("Rejected", "wrong-device"), loses={1})
    assert course(world) == ("Rejected", "wrong-device")
    assert gadget.ordered == 1


def test_manifest_sent_again_has_its_own_result(maker):
    """A service killed meanwhile sends the manifest again: a report on the first does not
    count."""
    world, gadget = parking(maker, said("Rejected", "tampered"), GOOD)
    number = world.start()
    while gadget.parked is None:
        gadget.handle(world, *world.sent.pop(0)[1:])
    world.boot()
    world.settle()
    world.resume(number)
    world.settle()
    world.pass_time(60)
    assert world.states(number)["D00"] == ("Accepted", "")
    assert gadget.ordered == 2


def test_late_report_on_the_try_before(maker):
    """A report that arrives before the last try does not decide that try."""
    word = said("Aborted", "command-failed")
    world, gadget = parking(maker, word, word, GOOD, reports=False)
    number = world.start()
    while gadget.ordered < 2 or gadget.status != word:
        world.settle()
        if gadget.ordered < 2:
            world.pass_time(5)
    world.receive(gadget, "update", gadget.peer.seal("update", [0, None, word]))
    world.pass_time(60)
    assert gadget.ordered == 3
    assert world.states(number)["D00"] == ("Accepted", "")


def test_device_that_is_slow_to_restart(maker):
    word = said("Aborted", "command-failed")
    world, gadget = parking(maker, word, word, GOOD, reports=False)
    number = world.start()
    for _ in range(3):
        world.pump()
        for _ in range(5):  # it goes on as it was, and is asked
            world.now = world.now._replace(steady=world.now.steady + 15)
            world.engine.tick()
            world.pump()
        gadget.restart(world)
        world.pump()
        world.pass_time(5)
    world.pass_time(60)
    assert world.states(number)["D00"] == ("Accepted", "")


class Slow(Parking):
    """Off the air for some minutes at each start."""

    def anew(self, world):
        world.receive(self, "offline", b"{}", fmt="json")
        self.there = False
        self.peer.boot += 1
        self.peer.connect = -1


@pytest.mark.parametrize(("minutes", "state"), [(9, "Rejected"), (11, "Away")])
def test_restart_has_a_time_limit(maker, minutes, state):
    world = World(maker, 1)
    word = said("Aborted", "command-failed")
    gadget = Slow(world, [word, word, said("Rejected", "tampered")], reports=False)
    world.connect_all()
    number = world.start()
    for _ in range(3):
        world.settle()
        world.pass_time(60 * minutes)
        if world.states(number)["D00"][0] == "Away":
            break
        gadget.there = True
        gadget.connect(world)
        world.pump()
        world.pass_time(10)
    assert world.states(number)["D00"][0] == state


# A download that is cut


class Cut(Gadget):
    """A device whose power is cut after given numbers of chunks; it restarts with `state`."""

    def __init__(self, world: World, after: set[int], state: dict) -> None:
        old = world.gadgets["D00"]
        super().__init__(old.name, old.peer.k)
        self.world, self.after, self.then = world, after, state
        world.gadgets["D00"] = self

    def handle(self, world, verb, data):
        super().handle(world, verb, data)
        if verb == "update" and sum("n" in order for order in self.orders) in self.after:
            self.after.remove(min(self.after))
            self.status, self.number = dict(self.then), 0
            self.peer.boot += 1
            self.peer.connect = -1
            world.sent.clear()
            self.connect(world)


@pytest.mark.parametrize("state", [LOST, said("Rejected", "slot-damaged", 7)])
def test_power_cuts_do_not_fail_the_release(maker, state):
    world = World(maker, 1)
    gadget = Cut(world, {1, 2, 3, 4}, state)
    world.connect_all()
    assert course(world) == ("Accepted", "")
    assert sum("envelope" in order for order in gadget.orders) == 5


@pytest.mark.parametrize("state", [LOST, said("Rejected", "slot-damaged", 7)])
def test_power_cuts_where_manifests_are_validated_at_a_start(maker, state):
    world = World(maker, 1)
    gadget = type("CutAndParking", (Cut, Parking), {"__init__": Parking.__init__})(world, [])
    gadget.after, gadget.then = {1, 2, 3, 4}, state
    world.connect_all()
    assert course(world) == ("Accepted", "")
    assert gadget.ordered == 5


def test_the_verdict_on_the_image_is_asked_for_where_its_reply_got_lost(maker):
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    real = gadget.execute

    def execute(args):
        answer = real(args)
        if gadget.restarting:  # it would begin its trial
            gadget.restarting = False
            gadget.status = said("Rejected", "firmware-invalid", 1)
            gadget.loses = {len(gadget.orders) - 1}
        return answer

    gadget.execute = execute
    world.connect_all()
    assert course(world) == ("Rejected", "firmware-invalid")
    assert sum("envelope" in order for order in gadget.orders) == 1


def test_report_on_an_image_from_a_web_server_counts(maker, monkeypatch):
    """The device reports once, between queries; its status shows nothing afterwards."""
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    monkeypatch.setattr(type(gadget), "want", lambda _: None)
    world.connect_all()
    number = world.start()
    world.pump()
    assert world.states(number)["D00"][0] == "Downloading"
    gadget.status = idle()
    body = said("Rejected", "image-mismatch", 1)
    world.receive(gadget, "update", gadget.peer.seal("update", [0, None, body]))
    world.pass_time(30)
    assert world.states(number)["D00"] == ("Rejected", "image-mismatch")
    assert sum("envelope" in order for order in gadget.orders) == 1


# Questions that are refused, and chunks that no image has


@pytest.mark.parametrize("code", ["busy", "vault-unwritten"])
def test_refused_query_does_not_fail_the_release(maker, code):
    """On trial after two failed downloads: no try is left, and none is needed."""
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    gadget.breaks, gadget.reports = [1000, 3000], False
    real = gadget.restart

    def restart(world):
        gadget.refuses = {"ask": code}
        real(world)

    gadget.restart = restart
    world.connect_all()
    assert course(world, 200)[0] == "Testing"
    gadget.refuses = {}
    world.pass_time(70)
    assert world.states(1)["D00"] == ("Accepted", "")


def test_a_device_that_refuses_to_say_how_it_goes_gets_it_when_it_does(maker):
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    gadget.refuses = {"ask": "busy"}
    world.connect_all()
    assert course(world, 12)[0] == "Waiting"  # asked again after a while
    assert 2 <= len(gadget.orders) <= 4
    world.pass_time(30)
    assert world.states(1)["D00"] == ("Away", "busy")
    assert len(gadget.orders) == 6
    gadget.refuses = {}
    world.pass_time(200)
    assert world.states(1)["D00"] == ("Accepted", "")


@pytest.mark.parametrize("want", [[0, "other", 5, 10], [0, "app", 1 << 31, 10]])
def test_no_progress_for_a_chunk_outside_the_image(maker, monkeypatch, want):
    world = World(maker, 1)
    world.connect_all()
    monkeypatch.setattr(type(world.gadgets["D00"]), "want", lambda _: want)
    monkeypatch.setattr(rollouts, "_PROGRESS_S", 0.0)
    assert course(world) == ("Aborted", "bad-body")
    told = [line["done"] for line in world.lines if "device" in line]
    assert set(told) == {0}


def test_the_files_stay_open_for_those_that_still_read(maker):
    """The rollout stops while a reply that asks for one more chunk is in flight."""
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    world.connect_all()
    number = world.start()
    active = world.rollouts.active[number]
    while not gadget.data:
        gadget.handle(world, *world.sent.pop(0)[1:])
    world.rollouts.stop(number, "its owner stopped it")
    assert active.release.files
    world.pump()
    world.pass_time(20)
    assert active.release.files == {}
    assert world.states(number)["D00"] == ("Waiting", "")
    assert not any(news.code == "internal-error" for news in world.news)


def test_the_files_stay_open_for_one_that_a_newer_release_took(maker):
    maker.make("2")
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    world.connect_all()
    active = world.rollouts.active[world.start()]
    while not gadget.data:
        gadget.handle(world, *world.sent.pop(0)[1:])
    world.start("relay-2")
    assert active.ended
    assert active.release.files
    world.settle()
    world.pass_time(30)
    assert active.release.files == {}
    assert world.states(2)["D00"] == ("Accepted", "")


def test_a_device_that_another_rollout_took_is_sent_nothing_more_of_the_first(maker):
    """The first goes on with its other devices."""
    maker.make("2")
    world = World(maker, 2)
    gadget = world.gadgets["D00"]
    world.connect_all()
    number = world.start()
    while not gadget.data:
        world.gadgets[world.sent[0][0]].handle(world, *world.sent.pop(0)[1:])
    world.start("relay-2", ["D00"])
    assert not world.rollouts.active[number].ended
    world.settle()
    world.pass_time(30)
    assert world.states(number) == {"D00": ("Superseded", "relay-2"), "D01": ("Accepted", "")}
    assert world.states(2) == {"D00": ("Accepted", "")}


@pytest.mark.parametrize("order", ["envelope", "n"])
def test_a_rejection_counts_although_the_device_is_away_then(maker, monkeypatch, order):
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    world.connect_all()
    real = gadget.execute

    def execute(args):
        if order not in args:
            return real(args)
        gadget.there = False
        return {"ok": True, "result": said("Rejected", "wrong-device", 1)}

    monkeypatch.setattr(gadget, "execute", execute)
    number = world.start()
    world.settle()
    assert world.states(number) == {"D00": ("Rejected", "wrong-device")}


def test_a_trial_ends_by_the_event_of_its_failure(maker):
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    gadget.bricks = True  # it answers no query
    world.connect_all()
    number = world.start()
    world.settle()
    assert world.states(number) == {"D00": ("Testing", "")}
    body = said("Rejected", "trial-failed", 1)
    world.receive(gadget, "update", gadget.peer.seal("update", [0, None, body]))
    assert world.states(number) == {"D00": ("Rejected", "trial-failed")}


def lost(maker) -> tuple[World, Gadget, int]:
    """D00 never came back from its trial, and the rollout waits for D01."""
    world = World(maker, 2)
    gadget = world.gadgets["D00"]
    gadget.bricks, world.gadgets["D01"].there = True, False
    world.connect_all()
    number = world.start(trial_s=60, max_failures=100)
    world.settle()
    world.pass_time(300)
    assert world.states(number)["D00"] == ("Lost", "timed-out")
    gadget.there = True
    return world, gadget, number


def test_a_lost_device_that_connects_twice_is_queried_once(maker):
    world, gadget, number = lost(maker)
    gadget.loses = set(range(len(gadget.orders), len(gadget.orders) + 100))
    for _ in range(2):
        gadget.peer.boot += 1
        gadget.connect(world)
        world.pump()
    active = world.rollouts.active[number]
    assert (active.tally.running, active.reading) == ({"D00", "D01"}, 2)


def test_a_lost_device_is_left_alone_when_its_rollout_has_stopped(maker):
    world, gadget, number = lost(maker)
    world.rollouts.stop(number, "its owner stopped it")
    asked = len(gadget.orders)
    gadget.peer.boot += 1
    gadget.connect(world)
    world.pump()
    assert len(gadget.orders) == asked


def test_the_files_of_all_rollouts_are_closed_at_the_end(maker):
    world = World(maker, 1)
    active = world.rollouts.active[world.start()]
    assert active.release.files
    world.rollouts.close()
    assert world.rollouts.active == {} == active.release.files


# What it went through


def through(world: World, number: int) -> list[str]:
    return [f"{step.state} {step.reason}".strip() for step in world.store.history(number)["D00"]]


def to_the_last_chunk(maker) -> tuple[World, Gadget, int]:
    """All chunks are sent, and the reply to the last one is outstanding."""
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    world.connect_all()
    number = world.start()
    while world.states(number)["D00"][0] != "Verifying":
        gadget.handle(world, *world.sent.pop(0)[1:])
    return world, gadget, number


@pytest.mark.parametrize("ahead", [False, True])
def test_one_chunk_is_sent_ahead_where_the_device_has_room_for_it(maker, ahead):
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    gadget.ahead = ahead
    unanswered = []
    real = gadget.execute

    def execute(args):
        if "n" in args:
            unanswered.append(1 + len(world.sent))
        return real(args)

    gadget.execute = execute
    world.connect_all()
    assert course(world) == ("Accepted", "")
    numbers = [order["n"] for order in gadget.orders if "n" in order]
    assert numbers == list(range(len(numbers)))  # each once, in its order
    assert max(unanswered) == 1 + ahead


def test_a_chunk_lost_behind_one_that_was_sent_ahead(maker):
    """The device refuses the later one, is asked, and goes on with the one that was lost."""
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    gadget.ahead = True
    world.connect_all()
    number = world.start()
    while not any(order.get("n") == 0 for order in gadget.orders):
        gadget.handle(world, *world.sent.pop(0)[1:])
    world.sent.pop(0)
    world.settle()
    world.pass_time(120)
    assert world.states(number)["D00"] == ("Accepted", "")


def test_it_verifies_until_its_reply_to_the_last_chunk(maker):
    world, gadget, number = to_the_last_chunk(maker)
    size = gadget.plan.images[0].size
    assert size - len(gadget.data) <= 1024
    assert [line["state"] for line in world.lines if line.get("done") == size] == ["Verifying"]
    world.settle()
    steps = world.store.history(number)["D00"]
    states = ["Waiting", "Downloading", "Verifying", "Installing", "Testing", "Accepted"]
    assert [step.state for step in steps] == states
    assert [step.time for step in steps] == sorted(step.time for step in steps)
    assert steps[-1].time == world.store.rollout(number).targets[0].changed


def test_status_of_the_flash_wins(maker, monkeypatch):
    """The last chunk is lost, and each copy of it: the device still asks for it."""
    monkeypatch.setattr(resend, "AGAIN_S", ())
    world, gadget, number = to_the_last_chunk(maker)
    world.sent.clear()
    world.pass_time(40)
    assert world.states(number)["D00"] == ("Accepted", "")
    assert through(world, number)[1:5] == ["Downloading", "Verifying"] * 2


def test_verifying_device_finishes_after_a_stop(maker):
    world, gadget, number = to_the_last_chunk(maker)
    world.rollouts.stop(number, "its owner stopped it")
    world.settle()
    world.pass_time(10)
    assert world.states(number)["D00"] == ("Accepted", "")
    assert not any("abort" in order for order in gadget.orders)


def test_one_that_wants_more_when_its_rollout_has_stopped_is_let_go(maker, monkeypatch):
    monkeypatch.setattr(resend, "AGAIN_S", ())
    world, gadget, number = to_the_last_chunk(maker)
    world.sent.clear()
    world.rollouts.stop(number, "its owner stopped it")
    world.pass_time(40)
    assert world.states(number)["D00"] == ("Waiting", "")
    assert gadget.orders[-1] == {"abort": True}
    assert gadget.status["state"] == "Aborted"


def test_a_service_that_ends_leaves_trials_of_a_stopped_rollout_alone(maker):
    world = World(maker, 1)
    world.gadgets["D00"].bricks = True
    world.connect_all()
    number = world.start()
    world.settle()
    world.rollouts.stop(number, "its owner stopped it")
    world.engine.abandon()
    assert world.states(number)["D00"] == ("Testing", "")


def test_one_that_is_away_for_long_does_not_push_out_what_was(maker, monkeypatch):
    world = World(maker, 1)
    number = world.start()
    world.pass_time(3600, step=20)
    assert through(world, number) == ["Waiting", "Away no-session"]
    monkeypatch.setattr(releases, "MAX_HISTORY", 5)
    for at in range(20):
        world.store.set_target(number, "D00", "Downloading" if at % 2 else "Away", "", False)
    assert through(world, number) == ["Downloading", "Away"] * 2 + ["Downloading"]
