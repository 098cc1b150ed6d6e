"""A board that wakes up in 2021, with a clock that can be set: libfaketime stands for the chip's
clock."""

import os
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import server_kit
from clock_kit import WOKE, false_clock, is_today
from cryptography.hazmat.primitives import serialization
from fleet_kit import DEVICE, Board, World, forwarding, leaf, wait_until
from link_kit import Driver
from port_kit import free_ports
from warden_host.fleet import pki

FLOOR = (
    1704067200  # 2024-01-01; the one of boards/UNIX may lie ahead of a machine that runs the tests
)
AHEAD = {
    "not_before": datetime(2035, 1, 1, tzinfo=UTC),
    "not_after": datetime(2045, 1, 1, tzinfo=UTC),
}
HOUR = 3600  # longer than any start takes, and too short for another time of these tests
YEAR = 365 * 24 * HOUR


@pytest.fixture
def environment() -> dict[str, str]:
    return false_clock()


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    """Its devices are told a port where a test puts the server of its choice before the broker."""
    made = World(tmp_path, device_port=free_ports(1)[0])
    home = made.provision()
    board = home / "root" / "lib" / "board.py"
    lines = board.read_text().splitlines()
    assert sum(line.startswith("FLOOR = ") for line in lines) == 1
    board.write_text(
        "\n".join(f"FLOOR = {FLOOR}" if line.startswith("FLOOR = ") else line for line in lines)
    )
    with made:
        yield made


@pytest.fixture
def lying(world: World, tmp_path: Path) -> ssl.SSLContext:
    """The right CA, the pinned key, the right name, and a date that would put the device into
    2035."""
    return leaf(world, tmp_path, **AHEAD)


@pytest.fixture
def board(world: World, environment: dict[str, str]) -> Iterator[Board]:
    home = world.fleet.simulated(DEVICE)
    clock = home / "fuses" / "clock"
    clock.write_text(WOKE)
    made = Board(home, environment=environment | {"FAKETIME_TIMESTAMP_FILE": str(clock)})
    yield made
    made.kill()


def clock_file(board: Board) -> str:
    return (board.home / "fuses" / "clock").read_text()


def port(world: World) -> int:
    return world.fleet.settings.broker.device_port


def test_a_certificate_of_today(world: World, board: Board, tmp_path: Path) -> None:
    """Younger than every time that the device has a proof of, and taken all the same; then the
    authority says what time it is."""
    fresh = leaf(world, tmp_path, not_before=datetime.now(UTC) - timedelta(hours=5))
    with forwarding(world, fresh, port(world)):
        board.start()
        facts = board.facts()
        # It woke in 2021, and its first act was to believe its own build date.
        assert 0 <= facts["now"] - FLOOR < HOUR
        assert facts["mark"] == 0
        board.wait_line("log session-stands")
        found = world.command("probe")
        assert is_today(found["now"])
        assert is_today(found["mark"])
        # The proof is kept: the next start in 2021 is lifted to it.
        board.kill()
        (board.home / "fuses" / "clock").write_text(WOKE)
        board.start()
        facts = board.facts()
        assert is_today(facts["now"])
        assert is_today(facts["mark"])
        board.wait_line("log session-stands")


def test_a_certificate_that_lies(
    world: World, board: Board, lying: ssl.SSLContext, tmp_path: Path
) -> None:
    with forwarding(world, lying, port(world)):
        board.start()
        board.wait_line("log link-up")
        board.wait_line("log certificate-dates")
        # As often as it tries: the lie is not believed by repetition.
        board.wait_line("log certificate-dates")
        # It may be at the next try already, at the tentative time.
        wait_until(lambda: clock_file(board).startswith("@2024-01-01 "), "time without the lie")
        assert not [line for line in board.lines.all() if "session-stands" in line]
        board.kill()
    with forwarding(world, leaf(world, tmp_path), port(world)):
        board.start()
        facts = board.facts()
        assert facts["mark"] == 0
        assert 0 <= facts["now"] - FLOOR < YEAR
        board.wait_line("log session-stands")
        assert is_today(world.command("probe")["now"])


def test_a_clock_that_was_set_ahead(world: World, board: Board, tmp_path: Path) -> None:
    """What NTP or a person sets is no proof: the mark stays, and the authority puts the clock
    right."""
    (board.home / "fuses" / "clock").write_text("@2035-01-01 00:00:00\n")
    with forwarding(world, leaf(world, tmp_path), port(world)):
        board.start()
        assert board.facts()["now"] > FLOOR + 10 * YEAR
        board.wait_line("log session-stands")
        found = world.command("probe")
        assert is_today(found["now"])
        assert is_today(found["mark"])


def test_a_line_cut_before_the_welcome(
    world: World, board: Board, lying: ssl.SSLContext, tmp_path: Path
) -> None:
    """A hand-shake that held proves no time: a line cut behind it must not leave the
    device in 2035, where every certificate of its real server has expired."""
    with server_kit.listening(server_kit.over_tls(lying, server_kit.packet), port=port(world)):
        board.start()
        # The tentative hand-shake held: the device was waiting for the answer to its log-in.
        board.wait_line("log link-closed")
        board.wait_line("log link-closed")
    board.wait_line("log unreachable")
    assert clock_file(board).startswith("@2024-01-01 ")
    with forwarding(world, leaf(world, tmp_path), port(world)):
        board.wait_line("log session-stands")
        assert is_today(world.command("probe")["now"])


def test_a_clock_beyond_the_certificates_end(world: World, board: Board, tmp_path: Path) -> None:
    """An unproven clock that stands years ahead would be a device that is locked out for good."""
    (board.home / "fuses" / "clock").write_text("@2061-01-01 00:00:00\n")
    with forwarding(world, leaf(world, tmp_path), port(world)):
        board.start()
        board.wait_line("log session-stands")
        assert is_today(world.command("probe")["now"])


def test_a_forged_date_is_not_even_tried(
    environment: dict[str, str], micropython: str, repo: Path, umqtt_path: Path, tmp_path: Path
) -> None:
    """Our pinned key and our CA's name in a certificate that our CA did not sign: its dates say
    nothing."""
    authority, stranger = pki.new_ca(), pki.new_ca()
    real = authority.issue((server_kit.HOST,))
    forged = stranger.issue(
        (server_kit.HOST,), key=real.key, not_before=datetime(2035, 1, 1, tzinfo=UTC)
    )
    clock = tmp_path / "clock"
    clock.write_text(WOKE)
    environment |= {"FAKETIME_TIMESTAMP_FILE": str(clock)}
    pins = [pki.pin(real.key), os.urandom(32)]
    drive = Driver(micropython, repo / "lib", umqtt_path, tmp_path, [authority.der()], pins)
    drive.environment = environment
    met = []

    def handle(connection: socket.socket) -> None:
        met.append(1)
        connection.recv(4096)
        ders = [
            found.public_bytes(serialization.Encoding.DER)
            for found in (forged.certificate, authority.certificate)
        ]
        blob = b"".join(len(der).to_bytes(3, "big") + der for der in ders)
        shown = server_kit.handshake(11, len(blob).to_bytes(3, "big") + blob)
        connection.sendall(server_kit.server_hello() + shown)
        server_kit.hold(connection)

    with server_kit.listening(handle) as port:
        out = drive(port, clock=str(clock), floor=FLOOR)
    assert out["codes"] == ["certificate-untrusted"]
    assert len(met) == 1


def test_a_date_shown_without_the_key(
    environment: dict[str, str], micropython: str, repo: Path, umqtt_path: Path, tmp_path: Path
) -> None:
    """A copy of a certificate is enough to make a device try its date, not to make it keep
    that."""
    authority = pki.new_ca()
    shown = authority.issue((server_kit.HOST,), **AHEAD)
    clock = tmp_path / "clock"
    clock.write_text(WOKE)
    environment |= {"FAKETIME_TIMESTAMP_FILE": str(clock)}
    pins = [pki.pin(shown.key), os.urandom(32)]
    drive = Driver(micropython, repo / "lib", umqtt_path, tmp_path, [authority.der()], pins)
    drive.environment = environment
    met = []
    copy = server_kit.impostor(shown.certificate)

    def handle(connection: socket.socket) -> None:
        met.append(1)
        copy(connection)

    with server_kit.listening(handle) as port:
        out = drive(port, clock=str(clock), floor=FLOOR, times=2)
    assert out["codes"] == ["tls-failed"] * 2
    assert len(met) == 4  # as it stands, and at the tentative time
    assert 0 <= out["now"] - FLOOR < HOUR
    assert out["mark"] == 0
