"""The whole way of a one-time password: real firmware, a simulated keypad whose contacts its
driver scans, a real broker, the authority, the owner's console."""

from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from fleet_kit import DEVICE, PATIENCE_S, World
from otp_kit import Keypad, Owner, numbers, other
from warden_host.engine.request import Request
from warden_host.otp import enrol
from warden_host.protocol import policy
from warden_host.store.store import Store


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    yield World(tmp_path)


def test_wrong_then_right(world: World) -> None:
    home = world.provision(otp=policy.otp(validity_s=300))
    with world, Keypad(home) as board:
        owner = Owner(world)
        board.wait_line("display Code? 5 min|")
        code = owner.code()
        # Nothing of the application runs yet, and no command reaches it.
        assert world.authority is not None
        answer = world.authority.command(
            Request(DEVICE, "set_relay", {"on": 1}, timeout_s=PATIENCE_S)
        )
        assert answer["reply"]["error"] == "gate-shut"
        board.press(other(code) + "#")
        board.asks(r"\*+")
        board.wait_line("display Checking|")
        board.asks("Wrong code")
        # One digit too few, then again from the start.
        board.press(code[:5] + "#")
        board.asks("6 digits, then #")
        board.press("9*" + code + "#")
        board.wait_line("log gate-open otp")
        assert world.fleet_event("event", name="temperature").body == {"c": 20}
        assert world.command("set_relay", on=1) == {"on": 1}
        board.wait_line("relay 1")
        assert code not in numbers("\n".join(board.lines.all()))


def test_a_power_cycle_gives_nothing_back(world: World) -> None:
    home = world.provision(otp=policy.otp(retries=2, lock_s=10))
    with world:
        owner = Owner(world)
        for _ in range(2):
            with Keypad(home) as board:
                board.wait_line("display Code? 5 min|")
                board.press(other(owner.code()) + "#")
                # The power goes while the attempt is under way.
                board.wait_line("display Checking|")
        with Keypad(home) as board:
            board.wait_line("display Locked|1 min")
            board.wait_line("log session-stands")
            assert world.authority is not None
            order = Request(DEVICE, "unlock", {"device": DEVICE}, timeout_s=PATIENCE_S)
            assert world.authority.command(order)["ok"] is True
            board.wait_line("log gate-open unlock")
        # Which forgave them.
        with Keypad(home) as board:
            board.wait_line("display Code? 5 min|")


def test_plain(world: World) -> None:
    home = world.provision(otp=policy.otp(), plain=True)
    with world, Keypad(home) as board:
        owner = Owner(world)
        board.wait_line("display Code? 5 min|")
        code = owner.code()
        board.press(other(code) + "#")
        board.asks("Wrong code")
        board.press(code + "#")
        board.wait_line("log gate-open otp")
        assert world.command("set_relay", on=1) == {"on": 1}


def test_the_operator_opens_it(world: World) -> None:
    home = world.provision(otp=policy.otp())
    with world, Keypad(home) as board:
        board.wait_line("display Code? 5 min|")
        assert world.authority is not None
        order = Request(DEVICE, "unlock", {"device": DEVICE}, timeout_s=PATIENCE_S)
        assert world.authority.command(order)["reply"]["result"] == {"unlocked": True}
        board.wait_line("log gate-open unlock")
        assert world.fleet_event("event", name="temperature").body == {"c": 20}


def test_codes_of_an_authenticator_without_any_network(world: World) -> None:
    """What any app makes of the URI opens it, once; under duress too."""
    enrolled = enrol.new(DEVICE, "hotp", 6, True)
    with Store(world.fleet.database) as store, store.transaction():
        store.put_enrolment(enrolled)
    app, second = (pyotp.parse_uri(enrol.uri(enrolled, duress)) for duress in (False, True))
    home = world.provision(otp=policy.otp(source="hotp", duress=True))
    # Neither broker nor authority are there.
    with Keypad(home) as board:
        board.wait_line("display Code?|")
        board.press(app.at(3) + "#")
        board.wait_line("log gate-open offline")
    with Keypad(home) as board:
        board.wait_line("display Code?|")
        board.press(app.at(3) + "#")  # used
        board.asks("Wrong code")
        board.press(app.at(2) + "#")  # older than the last one
        board.asks("Wrong code")
        board.press(second.at(0) + "#")
        board.wait_line("log gate-open offline")
        with world:
            world.fleet_event("incident", code="duress")


def test_a_device_without_a_gate_never_looks_at_its_keys(world: World) -> None:
    home = world.provision()
    with world, Keypad(home) as board:
        board.press("123456#" * 10)
        board.wait_line("log session-stands")
        assert world.command("set_relay", on=1) == {"on": 1}
        assert not [line for line in board.lines.all() if line.startswith("display")]
