"""A device that a reaction of the fleet de-registered, and that an operator lets in again: real
mosquitto, real firmware."""

import json
from pathlib import Path

import pytest
from fleet_kit import DEVICE, PATIENCE_S, Board, World
from warden_host.broker.mosquitto import dynsec
from warden_host.cli import main
from warden_host.fleet.fleet import CONFIG, Fleet
from warden_host.service.run import serving
from warden_host.store.store import Store

# A loaded machine may need longer than the command waits by itself.
LONG = ("--timeout", str(PATIENCE_S))


def warden(world: World, *arguments: str) -> int:
    return main.run(["--fleet", str(world.fleet.root), *arguments])


def secrets_of(world: World) -> tuple[str, bytes]:
    """Return the hash of the password at the broker, and the sealing key."""
    document = json.loads((world.fleet.broker / dynsec.FILE).read_text())
    (found,) = [one for one in document["clients"] if one["username"].endswith(DEVICE)]
    with Store(world.fleet.database) as store:
        return found["password"], store.device(DEVICE).pairs[0].k


def test_out_by_a_reaction_and_in_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    world = World(tmp_path)
    with (world.fleet.root / CONFIG).open("a") as file:
        file.write('[reactions]\nreplayed = "de-register"\n')
    world.fleet = Fleet(world.fleet.root)
    world.provision(commands=("set_relay",), limits={"backoff_max_ms": 1000})
    before = secrets_of(world)
    with (
        serving(world.fleet, world.news.add),
        Board(world.fleet.simulated(DEVICE)) as board,
    ):
        board.wait_line("log session-stands")
        assert (
            warden(world, "send", DEVICE, "set_relay", '{"on": 1}', "--forge", "replay", *LONG)
            == 0
        )
        reaction = world.fleet_event("reaction")
        assert (reaction.name, reaction.code) == ("de-register", "replayed")
        board.wait_line("log link-closed")
        board.wait_line("log mqtt-refused")
        capsys.readouterr()
        assert warden(world, "show", DEVICE, "--json") == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["state"], shown["reaction"]["code"]) == ("revoked", "replayed")
        assert shown["reactions"]["replayed"] == "de-register"
        assert warden(world, "send", DEVICE, "set_relay", '{"on": 1}') == 4
        assert warden(world, "readmit", DEVICE, "--yes") == 0
        assert "in the fleet again" in capsys.readouterr().out
        assert warden(world, "send", DEVICE, "set_relay", '{"on": 1}', *LONG) == 0
        assert warden(world, "readmit", DEVICE, "--yes") != 0
    after = secrets_of(world)
    assert before[0] != after[0]
    assert before[1] != after[1]
    with Store(world.fleet.database) as store:
        assert store.device(DEVICE).reaction is store.device(DEVICE).ending is None
        actions = [(row.who.split()[0], row.action, row.outcome) for row in store.audit_rows()]
    assert ("fleet", f"de-register {DEVICE} for replayed", "ok") in actions
    assert ("owner", f"readmit {DEVICE} --yes", "ok") in actions
