"""Rollouts over many devices: lost messages, absent and failing devices, restarts."""

import functools

import pytest
from host_kit import refused
from release_kit import Maker, cheap
from rollout_model import World, idle
from warden_host.errors import HostError
from warden_host.release.opened import open_release
from warden_host.rollout import device_job
from warden_host.rollout import plan as rollout_plan


@pytest.fixture
def maker(tmp_path, monkeypatch):
    cheap(monkeypatch)
    made = Maker(tmp_path)
    made.make("1.0")
    yield made
    made.store.close()


def worlds(maker, count: int, **more) -> World:
    made = World(maker, count, **more)
    made.connect_all()
    return made


def outcome(world: World, number: int) -> dict[str, int]:
    """Count the devices in each state."""
    found: dict[str, int] = {}
    for state, _ in world.states(number).values():
        found[state] = found.get(state, 0) + 1
    return found


def test_one_device(maker):
    world = worlds(maker, 1)
    number = world.start()
    world.settle()
    assert world.states(number) == {"D00": ("Accepted", "")}
    assert world.store.rollout(number).state == "done"
    gadget = world.gadgets["D00"]
    size = (maker.fleet.root / "releases/relay-1.0/app.img").stat().st_size
    assert len(gadget.orders[1]["envelope"]) < 400
    assert [sorted(order) for order in gadget.orders[:3]] == [[], ["envelope"], ["data", "n"]]
    assert sum(len(order.get("data", b"")) for order in gadget.orders) == size
    states = [line["state"] for line in world.lines if "device" in line]
    assert [state for at, state in enumerate(states) if states[at - 1 : at] != [state]] == [
        "Downloading",
        "Verifying",
        "Installing",
        "Testing",
        "Accepted",
    ]
    assert (world.ended[-1]["state"], world.ended[-1]["counts"]) == ("done", {"Accepted": 1})
    # What a person sees of it is short: none of the orders and replies.
    kinds = [news.kind for news in world.news if news.device == "D00"]
    assert "command" not in kinds
    assert "reply" not in kinds
    assert kinds.count("notice") == 2


def test_a_device_that_accepts_compressed_chunks(maker):
    world = worlds(maker, 2)
    world.gadgets["D00"].packs = True
    number = world.start()
    world.settle()
    assert set(world.states(number).values()) == {("Accepted", "")}
    sent = {
        name: sum(len(order.get("z", order.get("data", b""))) for order in gadget.orders)
        for name, gadget in world.gadgets.items()
    }
    assert sent["D00"] < 0.9 * sent["D01"]
    assert not [order for order in world.gadgets["D01"].orders if "z" in order]


def test_waves_one_after_the_other(maker):
    world = worlds(maker, 20)
    number = world.start(waves=(10, 50, 100), at_once=3)
    assert {device for device, verb, _ in world.sent if verb == "update"} == {"D00", "D01"}
    world.settle()
    assert outcome(world, number) == {"Accepted": 20}
    order = [line["device"] for line in world.lines if line.get("state") == "Testing"]
    assert len(order) == 20
    waves = {target.device: target.wave for target in world.store.rollout(number).targets}
    assert sorted(waves.values()) == [0] * 2 + [1] * 8 + [2] * 10
    # A later wave never begins before the one before it was accepted.
    last = {0: 0, 1: 0, 2: 0}
    first = {0: 10**9, 1: 10**9, 2: 10**9}
    for at, line in enumerate(world.lines):
        if "device" in line:
            wave = line["wave"]
            if line["state"] == "Accepted":
                last[wave] = at
            if line["state"] == "Downloading":
                first[wave] = min(first[wave], at)
    assert last[0] < first[1]
    assert last[1] < first[2]


def test_so_many_at_once(maker):
    world = worlds(maker, 12)
    world.start(at_once=4)
    world.sent.clear()  # nothing arrives: they stay at their first question
    assert len(world.rollouts.active[1].tally.running) == 4


def test_it_stops_by_itself(maker):
    world = worlds(maker, 20)
    for gadget in world.gadgets.values():
        gadget.healthy = False
    number = world.start(waves=(10, 100))
    world.settle()
    record = world.store.rollout(number)
    assert record.state == "stopped"
    assert "trial-failed" in record.reason
    assert outcome(world, number)["Waiting"] == 18
    tried = [gadget for gadget in world.gadgets.values() if gadget.orders]
    assert {gadget.name for gadget in tried} == {"D00", "D01"}
    assert world.ended[-1]["state"] == "stopped"
    world.pass_time(600)
    assert len([gadget for gadget in world.gadgets.values() if gadget.orders]) == 2


def test_a_number_of_failures(maker):
    world = worlds(maker, 6)
    for name in ("D00", "D01"):
        world.gadgets[name].healthy = False
    number = world.start(max_failures=2, in_percent=False)
    world.settle()
    assert world.store.rollout(number).state == "done"
    assert outcome(world, number) == {"Accepted": 4, "Rejected": 2}


# Nothing hangs on one message


@pytest.mark.parametrize("lost", range(10))
def test_whatever_reply_gets_lost(maker, lost):
    world = worlds(maker, 1)
    world.gadgets["D00"].loses = {lost}
    number = world.start()
    world.settle()
    world.pass_time(300)
    assert world.states(number) == {"D00": ("Accepted", "")}


def test_the_last_report_gets_lost(maker):
    world = worlds(maker, 4)
    for gadget in world.gadgets.values():
        gadget.reports = False
    world.gadgets["D03"].healthy = False
    number = world.start(max_failures=1, in_percent=False)
    world.settle()
    world.pass_time(130)
    assert outcome(world, number) == {"Accepted": 3, "Rejected": 1}
    assert world.states(number)["D03"] == ("Rejected", "trial-failed")


def test_a_report_is_the_devices_own_and_of_this_release(maker):
    world = worlds(maker, 1)
    gadget = world.gadgets["D00"]
    gadget.bricks = True
    number = world.start()
    world.settle()
    gadget.there = True
    gadget.connect(world)
    world.pump()
    gadget.bricks = False
    for sequence in (0, 2, "1", None):
        body = {"state": "Accepted", "reason": "", "sequence": sequence, "want": None}
        world.receive(gadget, "update", gadget.peer.seal("update", [0, None, body]))
    assert world.states(number)["D00"][0] == "Testing"
    body = {"state": "Accepted", "reason": "", "sequence": 1, "want": None}
    world.receive(gadget, "update", gadget.peer.seal("update", [0, None, body]))
    assert world.states(number)["D00"][0] == "Accepted"


# Devices that are away, or do not come back


def test_one_that_is_away_gets_it_when_it_comes(maker):
    world = World(maker, 3)
    world.gadgets["D02"].there = False
    world.connect_all()
    number = world.start(waves=(34, 100))
    world.settle()
    world.pass_time(30)
    assert outcome(world, number) == {"Accepted": 2, "Away": 1}
    assert world.ended[-1]["state"] == "resting"
    assert world.store.rollout(number).state == "active"
    world.gadgets["D02"].there = True
    world.gadgets["D02"].connect(world)
    world.settle()
    assert world.store.rollout(number).state == "done"


def test_device_whose_session_event_is_missed(maker):
    world = World(maker, 1)
    gadget = world.gadgets["D00"]
    gadget.there = False
    gadget.connect(world)  # its hello comes, and our answers do not reach it
    number = world.start()
    world.settle()
    world.pass_time(30)
    assert world.states(number)["D00"] == ("Away", "no-session")
    gadget.there = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.rollouts, "_on_event", lambda _: None)
        world.engine.watchers.clear()
        gadget.connect(world)
        world.pump()
    assert world.states(number)["D00"][0] == "Away"
    world.pass_time(200)
    assert world.states(number)["D00"][0] == "Accepted"


def test_all_away_is_no_success(maker):
    world = World(maker, 4)
    number = world.start(waves=(50, 100))
    world.pass_time(60)
    assert outcome(world, number) == {"Away": 2, "Waiting": 2}
    assert world.ended[-1]["state"] == "resting"


def test_one_that_leaves_in_the_middle(maker):
    world = worlds(maker, 1)
    gadget = world.gadgets["D00"]
    number = world.start()
    for _ in range(5):
        device, verb, data = world.sent.pop(0)
        world.gadgets[device].handle(world, verb, data)
    assert 0 < len(gadget.data) < 5000
    gadget.there = False
    world.settle()
    world.pass_time(60)
    assert world.states(number)["D00"][0] == "Downloading"  # it may come back in a moment
    world.pass_time(120)
    assert world.states(number)["D00"][0] == "Away"
    served = len(gadget.orders)
    gadget.there = True
    gadget.connect(world)
    world.settle()
    assert world.states(number) == {"D00": ("Accepted", "")}
    assert sum("envelope" in order for order in gadget.orders[served:]) == 0  # it went on


def test_one_that_comes_and_goes(maker):
    world = worlds(maker, 1)
    gadget = world.gadgets["D00"]
    number = world.start()
    for _ in range(12):
        if world.sent:
            device, verb, data = world.sent.pop(0)
            gadget.handle(world, verb, data)
        gadget.there = False
        world.settle()
        world.pass_time(40)
        gadget.there = True
        gadget.connect(world)
        for _ in range(3):
            if world.sent:
                gadget.handle(world, *world.sent.pop(0)[1:])
    assert world.states(number)["D00"][0] in ("Downloading", "Testing", "Away")
    world.settle()
    world.pass_time(200)
    assert world.states(number)["D00"] == ("Accepted", "")


def test_one_that_starts_anew_while_it_is_asked(maker, monkeypatch):
    """Its report on an image from a web server arrives while we wait for a reply that is lost."""
    world = worlds(maker, 1)
    gadget = world.gadgets["D00"]
    real = type(gadget).execute
    monkeypatch.setattr(type(gadget), "want", lambda _: None)
    gadget.loses = {2}
    number = world.start()
    while len(gadget.orders) < 3:
        device, verb, data = world.sent.pop(0)
        gadget.handle(world, verb, data)
    monkeypatch.setattr(type(gadget), "execute", real)
    gadget.reports = False
    gadget.restart(world)
    world.settle()
    assert world.states(number) == {"D00": ("Accepted", "")}  # at once, not a time-out later


def test_one_that_never_comes_back_is_a_failure(maker):
    world = worlds(maker, 10)
    world.gadgets["D00"].bricks = True
    number = world.start(waves=(10, 100), trial_s=600)
    world.settle()
    assert outcome(world, number) == {"Testing": 1, "Waiting": 9}
    world.pass_time(700)
    assert world.store.rollout(number).state == "stopped"
    assert world.states(number)["D00"] == ("Lost", "timed-out")
    assert outcome(world, number) == {"Lost": 1, "Waiting": 9}


def test_one_that_was_given_up_and_comes_back_is_asked(maker):
    world = worlds(maker, 2)
    gadget = world.gadgets["D00"]
    gadget.bricks = True
    world.gadgets["D01"].there = False
    number = world.start(trial_s=60, max_failures=100)
    world.settle()
    world.pass_time(120)
    assert world.states(number)["D00"] == ("Lost", "timed-out")
    gadget.there = True
    gadget.loses = set(range(100))
    gadget.connect(world)
    world.pump()
    gadget.there = False  # it came, and was gone before it said a word: still a failure
    world.pass_time(60)
    assert world.states(number)["D00"] == ("Lost", "timed-out")
    gadget.there = True
    gadget.loses = set()
    gadget.confirmed = gadget.running = 1
    gadget.connect(world)
    world.settle()
    assert world.states(number)["D00"] == ("Accepted", "")


# What devices answer


@pytest.mark.parametrize(
    ("order", "code", "state"),
    [
        ("envelope", "wrong-device", "Rejected"),
        ("envelope", "tampered", "Rejected"),
        ("envelope", "unknown-command", "Rejected"),
        ("envelope", "slot-full", "Aborted"),
        ("envelope", "update-state", "Aborted"),
        ("chunk", "filesystem", "Aborted"),
        ("ask", "not-allowed", "Rejected"),
        ("envelope", "\x1b[31m", "Rejected"),
        # Our own word for a job that we cut: from a device it is one like any other.
        ("envelope", "not-serving", "Rejected"),
        ("chunk", "not-serving", "Rejected"),
    ],
)
def test_a_device_that_refuses(maker, order, code, state):
    world = worlds(maker, 1)
    gadget = world.gadgets["D00"]
    gadget.refuses = {order: code}
    number = world.start()
    world.settle()
    world.pass_time(120)
    said = "unreadable" if "\x1b" in code else code
    assert world.states(number) == {"D00": (state, said)}
    assert sum("envelope" in one for one in gadget.orders) <= 3


def test_a_download_that_breaks_is_tried_again_but_not_for_ever(maker):
    world = worlds(maker, 2)
    world.gadgets["D00"].breaks = [1000, 3000]
    world.gadgets["D01"].breaks = [1000, 2000, 3000]
    number = world.start(max_failures=100)
    world.settle()
    world.pass_time(60)
    assert world.states(number) == {"D00": ("Accepted", ""), "D01": ("Aborted", "filesystem")}


def test_a_device_that_never_has_enough(maker, monkeypatch):
    world = worlds(maker, 1)
    gadget = world.gadgets["D00"]
    monkeypatch.setattr(type(gadget), "want", lambda self: [0, "app", 0, 1])
    gadget.status = {"state": "Downloading", "reason": "", "sequence": 1}
    monkeypatch.setattr(
        type(gadget),
        "execute",
        lambda self, _: {"ok": True, "result": self.status | {"want": self.want()}},
    )
    number = world.start()
    world.settle()
    assert world.states(number) == {"D00": ("Aborted", "update-chunk")}
    assert len(gadget.orders) < 200


@pytest.mark.parametrize(
    "result",
    [
        {"state": "Downloading", "sequence": 1, "want": [0, "app", 1 << 31, 1024]},
        {"state": "Downloading", "sequence": 1, "want": [0, "app", 0, 1025]},
        {"state": "Downloading", "sequence": 1, "want": [0, "../app", 0, 10]},
        {"state": "Downloading", "sequence": 1, "want": [0, "app", -1, 10]},
        {"state": "Downloading", "sequence": 1, "want": [0, "app", 0, 0]},
        {"state": "Downloading", "sequence": 1, "want": [0, "app", 0]},
        {"state": "Downloading", "sequence": 1, "want": 5},
        {"state": "Downloading", "sequence": 0, "want": None},
        {"state": "Testing", "sequence": 9, "want": None},
        {"state": 5},
        {},
        [],
        None,
    ],
)
def test_answers_that_make_no_sense(maker, monkeypatch, result):
    world = worlds(maker, 1)
    gadget = world.gadgets["D00"]
    monkeypatch.setattr(type(gadget), "execute", lambda *_: {"ok": True, "result": result})
    number = world.start()
    world.settle()
    world.pass_time(200)
    state, reason = world.states(number)["D00"]
    assert state == "Aborted" and reason != "internal-error"
    assert len(gadget.orders) < 60
    assert not any(news.code == "internal-error" for news in world.news)


@pytest.mark.parametrize("state", ["Downloading", "Verifying", "Installing"])
def test_one_that_is_at_work_by_itself_has_time_but_not_for_ever(maker, monkeypatch, state):
    world = worlds(maker, 1)
    gadget = world.gadgets["D00"]
    result = {"state": state, "sequence": 1, "want": None}
    monkeypatch.setattr(type(gadget), "execute", lambda *_: {"ok": True, "result": result})
    number = world.start()
    world.settle()
    world.pass_time(3600, step=20)
    assert world.states(number)["D00"] == (state, "")
    result = result | {"running": 1, "confirmed": 1}
    world.pass_time(30)
    assert world.states(number)["D00"] == ("Accepted", "")
    maker.make("2")
    result = {"state": state, "sequence": 2, "want": None}
    number = world.start("relay-2")
    world.settle()
    world.pass_time(7.1 * 3600, step=60)
    assert world.states(number)["D00"] == ("Aborted", "update-timeout")


def test_a_manifest_that_is_validated_while_the_link_is_down(maker, monkeypatch):
    """A device short of memory disconnects first, and reports after it has reconnected."""
    world = worlds(maker, 1)
    gadget = world.gadgets["D00"]
    real = type(gadget).execute

    def execute(self, args):
        if "envelope" not in args:
            return real(self, args)
        real(self, args)
        self.there, self.later = False, True
        return {"ok": True, "result": idle() | {"state": "Downloading"}}

    monkeypatch.setattr(type(gadget), "execute", execute)
    number = world.start()
    world.settle()
    world.pass_time(60)
    assert world.states(number)["D00"][0] == "Downloading"
    assert not any("abort" in order for order in gadget.orders)
    gadget.there = True
    gadget.connect(world)
    world.settle()
    assert world.states(number)["D00"] == ("Accepted", "")
    assert sum("envelope" in order for order in gadget.orders) == 1


def test_one_that_runs_it_already(maker):
    world = worlds(maker, 3)
    world.gadgets["D00"].confirmed = 1
    world.gadgets["D01"].confirmed = 5
    world.gadgets["D02"].failed = 1
    number = world.start(max_failures=100)
    world.settle()
    assert world.states(number) == {
        "D00": ("Accepted", ""),
        "D01": ("Rejected", "old-manifest"),
        "D02": ("Rejected", "trial-failed"),
    }
    assert not any(
        "envelope" in order for gadget in world.gadgets.values() for order in gadget.orders
    )


def test_another_download_gives_way(maker):
    world = worlds(maker, 1)
    gadget = world.gadgets["D00"]
    gadget.status = {"state": "Downloading", "reason": "", "sequence": 7}
    gadget.plan = maker.make("7", sequence=7).parsed
    number = world.start()
    world.settle()
    world.pass_time(30)
    assert {"abort": True} in gadget.orders
    assert world.states(number) == {"D00": ("Accepted", "")}


# Keys and grants


def test_fields_sent_with_the_envelope(maker):
    maker.make("2", encrypted=True)
    world = worlds(maker, 1, gate=True)
    gadget = world.gadgets["D00"]
    world.start("relay-2")
    world.pump()
    [order] = [one for one in gadget.orders if "envelope" in one]
    assert order["grant"] is True
    assert len(order["key"]) == 61
    world = worlds(maker, 1)
    world.start("relay-1.0")
    world.settle()
    [order] = [one for one in world.gadgets["D00"].orders if "envelope" in one]
    assert sorted(order) == ["envelope"]


def test_where_a_device_is_to_look_for_the_image(maker):
    maker.make("2", base="https://example.net/updates")
    pins = ["ab" * 32, "cd" * 32]
    for plan, wanted in (
        ({}, {}),
        ({"web": False}, {"https": False}),
        ({"web_pins": tuple(pins)}, {"pins": [bytes.fromhex(pin) for pin in pins]}),
    ):
        for name, more in (("relay-2", wanted), ("relay-1.0", {})):
            world = worlds(maker, 1)
            world.start(name, **plan)
            world.settle()
            [order] = [one for one in world.gadgets["D00"].orders if "envelope" in one]
            assert {key: order[key] for key in order if key != "envelope"} == more


@pytest.mark.parametrize("reason", ["image-mismatch", "payload-tampered", "filesystem"])
def test_a_web_server_that_sent_something_else_is_not_asked_again(maker, reason):
    """A device allows a release three tries: the host uses those that are left."""
    maker.make("2", base="https://example.net/updates")
    world = worlds(maker, 1)
    gadget = world.gadgets["D00"]
    gadget.status = {"state": "Aborted", "reason": reason, "sequence": 2}
    number = world.start("relay-2", web_pins=("ab" * 32, "cd" * 32))
    world.settle()
    [order] = [one for one in gadget.orders if "envelope" in one]
    spoiled = reason != "filesystem"
    assert (order.get("https"), "pins" in order) == (False if spoiled else None, not spoiled)
    assert world.states(number) == {"D00": ("Accepted", "")}


# Restarts, and the owner's word


@pytest.mark.parametrize("at", range(0, 60, 6))
def test_a_killed_service_goes_on_where_it_was(maker, at):
    world = worlds(maker, 4)
    number = world.start(waves=(25, 100), at_once=2)
    for _ in range(at):
        if world.sent:
            device, verb, data = world.sent.pop(0)
            world.gadgets[device].handle(world, verb, data)
    world.boot()  # killed: nothing was said, nothing written
    for gadget in world.gadgets.values():
        if gadget.restarting:
            gadget.restart(world)
    world.connect_all()
    if world.store.rollout(number).state == "active":
        world.resume(number)
        world.settle()
        world.pass_time(120)
    assert outcome(world, number) == {"Accepted": 4}
    assert world.store.rollout(number).state == "done"
    for gadget in world.gadgets.values():
        assert sum("envelope" in order for order in gadget.orders) <= 2


def test_stopped_by_its_owner_and_gone_on_with(maker):
    world = worlds(maker, 3)
    number = world.start(at_once=1)
    for _ in range(5):
        device, verb, data = world.sent.pop(0)
        world.gadgets[device].handle(world, verb, data)
    world.rollouts.stop(number, "its owner stopped it")
    world.settle()
    assert world.store.rollout(number).state == "stopped"
    assert outcome(world, number) == {"Waiting": 3}
    assert world.gadgets["D00"].orders[-1] == {"abort": True}
    assert world.gadgets["D00"].status["state"] == "Aborted"
    world.rollouts.stop(number, "twice")
    world.store.set_rollout(number, "active")
    world.resume(number)
    world.settle()
    world.pass_time(30)
    assert outcome(world, number) == {"Accepted": 3}
    with refused("rollout-unknown"):
        world.rollouts.stop(99, "")


def test_rollout_started_twice_runs_once(maker):
    world = worlds(maker, 3)
    number = world.start(at_once=1)
    opened = open_release(maker.fleet, maker.store, "relay-1.0")
    world.rollouts.start(number, opened)
    assert opened.files == {}
    world.settle()
    assert outcome(world, number) == {"Accepted": 3}


def test_trials_finish_after_a_stop(maker):
    world = worlds(maker, 2)
    world.gadgets["D01"].bricks = True
    number = world.start(max_failures=0, at_once=2)
    while not world.gadgets["D00"].restarting:
        device, verb, data = world.sent.pop(0)
        world.gadgets[device].handle(world, verb, data)
    world.pump()
    world.rollouts.stop(number, "its owner stopped it")
    world.settle()
    world.pass_time(10)
    assert world.states(number)["D00"] == ("Accepted", "")


def test_a_newer_release_replaces_a_rollout(maker):
    maker.make("2")
    world = World(maker, 3)
    world.gadgets["D00"].there = False
    world.connect_all()
    first = world.start("relay-1.0")
    world.settle()
    world.pass_time(20)
    second = world.start("relay-2")
    world.settle()
    assert world.states(first)["D00"] == ("Superseded", "relay-2")
    assert world.store.rollout(first).state == "done"
    world.gadgets["D00"].there = True
    world.gadgets["D00"].connect(world)
    world.settle()
    assert outcome(world, second) == {"Accepted": 3}
    assert world.gadgets["D00"].confirmed == 2


def test_many_that_are_gone_at_once(maker):
    """Jobs that end at once because a device is away don't nest calls."""
    world = worlds(maker, 100)
    for gadget in world.gadgets.values():
        gadget.there = False
        world.receive(gadget, "offline", b"{}", fmt="json")
    number = world.start()
    world.settle()
    assert outcome(world, number) == {"Away": 100}
    assert world.ended[-1]["counts"] == {"Away": 100}


def test_failing_watcher_does_not_stop_the_others(maker):
    world = worlds(maker, 1)
    number = world.start()

    def gone(_line, _last):
        if world.rollouts.active[number].tally.running:
            raise HostError("timed-out", "gone")

    world.rollouts._watchers[number].insert(0, gone)
    world.settle()
    assert world.ended[-1]["state"] == "done"
    world.watch(number)
    assert world.ended[-1]["counts"] == {"Accepted": 1}


def test_callers_that_hang_up_leave_nothing(maker):
    world = worlds(maker, 1)
    number = world.start()
    watching = None

    def watcher(who, _line, _last):
        if who != watching:
            raise HostError("timed-out", "gone")

    for watching in range(500):
        world.rollouts.watch(number, functools.partial(watcher, watching))
    assert len(world.rollouts._watchers[number]) <= 70


# The shelf


def test_release_is_verified_before_a_device_gets_it(maker):
    made = maker.make("2", encrypted=True)
    path = made.folder / "app.img"
    data = path.read_bytes()

    def opened():
        return open_release(maker.fleet, maker.store, made.name)

    opened().close()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with refused("image-mismatch"):
        opened()
    path.write_bytes(data)
    maker.store._do("UPDATE releases SET cek = NULL")
    with refused("release-missing"):
        opened()
    envelope = made.folder / "manifest.suit"
    other = bytearray(envelope.read_bytes())
    other[other.index(b"\xf6\x58\x40") + 10] ^= 1
    envelope.write_bytes(other)
    with refused("tampered"):
        opened()
    for name in ("../relay-2", "relay-9", "relay-1.0/.."):
        with refused("release-missing" if name == "relay-9" else "bad-name"):
            open_release(maker.fleet, maker.store, name)


def test_chunks_come_from_the_file_and_from_nowhere_else(maker):
    opened = open_release(maker.fleet, maker.store, "relay-1.0")
    path = maker.fleet.root / "releases/relay-1.0/app.img"
    data = path.read_bytes()
    assert opened.read("app", 0, 1024) == data[:1024]
    assert opened.read("app", len(data) - 5, 5) == data[-5:]
    for component, offset, length in (
        ("app", -1, 5),
        ("app", 0, 0),
        ("app", 0, 1025),
        ("app", len(data) - 4, 5),
        ("app", len(data), 1),
        ("other", 0, 5),
    ):
        with refused("bad-body"):
            opened.read(component, offset, length)
    path.write_bytes(data[:100])  # behind its back
    with refused("image-mismatch"):
        opened.read("app", 0, 1024)
    opened.close()
    assert opened.files == {}


def test_a_large_image_is_not_held_in_memory(maker):
    import tracemalloc

    big = maker.folder / "firmware.bin"
    big.write_bytes(bytes(range(256)) * (16 << 10))
    maker.make("2", components={"firmware": big})
    tracemalloc.start()
    opened = open_release(maker.fleet, maker.store, "relay-2")
    for offset in range(0, 4 << 20, 64 << 10):
        opened.read("firmware", offset, 1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    opened.close()
    assert peak < 400_000


def test_every_state_is_one_of_the_page(maker):
    assert set(rollout_plan.STATES) >= {"Waiting", "Away", "Lost", "Superseded"}
    assert device_job._CURABLE
