"""Telemetry of the real firmware on a bad network: every event that is kept arrives, once and in
its order. `make soak` runs the same for long."""

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
from fleet_kit import DEVICE, Board, World
from warden_host.engine.request import Request

sys.path.append(str(Path(__file__).parents[1] / "soak"))
from chaos import WEATHERS  # noqa: E402  (the path must be set first)
from soak import Soak  # noqa: E402


def test_nothing_is_lost_without_a_word(tmp_path: Path, umqtt_path: Path) -> None:
    result = Soak(tmp_path, 1).run(6, restarts_s=4, longest_s=1.0)
    assert result.good(), result
    assert set(result.weather) == set(WEATHERS), result
    assert result.connections >= 2, result


class Sleeper(World):
    """A device that sleeps between its readings."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        source = Path(__file__).parent / "device" / "sleeper.py"
        self.home = self.provision(source=source, limits={"outbox": 8})

    def wake_up(self, fate: str = "delivered") -> tuple[list[str], dict[str, Any]]:
        """Start the board, until it sleeps; return what it logged and its facts."""
        board = Board(self.fleet.simulated(DEVICE))
        with board:
            facts: dict[str, Any] = ast.literal_eval(board.wait_line("sleeps ")[7:])
            assert board.ends() == 3
            assert f"fate {fate}" in board.lines.all(), board.lines.all()
            if fate == "delivered":  # its goodbye may be on its way when the board has ended
                self.fleet_event("left", text="it sleeps for 60 s")
            return board.lines.all(), facts

    def presence(self) -> str:
        assert self.authority is not None
        return str(self.authority.ask(lambda engine: engine.presences()[DEVICE][0]))

    def hellos(self) -> int:
        return sum(news.kind == "session" for news in self.news.all())


@pytest.fixture
def sleeper(tmp_path: Path, umqtt_path: Path) -> Sleeper:
    return Sleeper(tmp_path)


def test_a_sleeper_goes_on_in_its_session(sleeper: Sleeper) -> None:
    with sleeper as world:
        _, first = world.wake_up()
        assert (world.presence(), world.hellos()) == ("asleep", 1)
        # No hand-shake, and no write to the flash.
        _, second = world.wake_up()
        assert second == first | {"writes": 0}
        assert world.hellos() == 1
        assert len([news for news in world.news.all() if news.kind == "event"]) == 2

        # A command waits for it.
        assert world.authority is not None
        command = Request(DEVICE, "set_relay", {"on": 1}, ttl_s=600, hold=True)
        assert world.authority.command(command)["held"] is True
        (world.home / "root" / "awaits").touch()
        lines, third = world.wake_up()
        (world.home / "root" / "awaits").unlink()
        assert "relay 1" in lines
        assert (third, world.hellos()) == (second, 1)

        # No broker is there: the reading sleeps on, again without a write to the flash.
        world.kill_broker()
        (world.home / "root" / "vain").touch()
        _, vain = world.wake_up("unknown")
        (world.home / "root" / "vain").unlink()
        assert (vain["writes"], vain["sid"]) == (0, "")
        world.start_broker()
        world.wait_links()  # or the broker gives the reading to nobody
        _, third = world.wake_up()
        assert (third["writes"], third["boot"]) == (0, first["boot"])
        assert len([news for news in world.news.all() if news.kind == "event"]) == 5

        # The authority forgets every session: the next wake-up begins a new one by itself.
        world.stop_authority()
        world.start_authority()
        _, fourth = world.wake_up()
        assert fourth["sid"] != first["sid"]
        assert (fourth["writes"], fourth["boot"]) == (0, first["boot"])

        # The power is lost in its sleep: a start as any other.
        (world.home / "root" / "rtc").unlink()
        _, fifth = world.wake_up()
        assert fifth["boot"] == first["boot"] + 1
