"""A device that is cut off, and one that is away when it is to be wiped: real mosquitto, real
firmware, restarts in between."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_kit import DEVICE, PATIENCE_S, TYPE, Board, World, wait_until
from warden_host.broker.accounts import wipe_only_account
from warden_host.broker.mosquitto import dynsec, registry
from warden_host.cli import main
from warden_host.engine.request import Request
from warden_host.errors import HostError
from warden_host.service.run import serving
from warden_host.store.store import Store

# A loaded machine may need longer than the command waits by itself.
LONG = ("--timeout", str(PATIENCE_S))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Provisioned, and not served yet: its broker and its authority are `serving`'s."""
    made = World(tmp_path)
    made.provision(commands=("set_relay",))
    return made


@pytest.fixture
def board(world: World) -> Iterator[Board]:
    with Board(world.fleet.simulated(DEVICE)) as made:
        yield made


def warden(world: World, *arguments: str) -> int:
    return main.run(["--fleet", str(world.fleet.root), *arguments])


def last_line(capsys: pytest.CaptureFixture) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return line


def is_gone(world: World) -> bool:
    with Store(world.fleet.database) as store:
        return store.find(DEVICE) is None


def vault_is_empty(world: World) -> bool:
    return list((world.fleet.simulated(DEVICE) / "root" / "data").iterdir()) == []


def account(world: World) -> dict[str, Any]:
    document = json.loads((world.fleet.broker / dynsec.FILE).read_text())
    (found,) = [entry for entry in document["clients"] if entry["username"].endswith(DEVICE)]
    return dict(found)


def test_cut_off_at_once(world: World, board: Board, capsys: pytest.CaptureFixture) -> None:
    with serving(world.fleet, world.news.add):
        board.wait_line("log session-stands")
        began = time.monotonic()
        assert warden(world, "revoke", DEVICE, "--yes", "--json") == 0
        board.wait_line("log link-closed")
        took = time.monotonic() - began
        assert last_line(capsys) == {
            "ok": True,
            "device": DEVICE,
            "revoked": True,
            "wiped": False,
            "waits": False,
        }
        with capsys.disabled():
            print(f"cut off {took:.2f} s after the command began")
        # It tries again, and is refused; a command for it is, too.
        board.wait_line("log mqtt-refused")
        assert warden(world, "send", DEVICE, "set_relay", '{"on": 1}', "--app", "authority") == 4
        assert "revoked" in capsys.readouterr().err
        assert warden(world, "rotate", DEVICE, "--keys") == 4
        capsys.readouterr()
        assert warden(world, "devices", "--json") == 0
        listed = last_line(capsys)
        assert (listed["state"], listed["ending"]["wipe"]) == ("revoked", False)
    assert account(world)["disabled"] is True
    # A broker that starts anew refuses it as well.
    with serving(world.fleet, world.news.add):
        board.kill()
        board.start()
        board.wait_line("log mqtt-refused")
    # All-new secrets take it back.
    board.kill()
    world.provision(again=True)
    with serving(world.fleet, world.news.add):
        board.start()
        board.wait_line("log session-stands")
        assert warden(world, "send", DEVICE, "set_relay", '{"on": 1}', *LONG) == 0


def test_cut_off_but_for_its_wipe(
    world: World, board: Board, capsys: pytest.CaptureFixture
) -> None:
    with serving(world.fleet, world.news.add):
        board.wait_line("log session-stands")
        assert warden(world, "revoke", DEVICE, "--wipe", "--yes", "--json") == 0
        board.wait_line("log link-closed")
        assert board.ends() == 3
        world.fleet_event("notice", text="it wipes itself: its account goes")
        wait_until(lambda: is_gone(world), "end of its account")
        assert vault_is_empty(world)
        # Its name is free again, for it or another.
        capsys.readouterr()
        world.provision()
        assert warden(world, "send", DEVICE, "set_relay", "{}", "--timeout", "0.1") == 3


def test_rights_of_a_device_that_is_to_be_wiped(world: World, board: Board) -> None:
    """Log in, hold a session with the authority, take the order, answer: the broker carries
    nothing else."""
    with serving(world.fleet, world.news.add) as service:
        board.wait_line("log session-stands")
        world.fleet_event("session")
        doomed = wipe_only_account(TYPE, DEVICE)
        with registry.opened(world.fleet) as accounts:
            accounts.disable(doomed.username)
            accounts.replace_rights(doomed)
            accounts.enable(doomed.username)
        board.wait_line("log link-closed")
        board.wait_line("log session-stands")
        world.fleet_event("session")
        # A command reaches it no more: the broker keeps it.
        with pytest.raises(HostError) as refused:
            service.authority.command(Request(DEVICE, "set_relay", {"on": 1}, timeout_s=2.0))
        assert refused.value.code == "timed-out"
        wiped = service.authority.command(
            Request(DEVICE, "wipe", {"device": DEVICE}, app="authority", timeout_s=PATIENCE_S)
        )
        assert wiped["ok"] is True
        assert board.ends() == 3


def test_wiped_on_its_next_contact(
    world: World, board: Board, capsys: pytest.CaptureFixture
) -> None:
    board.kill()
    # Without `warden serve` the order is kept.
    assert warden(world, "wipe", DEVICE, "--yes", "--json") == 0
    waits = {"ok": True, "device": DEVICE, "revoked": False, "wiped": False, "waits": True}
    assert last_line(capsys) == waits
    # Served, and the device is away; and once more.
    for _ in range(2):
        with serving(world.fleet, world.news.add):
            assert warden(world, "devices", "--json") == 0
            assert last_line(capsys)["state"] == "to be wiped"
    with serving(world.fleet, world.news.add):
        board.start()
        assert board.ends() == 3
        world.fleet_event("notice", text="it wipes itself: its account goes")
        wait_until(lambda: is_gone(world), "end of its account")
    assert vault_is_empty(world)


def test_the_authority_stopped_before_the_account_went(world: World, board: Board) -> None:
    board.kill()
    with Store(world.fleet.database) as store, store.transaction():
        store.order_ending(DEVICE, False, True, 1.0)
    with Store(world.fleet.database) as store:
        store.record_wipe_done(DEVICE, 2.0)
    with serving(world.fleet, world.news.add):
        assert is_gone(world)
        board.start()
        board.wait_line("log mqtt-refused")
