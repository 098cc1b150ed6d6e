"""The first program of README.md, as it is there, on the real firmware and a real broker."""

import re
from pathlib import Path
from typing import Any

from fleet_kit import DEVICE, PATIENCE_S, Board, World
from warden_host.cli import send
from warden_host.engine.request import Request


def given(world: World, verb: str, **args: object) -> dict[str, Any]:
    """Return the authority's answer to a command that the device may refuse."""
    assert world.authority is not None
    return world.authority.command(Request(DEVICE, verb, args, timeout_s=PATIENCE_S))


def first_program(repo: Path) -> str:
    """Return the first Python block of README.md."""
    found = re.search(r"^```python\n(.*?)^```$", (repo / "README.md").read_text(), re.M | re.S)
    assert found is not None
    return found[1]


def test_first_program(repo: Path, tmp_path: Path, umqtt_path: Path) -> None:
    source = tmp_path / "readme.py"
    source.write_text(first_program(repo))
    world = World(tmp_path)
    world.provision(source=source)
    with world, Board(world.fleet.simulated(DEVICE)) as board:
        assert world.fleet_event("event", name="temperature").body == {"c": 21.5}
        assert world.command("set_relay", on=1) == {"on": 1}
        answer = given(world, "set_relay", on="yes")
        assert answer["reply"] == {"ok": False, "error": "on-or-off"}
        # As `warden send` shows it.
        assert f"{DEVICE} refused set_relay: on-or-off" in send.outcome(answer).plain
        assert world.command("set_relay", on=0) == {"on": 0}
        # A device without errors prints nothing.
        assert board.lines.all() == []


def test_errors_are_printed_by_default(repo: Path, tmp_path: Path, umqtt_path: Path) -> None:
    """The traceback of a handler that fails, and a lost link; never to the sender."""
    source = tmp_path / "readme.py"
    source.write_text(first_program(repo).replace('args.get("on")', 'args["on"]'))
    world = World(tmp_path)
    world.provision(source=source)
    with world, Board(world.fleet.simulated(DEVICE)) as board:
        answer = given(world, "set_relay", off=1)
        assert answer["reply"] == {"ok": False, "error": "command-failed"}
        board.wait_line("warden: command-failed set_relay: Traceback")
        board.wait_line("  File ")
        board.wait_line("KeyError: on")
        world.kill_broker()
        board.wait_line("warden: link-closed")


def test_example_relay(repo: Path, tmp_path: Path, umqtt_path: Path) -> None:
    """Each part of the public interface once, on the real firmware."""
    world = World(tmp_path)
    world.provision(source=repo / "examples" / "relay" / "app.py")
    with world, Board(world.fleet.simulated(DEVICE)) as board:
        # Acknowledged by a real broker: the program went on behind it.
        assert world.fleet_event("event", name="started").body == {"on": 0}
        world.fleet_event("event", name="temperature")
        assert world.command("set_relay", on=1) == {"on": 1}
        board.wait_line("relay 1")
        assert world.command("get_relay") == {"on": 1}
        assert world.command("lock_relay", locked=True) is None
        board.kill()
        board.start()
        world.fleet_event("event", name="started")
        assert given(world, "set_relay", on=1)["reply"] == {"ok": False, "error": "locked"}
        assert world.command("lock_relay", locked=False) is None
        assert world.command("set_relay", on=1) == {"on": 1}
