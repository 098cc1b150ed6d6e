"""Rollouts through the control socket and the command line."""

import json

import pytest
from authority_kit import Authority, asked, lines_of
from cli_kit import fails
from host_kit import refused
from release_kit import TYPE, Maker, cheap
from rich.console import Console
from rollout_model import POLICY, World
from warden_host import control_client
from warden_host.cli import main, rollout, screen
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.rollout import plan
from warden_host.service.control import Caller
from warden_host.service.rollout_handler import RolloutHandler
from warden_host.store.store import Device, Pair, Store


@pytest.fixture
def maker(tmp_path, monkeypatch):
    cheap(monkeypatch)
    made = Maker(tmp_path)
    made.make("1.0")
    made.make("2.0")
    yield made
    made.store.close()


@pytest.fixture
def world(maker):
    made = World(maker, 4)
    made.connect_all()
    return made


@pytest.fixture
def handler(maker, world):
    return RolloutHandler(maker.fleet, Authority(world))


def test_a_rollout_over_the_control_socket(handler, world):
    caller = asked(handler, waves="25%,100%", max_failures="0", at_once=2)
    world.settle()
    lines = lines_of(caller)
    assert lines[0]["targets"][0][1:] == [0, "Waiting", ""]
    assert lines[-1]["counts"] == {"Accepted": 4}
    record = world.store.rollout(1)
    assert (record.plan["waves"], record.plan["max_failures"], record.plan["in_percent"]) == (
        [25, 100],
        0,
        False,
    )
    # The same request shows the running rollout; afterwards it makes a new one.
    assert lines_of(asked(handler))[0]["rollout"] == 2


def test_the_same_again_is_the_same(handler, world):
    asked(handler)
    caller = asked(handler, devices=["D01"], type="")
    assert lines_of(caller)[0]["rollout"] == 1
    world.settle()
    assert lines_of(caller)[-1]["state"] == "done"
    assert len(world.store.rollouts()) == 1


def test_a_share_and_single_devices(handler, world):
    asked(handler, percent=50)
    assert len(world.store.rollout(1).targets) == 2
    world.settle()
    asked(handler, type="", devices=["D03", "D03"])
    assert [target.device for target in world.store.rollout(2).targets] == ["D03"]


def test_an_older_release_does_not_get_in_the_way_of_a_newer(handler, world):
    for gadget in world.gadgets.values():
        gadget.there = False
    asked(handler, release="relay-2.0")
    with refused("rollout-running"):
        asked(handler)
    with refused("rollout-running"):
        asked(handler, type="", devices=["D02"])
    handler.operations["rollout-stop"]({"rollout": 1}, Caller())
    asked(handler)
    assert world.store.rollout(2).state == "active"


def test_malformed_requests(handler, world, maker):
    other = Device(
        "X1", "lamp", "UNIX", "sealed", POLICY, pairs=(Pair(AUTHORITY, b"k" * 32, b"", ()),)
    )
    plain = Device("P1", TYPE, "UNIX", "plain", policy.record(mode="plain"), pairs=other.pairs)
    with world.store.transaction():
        world.store.add_device(other)
        world.store.add_device(plain)
    for code, changes in (
        ("release-missing", {"release": "relay-9"}),
        ("bad-name", {"release": "../relay-1.0"}),
        ("control-malformed", {"release": 5}),
        ("control-malformed", {"devices": ["D01"]}),
        ("control-malformed", {"type": ""}),
        ("control-malformed", {"type": "", "devices": "D01"}),
        ("control-malformed", {"type": "", "devices": [1]}),
        ("control-malformed", {"type": 5}),
        ("control-malformed", {"percent": 0}),
        ("control-malformed", {"percent": True}),
        ("control-malformed", {"at_once": 1001}),
        ("control-malformed", {"trial_s": 1}),
        ("control-malformed", {"waves": 5}),
        ("control-malformed", {"web": 1}),
        ("control-malformed", {"web_pins": "ab"}),
        ("control-malformed", {"web_pins": [1]}),
        ("bad-argument", {"web_pins": ["ab" * 32]}),
        ("bad-argument", {"waves": "x"}),
        ("bad-argument", {"max_failures": "x"}),
        ("device-unknown", {"type": "", "devices": ["D9"]}),
        ("bad-name", {"type": "", "devices": ["a/b"]}),
        ("device-unknown", {"type": "nosuch"}),
        ("wrong-device", {"type": "lamp"}),
        ("wrong-device", {"type": "", "devices": ["X1"]}),
        ("not-applicable", {"type": "", "devices": ["P1"]}),
        ("rollout-unknown", {"op": "rollout-watch", "rollout": 9}),
        ("rollout-unknown", {"op": "rollout-resume", "rollout": 9}),
        ("rollout-unknown", {"op": "rollout-stop", "rollout": 9}),
        ("control-malformed", {"op": "rollout-watch", "rollout": "1"}),
    ):
        with refused(code):
            asked(handler, **changes)
    assert world.store.rollouts() == []
    # A plain device of the type is left out, without a word against the others.
    asked(handler)
    assert {target.device for target in world.store.rollout(1).targets} == set(world.gadgets)
    path = maker.fleet.root / "releases" / "relay-2.0" / "app.img"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with refused("image-mismatch"):
        asked(handler, release="relay-2.0")


def test_stopped_rollout_is_resumed(handler, world):
    world.gadgets["D02"].healthy = False
    asked(handler, at_once=1)
    world.settle()
    assert world.store.rollout(1).state == "stopped"
    caller = Caller()
    handler.operations["rollout-resume"]({"rollout": 1}, caller)
    world.settle()
    assert lines_of(caller)[-1]["counts"] == {"Accepted": 3, "Rejected": 1}
    assert world.store.rollout(1).state == "done"
    handler.operations["rollout-resume"]({"rollout": 1}, caller)
    assert world.store.rollout(1).state == "done"


def test_pardon_covers_one_device(handler, world):
    """A lost device that was pardoned and then accepted frees no pardon for the next failure."""
    order = plan.shuffle("relay-1.0", list(world.gadgets))
    lost, bad = order[0], order[-1]
    for gadget in world.gadgets.values():
        gadget.bricks = gadget.name == lost
        gadget.healthy = gadget.name != bad
    asked(handler, waves="25%,50%,100%", max_failures="0", at_once=1, trial_s=60)
    world.settle()
    world.pass_time(120)
    assert world.states(1)[lost] == ("Lost", "timed-out")
    assert world.store.rollout(1).state == "stopped"
    gadget = world.gadgets[order[1]]
    gadget.there = False  # it holds the second wave up, until the first device is back
    handler.operations["rollout-resume"]({"rollout": 1}, Caller())
    assert world.store.rollout(1).forgiven == 1
    back = world.gadgets[lost]
    back.there, back.running, back.confirmed = True, 1, 1
    back.connect(world)
    world.settle()
    world.pass_time(30)
    assert world.states(1)[lost] == ("Accepted", "")
    assert world.store.rollout(1).forgiven == 0
    gadget.there = True
    gadget.connect(world)
    world.settle()
    world.pass_time(200)
    assert world.states(1)[bad] == ("Rejected", "trial-failed")
    assert world.store.rollout(1).state == "stopped"


def test_rollouts_of_an_earlier_service_continue(handler, world, maker):
    asked(handler)
    asked(handler, release="relay-2.0")
    (maker.fleet.root / "releases" / "relay-2.0" / "app.img").unlink()
    with world.store.transaction():
        world.store._do("UPDATE rollouts SET state = 'active'")
        world.store._do("UPDATE rollout_devices SET state = 'Downloading'")
    world.boot()
    again = RolloutHandler(maker.fleet, Authority(world))
    again.resume_all()
    states = {record.release: (record.state, record.reason) for record in world.store.rollouts()}
    assert states["relay-2.0"] == ("stopped", "release-missing")
    world.connect_all()
    world.settle()
    world.pass_time(200)
    assert world.store.rollout(1).state == "done"
    again.close()


# The command line


def test_usage(folder, capsys):
    for usage in (
        ["rollout", "relay-1"],
        ["rollout", "relay-1", "--device", "D1", "--type", "relay"],
        ["rollouts", "--stop"],
        ["rollouts", "--follow"],
        ["rollout", "relay-1", "--type", "relay", "--percent", "0"],
    ):
        assert main.run(usage) == 2, usage
    capsys.readouterr()
    fails(capsys, "bad-argument", "rollout", "relay-1", "--type", "relay", "--wave", "5")
    fails(capsys, "bad-argument", "rollout", "relay-1", "--type", "r", "--max-failures", "x")
    fails(capsys, "not-serving", "rollout", "relay-1", "--type", "relay")
    fails(capsys, "rollout-unknown", "rollouts", "5")
    fails(capsys, "rollout-unknown", "rollouts", "5", "--stop")
    fails(capsys, "not-serving", "rollouts", "5", "--resume")
    assert main.run(["rollouts"]) == 0
    assert "no rollouts yet" in capsys.readouterr().out


def test_a_list_and_a_look_without_a_service(folder, capsys):
    with Store(folder / "fleet.db") as store:
        number = store.add_rollout("relay-1", 1, {"waves": [100]}, {"D1": 0, "D2": 0})
        store.set_target(number, "D1", "Rejected", "trial-failed", True)
    assert main.run(["rollouts"]) == 0
    assert "1 Waiting, 1 Rejected" in capsys.readouterr().out
    assert main.run(["rollouts", "1"]) == 0
    assert "Rejected trial-failed" in capsys.readouterr().out
    assert main.run(["rollouts", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["targets"][0]["reason"] == "trial-failed"
    assert main.run(["rollouts", "1", "--stop"]) == 0
    capsys.readouterr()
    assert main.run(["rollouts", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"


def summary(state: str, **counts: int) -> dict:
    return {"rollout": 1, "release": "relay-1", "state": state, "reason": "x", "counts": counts}


def device(name: str, state: str, reason: str = "", done: int = 0) -> dict:
    return {
        "rollout": 1,
        "device": name,
        "wave": 0,
        "state": state,
        "reason": reason,
        "done": done,
        "total": 1000,
    }


SHOWN = [
    {"rollout": 1, "targets": [["D1", 0, "Waiting", ""], ["D2", 0, "Waiting", ""]]},
    summary("active", Waiting=2),
    device("D1", "Downloading"),
    device("D1", "Downloading", done=500),
    device("D2", "Downloading"),
    device("D1", "Testing", done=1000),
    device("D1", "Accepted"),
    device("D2", "Rejected", "\x1b[31mtrial-failed"),
]


@pytest.mark.parametrize(
    ("last", "code", "words"),
    [
        (summary("done", Accepted=2), 0, "rollout 1 of relay-1 is done: 2 Accepted"),
        (summary("done", Accepted=1, Rejected=1), 1, "1 Accepted, 1 Rejected"),
        (summary("stopped", Rejected=1), 1, "stopped: x"),
        (
            summary("resting", Accepted=1, Away=1),
            0,
            "offline devices get it on their next contact",
        ),
        (
            summary("resting", Away=1, Waiting=1),
            0,
            "the next wave waits until a device of this wave",
        ),
        (
            summary("stopped", Rejected=1)
            | {"reason": "1 of 1 failed, the last with unknown-command"},
            1,
            "provisioned before the fleet had a release key",
        ),
        (
            summary("stopped", Rejected=1) | {"reason": "1 of 1 failed, the last with tampered"},
            1,
            "`warden rotate DEVICE --release-keys`",
        ),
    ],
)
@pytest.mark.parametrize("terminal", [True, False])
def test_lines_shown_for_people(folder, capsys, monkeypatch, last, code, words, terminal):
    monkeypatch.setattr(control_client, "stream", lambda *_, **__: iter([*SHOWN, last]))
    monkeypatch.setattr(
        screen,
        "out",
        Console(force_terminal=terminal, width=100, highlight=False, color_system=None),
    )
    assert main.run(["rollout", "relay-1", "--type", "relay"]) == code
    out = capsys.readouterr().out
    assert words in out
    for state in ("D1", "Accepted", "Rejected"):
        assert state in out
    assert "\x1b[31m" not in out


def test_a_service_that_ends_in_the_meantime(folder, capsys, monkeypatch):
    monkeypatch.setattr(control_client, "stream", lambda *_, **__: iter(SHOWN))
    assert main.run(["rollout", "relay-1", "--type", "relay"]) == 3
    err = capsys.readouterr().err
    assert "not-serving" in err
    assert "repeat the command" in err


def test_a_folder_names_its_release(folder, tmp_path):
    from warden_host.fleet.fleet import Fleet

    (folder / "releases" / "relay-1").mkdir(parents=True)
    (tmp_path / "relay-2").mkdir()
    fleet = Fleet(folder)
    assert rollout.release_name(fleet, str(folder / "releases" / "relay-1")) == "relay-1"
    assert rollout.release_name(fleet, str(tmp_path / "relay-2")) == str(tmp_path / "relay-2")
