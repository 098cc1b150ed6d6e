"""Groups of devices: their members, and which of them a rollout leaves out."""

import json
import time

import pytest
from authority_kit import Authority, asked, lines_of
from cli_kit import fails, said
from host_kit import refused
from release_kit import TYPE, Maker, cheap
from rollout_model import POLICY, World
from warden_host import control_client
from warden_host.cli import main
from warden_host.names import AUTHORITY
from warden_host.protocol import policy
from warden_host.service.rollout_handler import RolloutHandler
from warden_host.store.store import Device, Pair, Store


def device(name: str, type_: str = TYPE, mode: str = "sealed") -> Device:
    record = POLICY if mode == "sealed" else policy.record(mode="plain")
    return Device(
        name, type_, "UNIX", mode, record, pairs=(Pair(AUTHORITY, b"k" * 32, b"u" * 32, ()),)
    )


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "fleet.db") as opened:
        for name in ("D1", "D2", "D3"):
            opened.add_device(device(name))
        yield opened


def test_group_members(store):
    store.add_to_group("hall", ["D2", "D1"])
    store.add_to_group("hall", ["D2"])
    store.add_to_group("all", ["D1", "D2", "D3"])
    assert store.groups() == {"all": ["D1", "D2", "D3"], "hall": ["D1", "D2"]}
    assert store.group("hall") == ["D1", "D2"]
    store.remove_from_group("hall", ["D1"])
    assert store.group("hall") == ["D2"]
    store.remove_from_group("hall", ["D2"])
    assert "hall" not in store.groups()
    with refused("group-unknown"):
        store.group("hall")
    with refused("group-unknown"):
        store.remove_from_group("hall", ["D2"])


def test_all_of_a_change_or_none(store):
    with refused("device-unknown"):
        store.add_to_group("hall", ["D1", "D9"])
    assert store.groups() == {}
    store.add_to_group("hall", ["D1", "D2"])
    with refused("device-unknown"):
        store.remove_from_group("hall", ["D1", "D3"])
    assert store.group("hall") == ["D1", "D2"]


def test_a_device_that_is_provisioned_again_stays_and_one_that_is_removed_goes(store):
    store.add_to_group("hall", ["D1", "D2"])
    store.add_device(device("D1"))
    assert store.group("hall") == ["D1", "D2"]
    with store.transaction():
        store.remove_device("D1")
    assert store.groups() == {"hall": ["D2"]}
    store.add_device(device("D1"))  # one of that name, and another device
    assert store.group("hall") == ["D2"]


# A rollout for a group


@pytest.fixture
def world(tmp_path, monkeypatch):
    cheap(monkeypatch)
    maker = Maker(tmp_path)
    maker.make("1.0")
    made = World(maker, 4)
    made.connect_all()
    made.store.add_device(device("LAMP", "lamp"))
    made.store.add_device(device("PLAIN", mode="plain"))
    yield made
    maker.store.close()


@pytest.fixture
def handler(world):
    return RolloutHandler(world.maker.fleet, Authority(world))


def end(world: World, name: str, revoked: bool) -> None:
    with world.store.transaction():
        world.store.order_ending(name, revoked, not revoked, time.time())
    world.engine.apply_ending(name)


def chosen(world: World, number: int = 1) -> set[str]:
    return {target.device for target in world.store.rollout(number).targets}


def test_a_rollout_for_a_group(handler, world):
    world.store.add_to_group("hall", ["D01", "D03"])
    caller = asked(handler, type="", group="hall")
    world.settle()
    lines = lines_of(caller)
    assert lines[-1]["counts"] == {"Accepted": 2}
    assert not any("left_out" in line for line in lines)
    assert chosen(world) == {"D01", "D03"}


def test_a_share_of_a_group_in_waves(handler, world):
    world.store.add_to_group("hall", ["D00", "D01", "D02", "D03"])
    asked(handler, type="", group="hall", percent=50, waves="50%,100%")
    assert len(chosen(world)) == 2
    assert {target.wave for target in world.store.rollout(1).targets} == {0, 1}


def test_reply_lists_devices_left_out(handler, world):
    end(world, "D00", revoked=True)
    end(world, "D01", revoked=False)
    world.store.add_to_group("all", ["D00", "D01", "D02", "LAMP", "PLAIN"])
    line = lines_of(asked(handler, type="", group="all"))[0]
    assert line == {
        "rollout": 1,
        "left_out": {"cut off or to be wiped": 2, "of another type": 1, "plain": 1},
    }
    assert chosen(world) == {"D02"}
    # The same again is the same, and says the same.
    assert lines_of(asked(handler, type="", group="all"))[0] == line
    world.settle()
    line = lines_of(asked(handler))[0]
    assert line["left_out"] == {"cut off or to be wiped": 2, "plain": 1}
    assert chosen(world, 2) == {"D02", "D03"}


def test_malformed_requests(handler, world):
    end(world, "D00", revoked=True)
    world.store.add_to_group("none", ["D00", "LAMP"])
    for code, changes in (
        ("group-unknown", {"group": "nosuch"}),
        ("bad-name", {"group": "a/b"}),
        ("control-malformed", {"group": 5}),
        ("control-malformed", {"group": "none", "type": TYPE}),
        ("control-malformed", {"group": "none", "devices": ["D01"]}),
        ("control-malformed", {}),
        ("device-unknown", {"group": "none"}),
        ("revoked", {"devices": ["D01", "D00"]}),
    ):
        with refused(code):
            asked(handler, **({"type": ""} | changes))
    assert world.store.rollouts() == []


@pytest.mark.parametrize("code", ["revoked", "device-unknown"])
def test_one_that_leaves_the_fleet_is_no_failure_of_the_release(handler, world, code):
    gadget = world.gadgets["D00"]
    gadget.there = False
    asked(handler, max_failures="0")
    world.settle()
    world.pass_time(30)
    if code == "revoked":
        end(world, "D00", revoked=True)
    else:
        with world.store.transaction():
            world.store.remove_device("D00")
        world.engine.unload("D00")
    world.pass_time(200)
    assert world.states(1)["D00"] == ("Superseded", code)
    assert world.store.rollout(1).state == "done"


# The command line


def test_the_commands(folder, capsys):
    with Store(folder / "fleet.db") as store:
        for name in ("D1", "D2"):
            store.add_device(device(name))
    assert main.run(["group", "list"]) == 0
    assert "no groups yet" in capsys.readouterr().out
    assert main.run(["group", "add", "hall", "D2", "D1", "--json"]) == 0
    assert said(capsys) == {"ok": True, "group": "hall", "devices": ["D1", "D2"]}
    assert main.run(["group", "list"]) == 0
    assert "D1, D2" in capsys.readouterr().out
    assert main.run(["group", "list", "hall", "--json"]) == 0
    assert said(capsys) == {"group": "hall", "devices": ["D1", "D2"]}
    assert main.run(["group", "remove", "hall", "D1"]) == 0
    assert "group hall: D2" in capsys.readouterr().out
    assert main.run(["group", "remove", "hall"]) == 0
    assert "it has no devices left" in capsys.readouterr().out
    for code, *arguments in (
        ("bad-name", "add", "a/b", "D1"),
        ("bad-name", "add", "hall", "a/b"),
        ("bad-name", "list", "a/b"),
        ("bad-name", "remove", "hall", "+"),
        ("device-unknown", "add", "hall", "D1", "D9"),
        ("group-unknown", "list", "hall"),
        ("group-unknown", "remove", "hall"),
    ):
        fails(capsys, code, "group", *arguments)
    assert main.run(["group", "add", "hall"]) == 2
    for usage in (["--group", "a", "--type", "b"], ["--group", "a", "--device", "b"]):
        assert main.run(["rollout", "relay-1", *usage]) == 2
    capsys.readouterr()


def test_devices_left_out_are_shown(folder, capsys, monkeypatch):
    requests: list[dict] = []
    last = {"rollout": 1, "release": "relay-1", "state": "done", "counts": {"Accepted": 1}}

    def stream(_, request, stop):
        requests.append(request)
        return iter([{"rollout": 1, "left_out": {"plain": 2, "of another type": 1}}, last])

    monkeypatch.setattr(control_client, "stream", stream)
    assert main.run(["rollout", "relay-1", "--group", "hall"]) == 0
    assert "left out: 2 plain, 1 of another type" in capsys.readouterr().out
    assert (requests[0]["group"], requests[0]["type"], requests[0]["devices"]) == ("hall", "", [])
    assert main.run(["rollout", "relay-1", "--group", "hall", "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["left_out"] == {"plain": 2, "of another type": 1}


def test_the_states_of_a_device_are_shown(folder, capsys):
    with Store(folder / "fleet.db") as store:
        number = store.add_rollout("relay-1", 1, {}, {"D1": 0})
        store.set_target(number, "D1", "Downloading", "", False)
        store.set_target(number, "D1", "Rejected", "tampered", True)
    assert main.run(["rollouts", "1", "--json"]) == 0
    [target] = said(capsys)["targets"]
    states = [(step["state"], step["reason"]) for step in target["history"]]
    assert states == [("Waiting", ""), ("Downloading", ""), ("Rejected", "tampered")]
    times = [step["time"] for step in target["history"]]
    assert times == sorted(times)
    assert times[-1] == target["changed"]
