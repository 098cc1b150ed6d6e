"""A device whose heap can't hold the judgement of an update beside its agent: it judges at a start
of its own, on the real firmware."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import DEVICE, Board, World
from ota_e2e_kit import envelope, image, order, restarted, send_rest, updatable
from warden_host.names import AUTHORITY

# The agent out of its sources has room in it, and what judges has not: so from 328 KB to 346.
SHORT = "337k"


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    with updatable(tmp_path) as made:
        yield made


def test_it_is_validated_at_a_start_of_its_own(world: World) -> None:
    with Board(world.fleet.simulated(DEVICE), heap=SHORT) as board:
        board.wait_line("log session-stands")
        world.fleet_event("session", app=AUTHORITY)
        parked = {"state": "Downloading", "reason": "", "sequence": 0, "want": None}

        # A tampered one is refused by that start; nothing of it is left for the next.
        two = image("two")
        tampered = bytearray(envelope(2, two))
        tampered[-20] ^= 1
        assert order(world, envelope=bytes(tampered)) == parked
        restarted(board, "factory")
        report = world.fleet_event("event", name="update").body
        assert (report["state"], report["reason"]) == ("Rejected", "suit-digest")
        board.kill()
        board.start()
        board.wait_line("log session-stands")
        world.fleet_event("session", app=AUTHORITY)
        assert order(world)["state"] == "Idle"

        # A good one is fetched after it, tried and confirmed.
        assert order(world, envelope=envelope(2, two)) == parked
        restarted(board, "factory")
        report = world.fleet_event("event", name="update").body
        assert (report["state"], report["sequence"]) == ("Downloading", 2)
        assert send_rest(world, order(world), two)["state"] == "Testing"
        restarted(board, "two")
        while world.fleet_event("event", name="update").body["state"] != "Accepted":
            pass
        assert order(world)["running"] == 2
