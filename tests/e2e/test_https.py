"""Images from a real nginx to the real firmware: ranges over a pinned connection, and the
authority's chunks where the web server is not to be had."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from fleet_kit import DEVICE, Board, World, wait_until
from nginx_kit import Nginx
from ota_e2e_kit import envelope, image, order, restarted, send_rest, until, updatable
from server_kit import HOST, Valve, listening
from warden_host.fleet import pki


@pytest.fixture
def world(tmp_path: Path, umqtt_path: Path) -> Iterator[World]:
    with updatable(tmp_path) as made:
        yield made


def pin(key: Any) -> bytes:
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).digest()


def web(world: World, folder: Path, own_key: bool = False, **settings: int) -> tuple[Nginx, Any]:
    """nginx with a certificate of the fleet's CA: for the broker's key, or for one of its own."""
    key = None if own_key else pki.load_key(world.fleet.keys / "server.key")
    leaf = pki.load_ca(world.fleet.keys).issue((HOST,), key=key)
    return Nginx(folder, leaf.certificate, leaf.key, **settings), leaf.key


def padded(version: str) -> bytes:
    """An image of several ranges: nothing in it looks behind its records."""
    data = image(version)
    return data + bytes(range(256)) * 160


def confirmed(world: World, board: Board, version: str) -> None:
    restarted(board, version)
    until(world, "Idle")


def test_images_from_a_web_server(world: World, tmp_path: Path) -> None:
    home = world.fleet.simulated(DEVICE)
    with Board(home) as board:
        board.wait_line("version factory")
        board.wait_line("log session-stands")
        world.fleet_event("session", app="authority")

        # With the broker's key: its pins are the broker's. Ranges over one connection, nothing
        # over MQTT.
        nginx, _ = web(world, tmp_path / "one")
        two = padded("two")
        (nginx.www / "two.img").write_bytes(two)
        with nginx.running():
            status = order(world, envelope=envelope(2, two, nginx.url("two.img")))
            assert (status["state"], status["want"]) == ("Downloading", None)
            confirmed(world, board, "two")
        assert len(nginx.requests()) == -(-len(two) // 16384)
        assert all('" 206 ' in line for line in nginx.requests())

        # With a key of its own that is not pinned: the authority is asked for the image instead.
        nginx, key = web(world, tmp_path / "two", own_key=True, requests=2)
        three = padded("three")
        (nginx.www / "three.img").write_bytes(three)
        with nginx.running():
            order(world, envelope=envelope(3, three, nginx.url("three.img")))
            board.wait_line("log pin-mismatch")
            status = order(world)
            assert status["want"] == [0, "app", 0, 1024]
            assert nginx.requests() == []
            assert order(world, abort=True)["state"] == "Aborted"

            # With its pins in the order; and it closes each connection after two answers.
            pins = [pin(key), bytes(32)]
            order(world, envelope=envelope(3, three, nginx.url("three.img")), pins=pins)
            confirmed(world, board, "three")
        assert len(nginx.requests()) == -(-len(three) // 16384)

        # Not there; another image there; and told not to ask it.
        nginx, _ = web(world, tmp_path / "three")
        four = padded("four")
        (nginx.www / "four.img").write_bytes(four[:-1])
        with nginx.running():
            order(world, envelope=envelope(4, four, nginx.url("nothing.img")))
            board.wait_line("log https-status")
            assert order(world, abort=True)["state"] == "Aborted"
            order(world, envelope=envelope(4, four, nginx.url("four.img")))
            board.wait_line("log https-range")
            assert order(world, abort=True)["state"] == "Aborted"
            (nginx.www / "four.img").write_bytes(bytes(len(four)))
            order(world, envelope=envelope(4, four, nginx.url("four.img")))
            assert until(world, "Aborted")["reason"] == "image-mismatch"
            # A line of the log comes after its answer: what is asked for from now on is not found.
            (nginx.www / "four.img").unlink()
            status = order(world, envelope=envelope(4, four, nginx.url("four.img")), https=False)
            assert status["want"] is not None
            assert send_rest(world, status, four)["state"] == "Testing"
            confirmed(world, board, "four")
        asked = [line for line in nginx.requests() if "/four.img " in line]
        assert asked and not [line for line in asked if '" 404 ' in line]


def test_a_fetch_that_is_cut(world: World, tmp_path: Path) -> None:
    """The device loses its power, then the server goes: it goes on where the flash stands, at last
    with the authority's chunks."""
    home = world.fleet.simulated(DEVICE)
    slot = home / "root" / "slots"
    nginx, _ = web(world, tmp_path / "web")
    two = padded("two") + bytes(100000)
    (nginx.www / "two.img").write_bytes(two)

    def written() -> int:
        return max((path.stat().st_size for path in slot.glob("app.?")), default=0)

    with Board(home) as board:
        board.wait_line("log session-stands")
        world.fleet_event("session", app="authority")
        with (
            nginx.running(),
            contextlib.closing(Valve(nginx.port)) as valve,
            listening(valve) as port,
        ):
            made = envelope(2, two, nginx.url("two.img", port))
            order(world, envelope=made)
            valve.allow(len(two) * 3 // 5)
            wait_until(lambda: written() > len(two) // 2, "half of the image")
            board.kill()
            board.start()
            board.wait_line("log session-stands")
            world.fleet_event("session", app="authority")
            order(world, envelope=made)
            # It goes on from there: what is allowed now would not reach so far from the beginning.
            valve.allow(len(two) // 4)
            wait_until(lambda: written() > len(two) * 3 // 5, "more of the image")
        # The server is gone: three connections later the authority is asked.
        board.wait_line("log unreachable")
        status = order(world)
        assert status["want"][2] > len(two) // 2
        assert send_rest(world, status, two)["state"] == "Testing"
        restarted(board, "two")
