"""A device whose root key wants a PIN: provisioned with it, started with it, and worth nothing
without."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_kit import DEVICE, World
from warden_host.cli import pin
from warden_host.errors import HostError
from warden_host.release import signing_key
from warden_host.sim.simulated import SimulatedDevice

PIN = b"a PIN of five words"


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    # A fleet with release keys, so that the board has slots: boot.py opens the vault for them.
    signing_key.make(made.fleet, "release", "p256", b"a passphrase")
    made.provision(board="UNIX_PIN", pin=PIN)
    with made:
        yield made


def test_with_its_pin(world: World) -> None:
    home = world.fleet.simulated(DEVICE)
    assert pin.wanted(home / "root" / "lib" / "board.py")
    for _ in range(2):
        lines: list[str] = []
        with SimulatedDevice(home, pin=PIN) as device:
            world.fleet_event("session")
            assert world.command("set_relay", on=1) == {"on": 1}
            device.process.kill()
            device.lines(lines.append)
        # Asked once, though the slots' start opens the vault as well; and it is shown nowhere.
        assert lines.count("PIN of the root key:") == 1
        assert not [line for line in lines if PIN.decode() in line]
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert len(kept) > 20
    assert not [path for path in kept if PIN in path.read_bytes()]


def test_with_another(world: World) -> None:
    home = world.fleet.simulated(DEVICE)
    lines: list[str] = []
    with SimulatedDevice(home, pin=b"another") as device:

        def on_line(line: str) -> None:
            lines.append(line)
            if "root-key" in line and sum("root-key" in each for each in lines) == 2:
                device.process.kill()  # it waits before it starts anew

        device.lines(on_line)
    # boot.py said so, and main.py; and it was not asked for a second one.
    assert sum("root-key" in line for line in lines) == 2, lines
    assert lines.count("PIN of the root key:") == 1


def test_a_pin_cut_short_provisions_nothing(tmp_path: Path, umqtt_path: Path) -> None:
    made = World(tmp_path)
    with pytest.raises(HostError) as refused:
        made.provision(board="UNIX_PIN")
    assert refused.value.code == "provision-failed"
    assert "bad-bundle" in refused.value.text
    with pytest.raises(HostError) as refused:
        made.provision(board="UNIX_PIN", pin=b"9" * 129)
    assert "bad-bundle" in refused.value.text
