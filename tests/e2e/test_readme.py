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


def test_a_umqtt_program_moved(repo: Path, tmp_path: Path, umqtt_path: Path) -> None:
    """Both programs of docs/umqtt.md: the first compiles, the second does what the first did."""
    page = (repo / "docs" / "umqtt.md").read_text()
    before, after = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    compile(before, "before.py", "exec")
    source = tmp_path / "app.py"
    source.write_text(after)
    world = World(tmp_path)
    home = world.provision(source=source, commands=("relay",))
    (home / "root" / "app" / "sensor.py").write_text("def celsius():\n    return 21.5\n")
    with world, Board(home) as board:
        assert world.fleet_event("event", name="temperature").body == {"c": 21.5}
        assert world.command("relay", on=True) == {"on": True}
        assert world.command("relay", on=False) == {"on": False}
        assert given(world, "relay", on="yes")["reply"] == {"ok": False, "error": "on-or-off"}
        assert board.lines.all() == []


def test_the_battery_program(repo: Path, tmp_path: Path, umqtt_path: Path) -> None:
    """That of docs/telemetry.md, with a short sleep: the simulated board wakes up and reports."""
    page = (repo / "docs" / "telemetry.md").read_text()
    (program,) = re.findall(r"^```python\n(device = .*?)^```$", page, re.M | re.S)
    source = tmp_path / "app.py"
    source.write_text(
        "import asyncio\nfrom warden import Device\n"
        + program.replace("sleep(600)", "sleep(1)")
        + "asyncio.run(main())\n"
    )
    world = World(tmp_path)
    home = world.provision(source=source, limits={"outbox": 8})
    with world, Board(home) as board:
        for again in (board.start, board.kill):
            assert world.fleet_event("event", name="battery").body == {"mv": 3712}
            assert world.fleet_event("left").text == "it sleeps for 1 s"
            assert board.ends() == 3
            (line,) = board.lines.all()  # no traceback
            assert line == "warden: the application ended, the board starts anew"
            again()
