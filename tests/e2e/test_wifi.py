"""`warden wifi` on a live device: real mosquitto, real firmware, a simulated station."""

import json
import select
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import server_kit
from fleet_kit import DEVICE, PATIENCE_S, Board, World
from port_kit import free_ports
from warden_host.cli import main
from warden_host.devices.bundle import Network
from warden_host.names import AUTHORITY
from warden_host.service.run import serving

GARDEN = Network("garden", "the first password")
WORKSHOP = "the second password"


class Site:
    """A fleet that is served, and a device with the access points around it."""

    def __init__(self, world: World, board: Board) -> None:
        self.world, self.board = world, board

    def air(self, **points: str) -> None:
        lines = [f"{ssid}\t{password}\n" for ssid, password in points.items()]
        # As a whole: the station looks at it again and again.
        new = self.board.home / "air.new"
        new.write_text("".join(lines))
        new.replace(self.board.home / "fuses" / "air")

    def wifi(self, *arguments: str) -> int:
        base = ["--fleet", str(self.world.fleet.root), "wifi", DEVICE]
        return main.run([*base, *arguments, "--timeout", str(PATIENCE_S)])

    def wait_session(self) -> None:
        self.board.wait_line("log session-stands")
        self.world.fleet_event("session", app=AUTHORITY)


def station(world: World, **limits: int) -> Board:
    """Return a device whose board.py says Wi-Fi, with the simulated station."""
    home = world.provision(networks=(GARDEN,), limits=limits)
    library = home / "root" / "lib"
    shutil.copyfile(Path(__file__).parent / "device" / "network.py", library / "network.py")
    board = library / "board.py"
    board.write_text(board.read_text().replace('"wired"', '"wifi"'))
    return Board(home)


@pytest.fixture
def site(tmp_path: Path, umqtt_path: Path) -> Iterator[Site]:
    world = World(tmp_path)
    # A network that gives no address costs a try of so long.
    made = Site(world, station(world, handshake_ms=5000))
    made.air(garden=GARDEN.password)
    with serving(world.fleet, world.news.add), made.board:
        made.board.wait_line("joins garden")
        made.wait_session()
        yield made


def password_file(folder: Path, text: str) -> str:
    path = folder / "password"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


def said(capsys: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_another_network(site: Site, tmp_path: Path, capsys: Any) -> None:
    capsys.readouterr()
    assert site.wifi() == 0
    assert f"networks of {DEVICE}: garden" in capsys.readouterr().out
    site.air(garden=GARDEN.password, workshop=WORKSHOP)
    file = password_file(tmp_path, WORKSHOP)
    assert site.wifi("--add", "workshop", "--password-file", file, "--json") == 0
    answers = said(capsys)
    assert answers[-1] == {"ok": True, "device": DEVICE, "networks": ["workshop", "garden"]}
    site.board.wait_line("joins workshop")
    # After a power cut as well.
    site.board.kill()
    site.board.start()
    site.board.wait_line("joins workshop")
    site.wait_session()
    assert site.wifi("--remove", "garden", "--json") == 0
    assert said(capsys)[-1]["networks"] == ["workshop"]
    # The password is in no file of the fleet and in no event.
    root = site.world.fleet.root
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "air"]
    shown = "".join(str(news) for news in site.world.news.all())
    lines = "".join(site.board.lines.all())
    for secret in (WORKSHOP, GARDEN.password):
        assert secret not in shown + lines
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_a_wrong_password_leaves_the_old_network(site: Site, tmp_path: Path, capsys: Any) -> None:
    site.air(garden=GARDEN.password, workshop="another one")
    file = password_file(tmp_path, WORKSHOP)
    capsys.readouterr()
    assert site.wifi("--add", "workshop", "--password-file", file, "--json") == 4
    error = said(capsys)[-1]["error"]
    assert error["code"] == "network-unproved"
    for name in ("workshop", "workshop", "workshop", "garden"):
        site.board.wait_line(f"joins {name}")
    joined = [line for line in site.board.lines.all() if line.startswith("joins")]
    assert joined == ["joins garden"] + ["joins workshop"] * 3 + ["joins garden"]
    site.world.fleet_event("incident", code="wifi-failed")
    assert site.wifi("--json") == 0
    assert said(capsys)[-1] == {
        "ok": True,
        "device": DEVICE,
        "networks": ["garden"],
        "pending": None,
    }


class Air:
    """What lies between the station and the broker: passes all bytes on, or, deaf, none."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.deaf = False

    def __call__(self, near: socket.socket) -> None:
        with socket.create_connection((server_kit.HOST, self._port)) as far:
            while True:
                for ready in select.select([near] if self.deaf else [near, far], [], [], 0.1)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if not self.deaf:
                        (far if ready is near else near).sendall(data)


def test_a_station_that_the_access_point_forgot(tmp_path: Path, umqtt_path: Path) -> None:
    """Its driver says that it is connected, and nothing passes until it joins anew."""
    (port,) = free_ports(1)
    world = World(tmp_path, device_port=port)
    air = Air(world.port)
    site = Site(world, station(world, handshake_ms=6000, stall_ms=4000, keepalive_s=5))
    site.air(garden=GARDEN.password)
    with (
        serving(world.fleet, world.news.add),
        server_kit.listening(air, port),
        site.board as board,
    ):
        board.wait_line("joins garden")
        site.wait_session()
        air.deaf = True
        began = time.monotonic()
        board.wait_line("joins garden")
        air.deaf = False
        site.wait_session()
        print(f"back after {time.monotonic() - began:.1f} s")
        lines = board.lines.all()
        first, second = (at for at, line in enumerate(lines) if line == "joins garden")
        # The line that broke, and an attempt that reached nothing.
        waits = [line for line in lines[first:second] if line.startswith("log link-wait")]
        assert len(waits) == 2


def test_a_board_without_wifi(tmp_path: Path, umqtt_path: Path, capsys: Any) -> None:
    world = World(tmp_path)
    site = Site(world, Board(world.provision()))
    with serving(world.fleet, world.news.add), site.board:
        site.wait_session()
        capsys.readouterr()
        assert site.wifi("--json") == 1
        assert said(capsys)[-1]["error"]["code"] == "not-applicable"
