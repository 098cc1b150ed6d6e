"""The whole way of a one-time password: real firmware, a simulated keypad whose contacts its driver scans, a real broker, the authority, the owner's console."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from fleet_kit import DEVICE, Board, Journal, World
from warden_host import layout, otp_enrol, policy, provision
from warden_host.sending import Request
from warden_host.store import Store


class Keypad(Board):
    """A board with somebody at its keys: what is typed goes to its standard input, character by character."""

    def start(self) -> "Keypad":
        self.lines = Journal()
        self.process = subprocess.Popen(
            provision.command(layout.tree(), self.home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True).start()
        return self

    __enter__ = start

    def type(self, keys: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(keys)
        self.process.stdin.flush()

    def shows(self, first: str, second: str = "") -> None:
        self.says(f"display {first}|{second}")


class Owner:
    """Reads the codes where the owner does."""

    def __init__(self, world: World) -> None:
        self.codes = Journal()
        assert world.authority is not None
        world.authority.codes.console.watch(self.codes.add, threading.Event())

    def code(self) -> str:
        record: dict[str, Any] = self.codes.take(lambda one: one["purpose"] == "code", "code")
        return str(record["code"])


def other(code: str) -> str:
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    yield World(tmp_path)


def test_wrong_then_right(world: World) -> None:
    home = world.provision(otp=policy.otp(validity_s=300))
    with world, Keypad(home) as board:
        owner = Owner(world)
        board.says("display Code? 5 min|")
        code = owner.code()
        # Nothing of the application runs yet, and no command reaches it.
        assert world.authority is not None
        answer = world.authority.command(Request(DEVICE, "set_relay", {"on": 1}, timeout_s=30))
        assert answer["reply"]["error"] == "gate-shut"
        board.type(other(code) + "#")
        board.says("display Code? 5 min|*")
        board.shows("Checking")
        board.shows("Code? 5 min", "Wrong code")
        # One digit too few, then again from the start.
        board.type(code[:5] + "#")
        board.says("display Code? 5 min|6 digits, then #")
        board.type("9*" + code + "#")
        board.says("log gate-open otp")
        assert world.happening("event", name="temperature").body == {"c": 20}
        assert world.command("set_relay", on=1) == {"on": 1}
        said = "\n".join(board.lines.all())
        assert code not in said
        assert "relay 1" in said


def test_a_power_cycle_gives_nothing_back(world: World) -> None:
    home = world.provision(otp=policy.otp(retries=2, lock_s=10))
    with world:
        owner = Owner(world)
        for _ in range(2):
            with Keypad(home) as board:
                board.says("display Code? 5 min|")
                board.type(other(owner.code()) + "#")
                # The power goes while the attempt is under way.
                board.shows("Checking")
        with Keypad(home) as board:
            board.shows("Locked", "1 min")
            board.shows("Press a key")
            board.type("1")
            board.says("display Code? 5 min|")
            board.type(owner.code() + "#")
            board.says("log gate-open otp")
        # The success forgave them.
        with Keypad(home) as board:
            board.says("display Code? 5 min|")


def test_plain(world: World) -> None:
    home = world.provision(otp=policy.otp(), plain=True)
    with world, Keypad(home) as board:
        owner = Owner(world)
        board.says("display Code? 5 min|")
        code = owner.code()
        board.type(other(code) + "#")
        board.shows("Code? 5 min", "Wrong code")
        board.type(code + "#")
        board.says("log gate-open otp")
        assert world.command("set_relay", on=1) == {"on": 1}


def test_the_operator_opens_it(world: World) -> None:
    home = world.provision(otp=policy.otp())
    with world, Keypad(home) as board:
        board.says("display Code? 5 min|")
        assert world.authority is not None
        order = Request(DEVICE, "unlock", {"device": DEVICE}, timeout_s=30)
        assert world.authority.command(order)["reply"]["result"] == {"unlocked": True}
        board.says("log gate-open unlock")
        assert world.happening("event", name="temperature").body == {"c": 20}


def test_codes_of_an_authenticator_without_any_network(world: World) -> None:
    """What any app makes of the URI opens it, once; under duress too."""
    enrolled = otp_enrol.new(DEVICE, "hotp", 6, True)
    with Store(world.fleet.database) as store, store.transaction():
        store.put_enrolment(enrolled)
    app, second = (pyotp.parse_uri(otp_enrol.uri(enrolled, duress)) for duress in (False, True))
    home = world.provision(otp=policy.otp(source="hotp", duress=True))
    # Neither broker nor authority are there.
    with Keypad(home) as board:
        board.shows("Code?")
        board.type(app.at(3) + "#")
        board.says("log gate-open offline")
    with Keypad(home) as board:
        board.shows("Code?")
        board.type(app.at(3) + "#")  # used
        board.shows("Code?", "Wrong code")
        board.type(app.at(2) + "#")  # older than the last one
        board.shows("Code?", "Wrong code")
        board.type(second.at(0) + "#")
        board.says("log gate-open offline")
        with world:
            world.happening("incident", code="duress")


def test_a_device_without_a_gate_never_looks_at_its_keys(world: World) -> None:
    home = world.provision()
    with world, Keypad(home) as board:
        board.type("123456#" * 10)
        board.says("log session-stands")
        assert world.command("set_relay", on=1) == {"on": 1}
        assert not [line for line in board.lines.all() if line.startswith("display")]
